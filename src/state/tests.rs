//! The directory from one process to the next.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use tokio::runtime::Handle;

use super::*;
use crate::host::name;
use crate::types::WorkloadId;

fn open(directory: &Path) -> State {
    State::open(directory, name::generate).unwrap()
}

fn id(text: &str) -> WorkloadId {
    WorkloadId::from(text)
}

/// What a new process would bring back. The one before must have let go of the directory.
async fn starts(directory: &Path) -> Vec<(String, String)> {
    let state = loop {
        match State::open(directory, name::generate) {
            Ok(state) => break state,
            Err(StateError::Locked { .. }) => tokio::task::yield_now().await,
            Err(error) => panic!("{error}"),
        }
    };
    let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
    state.starts.iter().map(|(id, request)| (id.to_string(), text(request))).collect()
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(id, request)| ((*id).to_owned(), (*request).to_owned())).collect()
}

#[test]
fn a_host_keeps_its_id_and_its_name() {
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("deep/state");
    let first = open(&directory).identity;
    assert_eq!(first.generated_name, name::generate(&first.host_id));
    assert_eq!(open(&directory).identity, first);
}

#[test]
fn nobody_else_may_read_what_is_kept() {
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("state");
    fs::create_dir(&directory).unwrap();
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).unwrap();
    let _state = open(&directory);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&directory), 0o700);
    let files: Vec<_> = fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 4, "{files:?}");
    for file in files {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }
}

#[test]
fn a_second_process_is_refused_with_the_name_of_the_lock() {
    let home = tempfile::tempdir().unwrap();
    let _first = open(home.path());
    let error = State::open(home.path(), name::generate).unwrap_err();
    let expected = home.path().join("lock").display().to_string();
    let text = error.to_string();
    assert!(text.contains(&expected) && text.contains(&format!("(process {})", std::process::id())), "{text}");
}

#[test]
fn an_identity_that_no_washlet_wrote_is_refused_and_kept() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("identity.json"), r#"{"host_id":"a.b","generated_name":"x"}"#).unwrap();
    assert!(matches!(State::open(home.path(), name::generate), Err(StateError::Identity { .. })));
    assert!(home.path().join("identity.json").exists());
}

#[tokio::test]
async fn what_was_started_and_not_ended_is_found_again() {
    let home = tempfile::tempdir().unwrap();
    let journal = Journal::start(open(home.path()).journal, &Handle::current());
    let (_ticket, a) = journal.record_start(&id("a"), Bytes::from_static(b"{\n1}"));
    let (failed, b) = journal.record_start(&id("b"), Bytes::from_static(b"{2}"));
    let (_ticket, c) = journal.record_start(&id("c"), Bytes::from_static(b"{3}"));
    assert_eq!((a.await, b.await, c.await), (Recorded::Yes, Recorded::Yes, Recorded::Yes));
    assert_eq!(journal.record_failure(&id("b"), failed).await, Recorded::Yes);
    assert_eq!(journal.record_stop(&id("a")).await, Recorded::Yes);
    let (_ticket, again) = journal.record_start(&id("a"), Bytes::from_static(b"{4}"));
    assert_eq!(again.await, Recorded::Yes);
    drop(journal);
    assert_eq!(starts(home.path()).await, pairs(&[("c", "{3}"), ("a", "{4}")]));
}

#[tokio::test]
async fn the_failure_of_an_old_start_does_not_end_a_newer_one() {
    let home = tempfile::tempdir().unwrap();
    let journal = Journal::start(open(home.path()).journal, &Handle::current());
    let (old, _recorded) = journal.record_start(&id("a"), Bytes::from_static(b"{1}"));
    let (_new, _recorded) = journal.record_start(&id("a"), Bytes::from_static(b"{2}"));
    assert_eq!(journal.record_failure(&id("a"), old).await, Recorded::Yes);
    drop(journal);
    assert_eq!(starts(home.path()).await, pairs(&[("a", "{2}")]));
}

#[tokio::test]
async fn all_can_be_ended_at_once_and_the_last_heartbeat_is_known() {
    let home = tempfile::tempdir().unwrap();
    let state = open(home.path());
    assert_eq!(state.last_heartbeat, None);
    let journal = Journal::start(state.journal, &Handle::current());
    let (_ticket, recorded) = journal.record_start(&id("a"), Bytes::new());
    assert_eq!(recorded.await, Recorded::Yes);
    let before = SystemTime::now() - Duration::from_millis(1);
    journal.record_heartbeat();
    journal.record_end_of_all();
    let (_ticket, recorded) = journal.record_start(&id("b"), Bytes::new());
    assert_eq!(recorded.await, Recorded::Yes);
    drop(journal);
    assert_eq!(starts(home.path()).await, pairs(&[("b", "")]));
    let heard = open(home.path()).last_heartbeat.unwrap();
    assert!(before <= heard && heard <= SystemTime::now());
}

#[tokio::test]
async fn a_journal_that_mostly_holds_what_is_over_is_written_anew() {
    let home = tempfile::tempdir().unwrap();
    let journal = Journal::start(open(home.path()).journal, &Handle::current());
    let large = Bytes::from(vec![b'x'; 64 << 10]);
    let (_ticket, kept) = journal.record_start(&id("kept"), Bytes::from_static(b"{kept}"));
    assert_eq!(kept.await, Recorded::Yes);
    for _ in 0..64 {
        let (_ticket, recorded) = journal.record_start(&id("a"), large.clone());
        assert_eq!(recorded.await, Recorded::Yes);
    }
    drop(journal);
    assert_eq!(starts(home.path()).await.len(), 2);
    let length = fs::metadata(home.path().join("journal")).unwrap().len();
    assert!(length < 1 << 21, "{length} bytes for two starts");
}

#[tokio::test]
async fn a_damaged_journal_is_set_aside_and_an_unfinished_record_is_dropped() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("journal");
    let journal = Journal::start(open(home.path()).journal, &Handle::current());
    for name in ["a", "b"] {
        let (_ticket, recorded) = journal.record_start(&id(name), Bytes::from_static(b"{request}"));
        assert_eq!(recorded.await, Recorded::Yes);
    }
    drop(journal);
    assert_eq!(starts(home.path()).await.len(), 2);
    let whole = fs::read(&path).unwrap();
    fs::write(&path, whole.get(..whole.len() - 3).unwrap()).unwrap();
    assert_eq!(starts(home.path()).await, pairs(&[("a", "{request}")]));
    // What was cut off is gone for good: the next record is not glued to it.
    let journal = Journal::start(open(home.path()).journal, &Handle::current());
    let (_ticket, recorded) = journal.record_start(&id("c"), Bytes::from_static(b"{c}"));
    assert_eq!(recorded.await, Recorded::Yes);
    drop(journal);
    assert_eq!(starts(home.path()).await, pairs(&[("a", "{request}"), ("c", "{c}")]));
    let mut damaged = whole;
    *damaged.get_mut(60).unwrap() ^= 1;
    fs::write(&path, damaged).unwrap();
    assert!(starts(home.path()).await.is_empty());
    assert!(home.path().join("journal.damaged").exists());
}

#[tokio::test]
async fn an_end_that_the_disk_did_not_take_is_said_again() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("journal");
    let journal = Journal::start(open(home.path()).journal, &Handle::current());
    let (_ticket, recorded) = journal.record_start(&id("a"), Bytes::from_static(b"{a}"));
    assert_eq!(recorded.await, Recorded::Yes);
    drop(journal);
    let mut state = loop {
        match State::open(home.path(), name::generate) {
            Ok(state) => break state,
            Err(_locked) => tokio::task::yield_now().await,
        }
    };
    state.journal.break_disk(true);
    state.journal.take_in_end(&id("a"));
    assert!(std::fs::read_to_string(&path).unwrap().contains("\"op\":\"start\""));
    state.journal.break_disk(false);
    state.journal.take_in_heartbeat();
    drop(state);
    assert!(starts(home.path()).await.is_empty());
}
