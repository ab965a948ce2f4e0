//! A directory on disk as a source.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, SeekFrom, Stat, openat, statat};

use super::{Contents, Opener, Source};
use crate::error::{Error, ErrorKind, Result};
use crate::progress::{Monitor, Stage};
use crate::sys::dirs::{self, Dirs};
use crate::sys::xattr;
use crate::tree::{Device, Ino, Inode, Kind, Locations, Metadata, Timestamp, Tree, TreeBuilder};

/// The key of SELinux labels, which belong to the host rather than to the image.
const SELINUX: &[u8] = b"security.selinux";

/// What of a directory goes into the tree, and how.
#[derive(Debug, Clone, Default)]
pub struct ScanOptions {
    /// Patterns of what is left out. One without a slash matches a name at any depth, one with a
    /// slash matches a path from the root of the tree; `*` does not match a slash, `**` does.
    /// What is below a directory that is left out is left out too.
    pub exclude: Vec<String>,
    /// Whether a directory on which another file system is mounted stays empty.
    pub one_file_system: bool,
    /// The owner and group of everything, instead of the ones on disk.
    pub owner: Option<(u32, u32)>,
    /// The newest mtime, in seconds since 1970: what is newer gets this one.
    pub clamp_mtime: Option<i64>,
    /// Whether `security.selinux` is kept.
    pub selinux: bool,
}

/// A regular file on disk, as it was when the tree was made.
#[derive(Debug, Clone)]
pub struct FileState {
    /// Bytes.
    pub size: u64,
    /// Whether the file has, or may have, holes.
    sparse: bool,
    identity: Identity,
    mtime: Timestamp,
    ctime: Timestamp,
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

impl FileState {
    fn of(stat: &Stat) -> Self {
        let size = stat.st_size as u64;
        FileState {
            size,
            sparse: (stat.st_blocks as u64) < size.div_ceil(512),
            identity: Identity::of(stat),
            mtime: time(stat.st_mtime, stat.st_mtime_nsec),
            ctime: time(stat.st_ctime, stat.st_ctime_nsec),
        }
    }

    fn is_still(&self, stat: &Stat) -> bool {
        let now = FileState::of(stat);
        FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
            && (now.size, now.identity, now.mtime, now.ctime)
                == (self.size, self.identity, self.mtime, self.ctime)
    }
}

fn time(seconds: i64, nanoseconds: impl TryInto<u32>) -> Timestamp {
    Timestamp { seconds, nanoseconds: nanoseconds.try_into().unwrap_or(0) }
}

/// A directory on disk whose tree has been read, and whose files can be.
pub struct Directory {
    /// The tree.
    pub tree: Tree<FileState>,
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
    name: Box<[u8]>,
    identity: Identity,
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
        if Identity::of(&stat) == self.find(dir).identity { Ok(()) } else { Err(changed(path())) }
    }
}

fn changed(path: PathBuf) -> Error {
    let message = format!("'{}' changed while it was read", path.display());
    Error::new(ErrorKind::Changed, message).with_path(path)
}

/// Reads the tree of the directory at `path`.
///
/// `output` is where something will be written, which must not be inside: a folder that need not
/// exist yet. Nothing is followed but a link at `path` itself.
pub fn scan(
    path: &Path,
    options: &ScanOptions,
    output: Option<&Path>,
    monitor: &Monitor<'_>,
) -> Result<Directory> {
    let root = dirs::open_root(path)?;
    let stat = rustix::fs::fstat(&root).map_err(|error| Error::io("look at", path, error))?;
    let mut xattrs = xattr::Reader::new();
    let keep = options.keep_xattr();
    let found = xattrs
        .read(xattr::Place::Open(root.as_fd()), &keep)
        .map_err(|error| Error::io("read the extended attributes of", path, error))?;
    let identity = Identity::of(&stat);
    let places = Places {
        root: path.to_owned(),
        directories: vec![Place {
            ino: Ino::ROOT,
            parent: Ino::ROOT,
            name: Box::default(),
            identity,
        }],
    };
    let root_inode = Inode::new(options.metadata(&stat, found), Kind::Directory(Vec::new()));
    let scanner = Scanner {
        exclude: Exclude::new(&options.exclude)?,
        options,
        device: stat.st_dev,
        output: output.map(Output::find).transpose()?,
        places,
        dirs: Dirs::new(root),
        xattrs,
        hard_links: HashMap::new(),
        builder: TreeBuilder::new(root_inode)?,
    };
    scanner.run(monitor)
}

impl ScanOptions {
    fn keep_xattr(&self) -> impl Fn(&[u8]) -> bool + use<> {
        let selinux = self.selinux;
        move |key| selinux || key != SELINUX
    }

    fn metadata(&self, stat: &Stat, xattrs: Box<[crate::tree::Xattr]>) -> Metadata {
        let (uid, gid) = self.owner.unwrap_or((stat.st_uid, stat.st_gid));
        let mtime = time(stat.st_mtime, stat.st_mtime_nsec);
        let newest = self.clamp_mtime.map(|seconds| Timestamp { seconds, nanoseconds: 0 });
        Metadata {
            permissions: (stat.st_mode & 0o7777) as u16,
            uid,
            gid,
            mtime: newest.map_or(mtime, |newest| mtime.min(newest)),
            xattrs,
        }
    }
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
    builder: TreeBuilder<FileState>,
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

/// A directory of which some names are still to be looked at.
struct Level {
    dir: Ino,
    names: std::vec::IntoIter<Box<[u8]>>,
}

impl Scanner<'_> {
    fn run(mut self, monitor: &Monitor<'_>) -> Result<Directory> {
        let mut levels = vec![Level { dir: Ino::ROOT, names: self.list(Ino::ROOT)? }];
        while let Some(level) = levels.last_mut() {
            let Some(name) = level.names.next() else {
                levels.pop();
                continue;
            };
            let parent = level.dir;
            if let Some(dir) = self.visit(parent, &name)? {
                levels.push(Level { dir, names: self.list(dir)? });
                monitor.count(Stage::Scan, self.places.directories.len() as u64)?;
            }
        }
        let tree = self.builder.finish();
        Ok(Directory { locations: tree.locations(), tree, places: self.places })
    }

    /// The sorted names in a directory; none where another file system begins that is left out.
    fn list(&mut self, dir: Ino) -> Result<std::vec::IntoIter<Box<[u8]>>> {
        let place = self.places.find(dir);
        if let Some(output) = &self.output
            && output.directory == place.identity
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
        if self.options.one_file_system && place.identity.device != self.device {
            return Ok(Vec::new().into_iter());
        }
        let fd = self.dirs.open(&self.places, dir)?;
        let mut names = list_names(fd.as_fd())
            .map_err(|error| Error::io("list", dirs::Tree::path(&self.places, dir), error))?;
        if !self.exclude.is_empty() {
            let parent = self.places.relative(dir);
            names.retain(|name| !self.exclude.matches(&parent, name));
        }
        Ok(names.into_iter())
    }

    /// Adds one name to the tree; tells the number if it is a directory, to be walked next.
    fn visit(&mut self, parent: Ino, name: &[u8]) -> Result<Option<Ino>> {
        let fd = self.dirs.open(&self.places, parent)?;
        let places = &self.places;
        let failed = |what| move |error| Error::io(what, places.file(parent, name), error);
        let stat = statat(&*fd, name, AtFlags::SYMLINK_NOFOLLOW).map_err(|error| match error {
            rustix::io::Errno::NOENT => changed(places.file(parent, name)),
            error => failed("look at")(error.into()),
        })?;
        let identity = Identity::of(&stat);
        let file_type = FileType::from_raw_mode(stat.st_mode);
        let linked = stat.st_nlink > 1 && file_type != FileType::Directory;
        if linked && let Some(&first) = self.hard_links.get(&identity) {
            self.builder.link(parent, name, first)?;
            return Ok(None);
        }
        let xattrs = self
            .xattrs
            .read(xattr::Place::Named(fd.as_fd(), name), self.options.keep_xattr())
            .map_err(failed("read the extended attributes of"))?;
        let kind = match file_type {
            FileType::Directory => Kind::Directory(Vec::new()),
            FileType::RegularFile => Kind::Regular(FileState::of(&stat)),
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
                let path = places.file(parent, name);
                return Err(Error::new(
                    ErrorKind::Unsupported,
                    format!("'{}' is of a file type that is not known", path.display()),
                )
                .with_path(path));
            }
        };
        let inode = Inode::new(self.options.metadata(&stat, xattrs), kind);
        let ino = self.builder.add(parent, name, inode)?;
        if file_type == FileType::Directory {
            self.places.directories.push(Place { ino, parent, name: name.into(), identity });
            return Ok(Some(ino));
        }
        if linked {
            self.hard_links.insert(identity, ino);
        }
        Ok(None)
    }
}

fn device(stat: &Stat) -> Device {
    Device { major: rustix::fs::major(stat.st_rdev), minor: rustix::fs::minor(stat.st_rdev) }
}

fn list_names(fd: BorrowedFd<'_>) -> std::io::Result<Vec<Box<[u8]>>> {
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

/// The patterns of what is left out.
struct Exclude {
    names: GlobSet,
    paths: GlobSet,
}

impl Exclude {
    fn new(patterns: &[String]) -> Result<Self> {
        let mut names = GlobSetBuilder::new();
        let mut paths = GlobSetBuilder::new();
        for pattern in patterns {
            let anchored = pattern.trim_matches('/');
            let glob =
                GlobBuilder::new(anchored).literal_separator(true).build().map_err(|error| {
                    Error::invalid(format!("'{pattern}' is no pattern: {}", error.kind()))
                })?;
            if pattern.trim_end_matches('/').contains('/') { &mut paths } else { &mut names }
                .add(glob);
        }
        let build = |set: GlobSetBuilder| {
            set.build().map_err(|error| Error::invalid(format!("bad patterns: {}", error.kind())))
        };
        Ok(Exclude { names: build(names)?, paths: build(paths)? })
    }

    fn is_empty(&self) -> bool {
        self.names.is_empty() && self.paths.is_empty()
    }

    fn matches(&self, parent: &Path, name: &[u8]) -> bool {
        let name = OsStr::from_bytes(name);
        self.names.is_match(name) || self.paths.is_match(parent.join(name))
    }
}

impl Source for Directory {
    fn opener(&self) -> Result<Box<dyn Opener + '_>> {
        let root = dirs::open_root(&self.places.root)?;
        dirs::Tree::check(&self.places, Ino::ROOT, root.as_fd())?;
        Ok(Box::new(DirectoryOpener { directory: self, dirs: Dirs::new(root) }))
    }

    fn size(&self, ino: Ino) -> u64 {
        self.tree.inode(ino).file().map_or(0, |file| file.size)
    }
}

/// Opens the files of a [`Directory`].
struct DirectoryOpener<'a> {
    directory: &'a Directory,
    dirs: Dirs,
}

impl Opener for DirectoryOpener<'_> {
    fn open(&mut self, ino: Ino) -> Result<Box<dyn Contents + '_>> {
        let Directory { tree, locations, places } = self.directory;
        let (parent, name) = (locations.parent(ino), tree.name(locations, ino));
        let state = tree.inode(ino).file().expect("asked for regular files only");
        let dir = self.dirs.open(places, parent)?;
        // A file that was replaced by a FIFO must not block, nor one by a link be followed.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let path = || places.file(parent, name);
        let fd = openat(&*dir, name, flags, Mode::empty()).map_err(|error| match error {
            rustix::io::Errno::NOENT | rustix::io::Errno::LOOP => changed(path()),
            error => Error::io("open", path(), error),
        })?;
        let mut file = OpenFile { file: File::from(fd), state, places, parent, name };
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
}

impl Contents for OpenFile<'_> {
    fn data_from(&mut self, offset: u64) -> Result<u64> {
        if !self.state.sparse {
            return Ok(offset);
        }
        match rustix::fs::seek(&self.file, SeekFrom::Data(offset)) {
            Ok(data) => Ok(data.min(self.state.size)),
            Err(rustix::io::Errno::NXIO) => Ok(self.state.size),
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
        if self.state.is_still(&stat) { Ok(()) } else { Err(changed(self.path())) }
    }
}
