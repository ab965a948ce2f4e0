//! Writing an image out as a directory.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, RwLock};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid};
use rustix::io::Errno;

use crate::chunk::Extent;
use crate::error::{Error, ErrorKind, Result};
use crate::fault;
use crate::image::Image;
use crate::progress::{Monitor, Progress, Stage};
use crate::sys::dirs::{self, Dirs, chmod_at, open_at};
use crate::sys::namespace::in_user_namespace;
use crate::sys::remove::remove_content;
use crate::sys::thread;
use crate::sys::xattr::Place;
use crate::tree::{Device, Ino, Inode, Kind, Locations, Metadata, Timestamp, Tree};

/// How an image is extracted.
#[derive(Debug, Clone)]
pub struct ExtractOptions {
    /// Whether owners and groups are restored; else everything is the caller's.
    pub same_owner: bool,
    /// How many threads write files; as many as there are cores if not given.
    pub threads: Option<usize>,
}

impl Default for ExtractOptions {
    fn default() -> Self {
        ExtractOptions { same_owner: true, threads: None }
    }
}

/// What was extracted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExtractReport {
    /// Inodes written.
    pub inodes: u64,
    /// The sum of the files' sizes.
    pub bytes: u64,
    /// What was not restored, sorted by what it is: for want of privileges, or since a program's
    /// owner is another one than in the image.
    pub lost: Vec<Lost>,
}

/// Something that could not be restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// What it is: `owner`, `device`, `set-user-ID or set-group-ID`, or the name of an extended
    /// attribute.
    pub what: String,
    /// How many inodes lost it.
    pub count: u64,
    /// The path in the image, from its root, of the first of them, by inode number.
    pub first: PathBuf,
}

/// The extended attribute with the capabilities of a program.
const CAPABILITY: &[u8] = b"security.capability";

/// How much is written at once.
const WINDOW: usize = 1024 * 1024;

/// Writes the image to the directory `target`, which must be empty or not there; its parent must
/// be.
///
/// Owners, device nodes and some extended attributes need privileges. Whoever lacks them gets the
/// rest, and is told in the report what is missing. A program whose owner or group is another one
/// than in the image does not get its set-user-ID and set-group-ID bits and capabilities: they were
/// not meant for that owner.
///
/// Nothing is written outside the target, whatever the image says: each name is created in its
/// open directory, and no link is ever followed. When it fails or is cancelled, what was written
/// is removed again.
pub fn extract(
    image: &Image,
    target: &Path,
    options: &ExtractOptions,
    monitor: &Monitor<'_>,
) -> Result<ExtractReport> {
    let threads = thread::threads(options.threads)?;
    image.check_blobs()?;
    let target = Target::make(target)?;
    match Extraction::new(image, &target, options)
        .and_then(|extraction| extraction.run(threads, monitor))
    {
        Ok(report) => {
            target.keep();
            Ok(report)
        }
        Err(error) => Err(target.give_up(error)),
    }
}

/// The directory that is extracted to. What was extracted is removed, unless it is kept.
struct Target<'a> {
    path: &'a Path,
    /// The very directory, whatever has its path meanwhile.
    root: OwnedFd,
    created: bool,
    kept: bool,
}

impl<'a> Target<'a> {
    /// Makes it, or finds it empty.
    fn make(path: &'a Path) -> Result<Self> {
        let created = match std::fs::create_dir(path) {
            Ok(()) => true,
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => false,
            Err(error) => return Err(Error::io("make the directory", path, error)),
        };
        let root = Self::open(path, created).map_err(|error| {
            let removed = if created { std::fs::remove_dir(path) } else { Ok(()) };
            match removed {
                Ok(()) => error,
                Err(why) => error.advice(format_args!("'{}' remains: {why}", path.display())),
            }
        })?;
        Ok(Target { path, root, created, kept: false })
    }

    /// Opens it, which must be empty.
    fn open(path: &Path, created: bool) -> Result<OwnedFd> {
        // A link at the path is followed if the user named it.
        let flags = if created { dirs::DIRECTORY } else { dirs::DIRECTORY - OFlags::NOFOLLOW };
        let root = open_at(rustix::fs::CWD, path, flags, Mode::empty())
            .map_err(|error| Error::io("open the directory", path, error))?;
        if !is_empty(root.as_fd()).map_err(|error| Error::io("list", path, error))? {
            let message =
                format!("'{}' is not empty; extract into a new or an empty one", path.display());
            return Err(Error::new(ErrorKind::AlreadyExists, message).with_path(path));
        }
        Ok(root)
    }

    fn keep(mut self) {
        self.kept = true;
    }

    /// Removes what was extracted; adds to `error` if that is not possible.
    fn give_up(self, error: Error) -> Error {
        let removed = self.remove();
        let path = self.path.display();
        self.keep();
        match removed {
            Ok(()) => error,
            Err(why) => error.advice(format_args!("a part remains in '{path}': {why}")),
        }
    }

    fn remove(&self) -> std::io::Result<()> {
        remove_content(self.root.as_fd())?;
        if self.created { std::fs::remove_dir(self.path) } else { Ok(()) }
    }
}

impl Drop for Target<'_> {
    /// Where it was neither kept nor given up: after a panic, beside which a failure here is only
    /// logged.
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        if let Err(error) = self.remove() {
            let path = self.path.display();
            tracing::warn!("cannot remove what was extracted to '{path}': {error}");
        }
    }
}

fn is_empty(directory: BorrowedFd<'_>) -> rustix::io::Result<bool> {
    for entry in rustix::fs::Dir::read_from(directory)? {
        let entry = entry?;
        if ![c".", c".."].contains(&entry.file_name()) {
            return Ok(false);
        }
    }
    Ok(true)
}

struct Extraction<'a> {
    image: &'a Image,
    target: &'a Target<'a>,
    /// The directories that were made, by number: what they are on disk.
    made: RwLock<Vec<(Ino, Identity)>>,
    same_owner: bool,
    privileged: bool,
    locations: Locations,
    lost: Mutex<BTreeMap<String, Loss>>,
}

/// How often something could not be restored: the same in whatever order the threads come.
struct Loss {
    count: u64,
    /// The lowest inode that lost it.
    first: Ino,
}

/// Device and inode number.
type Identity = (u64, u64);

fn identity(stat: &Stat) -> Identity {
    (stat.st_dev, stat.st_ino)
}

impl dirs::Tree for Extraction<'_> {
    fn place(&self, dir: Ino) -> (Ino, &[u8]) {
        (self.locations.parent(dir), self.tree().name(&self.locations, dir))
    }

    fn path(&self, dir: Ino) -> PathBuf {
        self.target.path.join(self.tree().path(&self.locations, dir))
    }

    /// What somebody else put there is not written to.
    fn check(&self, dir: Ino, fd: BorrowedFd<'_>) -> Result<()> {
        let stat = rustix::fs::fstat(fd)
            .map_err(|error| Error::io("look at", dirs::Tree::path(self, dir), error))?;
        let made = self.made.read().expect("no thread panics with the lock");
        let at = made.binary_search_by_key(&dir, |(ino, _)| *ino);
        match at.is_ok_and(|at| made[at].1 == identity(&stat)) {
            true => Ok(()),
            false => Err(self.replaced(dir)),
        }
    }

    fn replaced(&self, dir: Ino) -> Error {
        let path = dirs::Tree::path(self, dir);
        let message = format!("'{}' changed while it was written", path.display());
        Error::new(ErrorKind::Changed, message).with_path(path)
    }
}

/// The open directories of one thread.
struct Folders<'a> {
    extraction: &'a Extraction<'a>,
    dirs: RefCell<Dirs>,
}

impl Folders<'_> {
    fn open(&self, dir: Ino) -> Result<Rc<OwnedFd>> {
        self.dirs.borrow_mut().open(self.extraction, dir)
    }
}

impl<'a> Extraction<'a> {
    fn new(image: &'a Image, target: &'a Target<'a>, options: &ExtractOptions) -> Result<Self> {
        let privileged = rustix::process::geteuid().is_root() && !in_user_namespace()?;
        Ok(Extraction {
            image,
            target,
            made: RwLock::default(),
            same_owner: options.same_owner,
            privileged,
            locations: image.tree().locations(),
            lost: Mutex::default(),
        })
    }

    fn tree(&self) -> &'a Tree<Box<[Extent]>> {
        self.image.tree()
    }

    fn folders(&self) -> Result<Folders<'_>> {
        let root = self.target.root.try_clone();
        let root = root.map_err(|error| Error::io("open", self.target.path, error))?;
        let dirs = RefCell::new(Dirs::new(root));
        Ok(Folders { extraction: self, dirs })
    }

    fn run(self, threads: usize, monitor: &Monitor<'_>) -> Result<ExtractReport> {
        let folders = self.folders()?;
        self.make_nodes(&folders)?;
        self.write_files(threads, monitor)?;
        self.make_hard_links(&folders)?;
        self.finish_directories(&folders)?;
        let tree = self.tree();
        let bytes = tree.iter().map(|(ino, _)| self.image.size(ino)).sum();
        Ok(ExtractReport { inodes: tree.inodes().len() as u64, bytes, lost: self.lost() })
    }

    /// All inodes that are not the root, with the directory and name where they are first seen.
    fn places(&self) -> impl Iterator<Item = Node<'a>> {
        let tree = self.tree();
        tree.iter().skip(1).map(move |(ino, inode)| {
            let parent = self.locations.parent(ino);
            // The names live in the tree, not in the locations.
            let name = tree.name(&self.locations, ino);
            Node { ino, inode, parent, name }
        })
    }

    fn path(&self, node: &Node<'_>) -> PathBuf {
        dirs::Tree::path(self, node.ino)
    }

    /// Makes directories, and everything else but regular files.
    fn make_nodes(&self, folders: &Folders<'_>) -> Result<()> {
        for node in self.places() {
            if node.inode.file().is_some() {
                continue;
            }
            let dir = folders.open(node.parent)?;
            let made = self.make_node(&node, dir.as_fd())?;
            if made && node.inode.entries().is_none() {
                self.restore(&node, Place::Named(dir.as_fd(), node.name))?;
            }
        }
        Ok(())
    }

    /// Makes one node; tells whether that was possible.
    fn make_node(&self, node: &Node<'_>, dir: BorrowedFd<'_>) -> Result<bool> {
        let owner_only = Mode::from_raw_mode(0o600);
        let mknod = |file_type, Device { major, minor }| {
            let device = rustix::fs::makedev(major, minor);
            rustix::fs::mknodat(dir, node.name, file_type, owner_only, device)
        };
        const NO_DEVICE: Device = Device { major: 0, minor: 0 };
        let result = match &node.inode.kind {
            Kind::Directory(_) => rustix::fs::mkdirat(dir, node.name, Mode::from_raw_mode(0o700)),
            Kind::Symlink(target) => rustix::fs::symlinkat(&**target, dir, node.name),
            Kind::Fifo => mknod(FileType::Fifo, NO_DEVICE),
            Kind::Socket => mknod(FileType::Socket, NO_DEVICE),
            Kind::CharDevice(device) => mknod(FileType::CharacterDevice, *device),
            Kind::BlockDevice(device) => mknod(FileType::BlockDevice, *device),
            Kind::Regular(_) => unreachable!("regular files are made elsewhere"),
        };
        match (result, &node.inode.kind) {
            (Ok(()), Kind::Directory(_)) => self.remember(node, dir).map(|()| true),
            (Ok(()), _) => Ok(true),
            (Err(Errno::PERM), Kind::CharDevice(_) | Kind::BlockDevice(_)) if !self.privileged => {
                self.lose("device", node);
                Ok(false)
            }
            (Err(error), _) => Err(Error::io("make", self.path(node), error)),
        }
    }

    /// Notes which directory was made.
    fn remember(&self, node: &Node<'_>, dir: BorrowedFd<'_>) -> Result<()> {
        let stat = rustix::fs::statat(dir, node.name, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|error| Error::io("look at", self.path(node), error))?;
        let mut made = self.made.write().expect("no thread panics with the lock");
        made.push((node.ino, identity(&stat)));
        Ok(())
    }

    /// Writes all regular files, with several threads.
    fn write_files(&self, threads: usize, monitor: &Monitor<'_>) -> Result<()> {
        let files: Vec<_> = self.places().filter(|node| node.inode.file().is_some()).collect();
        let total = files.iter().map(|node| self.image.size(node.ino)).sum();
        let threads = threads.min(files.len());
        let work = Work {
            next: AtomicUsize::new(0),
            done: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            total,
            monitor: Mutex::new(*monitor),
        };
        let run = || -> Result<()> {
            let folders = self.folders()?;
            let mut buffer = vec![0; WINDOW];
            while !work.stop.load(Ordering::Relaxed)
                && let Some(node) = files.get(work.next.fetch_add(1, Ordering::Relaxed))
            {
                self.write_file(node, &folders, &mut buffer, &work)?;
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            let stopping = || {
                let result = run();
                if result.is_err() {
                    work.stop.store(true, Ordering::Relaxed);
                }
                result
            };
            let start = |_| match thread::spawn(scope, stopping) {
                Ok(worker) => Ok(worker),
                Err(error) => {
                    work.stop.store(true, Ordering::Relaxed);
                    Err(error)
                }
            };
            let workers: Vec<_> = (0..threads).map(start).collect();
            let join = |worker: Result<std::thread::ScopedJoinHandle<'_, Result<()>>>| {
                worker?.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            };
            workers.into_iter().map(join).fold(Ok(()), Result::and)
        })
    }

    fn write_file(
        &self,
        node: &Node<'_>,
        folders: &Folders<'_>,
        buffer: &mut [u8],
        work: &Work<'_>,
    ) -> Result<()> {
        fault::point!("extract");
        let failed = |error: std::io::Error| Error::io("write", self.path(node), error);
        let dir = folders.open(node.parent)?;
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = open_at(&*dir, node.name, flags, Mode::from_raw_mode(0o600))
            .map(File::from)
            .map_err(|error| Error::io("make", self.path(node), error))?;
        let mut offset = 0;
        for extent in node.inode.file().expect("only regular files are written") {
            let mut done = 0;
            if self.image.is_zeros(extent) {
                work.advance(extent.length)?;
                done = extent.length;
            }
            while done < extent.length {
                let length = buffer.len().min((extent.length - done) as usize);
                let part = &mut buffer[..length];
                self.image
                    .read_extent(extent, part, done)
                    .map_err(|error| error.context(self.path(node).display()))?;
                file.write_all_at(part, offset + done).map_err(failed)?;
                work.advance(length as u64)?;
                done += length as u64;
            }
            offset += extent.length;
        }
        file.set_len(offset).map_err(failed)?;
        self.restore(node, Place::Open(file.as_fd()))
    }

    /// Makes the further names of inodes that have several.
    fn make_hard_links(&self, folders: &Folders<'_>) -> Result<()> {
        let tree = self.tree();
        // Of their own, so that going back and forth opens neither side's anew.
        let firsts = self.folders()?;
        for (dir, inode) in tree.iter() {
            for (index, entry) in inode.entries().unwrap_or_default().iter().enumerate() {
                let linked = tree.inode(entry.ino);
                if linked.entries().is_some()
                    || linked.nlink == 1
                    || self.locations.is_first(entry.ino, dir, index)
                {
                    continue;
                }
                let first = firsts.open(self.locations.parent(entry.ino))?;
                let name = tree.name(&self.locations, entry.ino);
                let second = folders.open(dir)?;
                let flags = AtFlags::empty();
                match rustix::fs::linkat(&*first, name, &*second, &*entry.name, flags) {
                    Ok(()) => {}
                    // A device that could not be made has no further names either.
                    Err(Errno::NOENT) if !self.privileged => {}
                    Err(error) => {
                        let path = dirs::Tree::path(self, entry.ino);
                        return Err(Error::io("make a hard link to", path, error));
                    }
                }
            }
        }
        Ok(())
    }

    /// Restores what directories have, last: writing into them changes their times, and needs
    /// permissions.
    fn finish_directories(&self, folders: &Folders<'_>) -> Result<()> {
        let tree = self.tree();
        let directories = tree.iter().filter(|(_, inode)| inode.entries().is_some());
        let mut directories: Vec<_> = directories.collect();
        directories.reverse();
        for (ino, inode) in directories {
            let parent = self.locations.parent(ino);
            let name = tree.name(&self.locations, ino);
            let fd = folders.open(ino)?;
            self.restore(&Node { ino, inode, parent, name }, Place::Open(fd.as_fd()))?;
        }
        Ok(())
    }

    /// Restores owner, extended attributes, permissions and times, in the order in which one
    /// does not undo the other: a new owner takes away capabilities and set-user-ID.
    fn restore(&self, node: &Node<'_>, place: Place<'_>) -> Result<()> {
        let Metadata { permissions, uid, gid, mtime, xattrs } = &node.inode.metadata;
        let failed = |what| move |error: Errno| Error::io(what, self.path(node), error);
        let owned = match self.same_owner {
            true => self.restore_owner(node, place, *uid, *gid)?,
            // What is made in a directory with set-group-ID has that one's group, not the caller's.
            false => owner(place).map_err(failed("look at"))? == (*uid, *gid),
        };
        for xattr in xattrs {
            if !owned && *xattr.key == *CAPABILITY {
                self.lose(&xattr.key.escape_ascii().to_string(), node);
                continue;
            }
            match place.set(&xattr.key, &xattr.value) {
                Ok(()) => {}
                Err(error) if self.cannot_set(&xattr.key, &error) => {
                    self.lose(&xattr.key.escape_ascii().to_string(), node);
                }
                Err(error) => {
                    let key = xattr.key.escape_ascii();
                    let what = format!("set the extended attribute '{key}' of");
                    return Err(Error::io(&what, self.path(node), error));
                }
            }
        }
        let mode = Mode::from_raw_mode(self.permissions(node, *permissions, owned).into());
        match place {
            Place::Open(fd) => {
                rustix::fs::fchmod(fd, mode).map_err(failed("change the mode of"))?
            }
            Place::Named(..) if matches!(node.inode.kind, Kind::Symlink(_)) => {}
            Place::Named(dir, name) => {
                chmod_at(dir, name, mode).map_err(failed("change the mode of"))?
            }
        }
        let times =
            Timestamps { last_access: timespec(*mtime), last_modification: timespec(*mtime) };
        match place {
            Place::Open(fd) => rustix::fs::futimens(fd, &times),
            Place::Named(dir, name) => {
                rustix::fs::utimensat(dir, name, &times, AtFlags::SYMLINK_NOFOLLOW)
            }
        }
        .map_err(failed("set the times of"))
    }

    /// The permissions that a node gets: of a directory, which sets nobody's rights by these bits,
    /// all; of others without those of its owner where that is another one.
    fn permissions(&self, node: &Node<'_>, permissions: u16, owned: bool) -> u16 {
        const SET_ID: u16 = 0o6000;
        if owned || permissions & SET_ID == 0 || node.inode.entries().is_some() {
            return permissions;
        }
        self.lose("set-user-ID or set-group-ID", node);
        permissions & !SET_ID
    }

    /// Restores the owner; tells whether that was possible.
    fn restore_owner(&self, node: &Node<'_>, place: Place<'_>, uid: u32, gid: u32) -> Result<bool> {
        let (owner, group) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        let result = match place {
            Place::Open(fd) => rustix::fs::fchown(fd, owner, group),
            Place::Named(dir, name) => {
                rustix::fs::chownat(dir, name, owner, group, AtFlags::SYMLINK_NOFOLLOW)
            }
        };
        match result {
            Ok(()) => Ok(true),
            // EINVAL: an owner that a user namespace does not map.
            Err(Errno::PERM | Errno::INVAL) if !self.privileged => {
                self.lose("owner", node);
                Ok(false)
            }
            Err(error) => Err(Error::io("change the owner of", self.path(node), error)),
        }
    }

    /// Whether an attribute could not be set for want of privileges.
    fn cannot_set(&self, key: &[u8], error: &std::io::Error) -> bool {
        let code = error.raw_os_error().map(Errno::from_raw_os_error);
        // EINVAL: an ACL that tells of somebody whom a user namespace does not map.
        let refused =
            matches!(code, Some(Errno::PERM | Errno::ACCESS | Errno::NOTSUP | Errno::INVAL));
        refused && !self.privileged && !key.starts_with(b"user.")
    }

    fn lose(&self, what: &str, node: &Node<'_>) {
        let mut lost = self.lost.lock().expect("no thread panics with the lock");
        match lost.get_mut(what) {
            Some(loss) => {
                loss.count += 1;
                loss.first = loss.first.min(node.ino);
            }
            None => {
                lost.insert(what.to_owned(), Loss { count: 1, first: node.ino });
            }
        }
    }

    fn lost(&self) -> Vec<Lost> {
        let lost = self.lost.lock().expect("no thread panics with the lock");
        let path = |ino| Path::new("/").join(self.tree().path(&self.locations, ino));
        lost.iter()
            .map(|(what, loss)| Lost {
                what: what.clone(),
                count: loss.count,
                first: path(loss.first),
            })
            .collect()
    }
}

/// User and group of what is there.
fn owner(place: Place<'_>) -> rustix::io::Result<(u32, u32)> {
    let stat = match place {
        Place::Open(fd) => rustix::fs::fstat(fd)?,
        Place::Named(dir, name) => rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?,
    };
    Ok((stat.st_uid, stat.st_gid))
}

/// An inode where it is first seen.
struct Node<'a> {
    ino: Ino,
    inode: &'a Inode<Box<[Extent]>>,
    parent: Ino,
    name: &'a [u8],
}

/// The files still to be written, and how far that is.
struct Work<'a> {
    next: AtomicUsize,
    done: AtomicU64,
    stop: AtomicBool,
    total: u64,
    monitor: Mutex<Monitor<'a>>,
}

impl Work<'_> {
    fn advance(&self, bytes: u64) -> Result<()> {
        let monitor = self.monitor.lock().expect("no thread panics with the lock");
        let done = self.done.fetch_add(bytes, Ordering::Relaxed) + bytes;
        monitor.report(Progress { stage: Stage::Extract, done, total: self.total })
    }
}

fn timespec(time: Timestamp) -> Timespec {
    Timespec { tv_sec: time.seconds, tv_nsec: time.nanoseconds.into() }
}
