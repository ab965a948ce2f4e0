//! A writable mount: overlayfs over the image.
//!
//! It is put together in a mount namespace that only a thread has which ends then, so that its
//! parts are seen nowhere: the names of the layers mean something there alone, and no path of the
//! user's has to be written into an option.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, CWD, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;
use rustix::mount::{
    MountAttrFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, mount_change, move_mount,
    open_tree,
};

use super::attach::{Attributes, FileSystem};
use super::ids::IdMap;
use super::table::OVERLAY;
use crate::error::{Error, ErrorKind, Result};
use crate::sys::dirs::open_at;
use crate::sys::lock::try_lock;
use crate::sys::namespace;
use crate::tree::Metadata;

/// What is written, in the directory that keeps it.
pub const UPPER: &str = "upper";
/// What overlayfs needs beside it.
pub const WORK: &str = "work";

/// How long a mount waits for the one before it with the same directory to be over: who unmounts
/// is back a little sooner.
const PATIENCE: Duration = Duration::from_secs(5);

/// A directory that keeps what is written, for one mount.
#[derive(Debug)]
pub struct Kept {
    path: PathBuf,
    /// Locked.
    _lock: File,
}

impl Kept {
    /// Opens the directory, which is made if it is not there, and holds it for this mount alone.
    pub fn open(path: &Path, root: &Metadata, uids: &IdMap, gids: &IdMap) -> Result<Self> {
        // What is written in it, set-user-ID programs too, is nobody else's business.
        match std::fs::DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            result => result.map_err(|error| Error::io("make the directory", path, error))?,
        }
        let path = std::fs::canonicalize(path)
            .map_err(|error| Error::io("find the path of", path, error))?;
        let lock = lock(&path)?;
        prepare(lock.as_fd(), root, uids, gids)
            .map_err(|error| Error::io("prepare", path.join(UPPER), error))?;
        Ok(Kept { path, _lock: lock })
    }

    /// The absolute path of the directory.
    pub fn place(&self) -> PathBuf {
        self.path.clone()
    }
}

fn lock(path: &Path) -> Result<File> {
    let failed = |error| Error::io("lock", path, error);
    let file = File::open(path).map_err(failed)?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        if try_lock(&file, File::try_lock).map_err(failed)? {
            return Ok(file);
        }
        if Instant::now() >= deadline {
            let message = format!("another writable mount uses the directory '{}'", path.display());
            return Err(Error::new(ErrorKind::AlreadyExists, message).with_path(path));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Makes the directories that are not there. The upper one becomes the root of what is seen, so it
/// is made like the image's.
fn prepare(dir: impl AsFd, root: &Metadata, uids: &IdMap, gids: &IdMap) -> rustix::io::Result<()> {
    match rustix::fs::mkdirat(&dir, WORK, Mode::RWXU) {
        Err(Errno::EXIST) => {}
        result => result?,
    }
    if rustix::fs::accessat(&dir, UPPER, rustix::fs::Access::EXISTS, AtFlags::empty()).is_ok() {
        return Ok(());
    }
    // Whoever is killed before it is finished has not made it.
    const UNFINISHED: &str = "upper.new";
    match rustix::fs::mkdirat(&dir, UNFINISHED, Mode::RWXU) {
        Err(Errno::EXIST) => {}
        result => result?,
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let upper = open_at(&dir, UNFINISHED, flags, Mode::empty())?;
    let (uid, gid) = (uids.map(root.uid), gids.map(root.gid));
    rustix::fs::fchown(&upper, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
    rustix::fs::fchmod(&upper, Mode::from_raw_mode(root.permissions.into()))?;
    for xattr in &root.xattrs {
        let set = rustix::fs::fsetxattr(&upper, &*xattr.key, &xattr.value, XattrFlags::empty());
        match set {
            // In a user namespace few can be set, and on a tmpfs not all.
            Err(Errno::PERM | Errno::NOTSUP) => {}
            result => result?,
        }
    }
    let mtime = Timespec { tv_sec: root.mtime.seconds, tv_nsec: root.mtime.nanoseconds.into() };
    rustix::fs::futimens(&upper, &Timestamps { last_access: mtime, last_modification: mtime })?;
    rustix::fs::renameat(&dir, UNFINISHED, &dir, UPPER)
}

/// Puts overlayfs over the mount `lower`; what is written goes to memory, or where it is kept. The
/// mount is not seen anywhere yet.
pub fn cover(
    lower: OwnedFd,
    kept: Option<&Path>,
    root: &Metadata,
    (uids, gids): (&IdMap, &IdMap),
    attributes: &Attributes,
    point: &Path,
) -> Result<OwnedFd> {
    std::thread::scope(|scope| {
        let work = || {
            namespace::private_mounts()
                .map_err(|error| Error::system("make a mount namespace", error.into()))?;
            let memory = scaffold(point)?;
            let failed = |error| Error::system("prepare the overlay", error);
            let dir = match kept {
                Some(kept) => {
                    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
                    let tree = open_tree(CWD, kept, flags)
                        .map_err(|error| Error::io("mount", kept, error))?;
                    Some(tree)
                }
                None => None,
            };
            // Only now, since it may hide what is kept.
            move_here(memory.as_fd(), point).map_err(|error| failed(error.into()))?;
            rustix::process::fchdir(&memory).map_err(|error| failed(error.into()))?;
            for name in [LOWER, DATA] {
                rustix::fs::mkdir(name, Mode::RWXU).map_err(|error| failed(error.into()))?;
            }
            move_here(lower.as_fd(), LOWER).map_err(|error| failed(error.into()))?;
            match dir {
                Some(tree) => {
                    move_here(tree.as_fd(), DATA).map_err(|error| failed(error.into()))?;
                }
                None => {
                    let data = File::open(DATA).map_err(failed)?;
                    prepare(&data, root, uids, gids).map_err(|error| failed(error.into()))?;
                }
            }
            overlay(attributes)
        };
        let thread = crate::sys::thread::spawn(scope, work)?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

const LOWER: &str = "lower";
const DATA: &str = "data";

/// An empty file system in memory.
fn scaffold(point: &Path) -> Result<OwnedFd> {
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private).map_err(|error| match error {
        Errno::INVAL => root_is_no_mount(point),
        error => Error::io("mount on", point, error),
    })?;
    let memory = FileSystem::open("tmpfs")?;
    memory.set("mode", "0700")?;
    memory.mount(MountAttrFlags::empty())
}

/// Only mounts can be kept to a namespace, and the root of a chroot may be a plain directory.
fn root_is_no_mount(point: &Path) -> Error {
    let message = format!(
        "cannot make a writable mount on '{}': the root directory of this process is not a mount; \
         `mount --bind DIR DIR` before chroot(2) makes it one",
        point.display()
    );
    Error::new(ErrorKind::Unsupported, message).with_path(point)
}

fn move_here(mount: impl AsFd, to: impl rustix::path::Arg) -> rustix::io::Result<()> {
    move_mount(mount, "", CWD, to, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
}

fn overlay(attributes: &Attributes) -> Result<OwnedFd> {
    let overlay = FileSystem::open("overlay")?;
    let mut source = std::ffi::OsString::from(OVERLAY);
    source.push(&attributes.source);
    overlay.set("source", &source)?;
    overlay.set("lowerdir", LOWER)?;
    overlay.set("upperdir", format!("{DATA}/{UPPER}"))?;
    overlay.set("workdir", format!("{DATA}/{WORK}"))?;
    // What is written shall mean the same over another image, and be what `delta` takes.
    for (feature, how) in [("index", "off"), ("metacopy", "off"), ("redirect_dir", "nofollow")] {
        overlay.set(feature, how)?;
    }
    if namespace::in_user_namespace()? {
        overlay.set_flag("userxattr")?;
    }
    overlay.mount(attributes.flags())
}
