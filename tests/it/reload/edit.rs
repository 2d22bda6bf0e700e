//! The ways in which files get edited: editors, shells, the kubelet.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::support::TestProcess;

/// How a new text gets into the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// Written beside, renamed over it: vim, `sed -i`, `mv`.
    RenameOver,
    /// Truncated and written: nano, `cp`, VS Code.
    InPlace,
    /// Removed and made anew.
    DeleteAndCreate,
    /// The kubelet's way with a ConfigMap: a directory beside, and one link swapped by a rename.
    ConfigMapSwap,
}

/// All of them.
pub(super) const STYLES: [Style; 4] = [Style::RenameOver, Style::InPlace, Style::DeleteAndCreate, Style::ConfigMapSwap];

/// Edits the configuration of `process` and moves its mark.
pub(super) fn edit(process: &mut TestProcess, style: Style, text: &str) {
    process.mark();
    let dir = process.dir().to_owned();
    let path = dir.join("washlet.toml");
    match style {
        Style::RenameOver => process.rewrite_file("washlet.toml", text),
        Style::InPlace => fs::write(path, text).expect("the file can be written"),
        Style::DeleteAndCreate => {
            fs::remove_file(&path).expect("the file is there");
            fs::write(path, text).expect("the file can be written");
        }
        Style::ConfigMapSwap => swap(&dir, &path, text),
    }
}

fn swap(dir: &Path, path: &Path, text: &str) {
    static VERSIONS: AtomicU32 = AtomicU32::new(0);
    let version = format!("..version-{}", VERSIONS.fetch_add(1, Ordering::Relaxed));
    let old = fs::read_link(dir.join("..data")).ok();
    fs::create_dir(dir.join(&version)).expect("a new directory");
    fs::write(dir.join(&version).join("washlet.toml"), text).expect("the file can be written");
    symlink(&version, dir.join("..data_tmp")).expect("a new link");
    fs::rename(dir.join("..data_tmp"), dir.join("..data")).expect("the link can be swapped");
    // After an edit of another style the file is no link any more.
    if !path.is_symlink() {
        symlink("..data/washlet.toml", dir.join(".link")).expect("a new link");
        fs::rename(dir.join(".link"), path).expect("the file can be replaced");
    }
    if let Some(old) = old {
        fs::remove_dir_all(dir.join(old)).expect("the old version can be removed");
    }
}
