//! Opening the directories of a tree on disk: never by a joined path, never through a link, with
//! few file descriptors, whatever the depth.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::path::Arg;

use crate::error::{Error, Result};
use crate::tree::Ino;

/// How many directories are kept open: those nearest to the one that was asked for last.
const KEPT: usize = 32;

/// Flags with which a directory is opened that must be one and no link to one.
pub const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Where a directory of the tree stands: its parent's number and its name in it.
pub trait Tree {
    /// The parent of `dir` and the name of `dir` in it; not asked for the root.
    fn place(&self, dir: Ino) -> (Ino, &[u8]);

    /// The path of `dir` for an error's message.
    fn path(&self, dir: Ino) -> std::path::PathBuf;

    /// Checks that what was opened is the directory that was meant.
    fn check(&self, dir: Ino, fd: BorrowedFd<'_>) -> Result<()>;

    /// The error of a directory in whose place there is none any more.
    fn replaced(&self, dir: Ino) -> Error;
}

/// The open directories along one path of a tree.
///
/// A walk of the tree finds nearly each directory already open; any order is right.
pub struct Dirs {
    root: Rc<OwnedFd>,
    open: Vec<(Ino, Rc<OwnedFd>)>,
}

impl Dirs {
    /// `root` is the open root directory of the tree.
    pub fn new(root: OwnedFd) -> Self {
        Dirs { root: Rc::new(root), open: Vec::new() }
    }

    /// Opens the directory `dir` of `tree`.
    pub fn open(&mut self, tree: &impl Tree, dir: Ino) -> Result<Rc<OwnedFd>> {
        let mut missing = Vec::new();
        let mut at = dir;
        let mut fd = loop {
            if at == Ino::ROOT {
                self.open.clear();
                break self.root.clone();
            }
            if let Some(found) = self.open.iter().rposition(|(open, _)| *open == at) {
                self.open.truncate(found + 1);
                break self.open[found].1.clone();
            }
            missing.push(at);
            at = tree.place(at).0;
        };
        for &next in missing.iter().rev() {
            let (_, name) = tree.place(next);
            let opened =
                open_at(&*fd, name, DIRECTORY, Mode::empty()).map_err(|error| match error {
                    Errno::NOENT | Errno::NOTDIR | Errno::LOOP => tree.replaced(next),
                    error => Error::io("open the directory", tree.path(next), error),
                })?;
            tree.check(next, opened.as_fd())?;
            fd = Rc::new(opened);
            if self.open.len() == KEPT {
                self.open.remove(0);
            }
            self.open.push((next, fd.clone()));
        }
        Ok(fd)
    }
}

/// Opens a file in an open directory (`openat(2)`), again where a signal interrupts that.
pub fn open_at(
    dir: impl AsFd,
    name: impl Arg + Copy,
    flags: OFlags,
    mode: Mode,
) -> rustix::io::Result<OwnedFd> {
    rustix::io::retry_on_intr(|| rustix::fs::openat(&dir, name, flags, mode))
}

/// Changes the mode of what `dir` has under this name; of a link that somebody puts there, it is
/// not what the link points to.
pub fn chmod_at(dir: BorrowedFd<'_>, name: impl Arg + Copy, mode: Mode) -> rustix::io::Result<()> {
    // Linux has no call for that before 6.6, and a descriptor without access does not do.
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let found = open_at(dir, name, flags, Mode::empty())?;
    rustix::fs::chmod(format!("/proc/self/fd/{}", found.as_raw_fd()), mode)
}

/// Opens the root of a tree on disk; a link is followed, since the user named it.
pub fn open_root(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    open_at(rustix::fs::CWD, path, flags, Mode::empty())
        .map_err(|error| Error::io("open the directory", path, error))
}
