//! What distinguishes two images, told from their metadata alone.
//!
//! [`changes`] tells path by path: all of them together may be far larger than the images, whose
//! directories are within each other as deep as they like.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::ffi::OsStr;
use std::mem::discriminant;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::chunk::Extent;
use crate::error::Result;
use crate::format::{Blob, file_size};
use crate::image::Image;
use crate::tree::{Entry, Ino, Inode, Kind, Tree};

/// What of a path is another one in the second image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Aspect {
    /// Its type. Then neither content, target nor device are compared.
    Type,
    /// A file's content: certainly if its size differs, else it stands elsewhere, which it does
    /// seldom if it is the same.
    Content,
    /// A symbolic link's target.
    Target,
    /// A device's numbers.
    Device,
    /// The permissions.
    Mode,
    /// The owner or the group.
    Owner,
    /// The mtime.
    Time,
    /// The extended attributes.
    Xattr,
    /// Which other paths are links to the same file.
    Links,
}

impl Aspect {
    /// The aspect as a word.
    pub fn as_str(self) -> &'static str {
        match self {
            Aspect::Type => "type",
            Aspect::Content => "content",
            Aspect::Target => "target",
            Aspect::Device => "device",
            Aspect::Mode => "mode",
            Aspect::Owner => "owner",
            Aspect::Time => "time",
            Aspect::Xattr => "xattr",
            Aspect::Links => "links",
        }
    }
}

/// How a path is distinguished.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Only the second image has it.
    Added,
    /// Only the first image has it.
    Removed,
    /// Both have it, with these differences.
    Changed(Vec<Aspect>),
}

/// What an image adds to another one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Added {
    /// Data blobs that only the second image has.
    pub blobs: u64,
    /// Bytes of these blobs as they are stored.
    pub bytes_data: u64,
    /// Bytes of the second image's metadata, unless the first one has the same.
    pub bytes_metadata: u64,
}

/// Tells what `new` adds to `old`.
///
/// Fails if the layout cannot be read.
pub fn added(old: &Image, new: &Image) -> Result<Added> {
    let mut added = Added::default();
    let layout = new.layout();
    let known: HashSet<_> = old.manifest().data.iter().map(|blob| blob.digest).collect();
    let mut seen = HashSet::new();
    for blob in &new.manifest().data {
        if !known.contains(&blob.digest) && seen.insert(blob.digest) {
            added.blobs += 1;
            // The reference's descriptors have the size before compression.
            let size = layout.blob_size(&blob.digest)?.unwrap_or(blob.size);
            added.bytes_data = added.bytes_data.saturating_add(size);
        }
    }
    if new.manifest().rootfs.digest != old.manifest().rootfs.digest {
        added.bytes_metadata = new.metadata_size();
    }
    Ok(added)
}

/// Calls `visit` with each path that distinguishes `new` from `old`, and how: from `/` on, in the
/// order of a walk that is depth first and by name.
///
/// No data is read: of files only where their content stands is compared. Fails as `visit` does,
/// and calls it no more then. How deep the trees are takes no stack, and a path is in memory only
/// while it is visited.
pub fn changes<E>(
    old: &Image,
    new: &Image,
    mut visit: impl FnMut(&Path, Change) -> Result<(), E>,
) -> Result<(), E> {
    let compare = Compare { old, new, common: common_links(old, new) };
    walk(old.tree(), new.tree(), |path, found| {
        let change = match found {
            (None, _) => Change::Added,
            (_, None) => Change::Removed,
            (Some(old), Some(new)) => match compare.aspects((old, new)) {
                same if same.is_empty() => return Ok(()),
                aspects => Change::Changed(aspects),
            },
        };
        visit(path, change)
    })
}

/// An inode of each image.
type Pair = (Ino, Ino);

/// What a path names in each image, where it does.
type Found = (Option<Ino>, Option<Ino>);

/// How many paths two inodes have in common, for those that have several.
fn common_links(old: &Image, new: &Image) -> HashMap<Pair, u32> {
    let mut common = HashMap::new();
    let Ok(()) = walk(old.tree(), new.tree(), |_, found| {
        if let (Some(first), Some(second)) = found
            && (links(old.tree().inode(first)) > 1 || links(new.tree().inode(second)) > 1)
        {
            *common.entry((first, second)).or_default() += 1;
        }
        Ok::<_, Infallible>(())
    });
    common
}

/// The number of an inode's paths.
fn links<F>(inode: &Inode<F>) -> u32 {
    if inode.entries().is_some() { 1 } else { inode.nlink }
}

/// Visits each path of the two trees, with the inodes that it names.
fn walk<F, E>(
    old: &Tree<F>,
    new: &Tree<F>,
    mut visit: impl FnMut(&Path, Found) -> Result<(), E>,
) -> Result<(), E> {
    let below = |found: Found| (entries(old, found.0), entries(new, found.1));
    let root = (Some(Ino::ROOT), Some(Ino::ROOT));
    visit(Path::new("/"), root)?;
    // What is still to be visited of each directory, and the length of its path.
    let mut levels = vec![(below(root), 0)];
    let mut path = Vec::new();
    while let Some((rest, length)) = levels.last_mut() {
        path.truncate(*length);
        let Some((name, found)) = next(rest) else {
            levels.pop();
            continue;
        };
        path.push(b'/');
        path.extend_from_slice(name);
        visit(Path::new(OsStr::from_bytes(&path)), found)?;
        levels.push((below(found), path.len()));
    }
    Ok(())
}

fn entries<F>(tree: &Tree<F>, ino: Option<Ino>) -> &[Entry] {
    ino.and_then(|ino| tree.inode(ino).entries()).unwrap_or_default()
}

/// Takes the next name from the entries of two directories.
fn next<'a>((old, new): &mut (&'a [Entry], &'a [Entry])) -> Option<(&'a [u8], Found)> {
    let order = match (old.first(), new.first()) {
        (Some(first), Some(second)) => first.name.cmp(&second.name),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => return None,
    };
    let first = if order.is_le() { old.split_off_first() } else { None };
    let second = if order.is_ge() { new.split_off_first() } else { None };
    let name: &[u8] = &first.or(second)?.name;
    Some((name, (first.map(|entry| entry.ino), second.map(|entry| entry.ino))))
}

struct Compare<'a> {
    old: &'a Image,
    new: &'a Image,
    common: HashMap<Pair, u32>,
}

impl Compare<'_> {
    /// What of a path differs, where it names these inodes.
    fn aspects(&self, pair: Pair) -> Vec<Aspect> {
        let (old, new) = (self.old.tree().inode(pair.0), self.new.tree().inode(pair.1));
        let (before, after) = (&old.metadata, &new.metadata);
        let found = [
            (Aspect::Type, discriminant(&old.kind) != discriminant(&new.kind)),
            (Aspect::Content, self.content_differs(&old.kind, &new.kind)),
            (Aspect::Target, target_differs(&old.kind, &new.kind)),
            (Aspect::Device, device_differs(&old.kind, &new.kind)),
            (Aspect::Mode, before.permissions != after.permissions),
            (Aspect::Owner, (before.uid, before.gid) != (after.uid, after.gid)),
            (Aspect::Time, before.mtime != after.mtime),
            (Aspect::Xattr, before.xattrs != after.xattrs),
            (Aspect::Links, self.links_differ(pair)),
        ];
        found.into_iter().filter(|(_, differs)| *differs).map(|(aspect, _)| aspect).collect()
    }

    fn content_differs(&self, old: &FileKind, new: &FileKind) -> bool {
        let (Kind::Regular(old), Kind::Regular(new)) = (old, new) else { return false };
        file_size(old) != file_size(new) || !pieces(self.old, old).eq(pieces(self.new, new))
    }

    /// All the paths of the one are those of the other, or not.
    fn links_differ(&self, pair: Pair) -> bool {
        let (old, new) = (self.old.tree().inode(pair.0), self.new.tree().inode(pair.1));
        let common = self.common.get(&pair).copied().unwrap_or(1);
        links(old) != common || links(new) != common
    }
}

type FileKind = Kind<Box<[Extent]>>;

fn target_differs(old: &FileKind, new: &FileKind) -> bool {
    matches!((old, new), (Kind::Symlink(old), Kind::Symlink(new)) if old != new)
}

fn device_differs(old: &FileKind, new: &FileKind) -> bool {
    match (old, new) {
        (Kind::CharDevice(old), Kind::CharDevice(new))
        | (Kind::BlockDevice(old), Kind::BlockDevice(new)) => old != new,
        _ => false,
    }
}

/// Where a piece of a file stands; zeros stand nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Piece {
    place: Option<(Blob, u64)>,
    length: u64,
}

/// Where a file's content stands, in the longest pieces that there are.
fn pieces<'a>(image: &'a Image, extents: &'a [Extent]) -> impl Iterator<Item = Piece> + 'a {
    let piece = |extent: &Extent| Piece {
        place: (!image.is_zeros(extent))
            .then(|| (image.rootfs().blobs[extent.blob as usize], extent.offset)),
        length: extent.length,
    };
    let mut pieces = extents.iter().filter(|extent| extent.length > 0).map(piece).peekable();
    std::iter::from_fn(move || {
        let mut piece = pieces.next()?;
        while let Some(next) = pieces.next_if(|next| next.follows(&piece)) {
            piece.length += next.length;
        }
        Some(piece)
    })
}

impl Piece {
    fn follows(&self, before: &Piece) -> bool {
        match (before.place, self.place) {
            (None, None) => true,
            (Some((blob, offset)), Some((next, start))) => {
                blob == next && offset.checked_add(before.length) == Some(start)
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{Metadata, TreeBuilder};

    /// So many directories in each other, with a file that comes after in each.
    fn deep(levels: usize) -> Tree<()> {
        let directory = || Inode::new(Metadata::default(), Kind::Directory(Vec::new()));
        let mut builder = TreeBuilder::new(directory()).unwrap();
        let file = Inode::new(Metadata::default(), Kind::Regular(()));
        let file = builder.add(Ino::ROOT, b"a", file).unwrap();
        let mut parent = Ino::ROOT;
        for _ in 0..levels {
            let below = builder.add(parent, &[b'd'; 255], directory()).unwrap();
            builder.link(parent, b"e", file).unwrap();
            parent = below;
        }
        builder.finish()
    }

    /// Whoever has seen enough of paths that are fifty gigabytes in all is shown no more.
    #[test]
    fn a_walk_ends_when_it_is_told_to() {
        const CALLS: usize = 100;
        let (deep, flat) = (deep(20_000), deep(0));
        for (old, new) in [(&deep, &flat), (&flat, &deep), (&deep, &deep)] {
            let mut calls = 0;
            let ended = walk(old, new, |path, _| {
                calls += 1;
                if calls == CALLS { Err(path.as_os_str().len()) } else { Ok(()) }
            });
            // After the root and its file, one directory after the other.
            assert_eq!((ended, calls), (Err((CALLS - 2) * 256), CALLS));
        }
    }
}
