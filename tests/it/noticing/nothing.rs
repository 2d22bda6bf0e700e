//! Events that mean nothing build nothing.

use std::fs::{self, File, FileTimes, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::SystemTime;

use super::places::swap;
use super::{By, Host, Layout, UNCHANGED};
use crate::support::{PATIENCE, eventually};

/// Other texts that say the same.
fn same(text: &str) -> Vec<String> {
    let table = "[limits]\nmemory = \"64MiB\"\n";
    assert!(text.contains(table));
    vec![
        format!("# Another comment.\n{text}"),
        text.replace(" = ", "  =   "),
        text.replace("edit = \"0\", zone = \"a\"", "zone = \"a\", edit = \"0\""),
        format!("{table}\n{}", text.replace(table, "")),
        text.replace("\"7s\"", "\"7000ms\""),
        text.replace('\n', "\r\n"),
        text.trim_end().to_owned(),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_that_say_the_same_are_no_change() {
    let mut host = Host::start(By::Events, Layout::Volume).await;
    let first = super::text(host.admin, 0);
    let texts = same(&first);
    for text in &texts {
        assert_ne!(*text, first);
        host.process.mark();
        swap(&host.path(), text);
        host.process.wait_for_message(UNCHANGED).await;
        assert_eq!(host.attempts().len(), 1, "{:?}", host.attempts());
    }
    let status = host.status().await;
    assert_eq!(status["config"]["generation"], 1);
    assert_eq!(status["config"]["attempts"].as_array().map(Vec::len), Some(1 + texts.len()));
    host.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn touching_and_reading_the_files_is_not_even_an_attempt() {
    let host = Host::start(By::Events, Layout::Volume).await;
    let text = super::text(host.admin, 0);
    let touch = |path: &Path| {
        let times = FileTimes::new().set_modified(SystemTime::now()).set_accessed(SystemTime::now());
        File::options().write(true).open(path).and_then(|file| file.set_times(times)).expect("a file of ours");
    };
    let chmod = |path: &Path| {
        for mode in [0o600, 0o644] {
            fs::set_permissions(path, Permissions::from_mode(mode)).expect("a file of ours");
        }
    };
    let chmod_directory = |path: &Path| {
        let dir = path.parent().expect("a file in a directory");
        fs::set_permissions(dir, Permissions::from_mode(0o755)).expect("a directory of ours");
    };
    // A kubelet that starts again writes the volume anew.
    let write_again = |path: &Path| swap(path, &text);
    let neighbour = |path: &Path| fs::write(path.with_file_name("neighbour"), "x").expect("the file can be written");
    let pokes: [&dyn Fn(&Path); 5] = [&touch, &chmod, &chmod_directory, &write_again, &neighbour];
    for poke in pokes {
        let before = host.checks().await;
        poke(&host.path());
        eventually("it looked", PATIENCE, async || (host.checks().await > before).then_some(())).await;
    }
    // Reading is seen by whoever watches a directory, and must not be looked after.
    let before = host.checks().await;
    for _ in 0..1000 {
        assert_eq!(fs::read_to_string(host.path()).expect("the file can be read"), text);
        assert!(fs::read_dir(host.etc()).expect("the directory can be read").count() > 0);
    }
    touch(&host.path());
    eventually("it looked", PATIENCE, async || (host.checks().await > before).then_some(())).await;
    assert!(host.checks().await <= before + 3, "reading made it look {} times", host.checks().await - before);
    assert!(host.attempts().is_empty(), "{:?}", host.attempts());
    assert_eq!(host.status().await["config"]["attempts"].as_array().map(Vec::len), Some(1));
    host.finish().await;
}
