//! Real files, noticed through inotify and without it, however they are replaced.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use tempfile::TempDir;

use super::seen;
use crate::config::Config;
use crate::config::files::{Files, ReadFailure, Snapshot, Urgency, Writers};
use crate::reload::*;
use crate::task::{Shutdown, spawn};

/// The host group is the text of the file; a line `ref PATH` stands for the content of that file.
struct RealSource(SettledFiles);

fn references(bytes: Option<&[u8]>) -> Vec<PathBuf> {
    let text = String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
    text.lines().filter_map(|line| line.strip_prefix("ref ").map(PathBuf::from)).collect()
}

impl ConfigSource for RealSource {
    fn read(&mut self, urgency: Urgency) -> BoxFuture<'_, Result<Snapshot, ReadFailure>> {
        self.0.read(urgency).boxed()
    }

    fn writers(&self) -> Writers {
        self.0.writers()
    }

    fn load(&mut self, snapshot: Arc<Snapshot>) -> BoxFuture<'_, Result<Loaded, Rejection>> {
        let bytes = snapshot.config.clone().unwrap();
        let mut text = String::from_utf8(bytes.to_vec()).unwrap();
        let mut config = Config::default();
        // Only what is watched is noticed.
        config.reload.poll_interval = None;
        async move {
            for path in references(Some(&bytes)) {
                let content = snapshot.read(&path);
                let content = content.map_err(|e| Rejection::content(Reason::Invalid, vec![e.to_string()]))?;
                text.push_str(&String::from_utf8(content).unwrap());
            }
            config.host.group = text;
            Ok(Loaded { config, ..Loaded::default() })
        }
        .boxed()
    }

    fn effective(&self, _live: &Config, new: &Config) -> Result<Config, Rejection> {
        Ok(new.clone())
    }

    fn changes(&self, old: &Config, new: &Config) -> Vec<Change> {
        let changed = (old != new).then(|| Change { key: "host.group".to_owned(), verb: "set" });
        changed.into_iter().collect()
    }
}

/// Puts a text where a file is.
type Save = fn(&Path, &str);

#[derive(Debug, Clone, Copy)]
enum Noticed {
    ByEvents,
    ByStat,
}

async fn watch(path: &Path, noticed: Noticed) -> Reloader {
    let files = Files::new(Some(path.to_owned()), Box::new(references));
    let (reloader, task) = Reloader::new::<()>(ReloaderParts {
        source: Box::new(RealSource(SettledFiles::new(files))),
        sections: Vec::new(),
        poll_seed: "host".to_owned(),
        shutdown: Shutdown::default(),
    });
    let task = match noticed {
        Noticed::ByEvents => task,
        Noticed::ByStat => task.without_inotify(),
    };
    drop(spawn("reload", task.run()));
    assert_eq!(reloader.first().await.unwrap().outcome, Outcome::Applied);
    reloader
}

async fn live(reloader: &Reloader, end: &str) {
    let mut live = reloader.live();
    seen(&mut live, |live| live.config.host.group.ends_with(end).then_some(())).await;
}

/// A volume as the kubelet writes it: all names lead through `..data`, which is replaced by a rename.
struct ConfigMap {
    directory: PathBuf,
    version: usize,
}

impl ConfigMap {
    fn new(directory: &Path, files: &[(&str, &str)]) -> Self {
        let mut map = Self { directory: directory.to_owned(), version: 0 };
        map.swap(files);
        for (name, _content) in files {
            symlink(Path::new("..data").join(name), directory.join(name)).unwrap();
        }
        map
    }

    fn swap(&mut self, files: &[(&str, &str)]) {
        let old = self.directory.join(format!("..v{}", self.version));
        self.version += 1;
        let name = format!("..v{}", self.version);
        let new = self.directory.join(&name);
        fs::create_dir(&new).unwrap();
        for (name, content) in files {
            fs::write(new.join(name), content).unwrap();
        }
        symlink(&name, self.directory.join("..data_tmp")).unwrap();
        fs::rename(self.directory.join("..data_tmp"), self.directory.join("..data")).unwrap();
        drop(fs::remove_dir_all(old));
    }
}

#[tokio::test]
async fn every_swap_of_a_config_map_is_seen() {
    for (noticed, swaps) in [(Noticed::ByEvents, 10), (Noticed::ByStat, 2)] {
        let directory = TempDir::new().unwrap();
        let mut map = ConfigMap::new(directory.path(), &[("washlet.toml", "0\n")]);
        let reloader = watch(&directory.path().join("washlet.toml"), noticed).await;
        for n in 1..=swaps {
            map.swap(&[("washlet.toml", &format!("{n}\n"))]);
            live(&reloader, &format!("{n}\n")).await;
        }
    }
}

#[tokio::test]
async fn every_way_of_saving_a_file_is_seen() {
    let ways: [(&str, Save); 4] = [
        ("renamed over", |path, text| {
            fs::write(path.with_extension("tmp"), text).unwrap();
            fs::rename(path.with_extension("tmp"), path).unwrap();
        }),
        ("written in place", |path, text| fs::write(path, text).unwrap()),
        ("deleted and created", |path, text| {
            fs::remove_file(path).unwrap();
            fs::write(path, text).unwrap();
        }),
        ("kept as a backup and created", |path, text| {
            fs::rename(path, path.with_extension("toml~")).unwrap();
            fs::write(path, text).unwrap();
        }),
    ];
    for noticed in [Noticed::ByEvents, Noticed::ByStat] {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("washlet.toml");
        fs::write(&path, "start\n").unwrap();
        let reloader = watch(&path, noticed).await;
        for (way, save) in ways {
            save(&path, &format!("{way}\n"));
            live(&reloader, &format!("{way}\n")).await;
        }
        let outcomes: Vec<Outcome> = reloader.status().borrow().attempts.iter().map(|one| one.outcome).collect();
        assert_eq!(outcomes, [Outcome::Applied; 5], "one attempt for each, none rejected");
    }
}

#[tokio::test]
async fn a_directory_that_is_removed_and_made_again_is_watched_again() {
    let parent = TempDir::new().unwrap();
    let directory = parent.path().join("etc");
    let path = directory.join("washlet.toml");
    fs::create_dir(&directory).unwrap();
    fs::write(&path, "a\n").unwrap();
    let reloader = watch(&path, Noticed::ByEvents).await;
    for text in ["b\n", "c\n"] {
        fs::remove_dir_all(&directory).unwrap();
        fs::create_dir(&directory).unwrap();
        fs::write(&path, text).unwrap();
        live(&reloader, text).await;
        // The new directory is watched, not only found by looking for it.
        fs::write(&path, format!("again {text}")).unwrap();
        live(&reloader, &format!("again {text}")).await;
    }
}

#[tokio::test]
async fn a_file_that_stays_away_is_reported_and_noticed_when_it_is_back() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("washlet.toml");
    fs::write(&path, "a\n").unwrap();
    let reloader = watch(&path, Noticed::ByEvents).await;
    fs::remove_file(&path).unwrap();
    let mut status = reloader.status();
    let last = seen(&mut status, |status| status.attempts.back().filter(|last| last.n == 2).map(Arc::clone)).await;
    assert_eq!(last.rejection.as_ref().map(|rejection| rejection.reason), Some(Reason::Missing));
    assert_eq!(reloader.live().borrow().config.host.group, "a\n");
    fs::write(&path, "a\n").unwrap();
    seen(&mut status, |status| status.last_ok().then_some(())).await;
}

#[tokio::test]
async fn a_neighbour_that_is_written_all_the_time_starves_nothing() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("washlet.toml");
    fs::write(&path, "a\n").unwrap();
    let reloader = watch(&path, Noticed::ByEvents).await;
    let stop = Arc::new(AtomicBool::new(false));
    let noise = crate::task::blocking("noise", {
        let (neighbour, stop) = (directory.path().join("neighbour"), Arc::clone(&stop));
        move || {
            while !stop.load(Ordering::Relaxed) {
                fs::write(&neighbour, "noise").unwrap();
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    });
    let edits = async {
        for n in 0..3 {
            fs::write(&path, format!("{n}\n")).unwrap();
            live(&reloader, &format!("{n}\n")).await;
        }
        stop.store(true, Ordering::Relaxed);
    };
    tokio::join!(noise, edits);
    assert_eq!(reloader.status().borrow().attempts.len(), 4, "the neighbour causes checks, not attempts");
}

#[tokio::test]
async fn referenced_files_are_watched_as_the_configuration_changes() {
    let (directory, elsewhere) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (path, secret) = (directory.path().join("washlet.toml"), elsewhere.path().join("secret"));
    fs::write(&path, "a\n").unwrap();
    let reloader = watch(&path, Noticed::ByEvents).await;
    // Named before it exists: refused, and taken as soon as it does.
    fs::write(&path, format!("ref {}\n", secret.display())).unwrap();
    let mut status = reloader.status();
    seen(&mut status, |status| status.attempts.back().filter(|last| last.rejection.is_some()).map(drop)).await;
    fs::write(&secret, "one").unwrap();
    live(&reloader, "one").await;
    fs::write(&secret, "two").unwrap();
    live(&reloader, "two").await;
    let last = seen(&mut status, |status| status.attempts.back().map(Arc::clone)).await;
    assert_eq!((last.outcome, last.trigger), (Outcome::Applied, Trigger::Watch));
}

#[test]
fn a_set_of_files_is_never_read_half_from_before_a_swap() {
    let directory = TempDir::new().unwrap();
    let at = |name: &str| directory.path().join(name);
    let config = format!("ref {}\nref {}\n", at("cert").display(), at("key").display());
    let set = |n: usize| [("washlet.toml", config.clone()), ("cert", n.to_string()), ("key", n.to_string())];
    let swap = |map: &mut ConfigMap, n| {
        let set = set(n);
        map.swap(&set.iter().map(|(name, content)| (*name, content.as_str())).collect::<Vec<_>>());
    };
    let first = set(0);
    let first: Vec<_> = first.iter().map(|(name, content)| (*name, content.as_str())).collect();
    let mut map = ConfigMap::new(directory.path(), &first);
    let files = Files::new(Some(at("washlet.toml")), Box::new(references));
    let stop = AtomicBool::new(false);
    let (mut sets, mut torn) = (0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| (1..).take_while(|_| !stop.load(Ordering::Relaxed)).for_each(|n| swap(&mut map, n)));
        while sets < 300 {
            match files.read_once() {
                crate::config::files::Seen::Set(snapshot) => {
                    let [cert, key] = [at("cert"), at("key")].map(|path| snapshot.read(&path).unwrap());
                    assert_eq!(cert, key);
                    sets += 1;
                }
                crate::config::files::Seen::Torn => torn += 1,
                crate::config::files::Seen::Failed(failure) => panic!("{failure}"),
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(torn > 0, "the swaps were never met");
}
