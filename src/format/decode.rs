//! A Cap'n Proto message, of whoever made it, becomes a tree.

use std::collections::{BTreeMap, HashMap};

use capnp::message::ReaderOptions;
use capnp::struct_list;

use super::metadata_capnp::{dir, file_chunk, inode, inode_additional, rootfs};
use super::{Blob, Rootfs, VERSION};
use crate::chunk::{Extent, append};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::tree::{Device, Ino, Inode, Kind, Metadata, Timestamp, Tree, TreeBuilder, Xattr, show};

/// The least that an inode with its entry takes in a message, in bytes: the reference's `Inode`
/// has 4 words of data and 2 pointers, a `DirEntry` 1 and 1.
const INODE_MIN: usize = 64;
/// For how many extents room is made before they are read: what is claimed may not be there.
const EXTENTS_FEW: u32 = 64;
/// The longest target of a symbolic link, as Linux has it (`PATH_MAX` less the NUL).
const SYMLINK_MAX: usize = 4095;
/// The longest key and value of an extended attribute (`XATTR_NAME_MAX`, `XATTR_SIZE_MAX`).
const XATTR_KEY_MAX: usize = 255;
const XATTR_VALUE_MAX: usize = 64 * 1024;

/// Reads metadata and checks all of it; memory and time are in proportion to the bytes given.
///
/// Inodes get new numbers. Of several layers, the first that has an inode number counts, and a
/// whiteout hides what is below it.
pub fn decode(bytes: &[u8]) -> Result<Rootfs> {
    // What a pointer leads to is counted as often as it is followed, which is about once.
    let options = ReaderOptions {
        traversal_limit_in_words: Some(bytes.len() / 2 + 64 * 1024),
        nesting_limit: 16,
    };
    let aligned = Aligned::new(bytes);
    let message = capnp::serialize::read_message_from_flat_slice(&mut aligned.bytes(), options)
        .map_err(malformed)?;
    let root: rootfs::Reader<'_> = message.get_root().map_err(malformed)?;
    if root.get_manifest_version() != VERSION {
        return Err(Error::new(
            ErrorKind::Unsupported,
            format!(
                "the metadata is of version {}; this library knows {VERSION}",
                root.get_manifest_version()
            ),
        ));
    }
    let layers = Layers::new(root)?;
    let mut blobs = Blobs::default();
    let tree = walk(layers, bytes.len(), &mut blobs)?;
    Ok(Rootfs { tree, blobs: blobs.list, verity: decode_verity(root)? })
}

fn malformed(error: capnp::Error) -> Error {
    Error::corrupt(format!("the metadata is not valid: {error}"))
}

/// The bytes at an address that is a multiple of 8, as Cap'n Proto wants them.
enum Aligned<'a> {
    Given(&'a [u8]),
    Copied(Vec<capnp::Word>, usize),
}

impl<'a> Aligned<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        if bytes.as_ptr().addr().is_multiple_of(8) {
            return Aligned::Given(bytes);
        }
        let mut words = capnp::Word::allocate_zeroed_vec(bytes.len().div_ceil(8));
        capnp::Word::words_to_bytes_mut(&mut words)[..bytes.len()].copy_from_slice(bytes);
        Aligned::Copied(words, bytes.len())
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Aligned::Given(bytes) => bytes,
            Aligned::Copied(words, length) => &capnp::Word::words_to_bytes(words)[..*length],
        }
    }
}

/// The layers of inodes, each sorted by inode number.
struct Layers<'a> {
    layers: Vec<Layer<'a>>,
    /// The numbers of all inodes and where they stand, sorted; empty for a single layer.
    index: Vec<(u64, Position)>,
}

struct Layer<'a> {
    inodes: struct_list::Reader<'a, inode::Owned>,
    /// The tree's number of each inode, once it has one.
    numbers: Vec<Option<Ino>>,
}

/// Where an inode stands.
#[derive(Clone, Copy)]
struct Position {
    layer: u32,
    index: u32,
}

impl<'a> Layers<'a> {
    fn new(root: rootfs::Reader<'a>) -> Result<Self> {
        let mut layers = Vec::new();
        for vector in root.get_metadatas().map_err(malformed)? {
            let inodes = vector.get_inodes().map_err(malformed)?;
            let mut last = 0;
            for inode in inodes {
                if inode.get_ino() < last {
                    return Err(Error::corrupt("the inodes are not sorted by number"));
                }
                last = inode.get_ino();
            }
            layers.push(Layer { inodes, numbers: vec![None; inodes.len() as usize] });
        }
        let index = if layers.len() > 1 { index(&layers) } else { Vec::new() };
        Ok(Layers { layers, index })
    }

    fn get(&self, position: Position) -> inode::Reader<'a> {
        self.layers[position.layer as usize].inodes.get(position.index)
    }

    fn number(&mut self, position: Position) -> &mut Option<Ino> {
        &mut self.layers[position.layer as usize].numbers[position.index as usize]
    }

    /// How many inodes the layers claim to have.
    fn count(&self) -> usize {
        self.layers.iter().map(|layer| layer.numbers.len()).sum()
    }

    /// The inode of this number in the first layer that has it.
    fn find(&self, ino: u64) -> Option<Position> {
        if let [layer] = &*self.layers {
            return search(layer.inodes, ino).map(|index| Position { layer: 0, index });
        }
        let at = self.index.binary_search_by_key(&ino, |(ino, _)| *ino).ok()?;
        Some(self.index[at].1)
    }
}

/// Where each inode number is found first: there may be very many layers.
fn index(layers: &[Layer<'_>]) -> Vec<(u64, Position)> {
    let mut index = Vec::new();
    for (number, layer) in (0..).zip(layers) {
        let mut last = None;
        for inode in layer.inodes {
            let ino = inode.get_ino();
            if last.replace(ino) != Some(ino)
                && let Some(index_in_layer) = search(layer.inodes, ino)
            {
                index.push((ino, Position { layer: number, index: index_in_layer }));
            }
        }
    }
    // Stable: of the same number, the one in the topmost layer stays first.
    index.sort_by_key(|(ino, _)| *ino);
    index.dedup_by_key(|(ino, _)| *ino);
    index
}

/// Where an inode stands in a sorted list.
///
/// A number may occur twice: the reference's deltas list a whiteout and a file under one number
/// when one name of a hard link was removed. Which of the two counts is decided by how the
/// reference searches, so this is that search, step by step.
fn search(inodes: struct_list::Reader<'_, inode::Owned>, ino: u64) -> Option<u32> {
    let mut left = 0;
    let mut right = inodes.len().checked_sub(1)?;
    while left <= right {
        let middle = left + (right - left) / 2;
        match inodes.get(middle).get_ino().cmp(&ino) {
            std::cmp::Ordering::Equal => return Some(middle),
            std::cmp::Ordering::Less => left = middle + 1,
            std::cmp::Ordering::Greater => right = middle.checked_sub(1)?,
        }
    }
    None
}

/// A directory of which some entries are still to be visited.
struct Level<'a> {
    dir: Ino,
    entries: std::vec::IntoIter<(&'a [u8], u64)>,
}

fn walk(mut layers: Layers<'_>, bytes: usize, blobs: &mut Blobs) -> Result<Tree<Box<[Extent]>>> {
    const ROOT: u64 = 1;
    let no_root = || Error::corrupt("the metadata has no root directory");
    let position = layers.find(ROOT).ok_or_else(no_root)?;
    let root = layers.get(position);
    let mut builder = TreeBuilder::new(decode_inode(root, blobs)?.ok_or_else(no_root)?)?;
    builder.reserve(layers.count().min(bytes / INODE_MIN));
    *layers.number(position) = Some(Ino::ROOT);
    let mut levels = vec![Level { dir: Ino::ROOT, entries: decode_entries(root)? }];
    while let Some(level) = levels.last_mut() {
        let Some((name, number)) = level.entries.next() else {
            levels.pop();
            continue;
        };
        let parent = level.dir;
        let Some(position) = layers.find(number) else {
            let name = show(name);
            return Err(Error::corrupt(format!(
                "'{name}' names inode {number}, which is not there"
            )));
        };
        if let Some(known) = *layers.number(position) {
            builder.link(parent, name, known)?;
            continue;
        }
        let source = layers.get(position);
        let in_entry =
            |error: Error| error.context(format_args!("inode {number}, '{}'", show(name)));
        let Some(inode) = decode_inode(source, blobs).map_err(in_entry)? else { continue };
        let is_directory = inode.entries().is_some();
        let ino = builder.add(parent, name, inode)?;
        *layers.number(position) = Some(ino);
        if is_directory {
            levels.push(Level { dir: ino, entries: decode_entries(source)? });
        }
    }
    Ok(builder.finish())
}

/// The entries of a directory, sorted by name.
fn decode_entries(inode: inode::Reader<'_>) -> Result<std::vec::IntoIter<(&[u8], u64)>> {
    let mode = inode.get_mode().which();
    let Ok(inode::mode::Dir(Ok(directory))) = mode else { return Ok(Vec::new().into_iter()) };
    let directory: dir::Reader<'_> = directory;
    let list = directory.get_entries().map_err(malformed)?;
    let mut entries = Vec::with_capacity(list.len() as usize);
    for entry in list {
        entries.push((entry.get_name().map_err(malformed)?, entry.get_ino()));
    }
    entries.sort_by_key(|(name, _)| *name);
    Ok(entries.into_iter())
}

/// An inode without its entries; `None` for a whiteout.
fn decode_inode(
    source: inode::Reader<'_>,
    blobs: &mut Blobs,
) -> Result<Option<Inode<Box<[Extent]>>>> {
    let additional = source.get_additional().map_err(malformed)?;
    let mode = source.get_mode().which();
    let mode = mode.map_err(|_| Error::new(ErrorKind::Unsupported, "an unknown type of inode"))?;
    let kind = match mode {
        inode::mode::Wht(()) => return Ok(None),
        inode::mode::Unknown(()) => {
            return Err(Error::new(ErrorKind::Unsupported, "an unknown type of inode"));
        }
        inode::mode::Fifo(()) => Kind::Fifo,
        inode::mode::Sock(()) => Kind::Socket,
        inode::mode::Lnk(()) => Kind::Symlink(decode_target(additional)?),
        inode::mode::Dir(directory) => {
            directory.map_err(malformed)?;
            Kind::Directory(Vec::new())
        }
        inode::mode::File(chunks) => Kind::Regular(decode_file(chunks.map_err(malformed)?, blobs)?),
        inode::mode::Chr(device) => {
            let device = device.map_err(malformed)?;
            Kind::CharDevice(decode_device(device.get_major(), device.get_minor())?)
        }
        inode::mode::Blk(device) => {
            let device = device.map_err(malformed)?;
            Kind::BlockDevice(decode_device(device.get_major(), device.get_minor())?)
        }
    };
    Ok(Some(Inode::new(decode_metadata(source, additional)?, kind)))
}

fn decode_metadata(
    source: inode::Reader<'_>,
    additional: inode_additional::Reader<'_>,
) -> Result<Metadata> {
    let metadata = Metadata {
        permissions: source.get_permissions(),
        uid: source.get_uid(),
        gid: source.get_gid(),
        mtime: Timestamp {
            seconds: source.get_mtime_seconds(),
            nanoseconds: source.get_mtime_nanoseconds(),
        },
        xattrs: decode_xattrs(additional)?,
    };
    if metadata.permissions > 0o7777 {
        return Err(Error::corrupt(format!("permissions of {:o}", metadata.permissions)));
    }
    if metadata.uid == u32::MAX || metadata.gid == u32::MAX {
        return Err(Error::corrupt("an owner of 2^32 - 1, which is nobody's number"));
    }
    if metadata.mtime.nanoseconds >= 1_000_000_000 {
        return Err(Error::corrupt(format!(
            "a time with {} nanoseconds",
            metadata.mtime.nanoseconds
        )));
    }
    Ok(metadata)
}

fn decode_xattrs(additional: inode_additional::Reader<'_>) -> Result<Box<[Xattr]>> {
    let mut xattrs = Vec::new();
    for xattr in additional.get_xattrs().map_err(malformed)? {
        let key = xattr.get_key().map_err(malformed)?;
        let value = xattr.get_val().map_err(malformed)?;
        if key.is_empty() || key.len() > XATTR_KEY_MAX || key.contains(&0) {
            return Err(Error::corrupt(format!("an extended attribute named '{}'", show(key))));
        }
        if value.len() > XATTR_VALUE_MAX {
            let length = value.len();
            return Err(Error::corrupt(format!("an extended attribute of {length} bytes")));
        }
        xattrs.push(Xattr { key: key.into(), value: value.into() });
    }
    xattrs.sort();
    if xattrs.windows(2).any(|pair| pair[0].key == pair[1].key) {
        return Err(Error::corrupt("an extended attribute that occurs twice"));
    }
    Ok(xattrs.into())
}

fn decode_target(additional: inode_additional::Reader<'_>) -> Result<Box<[u8]>> {
    let target = additional.get_symlink_target().map_err(malformed)?;
    match target.len() {
        0 => Err(Error::corrupt("a symbolic link without a target")),
        1..=SYMLINK_MAX if !target.contains(&0) => Ok(target.into()),
        1..=SYMLINK_MAX => Err(Error::corrupt("a symbolic link whose target has a NUL")),
        length => Err(Error::corrupt(format!("a symbolic link with a target of {length} bytes"))),
    }
}

/// Linux has 12 bits for the major number and 20 for the minor.
fn decode_device(major: u64, minor: u64) -> Result<Device> {
    if major < 1 << 12 && minor < 1 << 20 {
        return Ok(Device { major: major as u32, minor: minor as u32 });
    }
    Err(Error::corrupt(format!("a device with the numbers {major}:{minor}")))
}

fn decode_file(
    chunks: struct_list::Reader<'_, file_chunk::Owned>,
    blobs: &mut Blobs,
) -> Result<Box<[Extent]>> {
    // Most files have one, for which a larger allocation that shrinks would leave a gap.
    let mut extents = Vec::with_capacity(chunks.len().min(EXTENTS_FEW) as usize);
    let mut size = 0_u64;
    for chunk in chunks {
        let reference = chunk.get_blob().map_err(malformed)?;
        let (offset, length) = (reference.get_offset(), chunk.get_len());
        let digest = reference.get_digest().map_err(malformed)?;
        let Ok(digest) = digest.try_into().map(Digest) else {
            return Err(Error::corrupt(format!("a digest of {} bytes", digest.len())));
        };
        let end = offset.checked_add(length);
        size = size.saturating_add(length);
        if end.is_none_or(|end| end > i64::MAX as u64) || size > i64::MAX as u64 {
            return Err(Error::corrupt("a file of 2^63 bytes or more"));
        }
        if length > 0 {
            let blob = blobs.number(Blob { digest, compressed: reference.get_compressed() })?;
            append(&mut extents, Extent { blob, offset, length });
        }
    }
    Ok(extents.into())
}

/// The blobs seen so far.
#[derive(Default)]
struct Blobs {
    list: Vec<Blob>,
    numbers: HashMap<Blob, u32>,
}

impl Blobs {
    fn number(&mut self, blob: Blob) -> Result<u32> {
        let next = u32::try_from(self.list.len())
            .map_err(|_| Error::new(ErrorKind::Unsupported, "more than 2^32 data blobs"))?;
        let number = *self.numbers.entry(blob).or_insert(next);
        if number == next {
            self.list.push(blob);
        }
        Ok(number)
    }
}

fn decode_verity(root: rootfs::Reader<'_>) -> Result<BTreeMap<Digest, [u8; 32]>> {
    let mut verity = BTreeMap::new();
    for entry in root.get_fs_verity_data().map_err(malformed)? {
        let digest = entry.get_digest().map_err(malformed)?;
        let value = entry.get_verity().map_err(malformed)?;
        let (Ok(digest), Ok(value)) = (digest.try_into(), value.try_into()) else {
            return Err(Error::corrupt("an fs-verity entry that is not of 32 bytes each"));
        };
        verity.insert(Digest(digest), value);
    }
    Ok(verity)
}
