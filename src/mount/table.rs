//! The kernel's table of mounts.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, StatxFlags, statx};

use crate::error::{Error, Result};

/// The type that the kernel shows of our mounts, behind `fuse.`.
pub const SUBTYPE: &str = "puzzlefs";
/// What the source of an overlay of ours begins with.
pub const OVERLAY: &str = "puzzlefs:";

/// A mount by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MountId {
    /// No other mount ever has it: since Linux 6.8.
    Unique(u64),
    /// Others may have it once this one is gone.
    Reused(u64),
}

/// What is known of an open or a named mount without asking the file system.
#[derive(Debug, Clone, Copy)]
pub struct Facts {
    /// The mount.
    pub id: MountId,
    /// The device number of its file system.
    pub device: (u32, u32),
}

/// The mount that `path` in `dir` is on.
pub fn facts(dir: impl rustix::fd::AsFd, path: &Path) -> rustix::io::Result<Facts> {
    // Nobody may be there who could answer.
    let flags = AtFlags::EMPTY_PATH
        | AtFlags::SYMLINK_NOFOLLOW
        | AtFlags::NO_AUTOMOUNT
        | AtFlags::STATX_DONT_SYNC;
    // `STATX_MNT_ID_UNIQUE`
    const UNIQUE: StatxFlags = StatxFlags::from_bits_retain(0x4000);
    let found = statx(dir, path, flags, StatxFlags::MNT_ID | UNIQUE)?;
    let id = match found.stx_mask & UNIQUE.bits() {
        0 => MountId::Reused(found.stx_mnt_id),
        _ => MountId::Unique(found.stx_mnt_id),
    };
    Ok(Facts { id, device: (found.stx_dev_major, found.stx_dev_minor) })
}

/// Whether the mount is what is seen at `path`.
pub fn is_at(id: MountId, path: &Path) -> bool {
    facts(CWD, path).is_ok_and(|facts| facts.id == id)
}

/// Whether it is surely the mount that is seen at `path`, though it is over.
pub fn is_left_at(id: MountId, path: &Path) -> bool {
    let dead = || rustix::fs::stat(path).err() == Some(rustix::io::Errno::NOTCONN);
    is_at(id, path) && (matches!(id, MountId::Unique(_)) || dead())
}

/// Whether what is mounted on `path`, an absolute one without links, is a mount of ours, also if
/// nobody serves it any more; `None` if nothing is mounted there.
pub fn is_ours(path: &Path) -> Result<Option<bool>> {
    const TABLE: &str = "/proc/self/mountinfo";
    let table = std::fs::read(TABLE).map_err(|error| Error::io("read", TABLE, error))?;
    let mounts = table.split(|&byte| byte == b'\n').filter_map(parse);
    // The last one is on top.
    let top = mounts.rev().find(|mount| mount.point == path);
    Ok(top.map(|mount| {
        let overlay = mount.kind == b"overlay" && mount.source.starts_with(OVERLAY.as_bytes());
        overlay || mount.kind == format!("fuse.{SUBTYPE}").as_bytes()
    }))
}

struct Line {
    point: PathBuf,
    kind: Vec<u8>,
    source: Vec<u8>,
}

/// proc(5): the fifth field is the mount point; type and source follow the field `-`.
fn parse(line: &[u8]) -> Option<Line> {
    let mut fields = line.split(|&byte| byte == b' ');
    let point = PathBuf::from(OsString::from_vec(unescape(fields.nth(4)?)));
    let mut rest = fields.skip_while(|&field| field != b"-").skip(1);
    Some(Line { point, kind: rest.next()?.to_vec(), source: unescape(rest.next()?) })
}

/// Space, tab, newline and backslash stand there as three octal digits behind a backslash.
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, others)) = rest.split_first() {
        let digits = others.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        let byte = digits.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match (first, byte) {
            (b'\\', Some(byte)) => {
                bytes.push(byte);
                rest = &others[3..];
            }
            _ => {
                bytes.push(first);
                rest = others;
            }
        }
    }
    bytes
}

/// The absolute path without links of something on which a mount may be that answers no more: only
/// its parent is looked at.
pub fn real_path(path: &Path) -> Result<PathBuf> {
    let failed = |error| Error::io("find the path of", path, error);
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => {
            let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
            let real = std::fs::canonicalize(parent).map_err(failed)?.join(name);
            // A link to a mount point is one as well.
            match std::fs::read_link(&real) {
                Ok(_) => std::fs::canonicalize(&real).map_err(failed),
                Err(_) => Ok(real),
            }
        }
        _ => std::fs::canonicalize(path).map_err(failed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read() {
        let line =
            br"36 35 98:0 /a /mnt\0402\134 rw,noatime master:1 - fuse.puzzlefs im\011ages:v1 rw";
        let line = parse(line).unwrap();
        assert_eq!(line.point, Path::new("/mnt 2\\"));
        assert_eq!(
            (&line.kind[..], &line.source[..]),
            (&b"fuse.puzzlefs"[..], &b"im\tages:v1"[..])
        );
        assert!(parse(b"").is_none() && parse(b"1 2 3 4 5 - x").is_none());
    }
}
