//! Files that are mounts of their own: a new version of their source never shows in them. Pure but for
//! [`read`](Mounts::read).
//!
//! Kubernetes makes such mounts for `subPath`, container engines for `-v file:file`. The mount holds on to the inode that
//! was there first; whoever updates the source renames another one over it.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

/// Where Linux says what is mounted.
pub const MOUNTINFO: &str = "/proc/self/mountinfo";

/// Behind a root that has no name any more.
const DELETED: &[u8] = b"//deleted";

/// What is mounted, as far as it matters here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mounts(Vec<Mount>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Mount {
    point: PathBuf,
    is_deleted: bool,
}

/// A file that never sees an update.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileMount {
    /// As it was asked for.
    pub path: PathBuf,
    /// Whether its source was replaced already, so that it is known to be out of date.
    pub is_stale: bool,
}

impl Mounts {
    /// What `mountinfo` says; see proc(5). Lines that cannot be read are passed over.
    #[must_use]
    pub fn parse(mountinfo: &[u8]) -> Self {
        Self(mountinfo.split(|byte| *byte == b'\n').filter_map(Mount::parse).collect())
    }

    /// What is mounted for this process.
    ///
    /// # Errors
    /// Where there is no `/proc`.
    pub fn read(mountinfo: &Path) -> io::Result<Self> {
        fs::read(mountinfo).map(|text| Self::parse(&text))
    }

    /// Those of `files` that are mounts of their own, by their path or by what it leads to.
    #[must_use]
    pub fn of_files<'a>(&self, files: impl IntoIterator<Item = &'a Path>) -> Vec<FileMount> {
        let mount_of = |path: &Path| {
            let resolved = path.canonicalize().ok();
            let absolute = std::path::absolute(path).ok();
            // What was mounted last at a place is what is seen there.
            let is_it = |mount: &&Mount| [&resolved, &absolute].into_iter().flatten().any(|path| *path == mount.point);
            self.0.iter().rev().find(is_it).map(|mount| mount.is_deleted)
        };
        let found = files.into_iter().filter_map(|path| {
            let is_stale = mount_of(path)?;
            Some(FileMount { path: path.to_owned(), is_stale })
        });
        found.collect()
    }
}

impl Mount {
    /// `36 35 98:0 /root /point rw,noatime master:1 - ext3 /dev/sda1 rw`
    fn parse(line: &[u8]) -> Option<Self> {
        let mut fields = line.split(|byte| *byte == b' ').skip(3);
        let (root, point) = (unescape(fields.next()?), unescape(fields.next()?));
        let point = PathBuf::from(OsString::from_vec(point));
        point.is_absolute().then(|| Self { point, is_deleted: root.ends_with(DELETED) })
    }
}

/// Space, tab, newline and backslash are written as a backslash and three octal digits.
fn unescape(mut field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    while let Some((first, rest)) = field.split_first() {
        field = rest;
        let octal = (*first == b'\\').then(|| rest.split_at_checked(3)).flatten();
        match octal.and_then(|(digits, rest)| Some((octal_byte(digits)?, rest))) {
            Some((byte, rest)) => {
                plain.push(byte);
                field = rest;
            }
            None => plain.push(*first),
        }
    }
    plain
}

fn octal_byte(digits: &[u8]) -> Option<u8> {
    let digits =
        std::str::from_utf8(digits).ok().filter(|digits| digits.bytes().all(|digit| digit.is_ascii_digit()))?;
    u8::from_str_radix(digits, 8).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines of a pod with a `subPath`, of a container with `-v file:file`, and of `unshare -m`.
    const LINES: &str = r"1 0 0:96 / / rw,relatime master:37 - overlay overlay rw,lowerdir=/var/lib/containerd/1/fs
2 1 259:1 /var/lib/kubelet/pods/5d/volume-subpaths/config/washlet/0 /etc/washlet/washlet.toml ro,relatime - ext4 /dev/nvme0n1p1 rw,discard
3 1 259:1 /var/lib/kubelet/pods/5d/volumes/kubernetes.io~configmap/tls /etc/tls ro,relatime - ext4 /dev/nvme0n1p1 rw
4 1 8:1 /srv/a\040b/ca.pem//deleted /etc/my\040ca\134\011.pem rw,relatime shared:1 - ext4 /dev/sda1 rw
5 1 0:20 mnt:[4026532] /run/netns/x rw shared:2 master:1 - nsfs nsfs rw
6 1 8:1 /old//deleted /srv/key.pem rw - ext4 /dev/sda1 rw
7 1 8:1 /new /srv/key.pem rw - ext4 /dev/sda1 rw

not a line";

    fn found(path: &str) -> Option<bool> {
        let mounts = Mounts::parse(LINES.as_bytes());
        let found = mounts.of_files([Path::new(path)]);
        found.first().map(|mount| mount.is_stale)
    }

    #[test]
    fn a_file_that_is_a_mount_is_told_from_a_file_in_a_mounted_directory() {
        assert_eq!(found("/etc/washlet/washlet.toml"), Some(false));
        assert_eq!(found("/etc/washlet/../washlet/washlet.toml"), None, "only names that exist are resolved");
        assert_eq!(found("/etc/tls/tls.crt"), None);
        assert_eq!(found("/etc/hostname"), None);
    }

    #[test]
    fn a_source_that_was_replaced_makes_it_stale_and_escapes_are_read() {
        assert_eq!(found("/etc/my ca\\\t.pem"), Some(true));
        assert_eq!(found("/srv/key.pem"), Some(false), "what was mounted last is what is seen");
    }

    #[test]
    fn what_is_no_escape_stays_as_it_is() {
        assert_eq!(unescape(br"a\0"), br"a\0");
        assert_eq!(unescape(br"a\999\040"), br"a\999 ");
        assert_eq!(unescape(br"\777\"), br"\777\");
        assert_eq!(unescape(b"\\\xff\xff\xff"), b"\\\xff\xff\xff");
    }

    #[test]
    fn a_link_to_a_mounted_file_leads_to_it() {
        let dir = tempfile::tempdir().unwrap();
        let (file, link) = (dir.path().join("real file"), dir.path().join("link"));
        fs::write(&file, "").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        let point = file.canonicalize().unwrap().display().to_string().replace(' ', "\\040");
        let mountinfo = dir.path().join("mountinfo");
        fs::write(&mountinfo, format!("9 1 8:1 /source {point} rw - ext4 /dev/sda1 rw\n")).unwrap();
        let found = Mounts::read(&mountinfo).unwrap().of_files([&*link, dir.path()]);
        assert_eq!(found, [FileMount { path: link, is_stale: false }]);
    }
}
