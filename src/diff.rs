//! What distinguishes two images, told from their metadata alone.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::mem::discriminant;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::chunk::Extent;
use crate::error::Result;
use crate::format::{Blob, file_size};
use crate::image::Image;
use crate::tree::{Entry, EntryName, Ino, Inode, Kind};

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

/// What distinguishes two images.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Diff {
    /// The paths that are distinguished, from `/` on, in the order of a walk that is depth first
    /// and by name.
    pub changes: Vec<(PathBuf, Change)>,
    /// Data blobs that only the second image has.
    pub blobs: u64,
    /// Bytes of these blobs as they are stored.
    pub bytes_data: u64,
    /// Bytes of the second image's metadata, unless the first one has the same.
    pub bytes_metadata: u64,
}

impl Diff {
    /// The differences as a JSON document. A path that is not UTF-8 is escaped, and stands as it
    /// is, in hexadecimal, beside that.
    pub fn to_json(&self) -> Value {
        let change = |(path, change): &(PathBuf, Change)| {
            let mut value = json!({ "path": path.to_str() });
            if path.to_str().is_none() {
                let bytes = path.as_os_str().as_bytes();
                value["path"] = json!(bytes.escape_ascii().to_string());
                value["path_hex"] = json!(hex::encode(bytes));
            }
            value["change"] = json!(match change {
                Change::Added => "added",
                Change::Removed => "removed",
                Change::Changed(_) => "changed",
            });
            if let Change::Changed(aspects) = change {
                value["how"] = aspects.iter().map(|aspect| aspect.as_str()).collect();
            }
            value
        };
        json!({
            "changes": self.changes.iter().map(change).collect::<Vec<_>>(),
            "added": {
                "blobs": self.blobs,
                "data": self.bytes_data,
                "metadata": self.bytes_metadata,
                "bytes": self.bytes_data.saturating_add(self.bytes_metadata),
            },
        })
    }
}

/// Tells what distinguishes `new` from `old`.
///
/// No data is read: of files only where their content stands is compared.
pub fn diff(old: &Image, new: &Image) -> Result<Diff> {
    let mut diff = Diff { changes: changes(old, new), ..Diff::default() };
    let layout = new.layout();
    let known: HashSet<_> = old.manifest().data.iter().map(|blob| blob.digest).collect();
    let mut seen = HashSet::new();
    for blob in &new.manifest().data {
        if !known.contains(&blob.digest) && seen.insert(blob.digest) {
            diff.blobs += 1;
            // The reference's descriptors have the size before compression.
            diff.bytes_data += layout.blob_size(&blob.digest)?.unwrap_or(blob.size);
        }
    }
    if new.manifest().rootfs.digest != old.manifest().rootfs.digest {
        diff.bytes_metadata = new.metadata_size();
    }
    Ok(diff)
}

/// An inode of each image.
type Pair = (Ino, Ino);

/// What a path names in each image, where it does.
type Found = (Option<Ino>, Option<Ino>);

fn changes(old: &Image, new: &Image) -> Vec<(PathBuf, Change)> {
    let compare = Compare { old, new, common: common_links(old, new) };
    let mut changes = Vec::new();
    walk(old, new, |path, found| {
        let change = match found {
            (None, _) => Change::Added,
            (_, None) => Change::Removed,
            (Some(old), Some(new)) => match compare.aspects((old, new)) {
                same if same.is_empty() => return,
                aspects => Change::Changed(aspects),
            },
        };
        changes.push((path.to_owned(), change));
    });
    changes
}

/// How many paths two inodes have in common, for those that have several.
fn common_links(old: &Image, new: &Image) -> HashMap<Pair, u32> {
    let mut common = HashMap::new();
    walk(old, new, |_, found| {
        if let (Some(first), Some(second)) = found
            && (links(old.tree().inode(first)) > 1 || links(new.tree().inode(second)) > 1)
        {
            *common.entry((first, second)).or_default() += 1;
        }
    });
    common
}

/// The number of an inode's paths.
fn links<F>(inode: &Inode<F>) -> u32 {
    if inode.entries().is_some() { 1 } else { inode.nlink }
}

/// Visits each path of the two images, with the inodes that it names.
fn walk(old: &Image, new: &Image, mut visit: impl FnMut(&Path, Found)) {
    let below = |found: Found| merge(entries(old, found.0), entries(new, found.1));
    let mut path = PathBuf::from("/");
    let root = (Some(Ino::ROOT), Some(Ino::ROOT));
    visit(&path, root);
    // The directories from the root on, with what is still to be visited of each.
    let mut levels = vec![below(root)];
    while let Some(level) = levels.last_mut() {
        let Some((name, found)) = level.pop() else {
            levels.pop();
            path.pop();
            continue;
        };
        path.push(OsStr::from_bytes(&name));
        visit(&path, found);
        levels.push(below(found));
    }
}

fn entries(image: &Image, ino: Option<Ino>) -> &[Entry] {
    ino.and_then(|ino| image.tree().inode(ino).entries()).unwrap_or_default()
}

/// The names of two directories, the last one first.
fn merge(old: &[Entry], new: &[Entry]) -> Vec<(EntryName, Found)> {
    let (mut old, mut new) = (old.iter().peekable(), new.iter().peekable());
    let mut merged = Vec::new();
    loop {
        let order = match (old.peek(), new.peek()) {
            (Some(first), Some(second)) => first.name.cmp(&second.name),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => break,
        };
        let first = if order.is_le() { old.next() } else { None };
        let second = if order.is_ge() { new.next() } else { None };
        let name = first.or(second).expect("one is the next").name.clone();
        merged.push((name, (first.map(|entry| entry.ino), second.map(|entry| entry.ino))));
    }
    merged.reverse();
    merged
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
