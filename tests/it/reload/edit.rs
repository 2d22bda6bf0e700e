//! The ways in which files get edited: editors, shells, the kubelet.

use std::fs;

use crate::support::{TestProcess, volume};

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
        Style::ConfigMapSwap => volume::swap(&dir, &[("washlet.toml", text)]),
    }
}
