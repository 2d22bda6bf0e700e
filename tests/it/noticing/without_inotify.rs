//! A machine that has no inotify to give: the host falls back by itself, and all the rest holds.

use std::fs;
use std::path::Path;
use std::time::Duration;

use futures::future::join_all;

use super::places::{remake_directory, replace_directory, swap};
use super::{By, Host, Layout, SWAPS, figures};
use crate::support::{Dribble, EDITORS, Editor, rounds, say};

#[tokio::test(flavor = "multi_thread")]
async fn swaps_of_a_config_map_are_live_without_inotify() {
    let swaps = rounds("WASHLET_TEST_SWAPS", SWAPS).div_ceil(10);
    let mut host = Host::start(By::Stat, Layout::Volume).await;
    let mut took = Vec::new();
    for _ in 0..swaps {
        took.push(host.edit(swap).await);
    }
    say(&figures("ConfigMap swaps without inotify", took));
    host.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_of_saving_is_live_without_inotify() {
    let saves = rounds("WASHLET_TEST_SWAPS", SWAPS).div_ceil(100);
    // Three ways on each host, since each save waits for the next look.
    let of_host = async |editors: Vec<Editor>| {
        let mut host = Host::start(By::Stat, Layout::Plain).await;
        for editor in editors {
            let mut took = Vec::new();
            for _ in 0..saves {
                took.push(host.edit(|path, text| editor.save(path, text)).await);
            }
            say(&figures(&format!("{editor:?} without inotify"), took));
        }
        host.finish().await;
    };
    join_all(EDITORS.chunks(3).map(|editors| of_host(editors.to_vec()))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_is_replaced_and_a_slow_writer_are_seen_without_inotify() {
    let replaced = async |replace: fn(&Path, &str)| {
        let mut host = Host::start(By::Stat, Layout::Plain).await;
        host.edit(replace).await;
        host.edit(|path, text| fs::write(path, text).expect("the file can be written")).await;
        host.finish().await;
    };
    let written = async |how: Dribble| {
        let mut host = Host::start(By::Stat, Layout::Plain).await;
        let pause = Duration::from_millis(150);
        host.edit_slowly(how, |text| text.split_inclusive('\n').map(|line| (pause, line.as_bytes())).collect()).await;
        host.finish().await;
    };
    tokio::join!(
        join_all([remake_directory, replace_directory].map(replaced)),
        join_all([Dribble::Truncated, Dribble::Created].map(written)),
    );
}
