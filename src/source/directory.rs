//! A directory on disk as a source: a whole tree, or the change of one as overlayfs has it.
//!
//! Somebody may change it meanwhile, and be no friend. Each name is opened in its open directory,
//! and no link is followed; and whatever was read has to be at the end what it was at the
//! beginning, by its ctime above all, which nobody can set. What this does not see is what a
//! process writes that has mapped a file into its memory: that has no time of its own.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, SeekFrom, Stat, statat};

use super::overlay::{MarkNamespace, MarkReader, Marks, Opaque};
use super::select::{Exclude, ScanOptions};
use super::{Content, Contents, Opener, Source};
use crate::chunk::Extent;
use crate::error::{Error, ErrorKind, Result};
use crate::progress::{Monitor, Stage};
use crate::sys::dirs::{self, Dirs, open_at};
use crate::sys::xattr;
use crate::tree::{
    Device, Entry, EntryName, Ino, Inode, Kind, Locations, Metadata, Timestamp, Tree, TreeBuilder,
    Xattr,
};

/// What an upperdir of overlayfs lies on.
#[derive(Debug, Clone, Copy)]
pub struct Lower<'a> {
    /// The tree below.
    pub tree: &'a Tree<Box<[Extent]>>,
    /// Which attributes in the upperdir are overlayfs's.
    pub marks: MarkNamespace,
}

/// What of an inode on disk changes with its content, its attributes, or its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct State {
    identity: Identity,
    file_type: FileType,
    size: u64,
    mtime: Timestamp,
    ctime: Timestamp,
}

/// A regular file on disk, as it was when the tree was made.
#[derive(Debug, Clone)]
struct FileState {
    state: State,
    /// Whether the file has, or may have, holes.
    sparse: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    fn of(stat: &Stat) -> Self {
        Identity { device: stat.st_dev, inode: stat.st_ino }
    }
}

impl State {
    fn of(stat: &Stat) -> Self {
        State {
            identity: Identity::of(stat),
            file_type: FileType::from_raw_mode(stat.st_mode),
            size: stat.st_size as u64,
            mtime: time(stat.st_mtime, stat.st_mtime_nsec),
            ctime: time(stat.st_ctime, stat.st_ctime_nsec),
        }
    }

    /// Waits until whatever changes the inode gives it another ctime.
    ///
    /// The clock of timestamps ticks every 1 to 10 ms (before Linux 6.13, and on some file systems
    /// since): what changes twice within a tick looks as if it had changed once.
    fn settle(&self) {
        const TICK: Duration = Duration::from_millis(10);
        let Timestamp { seconds, nanoseconds } = self.ctime;
        let ctime = Duration::new(seconds.try_into().unwrap_or(0), nanoseconds);
        let now = UNIX_EPOCH.elapsed().unwrap_or_default();
        // A ctime of the future is of another clock.
        if let Some(age) = now.checked_sub(ctime)
            && age < TICK
        {
            std::thread::sleep(TICK - age);
        }
    }
}

impl FileState {
    fn of(stat: &Stat) -> Self {
        let sparse = (stat.st_blocks as u64) < (stat.st_size as u64).div_ceil(512);
        FileState { state: State::of(stat), sparse }
    }
}

fn time(seconds: i64, nanoseconds: impl TryInto<u32>) -> Timestamp {
    Timestamp { seconds, nanoseconds: nanoseconds.try_into().unwrap_or(0) }
}

/// A directory on disk whose tree has been read, and whose files can be.
pub struct Directory {
    tree: Tree<Content>,
    /// The files on disk, by number.
    files: Vec<(Ino, FileState)>,
    locations: Locations,
    places: Places,
}

/// The directories of the tree, by number.
struct Places {
    root: PathBuf,
    directories: Vec<Place>,
}

struct Place {
    ino: Ino,
    parent: Ino,
    name: EntryName,
    /// What the directory was on disk; none for one of the tree below.
    state: Option<State>,
}

impl Place {
    fn identity(&self) -> Option<Identity> {
        self.state.map(|state| state.identity)
    }
}

impl Places {
    fn find(&self, dir: Ino) -> &Place {
        let at = self.directories.binary_search_by_key(&dir, |place| place.ino);
        &self.directories[at.expect("asked for directories of the tree only")]
    }

    fn relative(&self, dir: Ino) -> PathBuf {
        let mut names = Vec::new();
        let mut at = dir;
        while at != Ino::ROOT {
            let place = self.find(at);
            names.push(OsStr::from_bytes(&place.name));
            at = place.parent;
        }
        names.iter().rev().collect()
    }

    fn file(&self, parent: Ino, name: &[u8]) -> PathBuf {
        dirs::Tree::path(self, parent).join(OsStr::from_bytes(name))
    }
}

impl dirs::Tree for Places {
    fn place(&self, dir: Ino) -> (Ino, &[u8]) {
        let place = self.find(dir);
        (place.parent, &place.name)
    }

    fn path(&self, dir: Ino) -> PathBuf {
        self.root.join(self.relative(dir))
    }

    fn check(&self, dir: Ino, fd: BorrowedFd<'_>) -> Result<()> {
        let path = || dirs::Tree::path(self, dir);
        let stat = rustix::fs::fstat(fd).map_err(|error| Error::io("look at", path(), error))?;
        if Some(Identity::of(&stat)) == self.find(dir).identity() {
            Ok(())
        } else {
            Err(changed(path()))
        }
    }

    fn replaced(&self, dir: Ino) -> Error {
        changed(dirs::Tree::path(self, dir))
    }
}

fn changed(path: PathBuf) -> Error {
    let message = format!("'{}' changed while it was read", path.display());
    Error::new(ErrorKind::Changed, message).with_path(path)
}

/// An error with something that was there before. What is gone, of another type or without an
/// attribute that it had is so since then.
fn seen(what: &str, path: PathBuf, error: std::io::Error) -> Error {
    use rustix::io::Errno;
    match Errno::from_io_error(&error) {
        Some(
            Errno::NOENT
            | Errno::NOTDIR
            | Errno::LOOP
            | Errno::INVAL
            | Errno::NODATA
            | Errno::RANGE
            | Errno::NXIO
            | Errno::NODEV
            | Errno::STALE,
        ) => changed(path),
        _ => Error::io(what, path, error),
    }
}

/// Reads the tree of the directory at `path`; of one that lies on `lower`, what is seen of both.
///
/// `output` is where something will be written, which must not be inside: a folder that need not
/// exist yet. Nothing is followed but a link at `path` itself.
pub fn scan(
    path: &Path,
    lower: Option<Lower<'_>>,
    options: &ScanOptions,
    output: Option<&Path>,
    monitor: &Monitor<'_>,
) -> Result<Directory> {
    let root = dirs::open_root(path)?;
    let stat = rustix::fs::fstat(&root).map_err(|error| Error::io("look at", path, error))?;
    let mut xattrs = xattr::Reader::new();
    let found = xattrs
        .read(xattr::Place::Open(root.as_fd()), options.keep_xattr())
        .map_err(|error| Error::io("read the extended attributes of", path, error))?;
    let mut below = lower.map(|lower| Below {
        tree: lower.tree,
        links: HashMap::new(),
        marks: MarkReader::new(lower.marks),
    });
    let (found, marks) = take_marks(&mut below, found, || path.to_owned())?;
    let place = Place {
        ino: Ino::ROOT,
        parent: Ino::ROOT,
        name: EntryName::default(),
        state: Some(State::of(&stat)),
    };
    let root_inode = Inode::new(options.adapt(metadata(&stat, found)), Kind::Directory(Vec::new()));
    let scanner = Scanner {
        exclude: Exclude::new(&options.exclude)?,
        options,
        device: stat.st_dev,
        output: output.map(Output::find).transpose()?,
        places: Places { root: path.to_owned(), directories: vec![place] },
        dirs: Dirs::new(root),
        xattrs,
        hard_links: HashMap::new(),
        below,
        files: Vec::new(),
        builder: TreeBuilder::new(root_inode)?,
    };
    let below = lower.map(|_| Ino::ROOT);
    scanner.run(Found { dir: Ino::ROOT, on_disk: true, below, opaque: marks.opaque }, monitor)
}

struct Scanner<'a> {
    options: &'a ScanOptions,
    exclude: Exclude,
    device: u64,
    output: Option<Output>,
    places: Places,
    dirs: Dirs,
    xattrs: xattr::Reader,
    hard_links: HashMap<Identity, Ino>,
    below: Option<Below<'a>>,
    files: Vec<(Ino, FileState)>,
    builder: TreeBuilder<Content>,
}

/// The tree below an upperdir.
struct Below<'a> {
    tree: &'a Tree<Box<[Extent]>>,
    /// Those of its inodes that have more names than one, and their numbers in the new tree.
    links: HashMap<Ino, Ino>,
    marks: MarkReader,
}

fn take_marks(
    below: &mut Option<Below<'_>>,
    xattrs: Box<[Xattr]>,
    path: impl Fn() -> PathBuf,
) -> Result<(Box<[Xattr]>, Marks)> {
    match below {
        Some(below) => below.marks.take(xattrs, path),
        None => Ok((xattrs, Marks::default())),
    }
}

/// Where something will be written.
struct Output {
    path: PathBuf,
    /// The nearest directory on its path that exists.
    directory: Identity,
    /// The next name on the path, if the output does not exist yet.
    missing: Option<std::ffi::OsString>,
}

impl Output {
    fn find(path: &Path) -> Result<Self> {
        let mut missing = None;
        for ancestor in path.ancestors() {
            let directory = if ancestor.as_os_str().is_empty() { Path::new(".") } else { ancestor };
            match rustix::fs::stat(directory) {
                Ok(stat) => {
                    let directory = Identity::of(&stat);
                    return Ok(Output { path: path.to_owned(), directory, missing });
                }
                Err(rustix::io::Errno::NOENT) => missing = ancestor.file_name().map(Into::into),
                Err(error) => return Err(Error::io("look at", directory, error)),
            }
        }
        Err(Error::invalid(format!("'{}' is no path", path.display())))
    }
}

/// A directory of the new tree: on disk, or below, or both.
struct Found {
    dir: Ino,
    on_disk: bool,
    /// The directory of the tree below that is seen with it.
    below: Option<Ino>,
    opaque: Opaque,
}

/// A directory of which some names are still to be looked at.
struct Level {
    dir: Ino,
    names: std::vec::IntoIter<Name>,
    /// Whether files in it may be whiteouts.
    has_whiteouts: bool,
}

struct Name {
    name: EntryName,
    on_disk: bool,
    below: Option<Ino>,
}

impl Scanner<'_> {
    fn run(mut self, root: Found, monitor: &Monitor<'_>) -> Result<Directory> {
        let mut levels = vec![self.enter(root)?];
        while let Some(level) = levels.last_mut() {
            let Some(name) = level.names.next() else {
                let dir = level.dir;
                levels.pop();
                self.leave(dir)?;
                continue;
            };
            let found = match (name.on_disk, name.below) {
                (false, Some(ino)) => self.visit_below(level.dir, &name.name, ino)?,
                (_, below) => self.visit(level.dir, &name.name, below, level.has_whiteouts)?,
            };
            if let Some(found) = found {
                levels.push(self.enter(found)?);
                monitor.count(Stage::Scan, self.places.directories.len() as u64)?;
            }
        }
        let tree = self.builder.finish();
        let locations = tree.locations();
        Ok(Directory { tree, files: self.files, locations, places: self.places })
    }

    /// Checks that a directory is what it was all the time: that no name came or went, and that it
    /// was in its place.
    fn leave(&mut self, dir: Ino) -> Result<()> {
        let place = self.places.find(dir);
        let Some(state) = place.state.filter(|_| !self.is_foreign(place)) else { return Ok(()) };
        let fd = self.dirs.open(&self.places, dir)?;
        let path = || dirs::Tree::path(&self.places, dir);
        let stat = rustix::fs::fstat(&*fd).map_err(|error| Error::io("look at", path(), error))?;
        if State::of(&stat) == state { Ok(()) } else { Err(changed(path())) }
    }

    fn enter(&mut self, found: Found) -> Result<Level> {
        let Found { dir, on_disk, below, opaque } = found;
        let listed = if on_disk { self.list(dir)? } else { Vec::new() };
        let below = below.filter(|_| opaque != Opaque::Yes).zip(self.below.as_ref());
        let entries = below
            .map_or(&[][..], |(ino, below)| below.tree.inode(ino).entries().unwrap_or_default());
        let mut names = merge(listed, entries);
        if !self.exclude.is_empty() {
            let parent = self.places.relative(dir);
            names.retain(|name| !self.exclude.matches(&parent, &name.name));
        }
        let has_whiteouts = opaque == Opaque::HasWhiteouts;
        Ok(Level { dir, names: names.into_iter(), has_whiteouts })
    }

    /// Whether another file system begins here that is left out.
    fn is_foreign(&self, place: &Place) -> bool {
        let device = place.identity().map(|identity| identity.device);
        self.options.one_file_system && device != Some(self.device)
    }

    /// The sorted names in a directory on disk; none where another file system begins that is
    /// left out.
    fn list(&mut self, dir: Ino) -> Result<Vec<EntryName>> {
        let place = self.places.find(dir);
        if let Some(output) = &self.output
            && Some(output.directory) == place.identity()
            && !output.missing.as_ref().is_some_and(|name| {
                self.exclude.matches(&self.places.relative(dir), name.as_bytes())
            })
        {
            return Err(Error::invalid(format!(
                "'{}' is inside the tree that is read: exclude it, or write it elsewhere",
                output.path.display()
            ))
            .with_path(&output.path));
        }
        if self.is_foreign(place) {
            return Ok(Vec::new());
        }
        if let Some(state) = place.state {
            state.settle();
        }
        let fd = self.dirs.open(&self.places, dir)?;
        list_names(fd.as_fd())
            .map_err(|error| seen("list", dirs::Tree::path(&self.places, dir), error))
    }

    /// Adds one name on disk to the tree; tells of the directory if it is one, to be walked next.
    /// `below` is what the tree below has under that name.
    fn visit(
        &mut self,
        parent: Ino,
        name: &[u8],
        below: Option<Ino>,
        may_be_whiteout: bool,
    ) -> Result<Option<Found>> {
        let fd = self.dirs.open(&self.places, parent)?;
        let places = &self.places;
        let path = || places.file(parent, name);
        let failed = |what| move |error| seen(what, path(), error);
        let look = || {
            statat(&*fd, name, AtFlags::SYMLINK_NOFOLLOW)
                .map_err(|error| failed("look at")(error.into()))
        };
        let stat = look()?;
        let identity = Identity::of(&stat);
        let file_type = FileType::from_raw_mode(stat.st_mode);
        if self.below.is_some() && is_whiteout_device(&stat) {
            return Ok(None);
        }
        let linked = stat.st_nlink > 1 && file_type != FileType::Directory;
        if linked && let Some(&first) = self.hard_links.get(&identity) {
            self.builder.link(parent, name, first)?;
            return Ok(None);
        }
        let xattrs = self
            .xattrs
            .read(xattr::Place::Named(fd.as_fd(), name), self.options.keep_xattr())
            .map_err(failed("read the extended attributes of"))?;
        let (xattrs, marks) = take_marks(&mut self.below, xattrs, path)?;
        let is_empty_file = file_type == FileType::RegularFile && stat.st_size == 0;
        if may_be_whiteout && marks.whiteout && is_empty_file {
            return Ok(None);
        }
        let kind = match file_type {
            FileType::Directory => Kind::Directory(Vec::new()),
            FileType::RegularFile => Kind::Regular(Content::New(stat.st_size as u64)),
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(&*fd, name, Vec::new())
                    .map_err(|error| failed("read the link")(error.into()))?;
                Kind::Symlink(target.into_bytes().into())
            }
            FileType::Fifo => Kind::Fifo,
            FileType::Socket => Kind::Socket,
            FileType::CharacterDevice => Kind::CharDevice(device(&stat)),
            FileType::BlockDevice => Kind::BlockDevice(device(&stat)),
            FileType::Unknown => {
                return Err(Error::new(
                    ErrorKind::Unsupported,
                    format!("'{}' is of a file type that is not known", path().display()),
                )
                .with_path(path()));
            }
        };
        // Or this would be a mixture of two inodes, or of two states of one.
        if State::of(&look()?) != State::of(&stat) {
            return Err(changed(path()));
        }
        let inode = Inode::new(self.options.adapt(metadata(&stat, xattrs)), kind);
        let ino = self.builder.add(parent, name, inode)?;
        if file_type == FileType::RegularFile {
            self.files.push((ino, FileState::of(&stat)));
        }
        if linked {
            self.hard_links.insert(identity, ino);
        }
        if file_type != FileType::Directory {
            return Ok(None);
        }
        let state = Some(State::of(&stat));
        self.places.directories.push(Place { ino, parent, name: name.into(), state });
        Ok(Some(Found { dir: ino, on_disk: true, below, opaque: marks.opaque }))
    }

    /// Adds a name to the tree that only the tree below has.
    fn visit_below(&mut self, parent: Ino, name: &[u8], ino: Ino) -> Result<Option<Found>> {
        let below = self.below.as_mut().expect("the name is from there");
        let source = below.tree.inode(ino);
        if let Some(&first) = below.links.get(&ino) {
            self.builder.link(parent, name, first)?;
            return Ok(None);
        }
        let kind = source.kind.without_entries(|_| Content::Base(ino));
        let inode = Inode::new(self.options.adapt(source.metadata.clone()), kind);
        let new = self.builder.add(parent, name, inode)?;
        if source.entries().is_none() {
            if source.nlink > 1 {
                below.links.insert(ino, new);
            }
            return Ok(None);
        }
        let place = Place { ino: new, parent, name: name.into(), state: None };
        self.places.directories.push(place);
        Ok(Some(Found { dir: new, on_disk: false, below: Some(ino), opaque: Opaque::No }))
    }
}

/// The names of both lists, in order; both are sorted.
fn merge(listed: Vec<EntryName>, below: &[Entry]) -> Vec<Name> {
    let mut names = Vec::with_capacity(listed.len() + below.len());
    let mut below = below.iter().peekable();
    let lower =
        |entry: &Entry| Name { name: entry.name.clone(), on_disk: false, below: Some(entry.ino) };
    for name in listed {
        while let Some(entry) = below.next_if(|entry| entry.name < name) {
            names.push(lower(entry));
        }
        let same = below.next_if(|entry| entry.name == name).map(|entry| entry.ino);
        names.push(Name { name, on_disk: true, below: same });
    }
    names.extend(below.map(lower));
    names
}

fn is_whiteout_device(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

fn metadata(stat: &Stat, xattrs: Box<[Xattr]>) -> Metadata {
    Metadata {
        permissions: (stat.st_mode & 0o7777) as u16,
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime: time(stat.st_mtime, stat.st_mtime_nsec),
        xattrs,
    }
}

fn device(stat: &Stat) -> Device {
    Device { major: rustix::fs::major(stat.st_rdev), minor: rustix::fs::minor(stat.st_rdev) }
}

fn list_names(fd: BorrowedFd<'_>) -> std::io::Result<Vec<EntryName>> {
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(fd)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.into());
        }
    }
    names.sort_unstable();
    Ok(names)
}

impl Directory {
    fn state(&self, ino: Ino) -> &FileState {
        let at = self.files.binary_search_by_key(&ino, |(ino, _)| *ino);
        &self.files[at.expect("asked for files on disk only")].1
    }
}

impl Source for Directory {
    fn tree(&self) -> &Tree<Content> {
        &self.tree
    }

    fn into_tree(self) -> Tree<Content> {
        self.tree
    }

    fn opener(&self) -> Result<Box<dyn Opener + '_>> {
        let root = dirs::open_root(&self.places.root)?;
        dirs::Tree::check(&self.places, Ino::ROOT, root.as_fd())?;
        Ok(Box::new(DirectoryOpener { directory: self, dirs: Dirs::new(root) }))
    }
}

/// Opens the files of a [`Directory`].
struct DirectoryOpener<'a> {
    directory: &'a Directory,
    dirs: Dirs,
}

impl Opener for DirectoryOpener<'_> {
    fn open(&mut self, ino: Ino) -> Result<Box<dyn Contents + '_>> {
        let Directory { tree, locations, places, .. } = self.directory;
        let (parent, name) = (locations.parent(ino), tree.name(locations, ino));
        let state = self.directory.state(ino);
        let dir = self.dirs.open(places, parent)?;
        // A file that was replaced by a FIFO must not block, nor one by a link be followed.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = open_at(&*dir, name, flags, Mode::empty())
            .map_err(|error| seen("open", places.file(parent, name), error.into()))?;
        let mut file = OpenFile { file: File::from(fd), state, places, parent, name };
        file.settle();
        file.finish()?;
        Ok(Box::new(file))
    }
}

struct OpenFile<'a> {
    file: File,
    state: &'a FileState,
    places: &'a Places,
    parent: Ino,
    name: &'a [u8],
}

impl OpenFile<'_> {
    fn path(&self) -> PathBuf {
        self.places.file(self.parent, self.name)
    }

    /// Waits until each change of the content from now on is seen by the file's ctime.
    fn settle(&self) {
        self.state.state.settle();
        // A call of write sets the ctime before it copies its data, and holds the inode's lock
        // until it has: as this call does, which waits for one that is under way.
        let _ = rustix::fs::seek(&self.file, SeekFrom::Data(0));
    }
}

impl Contents for OpenFile<'_> {
    fn data_from(&mut self, offset: u64) -> Result<u64> {
        if !self.state.sparse {
            return Ok(offset);
        }
        match rustix::fs::seek(&self.file, SeekFrom::Data(offset)) {
            Ok(data) => Ok(data.min(self.state.state.size)),
            Err(rustix::io::Errno::NXIO) => Ok(self.state.state.size),
            // A file system without holes; everything is data then.
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::OPNOTSUPP) => Ok(offset),
            Err(error) => Err(Error::io("read", self.path(), error)),
        }
    }

    fn read_exact_at(&mut self, buffer: &mut [u8], offset: u64) -> Result<()> {
        self.file.read_exact_at(buffer, offset).map_err(|error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof => changed(self.path()),
            _ => Error::io("read", self.path(), error),
        })
    }

    fn finish(&mut self) -> Result<()> {
        let stat = rustix::fs::fstat(&self.file)
            .map_err(|error| Error::io("look at", self.path(), error))?;
        if State::of(&stat) == self.state.state { Ok(()) } else { Err(changed(self.path())) }
    }
}
