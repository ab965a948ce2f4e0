//! Mounting an image: through FUSE, in this process.
//!
//! A mount lives as long as its [`Mount`], or until somebody else unmounts it. It is served by
//! threads of this process; nothing is printed, no signal is caught, and nothing is left behind.
//!
//! ```no_run
//! use std::path::Path;
//! use std::sync::Arc;
//! use puzzlefs::image::{Image, OpenOptions};
//! use puzzlefs::layout::Reference;
//! use puzzlefs::mount::{MountOptions, mount};
//!
//! # fn main() -> puzzlefs::Result<()> {
//! let reference = Reference::parse(Path::new("images:v1"))?;
//! let image = Arc::new(Image::open(&reference, &OpenOptions::default())?);
//! let mount = mount(&image, Path::new("/mnt"), MountOptions::default())?;
//! println!("{}", std::fs::read_to_string("/mnt/etc/os-release").unwrap());
//! mount.unmount(false)?;
//! # Ok(())
//! # }
//! ```

mod ahead;
mod attach;
mod filesystem;
mod ids;
mod log;
mod overlay;
mod session;
mod state;
mod table;

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub use ids::IdMap;
pub use log::LogFn;
pub use overlay::{UPPER, WORK};
pub use session::EndedFn;

use crate::error::{Error, ErrorKind, Result};
use crate::image::Image;
use crate::tree::Ino;
use ahead::Ahead;
use attach::Attributes;
use filesystem::{FileSystem, Owners};
use log::Log;
use overlay::Kept;
use table::Facts;

/// Where what is written to a mount goes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Writable {
    /// Nothing can be written.
    #[default]
    No,
    /// Into memory; it is gone with the mount.
    Memory,
    /// Into [`upper`](UPPER) in this directory, which is made if it is not there; it is found again
    /// by the next mount with it.
    Directory(PathBuf),
}

/// How an image is mounted.
#[derive(Default)]
pub struct MountOptions {
    /// Whether other users may look into it. If not given: where root mounts.
    pub allow_other: Option<bool>,
    /// Whether the kernel checks permissions as everywhere. If not, whoever may look into it may
    /// read everything. Always, where others may look into it.
    pub default_permissions: bool,
    /// Whether set-user-ID and set-group-ID bits and capabilities have no effect; always so where
    /// an ordinary user mounts.
    pub nosuid: bool,
    /// Whether devices cannot be opened; always so where an ordinary user mounts.
    pub nodev: bool,
    /// Whether no program can be executed.
    pub noexec: bool,
    /// Whether it can be written to, by overlayfs over the image.
    pub writable: Writable,
    /// How owners are shown.
    pub uids: IdMap,
    /// How groups are shown.
    pub gids: IdMap,
    /// How many threads answer the kernel; the number of cores, up to 4, if not given. As many
    /// again read ahead.
    pub threads: Option<usize>,
    /// What is shown as mounted; the layout and the digest if not given.
    pub source: Option<OsString>,
    /// Is told what goes wrong while the mount is there.
    pub log: Option<Arc<LogFn>>,
    /// Is told when the mount is over though nobody asked for that by [`Mount`].
    pub ended: Option<EndedFn>,
}

impl std::fmt::Debug for MountOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MountOptions").field("writable", &self.writable).finish_non_exhaustive()
    }
}

/// A mounted image.
///
/// Dropped, it is unmounted: who has nothing open in it finds it gone, and its threads end with
/// the last who has.
pub struct Mount {
    running: session::Running,
    point: PathBuf,
}

impl std::fmt::Debug for Mount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mount").field("point", &self.point).finish_non_exhaustive()
    }
}

/// Mounts `image` on the directory `point`.
///
/// When this returns, the mount is there, and answers. Root mounts by itself, an ordinary user
/// through `fusermount3`.
pub fn mount(image: &Arc<Image>, point: &Path, options: MountOptions) -> Result<Mount> {
    let point = check_point(point)?;
    check_layout(image, &point)?;
    let loops = threads(options.threads)?;
    let root = rustix::process::geteuid().is_root();
    let allow_other = options.allow_other.unwrap_or(root);
    if options.allow_other == Some(false) && options.writable != Writable::No {
        return Err(Error::invalid("a writable mount cannot be for its owner alone"));
    }
    let attributes = Attributes {
        source: options.source.unwrap_or_else(|| source(image)),
        allow_other,
        default_permissions: options.default_permissions || allow_other,
        nosuid: options.nosuid,
        nodev: options.nodev,
        noexec: options.noexec,
    };
    let metadata = &image.tree().inode(Ino::ROOT).metadata;
    let connection = attach::connect(&point, &attributes)?;
    let mounted_by_helper = connection.detached.is_none();
    let undo = Undo { point: mounted_by_helper.then(|| point.clone()) };
    if mounted_by_helper && options.writable != Writable::No {
        return Err(Error::new(
            ErrorKind::PermissionDenied,
            "a writable mount needs root, or a user namespace, as \
             `unshare --user --map-root-user --mount` makes one",
        ));
    }
    let kept = match &options.writable {
        Writable::Directory(path) => {
            Some(Kept::open(path, metadata, &options.uids, &options.gids)?)
        }
        Writable::No | Writable::Memory => None,
    };
    let log = Arc::new(Log::new(options.log));
    let ahead = Arc::new(Ahead::new(image.clone()));
    let owners = Owners {
        uids: options.uids.clone(),
        gids: options.gids.clone(),
        checked: attributes.default_permissions,
        open_to_all: allow_other,
    };
    let locations = Arc::new(image.tree().locations());
    let file_system = FileSystem::new(image.clone(), locations, ahead.clone(), log.clone(), owners);
    let kept_path = kept.as_ref().map(Kept::place);
    let facts = |mount: &OwnedFd| {
        table::facts(mount, Path::new(""))
            .map_err(|error| Error::system("look at the mount", error.into()))
    };
    let Facts { id, device } = match &connection.detached {
        Some(lower) => facts(lower)?,
        None => table::facts(rustix::fs::CWD, &point)
            .map_err(|error| Error::io("look at", &point, error))?,
    };
    let threads = (&ahead, loops);
    let ended = options.ended;
    let (running, detached) = session::start(connection, file_system, threads, log, ended, kept)?;
    if mounted_by_helper {
        running.settle(id, &point);
        undo.forget();
    }
    if let Some(lower) = detached {
        attach::raise_readahead(device);
        let ids = (&options.uids, &options.gids);
        let top = match options.writable {
            Writable::No => lower,
            _ => overlay::cover(lower, kept_path.as_deref(), metadata, ids, &attributes, &point)?,
        };
        // All that may fail comes first: what is attached is known, or it would be left behind.
        let id = facts(&top)?.id;
        attach::attach(&top, &point)?;
        running.settle(id, &point);
    }
    Ok(Mount { running, point })
}

/// Takes away what `fusermount3` mounted, where the rest fails.
struct Undo {
    point: Option<PathBuf>,
}

impl Undo {
    fn forget(mut self) {
        self.point = None;
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        if let Some(point) = &self.point
            && let Err(error) = attach::detach(point, true)
        {
            tracing::error!("{error}");
        }
    }
}

impl Mount {
    /// Where it is mounted: an absolute path without links.
    pub fn point(&self) -> &Path {
        &self.point
    }

    /// Waits until the mount is over, at most for `timeout`; tells whether it is.
    pub fn wait(&self, timeout: Option<Duration>) -> bool {
        self.running.wait(timeout)
    }

    /// Unmounts, and waits until it is over.
    ///
    /// Fails if somebody has a file open in it, unless `lazy`: then it is gone at once for all who
    /// have not, and over when the last one has closed it. Does nothing if it is over already.
    pub fn unmount(&self, lazy: bool) -> Result<()> {
        self.running.unmount(lazy)
    }
}

/// Unmounts the image that is mounted on `point`, whoever serves it, if anybody does.
pub fn unmount(point: &Path, lazy: bool) -> Result<()> {
    let point = table::real_path(point)?;
    match table::is_ours(&point)? {
        Some(true) => attach::detach(&point, lazy),
        Some(false) => Err(Error::invalid(format!(
            "what is mounted on '{}' is no puzzlefs image",
            point.display()
        ))
        .with_path(point)),
        None => Err(Error::new(
            ErrorKind::NotFound,
            format!("nothing is mounted on '{}'", point.display()),
        )
        .with_path(point)),
    }
}

/// The absolute path of a directory on which an image can be mounted.
fn check_point(path: &Path) -> Result<PathBuf> {
    let shown = path.display();
    let fail = |kind, message: String| Err(Error::new(kind, message).with_path(path));
    match std::fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return fail(
                ErrorKind::NotFound,
                format!("there is no directory '{shown}' to mount on; make it first"),
            );
        }
        Err(error) if error.raw_os_error() == Some(libc::ENOTCONN) => {
            return fail(
                ErrorKind::AlreadyExists,
                format!("a mount that nobody serves any more is on '{shown}': unmount it first"),
            );
        }
        Err(error) => return Err(Error::io("mount on", path, error)),
        Ok(metadata) if !metadata.is_dir() => {
            let message = format!("'{shown}' is not a directory, on which alone can be mounted");
            return fail(ErrorKind::InvalidInput, message);
        }
        Ok(_) => {}
    }
    let real =
        std::fs::canonicalize(path).map_err(|error| Error::io("find the path of", path, error))?;
    match table::is_ours(&real)? {
        Some(true) => {
            fail(ErrorKind::AlreadyExists, format!("an image is mounted on '{shown}' already"))
        }
        Some(false) | None => Ok(real),
    }
}

/// What is read must not be hidden by the mount.
fn check_layout(image: &Image, point: &Path) -> Result<()> {
    let real = |path: &Path| {
        std::fs::canonicalize(path).map_err(|error| Error::io("find the path of", path, error))
    };
    let layout = image.layout().path();
    let shown = point.display();
    if real(layout)?.starts_with(point) {
        let layout = layout.display();
        let message =
            format!("the layout '{layout}' lies in '{shown}', where the mount would hide it");
        return Err(Error::invalid(message).with_path(point));
    }
    if real(&image.layout().blobs_path())?.starts_with(point) {
        let layout = layout.display();
        let message =
            format!("the blobs of '{layout}' lie in '{shown}', where the mount would hide them");
        return Err(Error::invalid(message).with_path(point));
    }
    Ok(())
}

fn source(image: &Image) -> OsString {
    let mut source = image.layout().path().as_os_str().to_owned();
    source.push(format!("@{}", image.manifest().descriptor.digest));
    source
}

fn threads(asked: Option<usize>) -> Result<usize> {
    const MOST: usize = 4;
    match asked {
        None => Ok(crate::sys::thread::threads(None)?.min(MOST)),
        asked => crate::sys::thread::threads(asked),
    }
}
