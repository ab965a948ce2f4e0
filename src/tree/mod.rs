//! A filesystem tree in memory.
//!
//! One type carries a filesystem through all stages. It is generic over what a regular file
//! holds: where its bytes are to be read ([`crate::source`]), or where in the packs they stand
//! ([`crate::format`]). A stage maps one to the other, so none can be left out.

mod builder;
mod name;
pub mod text;

pub(crate) use builder::show;
pub use builder::{NAME_MAX, TreeBuilder};
pub use name::EntryName;

use std::fmt;
use std::num::NonZeroU32;

/// The number of an inode: 1 is the root, the others follow in the order of a walk that is depth
/// first and by name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ino(NonZeroU32);

impl Ino {
    /// The root directory.
    pub const ROOT: Ino = Ino(NonZeroU32::MIN);

    /// All numbers, in order.
    pub fn all() -> impl Iterator<Item = Ino> {
        (0..).map_while(Ino::from_index)
    }

    fn from_index(index: usize) -> Option<Ino> {
        NonZeroU32::MIN.checked_add(u32::try_from(index).ok()?).map(Ino)
    }

    /// The position in [`Tree::inodes`], from 0.
    pub fn index(self) -> usize {
        self.get() as usize - 1
    }

    /// The number, from 1.
    pub fn get(self) -> u32 {
        self.0.get()
    }
}

impl fmt::Debug for Ino {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ino({})", self.0)
    }
}

/// A point in time, as `struct timespec` has it: before 1970 the seconds are negative and the
/// nanoseconds still count forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp {
    /// Seconds since 1970-01-01 00:00 UTC.
    pub seconds: i64,
    /// 0 to 999,999,999.
    pub nanoseconds: u32,
}

/// An extended attribute.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Xattr {
    /// The full name with its namespace, such as `user.mime_type`.
    pub key: Box<[u8]>,
    /// The value.
    pub value: Box<[u8]>,
}

/// What every inode has.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Metadata {
    /// The low 12 bits of the mode: rwx for user, group and others, set-user-ID, set-group-ID,
    /// sticky.
    pub permissions: u16,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// The time of the last change of the content.
    pub mtime: Timestamp,
    /// Extended attributes, sorted by key.
    pub xattrs: Box<[Xattr]>,
}

/// A name in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// 1 to 255 bytes, neither `.` nor `..`, without `/` and NUL.
    pub name: EntryName,
    /// What it names.
    pub ino: Ino,
}

/// A device's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Device {
    /// The driver.
    pub major: u32,
    /// The device among the driver's.
    pub minor: u32,
}

/// The type of an inode with what belongs to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind<F> {
    /// A directory with its entries, sorted by name.
    Directory(Vec<Entry>),
    /// A regular file.
    Regular(F),
    /// A symbolic link with its target.
    Symlink(Box<[u8]>),
    /// A named pipe.
    Fifo,
    /// A Unix domain socket.
    Socket,
    /// A character device.
    CharDevice(Device),
    /// A block device.
    BlockDevice(Device),
}

impl<F> Kind<F> {
    /// The same type of inode, without the entries of a directory, and with a regular file's
    /// content replaced by what `convert` makes of it.
    pub fn without_entries<G>(&self, convert: impl FnOnce(&F) -> G) -> Kind<G> {
        match self {
            Kind::Directory(_) => Kind::Directory(Vec::new()),
            Kind::Regular(file) => Kind::Regular(convert(file)),
            Kind::Symlink(target) => Kind::Symlink(target.clone()),
            Kind::Fifo => Kind::Fifo,
            Kind::Socket => Kind::Socket,
            Kind::CharDevice(device) => Kind::CharDevice(*device),
            Kind::BlockDevice(device) => Kind::BlockDevice(*device),
        }
    }
}

/// An inode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inode<F> {
    /// What every inode has.
    pub metadata: Metadata,
    /// The number of links: the names of a file, two and the number of subdirectories of a
    /// directory.
    pub nlink: u32,
    /// Type and content.
    pub kind: Kind<F>,
}

impl<F> Inode<F> {
    /// An inode that nothing links to yet.
    pub fn new(metadata: Metadata, kind: Kind<F>) -> Self {
        let nlink = if matches!(kind, Kind::Directory(_)) { 2 } else { 0 };
        Inode { metadata, nlink, kind }
    }

    /// The entries, if this is a directory.
    pub fn entries(&self) -> Option<&[Entry]> {
        match &self.kind {
            Kind::Directory(entries) => Some(entries),
            _ => None,
        }
    }

    /// The content, if this is a regular file.
    pub fn file(&self) -> Option<&F> {
        match &self.kind {
            Kind::Regular(file) => Some(file),
            _ => None,
        }
    }
}

/// A filesystem: all inodes, in the order of their numbers.
///
/// Made by a [`TreeBuilder`], which sees to it that the root is a directory, that every inode is
/// reached from it, every directory by one path only, and that names are valid, sorted and unique.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree<F> {
    inodes: Vec<Inode<F>>,
}

impl<F> Tree<F> {
    /// All inodes; the first is the root directory.
    pub fn inodes(&self) -> &[Inode<F>] {
        &self.inodes
    }

    /// The inode of this number, which is one of this tree's.
    pub fn inode(&self, ino: Ino) -> &Inode<F> {
        &self.inodes[ino.index()]
    }

    /// The inode of this number, for one that may be none of this tree's.
    pub fn get(&self, number: u64) -> Option<Ino> {
        let ino = Ino(NonZeroU32::new(u32::try_from(number).ok()?)?);
        (ino.index() < self.inodes.len()).then_some(ino)
    }

    /// All inodes with their numbers, in order.
    pub fn iter(&self) -> impl Iterator<Item = (Ino, &Inode<F>)> {
        Ino::all().zip(&self.inodes)
    }

    /// What `name` names in the directory `dir`.
    pub fn lookup(&self, dir: Ino, name: &[u8]) -> Option<Ino> {
        let entries = self.inode(dir).entries()?;
        let at = entries.binary_search_by(|entry| (*entry.name).cmp(name)).ok()?;
        Some(entries[at].ino)
    }

    /// The same tree with each regular file's content replaced by what `convert` makes of it.
    pub fn map<G>(self, mut convert: impl FnMut(Ino, F) -> G) -> Tree<G> {
        let convert_inode = |(ino, inode): (Ino, Inode<F>)| {
            let kind = match inode.kind {
                Kind::Regular(file) => Kind::Regular(convert(ino, file)),
                Kind::Directory(entries) => Kind::Directory(entries),
                Kind::Symlink(target) => Kind::Symlink(target),
                Kind::Fifo => Kind::Fifo,
                Kind::Socket => Kind::Socket,
                Kind::CharDevice(device) => Kind::CharDevice(device),
                Kind::BlockDevice(device) => Kind::BlockDevice(device),
            };
            Inode { metadata: inode.metadata, nlink: inode.nlink, kind }
        };
        Tree { inodes: Ino::all().zip(self.inodes).map(convert_inode).collect() }
    }

    /// Where each inode is first seen in the walk; a hard link's other names are not told.
    pub fn locations(&self) -> Locations {
        let mut first = vec![None; self.inodes.len()];
        first[Ino::ROOT.index()] = Some(Location { parent: Ino::ROOT, entry: 0 });
        let mut levels = vec![(Ino::ROOT, 0)];
        while let Some((parent, next)) = levels.last_mut() {
            let entries = self.inode(*parent).entries().unwrap_or_default();
            let Some(entry) = entries.get(*next) else {
                levels.pop();
                continue;
            };
            let location = Location { parent: *parent, entry: *next as u32 };
            *next += 1;
            first[entry.ino.index()].get_or_insert(location);
            if self.inode(entry.ino).entries().is_some() {
                levels.push((entry.ino, 0));
            }
        }
        let reached = |location: Option<Location>| location.expect("a builder's tree is connected");
        Locations(first.into_iter().map(reached).collect())
    }

    /// Calls `visit` with the entries of the directory `top`, in the order of their names: with the
    /// path from there, without a leading slash, and the inode. If it tells so, what is below that
    /// comes next.
    ///
    /// Fails as `visit` does. Does nothing if `top` is not a directory. How deep the tree is takes
    /// no stack.
    pub fn walk<E>(
        &self,
        top: Ino,
        mut visit: impl FnMut(&[u8], Ino) -> std::result::Result<bool, E>,
    ) -> std::result::Result<(), E> {
        // What is still to be visited of each directory, and the length of its path.
        let mut levels = vec![(self.inode(top).entries().unwrap_or_default(), 0)];
        let mut path = Vec::new();
        while let Some((entries, length)) = levels.last_mut() {
            path.truncate(*length);
            let Some((entry, rest)) = entries.split_first() else {
                levels.pop();
                continue;
            };
            *entries = rest;
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(&entry.name);
            if visit(&path, entry.ino)?
                && let Some(below) = self.inode(entry.ino).entries()
            {
                levels.push((below, path.len()));
            }
        }
        Ok(())
    }

    /// The path of `ino` from the root, without a leading slash: for messages.
    pub fn path(&self, locations: &Locations, ino: Ino) -> std::path::PathBuf {
        use std::os::unix::ffi::OsStrExt;
        let mut names = Vec::new();
        let mut at = ino;
        while at != Ino::ROOT {
            names.push(self.name(locations, at));
            at = locations.parent(at);
        }
        names.iter().rev().map(|name| std::ffi::OsStr::from_bytes(name)).collect()
    }

    /// The name under which `ino` is first seen; empty for the root.
    pub fn name(&self, locations: &Locations, ino: Ino) -> &[u8] {
        let Location { parent, entry } = locations.0[ino.index()];
        match self.inode(parent).entries() {
            Some(entries) if ino != Ino::ROOT => &entries[entry as usize].name,
            _ => b"",
        }
    }
}

/// The place where each inode of a tree is first seen, by number.
#[derive(Debug)]
pub struct Locations(Vec<Location>);

#[derive(Debug, Clone, Copy)]
struct Location {
    parent: Ino,
    entry: u32,
}

impl Locations {
    /// The directory in which `ino` is first seen; the root is its own.
    pub fn parent(&self, ino: Ino) -> Ino {
        self.0[ino.index()].parent
    }

    /// Whether `ino` is first seen as the entry with this index of `dir`.
    pub fn is_first(&self, ino: Ino, dir: Ino, index: usize) -> bool {
        let Location { parent, entry } = self.0[ino.index()];
        (parent, entry as usize) == (dir, index)
    }
}
