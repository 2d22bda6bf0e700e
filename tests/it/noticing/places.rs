//! Files and directories that are replaced: by a kubelet, by editors, by whoever deletes a whole directory.

use std::fs;
use std::path::Path;

use super::{By, Host, Layout, SWAPS, figures};
use crate::support::{EDITORS, rounds, say, volume};

/// The kubelet's way.
pub(super) fn swap(path: &Path, text: &str) {
    volume::swap(path.parent().expect("a file in a directory"), &[("washlet.toml", text)]);
}

/// The directory is deleted and made again, with another file.
pub(super) fn remake_directory(path: &Path, text: &str) {
    let dir = path.parent().expect("a file in a directory");
    fs::remove_dir_all(dir).expect("the directory is there");
    fs::create_dir(dir).expect("a new directory");
    fs::write(path, text).expect("the file can be written");
}

/// Another directory is put in place of the directory, as a deployment by release directories does.
pub(super) fn replace_directory(path: &Path, text: &str) {
    let dir = path.parent().expect("a file in a directory");
    let (old, new) = (dir.with_extension("old"), dir.with_extension("new"));
    fs::create_dir(&new).expect("a new directory");
    fs::write(new.join("washlet.toml"), text).expect("the file can be written");
    fs::rename(dir, &old).expect("the directory can be renamed");
    fs::rename(&new, dir).expect("the directory can be renamed");
    fs::remove_dir_all(old).expect("the old directory can be removed");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_swap_of_a_config_map_is_live() {
    let swaps = rounds("WASHLET_TEST_SWAPS", SWAPS);
    let mut host = Host::start(By::Events, Layout::Volume).await;
    let mut took = Vec::new();
    for _ in 0..swaps {
        took.push(host.edit(swap).await);
    }
    say(&figures("ConfigMap swaps", took));
    // Without waiting for any of them but the last one.
    host.process.mark();
    let mut last = String::new();
    for _ in 0..swaps {
        last = host.next_text();
        swap(&host.path(), &last);
    }
    host.shows(&last).await;
    host.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_of_saving_is_live_by_one_attempt() {
    let saves = rounds("WASHLET_TEST_SWAPS", SWAPS).div_ceil(10);
    let mut host = Host::start(By::Events, Layout::Plain).await;
    for editor in EDITORS {
        let mut took = Vec::new();
        for _ in 0..saves {
            took.push(host.edit(|path, text| editor.save(path, text)).await);
        }
        say(&figures(&format!("{editor:?}"), took));
    }
    host.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_is_replaced_is_watched_again() {
    let times = rounds("WASHLET_TEST_SWAPS", SWAPS).div_ceil(25);
    let mut host = Host::start(By::Events, Layout::Plain).await;
    let mut took = Vec::new();
    for _ in 0..times {
        for replace in [remake_directory, replace_directory] {
            took.push(host.edit(replace).await);
            // The new directory is watched, not only found by looking for it.
            took.push(host.edit(|path, text| fs::write(path, text).expect("the file can be written")).await);
        }
    }
    say(&figures("directories replaced, and edits in them", took));
    host.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_that_is_unmounted_and_mounted_again_is_watched_again() {
    let mut host = Host::start(By::Events, Layout::Volume).await;
    let etc = host.etc();
    host.edit(|path, text| {
        fs::remove_dir_all(&etc).expect("the directory is there");
        fs::create_dir(&etc).expect("a new directory");
        swap(path, text);
    })
    .await;
    host.edit(swap).await;
    host.finish().await;
}
