//! What is read, and when it counts as settled.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;

use crate::config::files::{
    FileRead, Files, ReadFailure, Seen, Settle, Snapshot, Urgency, Verdict, Writers, read_regular,
};

fn reader(path: &Path) -> Files {
    let references = |bytes: Option<&[u8]>| {
        let text = String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
        text.lines().map(Into::into).collect()
    };
    Files::new(Some(path.to_owned()), Box::new(references))
}

fn read(files: &Files) -> Snapshot {
    match files.read_once() {
        Seen::Set(snapshot) => snapshot,
        other => panic!("{other:?}"),
    }
}

fn failure(files: &Files) -> String {
    match files.read_once() {
        Seen::Failed(failure) => failure.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_cannot_be_a_configuration_is_refused_by_name() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("washlet.toml");
    let files = reader(&path);
    let at = path.display();
    assert_eq!(failure(&files), format!("cannot read {at}: no such file"));
    fs::write(&path, " \n\t\n").unwrap();
    assert!(failure(&files).starts_with(&format!("{at} is empty")));
    fs::write(&path, vec![b'#'; 1024 * 1024 + 1]).unwrap();
    assert_eq!(failure(&files), format!("cannot read {at}: it is larger than 1 MiB"));
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert_eq!(failure(&files), format!("cannot read {at}: it is not a regular file"));
    fs::remove_dir(&path).unwrap();
    symlink("washlet.toml", &path).unwrap();
    assert_eq!(failure(&files), format!("cannot read {at}: more than 8 links lead to it"));
}

#[test]
fn the_directory_of_every_link_on_the_way_is_watched() {
    let root = TempDir::new().unwrap();
    let root = root.path().canonicalize().unwrap();
    for name in ["a", "b", "c"] {
        fs::create_dir(root.join(name)).unwrap();
    }
    fs::write(root.join("c/real.toml"), "missing/secret\n").unwrap();
    symlink("../c/real.toml", root.join("b/next.toml")).unwrap();
    symlink(root.join("b/next.toml"), root.join("a/washlet.toml")).unwrap();
    let snapshot = read(&reader(&root.join("a/washlet.toml")));
    for name in ["a", "b", "c"] {
        assert!(snapshot.directories.contains(&root.join(name)), "{name}: {:?}", snapshot.directories);
    }
    let secret = snapshot.files.get(Path::new("missing/secret"));
    assert!(matches!(secret, Some(FileRead::Absent { .. })), "{secret:?}");
}

#[test]
fn content_decides_and_not_the_time_of_a_write() {
    let directory = TempDir::new().unwrap();
    let at = |name: &str| directory.path().join(name);
    let large = vec![7; 1024 * 1024 + 1];
    fs::write(at("large"), &large).unwrap();
    fs::write(at("small"), "s3cret").unwrap();
    fs::write(at("washlet.toml"), format!("{}\n{}\n", at("large").display(), at("small").display())).unwrap();
    let files = reader(&at("washlet.toml"));
    let first = read(&files);
    fs::write(at("large"), &large).unwrap();
    fs::write(at("small"), "s3cret").unwrap();
    assert_eq!(read(&files).hash, first.hash);
    assert_eq!(first.read(&at("large")).unwrap(), large);
    assert!(!format!("{first:?}").contains("s3cret"));
    fs::write(at("large"), vec![8; 1024 * 1024 + 1]).unwrap();
    assert_ne!(read(&files).hash, first.hash);
    assert!(first.read(&at("large")).is_err(), "what was read is not there any more");
}

const START: Duration = Duration::ZERO;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn set(text: &str) -> Seen {
    Seen::Set(Snapshot::of_bytes(text.as_bytes()))
}

fn is_settled(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Settled(Ok(_)))
}

fn after(text: &str) -> Settle {
    Settle::new(Urgency::Change, Some(Path::new("a.toml")), Some(Snapshot::of_bytes(text.as_bytes())))
}

#[test]
fn two_equal_reads_settle_and_a_different_one_starts_over() {
    let mut settle = after("a\n");
    assert!(!is_settled(&settle.observe(set("b\n"), START)));
    assert!(!is_settled(&settle.observe(set("bc\n"), ms(50))));
    assert!(is_settled(&settle.observe(set("bc\n"), ms(100))));
    assert!(is_settled(&after("a\n").observe(set("a\n"), START)), "nothing changed: nothing to wait for");
}

#[test]
fn a_file_that_ends_inside_a_line_must_hold_still_for_a_second() {
    let mut settle = after("a\n");
    assert!(!is_settled(&settle.observe(set("b"), START)));
    assert!(!is_settled(&settle.observe(set("b"), ms(950))));
    assert!(is_settled(&settle.observe(set("b"), ms(1000))));
}

/// What a file with another text is worth, after what was read first, with these writers.
fn verdict_after(tell: impl Fn(&Writers, &Path), millis: u64) -> Verdict {
    let directory = TempDir::new().unwrap();
    let path = directory.path().canonicalize().unwrap().join("washlet.toml");
    fs::write(&path, "one\n").unwrap();
    let files = Files::new(Some(path.clone()), Box::new(|_config| Vec::new()));
    let first = read(&files);
    fs::write(&path, "two\n").unwrap();
    tell(files.writers(), &path);
    let mut settle = Settle::new(Urgency::Change, Some(&path), Some(first));
    settle.observe(Seen::Set(read(&files)), START);
    settle.observe(Seen::Set(read(&files)), ms(millis))
}

#[test]
fn a_file_that_its_writer_has_not_closed_is_waited_for_and_at_last_taken() {
    let writes = |writers: &Writers, path: &Path| writers.begun(path);
    assert!(!is_settled(&verdict_after(writes, 8_900)));
    assert!(is_settled(&verdict_after(writes, 9_000)), "some never close what they write");
    let closes = |writers: &Writers, path: &Path| {
        writers.begun(path);
        writers.ended(path);
    };
    assert!(is_settled(&verdict_after(closes, 50)));
    let loses = |writers: &Writers, path: &Path| {
        writers.begun(path);
        writers.forget(false);
    };
    assert!(is_settled(&verdict_after(loses, 50)), "lost events are no reason to wait");
    let neighbour = |writers: &Writers, path: &Path| writers.begun(&path.with_file_name("a.log"));
    assert!(is_settled(&verdict_after(neighbour, 50)));
}

#[test]
fn what_was_written_just_before_the_watch_began_must_hold_still_for_a_second() {
    let begins = |writers: &Writers, _path: &Path| writers.watched_by(true, || {});
    assert!(!is_settled(&verdict_after(begins, 950)));
    assert!(is_settled(&verdict_after(begins, 1000)));
    let goes_on = |writers: &Writers, _path: &Path| writers.watched_by(false, || {});
    assert!(is_settled(&verdict_after(goes_on, 50)));
}

#[test]
fn where_closing_is_not_seen_every_change_must_hold_still_for_a_second() {
    let blind = |writers: &Writers, _path: &Path| writers.forget(true);
    assert!(!is_settled(&verdict_after(blind, 950)));
    assert!(is_settled(&verdict_after(blind, 1000)));
}

#[test]
fn a_file_that_never_holds_still_is_unsettled_after_ten_seconds() {
    let mut settle = after("a\n");
    for n in 0..200 {
        let verdict = settle.observe(set(&format!("{n}\n")), ms(n * 50));
        assert!(matches!(verdict, Verdict::Again(pause) if pause <= ms(50)), "{n}: {verdict:?}");
    }
    let verdict = settle.observe(Seen::Torn, ms(10_000));
    assert!(matches!(verdict, Verdict::Settled(Err(ReadFailure::Unsettled { .. }))), "{verdict:?}");
}

#[test]
fn a_missing_file_is_waited_for_while_running_and_not_at_the_start() {
    let missing = || Seen::Failed(ReadFailure::Missing { path: "a.toml".into() });
    let mut settle = after("a\n");
    assert!(matches!(settle.observe(missing(), START), Verdict::Again(_)));
    assert!(matches!(settle.observe(missing(), ms(1950)), Verdict::Again(_)));
    assert!(matches!(settle.observe(missing(), ms(2000)), Verdict::Settled(Err(ReadFailure::Missing { .. }))));
    let mut settle = Settle::new(Urgency::Start, None, None);
    assert!(matches!(settle.observe(missing(), START), Verdict::Settled(Err(_))));
}

#[test]
fn files_that_do_not_fit_together_are_waited_for_when_they_change() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("washlet.toml");
    fs::write(&path, "# one\n").unwrap();
    let files = Files::new(Some(path.clone()), Box::new(|_| Vec::new()))
        .doubting(Box::new(|snapshot| snapshot.config.as_deref() == Some(b"# unfit\n")));
    let first = read(&files);
    fs::write(&path, "# unfit\n").unwrap();
    let mut settle = Settle::new(Urgency::Change, Some(&path), Some(first.clone()));
    for millis in [0, 60, 4_900] {
        let verdict = settle.observe(Seen::Set(read(&files)), Duration::from_millis(millis));
        assert!(matches!(verdict, Verdict::Again(_)), "{millis}: {verdict:?}");
    }
    let unfit = read(&files);
    let verdict = settle.observe(Seen::Set(unfit.clone()), Duration::from_secs(5));
    assert!(matches!(verdict, Verdict::Settled(Ok(_))), "{verdict:?}");
    let verdict =
        Settle::new(Urgency::Change, Some(&path), Some(unfit)).observe(Seen::Set(read(&files)), Duration::ZERO);
    assert!(matches!(verdict, Verdict::Settled(Ok(_))), "what was told once is not waited for again: {verdict:?}");

    let mut settle = Settle::new(Urgency::Change, Some(&path), Some(first));
    settle.observe(Seen::Set(read(&files)), Duration::ZERO);
    fs::write(&path, "# two\n").unwrap();
    settle.observe(Seen::Set(read(&files)), Duration::from_millis(300));
    let verdict = settle.observe(Seen::Set(read(&files)), Duration::from_millis(360));
    assert!(matches!(verdict, Verdict::Settled(Ok(_))), "the other half has come: {verdict:?}");
    fs::write(&path, "# unfit\n").unwrap();
    let mut settle = Settle::new(Urgency::Start, Some(&path), None);
    settle.observe(Seen::Set(read(&files)), Duration::ZERO);
    let verdict = settle.observe(Seen::Set(read(&files)), Duration::from_millis(60));
    assert!(matches!(verdict, Verdict::Settled(Ok(_))), "at a start nobody waits: {verdict:?}");
}

#[test]
fn a_pipe_or_a_device_is_refused_without_waiting_for_it_or_reading_it() {
    let directory = TempDir::new().unwrap();
    let pipe = directory.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    for path in [&*pipe, Path::new("/dev/zero")] {
        let error = read_regular(path, 1024).unwrap_err().to_string();
        assert_eq!(error, "it is not a regular file");
        assert_eq!(failure(&reader(path)), format!("cannot read {}: it is not a regular file", path.display()));
    }
    let file = directory.path().join("file");
    fs::write(&file, [b'x'; 1024]).unwrap();
    assert_eq!(read_regular(&file, 1024).unwrap().len(), 1024);
    assert_eq!(read_regular(&file, 1023).unwrap_err().to_string(), "it is larger than 1023B");
}
