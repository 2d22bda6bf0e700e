//! The ways in which programs get a new text into a file, each by the system calls that it makes.

use std::fs::{self, File, OpenOptions};
use std::io::{Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// One way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Editor {
    /// vim: a probe file, the old file renamed to a backup, a new file written under its name, the backup removed.
    VimBackupAndCreate,
    /// vim with `backupcopy=yes`: a copy as backup, the file truncated and written, the backup removed.
    VimBackupCopyAndTruncate,
    /// nano: a lock beside it, the file truncated and written in small pieces.
    NanoTruncateAndWrite,
    /// `sed -i`, the real one: a file beside it, renamed over it.
    SedInPlace,
    /// VS Code: opened without truncating, then truncated, then written.
    CodeOpenTruncateWrite,
    /// VS Code where it saves atomically: a file beside it, renamed over it.
    CodeRenameOver,
    /// `cp`, the real one: the file truncated and written.
    CopyOver,
    /// `mv`, the real one, on the same file system: a rename.
    MoveOver,
    /// Removed, then made anew.
    DeleteAndCreate,
}

/// All of them.
pub(crate) const EDITORS: [Editor; 9] = [
    Editor::VimBackupAndCreate,
    Editor::VimBackupCopyAndTruncate,
    Editor::NanoTruncateAndWrite,
    Editor::SedInPlace,
    Editor::CodeOpenTruncateWrite,
    Editor::CodeRenameOver,
    Editor::CopyOver,
    Editor::MoveOver,
    Editor::DeleteAndCreate,
];

impl Editor {
    /// Saves `text` as the file at `path`, which is there.
    pub(crate) fn save(self, path: &Path, text: &str) {
        match self {
            Self::VimBackupAndCreate => {
                let probe = path.with_file_name("4913");
                write(&probe, "");
                remove(&probe);
                rename(path, &beside(path, "~"));
                write_through(File::create_new(path).expect("nobody else makes it"), text);
                remove(&beside(path, "~"));
            }
            Self::VimBackupCopyAndTruncate => {
                let swap = beside(path, ".swp");
                write(&swap, "lock");
                fs::copy(path, beside(path, "~")).expect("a copy");
                write_through(File::create(path).expect("the file can be opened"), text);
                remove(&beside(path, "~"));
                remove(&swap);
            }
            Self::NanoTruncateAndWrite => {
                let lock = beside(path, ".swp");
                write(&lock, "lock");
                let mut file = File::create(path).expect("the file can be opened");
                for piece in text.as_bytes().chunks(64) {
                    file.write_all(piece).expect("the file can be written");
                }
                drop(file);
                remove(&lock);
            }
            Self::SedInPlace => {
                write(&elsewhere(path), text);
                // At its first line the other file is queued, and no line of its own is printed.
                let script = format!("1r {}", elsewhere(path).display());
                run(Command::new("sed").args(["-i", "-e", &script, "-e", "d"]).arg(path));
                remove(&elsewhere(path));
            }
            Self::CodeOpenTruncateWrite => {
                let mut file = OpenOptions::new().write(true).open(path).expect("the file can be opened");
                file.set_len(0).expect("the file can be truncated");
                file.rewind().expect("a plain file");
                write_through(file, text);
            }
            Self::CodeRenameOver => {
                write(&beside(path, ".vsctmp"), text);
                rename(&beside(path, ".vsctmp"), path);
            }
            Self::CopyOver => {
                write(&elsewhere(path), text);
                run(Command::new("cp").arg(elsewhere(path)).arg(path));
                remove(&elsewhere(path));
            }
            Self::MoveOver => {
                write(&elsewhere(path), text);
                run(Command::new("mv").arg(elsewhere(path)).arg(path));
            }
            Self::DeleteAndCreate => {
                remove(path);
                write(path, text);
            }
        }
    }
}

/// How a slow writer begins.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Dribble {
    /// The file is truncated.
    Truncated,
    /// The file is removed and made anew.
    Created,
}

impl Dribble {
    /// Writes `pieces` to the file at `path`, with a pause before each.
    pub(crate) async fn write<'a>(self, path: &Path, pieces: impl IntoIterator<Item = (Duration, &'a [u8])>) {
        if matches!(self, Self::Created) {
            remove(path);
        }
        let mut file = File::create(path).expect("the file can be opened");
        for (pause, piece) in pieces {
            tokio::time::sleep(pause).await;
            file.write_all(piece).expect("the file can be written");
        }
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// A file that is not in the directory of `path`, and on the same file system.
fn elsewhere(path: &Path) -> PathBuf {
    let dir = path.parent().and_then(Path::parent).expect("a directory in a directory");
    dir.join("new.toml")
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).expect("the file can be written");
}

fn write_through(mut file: File, text: &str) {
    file.write_all(text.as_bytes()).expect("the file can be written");
    file.sync_all().expect("the file can be synced");
}

fn rename(from: &Path, to: &Path) {
    fs::rename(from, to).expect("the file can be renamed");
}

fn remove(path: &Path) {
    fs::remove_file(path).expect("the file is there");
}

fn run(command: &mut Command) {
    let status = command.status().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(status.success(), "{command:?}: {status}");
}
