//! A mounted ConfigMap or Secret, written as the kubelet's `AtomicWriter` does, step by step.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

const DATA: &str = "..data";

/// The link that becomes `..data` by a rename.
const NEW_DATA: &str = "..data_tmp";

/// Makes `files` the content of the volume at `dir`, for the first time or again.
///
/// The order of the kubelet: a directory named after the time, the files, their modes, a link to it, that link renamed
/// over `..data`, a visible link for each new name, the names that are gone, the old directory.
pub(crate) fn swap(dir: &Path, files: &[(&str, &str)]) {
    static VERSIONS: AtomicU32 = AtomicU32::new(0);
    let version = format!("..2026_11_23_20_34_13.{:010}", VERSIONS.fetch_add(1, Ordering::Relaxed));
    let old = fs::read_link(dir.join(DATA)).ok();
    let new = dir.join(&version);
    fs::create_dir(&new).expect("a new directory");
    fs::set_permissions(&new, Permissions::from_mode(0o755)).expect("a directory of ours");
    for (name, content) in files {
        fs::write(new.join(name), content).expect("the file can be written");
        fs::set_permissions(new.join(name), Permissions::from_mode(0o644)).expect("a file of ours");
    }
    symlink(&version, dir.join(NEW_DATA)).expect("a new link");
    fs::rename(dir.join(NEW_DATA), dir.join(DATA)).expect("the link can be swapped");
    for (name, _content) in files {
        show(dir, name);
    }
    if let Some(old) = old {
        hide(dir, &dir.join(&old), files);
        fs::remove_dir_all(dir.join(old)).expect("the old version can be removed");
    }
}

/// The visible name of a file. Something else of that name, which no kubelet would meet, is replaced.
fn show(dir: &Path, name: &str) {
    let path = dir.join(name);
    if !path.is_symlink() {
        symlink(Path::new(DATA).join(name), dir.join("..link_tmp")).expect("a new link");
        fs::rename(dir.join("..link_tmp"), path).expect("the name can be taken");
    }
}

/// Removes the visible names of what only the old version had.
fn hide(dir: &Path, old: &Path, files: &[(&str, &str)]) {
    for entry in fs::read_dir(old).expect("the old version is there") {
        let name = entry.map_or_else(|error: io::Error| panic!("{error}"), |entry| entry.file_name());
        if !files.iter().any(|(kept, _content)| name == *kept) {
            fs::remove_file(dir.join(name)).expect("a link of ours");
        }
    }
}
