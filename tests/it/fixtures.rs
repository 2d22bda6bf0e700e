//! The committed guests are what their sources say: both digests of each are recomputed from tests/fixtures/fixtures.lock.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use sha2::{Digest, Sha256};

const LOCK: &str = "tests/fixtures/fixtures.lock";
/// Small enough to be committed at every change.
const WASM_BYTES_MAX: usize = 200 * 1024;
/// Folders that a build leaves behind.
const NOT_SOURCES: [&str; 2] = ["target", "node_modules"];

#[test]
fn every_fixture_matches_its_lock() {
    let lock = fs::read_to_string(root().join(LOCK)).expect("the lock is committed");
    let lock: Value = serde_json::from_str(&lock).expect("the lock is JSON");
    let fixtures = lock["fixtures"].as_array().expect("fixtures is a list");
    assert!(!fixtures.is_empty(), "{LOCK} lists nothing");

    let mut listed = BTreeSet::new();
    for fixture in fixtures {
        let wasm = text(&fixture["wasm"]);
        let bytes = fs::read(root().join(wasm)).unwrap_or_else(|error| panic!("cannot read {wasm}: {error}"));
        assert!(bytes.len() < WASM_BYTES_MAX, "{wasm} has {} bytes", bytes.len());
        assert_eq!(sha256(&bytes), text(&fixture["wasm_sha256"]), "{wasm} is not the one in {LOCK}: {REMEDY}");
        let sources = fixture["sources"].as_array().expect("sources is a list");
        let sources: Vec<&str> = sources.iter().map(text).collect();
        let digest = sources_sha256(&sources);
        assert_eq!(digest, text(&fixture["sources_sha256"]), "{wasm} was built from other sources: {REMEDY}");
        assert!(listed.insert(wasm.to_owned()), "{LOCK} lists {wasm} twice");
    }
    assert_eq!(committed_wasm(), listed, "the .wasm files there are, and those {LOCK} lists: {REMEDY}");
}

const REMEDY: &str = "run scripts/fixtures";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} should be a string"))
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// As the head of the lock defines it.
fn sources_sha256(sources: &[&str]) -> String {
    let mut paths = BTreeSet::new();
    for source in sources {
        let files = files(&root().join(source));
        assert!(!files.is_empty(), "{source} holds no file");
        paths.extend(files.into_iter().map(|file| relative(&file)).filter(|path| !path.ends_with(".wasm")));
    }
    let line = |path: &String| {
        let content = fs::read(root().join(path)).unwrap_or_else(|error| panic!("cannot read {path}: {error}"));
        format!("{}  {path}\n", sha256(&content))
    };
    sha256(paths.iter().map(line).collect::<String>().as_bytes())
}

fn committed_wasm() -> BTreeSet<String> {
    let files = ["examples", "tests/fixtures"].into_iter().flat_map(|folder| files(&root().join(folder)));
    files.map(|file| relative(&file)).filter(|path| path.ends_with(".wasm")).collect()
}

fn relative(file: &Path) -> String {
    let path = file.strip_prefix(root()).expect("all files looked at are below the root");
    path.to_str().expect("paths of the repository are UTF-8").to_owned()
}

/// `path` if it is a file, or all files below it, but not what a build left there.
fn files(path: &Path) -> Vec<PathBuf> {
    if path.is_file() {
        return vec![path.to_owned()];
    }
    let entries = fs::read_dir(path).unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()));
    let entries = entries.map(|entry| entry.expect("a folder of the repository can be listed").path());
    let is_source = |path: &PathBuf| !NOT_SOURCES.iter().any(|name| path.file_name().is_some_and(|last| last == *name));
    entries.filter(is_source).flat_map(|entry| files(&entry)).collect()
}
