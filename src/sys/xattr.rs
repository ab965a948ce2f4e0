//! Extended attributes of an inode that is named by its directory and its name.
//!
//! Linux has no call for that before 6.13, so the way leads through `/proc/self/fd`: it is as
//! short for the deepest path, and no link is followed.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;

use crate::tree::Xattr;

/// The most that Linux stores: `XATTR_LIST_MAX` and `XATTR_SIZE_MAX`.
const LARGEST: usize = 64 * 1024;

/// An inode by its directory and its name in it, or by itself.
#[derive(Clone, Copy)]
pub enum Place<'a> {
    /// The inode of an open file or directory.
    Open(BorrowedFd<'a>),
    /// What a directory has under this name; a symbolic link is not followed.
    Named(BorrowedFd<'a>, &'a [u8]),
}

impl Place<'_> {
    fn list(self, buffer: &mut [u8]) -> rustix::io::Result<usize> {
        match self {
            Place::Open(fd) => rustix::fs::flistxattr(fd, buffer),
            Place::Named(dir, name) => rustix::fs::llistxattr(proc_path(dir, name), buffer),
        }
    }

    fn get(self, key: &[u8], buffer: &mut [u8]) -> rustix::io::Result<usize> {
        match self {
            Place::Open(fd) => rustix::fs::fgetxattr(fd, key, buffer),
            Place::Named(dir, name) => rustix::fs::lgetxattr(proc_path(dir, name), key, buffer),
        }
    }

    /// Sets the attribute `key`.
    pub fn set(self, key: &[u8], value: &[u8]) -> io::Result<()> {
        let flags = rustix::fs::XattrFlags::empty();
        match self {
            Place::Open(fd) => rustix::fs::fsetxattr(fd, key, value, flags)?,
            Place::Named(dir, name) => {
                rustix::fs::lsetxattr(proc_path(dir, name), key, value, flags)?;
            }
        }
        Ok(())
    }
}

/// Reads attributes; keeps its buffer from one inode to the next.
pub struct Reader {
    buffer: Vec<u8>,
}

impl Reader {
    /// A reader with an empty buffer.
    pub fn new() -> Self {
        Reader { buffer: vec![0; LARGEST] }
    }

    /// The attributes whose key `wanted` accepts, sorted by key.
    pub fn read(
        &mut self,
        place: Place<'_>,
        wanted: impl Fn(&[u8]) -> bool,
    ) -> io::Result<Box<[Xattr]>> {
        let length = match place.list(&mut self.buffer) {
            Ok(0) | Err(Errno::NOTSUP) => return Ok(Box::default()),
            Ok(length) => length,
            Err(Errno::NOENT) if !std::path::Path::new(PROC).exists() => {
                return Err(io::Error::other("/proc is not mounted, which leads to them"));
            }
            Err(error) => return Err(error.into()),
        };
        let keys: Vec<Box<[u8]>> = self.buffer[..length]
            .split(|&byte| byte == 0)
            .filter(|key| !key.is_empty() && wanted(key))
            .map(Box::from)
            .collect();
        let mut xattrs = Vec::with_capacity(keys.len());
        for key in keys {
            let length = place.get(&key, &mut self.buffer)?;
            xattrs.push(Xattr { key, value: self.buffer[..length].into() });
        }
        xattrs.sort();
        Ok(xattrs.into())
    }
}

/// The open descriptors of this process, as links to what they are.
const PROC: &str = "/proc/self/fd";

/// `/proc/self/fd/DIR/NAME`, which is `NAME` in the open directory `DIR`.
fn proc_path(dir: BorrowedFd<'_>, name: &[u8]) -> Vec<u8> {
    let mut path = format!("{PROC}/{}/", dir.as_raw_fd()).into_bytes();
    path.extend_from_slice(name);
    path
}
