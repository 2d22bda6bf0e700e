//! Files that belong together are read together, however fast they are swapped.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tempfile::TempDir;
use washlet::config::files::{Files, Seen};

use crate::support::{rounds, say, volume};

/// Swaps of the pair; `WASHLET_TEST_PAIRS` makes a soak of it.
const PAIRS: usize = 300;

/// A certificate chain and its key, for all that reading knows.
fn pair(number: usize) -> (String, String) {
    let block = |kind: &str, lines: usize| {
        let body = format!("{number:064}\n").repeat(lines);
        format!("-----BEGIN {kind}-----\n{body}-----END {kind}-----\n")
    };
    (block("CERTIFICATE", 50), block("PRIVATE KEY", 20))
}

/// The number that a file is full of; `None` for a file that is not whole.
fn number(content: &[u8]) -> Option<usize> {
    let text = std::str::from_utf8(content).ok()?;
    let mut numbers = text.lines().filter(|line| !line.starts_with('-'));
    let first = numbers.next()?;
    (numbers.all(|line| line == first) && text.ends_with("-----\n")).then(|| first.parse().ok()).flatten()
}

#[derive(Debug, Default)]
struct Counts {
    whole: usize,
    again: usize,
    naive: usize,
    naive_torn: usize,
}

/// As anyone would: one file, then the other.
fn read_naively(paths: &[PathBuf; 2]) -> bool {
    let [cert, key] = paths.each_ref().map(|path| fs::read(path).ok().and_then(|content| number(&content)));
    cert.is_some() && cert == key
}

fn read_all(files: &Files, paths: &[PathBuf; 2], is_over: impl Fn() -> bool) -> Counts {
    let mut counts = Counts::default();
    while !is_over() || counts.whole == 0 {
        match files.read_once() {
            Seen::Set(snapshot) => {
                let [cert, key] = paths.each_ref().map(|path| {
                    let content = snapshot.read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
                    number(&content).unwrap_or_else(|| panic!("{} is not whole", path.display()))
                });
                assert_eq!(cert, key, "a torn pair");
                counts.whole += 1;
            }
            Seen::Torn => counts.again += 1,
            Seen::Failed(failure) => panic!("{failure}"),
        }
        counts.naive += 1;
        counts.naive_torn += usize::from(!read_naively(paths));
    }
    counts
}

fn race(swaps: usize, swap: impl Fn(usize) + Sync, config: &Path, paths: &[PathBuf; 2]) -> Counts {
    let of_config = paths.to_vec();
    let files = Files::new(Some(config.to_owned()), Box::new(move |_config| of_config.clone()));
    let (is_over, swapped) = (AtomicBool::new(false), AtomicUsize::new(0));
    let counts = std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 1..=swaps {
                swap(number);
                swapped.fetch_add(1, Ordering::Relaxed);
            }
            is_over.store(true, Ordering::Relaxed);
        });
        read_all(&files, paths, || is_over.load(Ordering::Relaxed))
    });
    assert_eq!(swapped.into_inner(), swaps);
    counts
}

#[test]
fn no_pair_of_a_swapped_volume_is_read_torn() {
    let swaps = rounds("WASHLET_TEST_PAIRS", PAIRS);
    let dir = TempDir::with_prefix("washlet-pairs-").expect("a temporary directory");
    let paths = ["tls.crt", "tls.key"].map(|name| dir.path().join(name));
    let swap = |number| {
        let (cert, key) = pair(number);
        volume::swap(dir.path(), &[("tls.crt", &cert), ("tls.key", &key), ("washlet.toml", "# pair\n")]);
    };
    swap(0);
    let counts = race(swaps, swap, &dir.path().join("washlet.toml"), &paths);
    say(&format!("{swaps} swaps of a pair: {counts:?}"));
}
