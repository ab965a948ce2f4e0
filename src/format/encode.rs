//! A tree becomes a Cap'n Proto message.

use capnp::message::{Builder, HeapAllocator};

use super::metadata_capnp::{dir, file_chunk, inode, rootfs};
use super::{Rootfs, VERSION};
use crate::chunk::Extent;
use crate::error::{Error, ErrorKind, Result};
use crate::tree::{Inode, Kind};

/// The message with this metadata: one layer, one segment as far as 4 GiB reach.
pub fn encode(metadata: &Rootfs) -> Result<Vec<u8>> {
    let words = u32::try_from(estimate(metadata)).unwrap_or(u32::MAX);
    let mut message = Builder::new(HeapAllocator::new().first_segment_words(words));
    let mut root = message.init_root::<rootfs::Builder<'_>>();
    root.set_manifest_version(VERSION);

    let layers = root.reborrow().init_metadatas(1);
    let mut inodes = layers.get(0).init_inodes(count(metadata.tree.inodes().len())?);
    for (ino, source) in metadata.tree.iter() {
        let mut target = inodes.reborrow().get(ino.index() as u32);
        target.set_ino(ino.get().into());
        encode_inode(source, metadata, target)?;
    }
    let mut verity = root.init_fs_verity_data(count(metadata.verity.len())?);
    for (index, (digest, value)) in metadata.verity.iter().enumerate() {
        let mut entry = verity.reborrow().get(index as u32);
        entry.set_digest(&digest.0);
        entry.set_verity(value);
    }
    let mut bytes = Vec::with_capacity(message.size_in_words() * 8 + 64);
    capnp::serialize::write_message(&mut bytes, &message)
        .map_err(|error| Error::new(ErrorKind::Internal, error.to_string()))?;
    Ok(bytes)
}

fn encode_inode(
    source: &Inode<Box<[Extent]>>,
    metadata: &Rootfs,
    mut target: inode::Builder<'_>,
) -> Result<()> {
    let crate::tree::Metadata { permissions, uid, gid, mtime, xattrs } = &source.metadata;
    target.set_permissions(*permissions);
    target.set_uid(*uid);
    target.set_gid(*gid);
    target.set_mtime_seconds(mtime.seconds);
    target.set_mtime_nanoseconds(mtime.nanoseconds);
    let mut mode = target.reborrow().init_mode();
    let mut symlink = None;
    match &source.kind {
        Kind::Directory(entries) => encode_directory(entries, mode.init_dir())?,
        Kind::Regular(extents) => {
            let mut chunks = mode.init_file(count(extents.len())?);
            for (index, extent) in extents.iter().enumerate() {
                encode_extent(extent, metadata, chunks.reborrow().get(index as u32));
            }
        }
        Kind::Symlink(target) => {
            mode.set_lnk(());
            symlink = Some(target);
        }
        Kind::Fifo => mode.set_fifo(()),
        Kind::Socket => mode.set_sock(()),
        Kind::CharDevice(device) => {
            let mut numbers = mode.init_chr();
            numbers.set_major(device.major.into());
            numbers.set_minor(device.minor.into());
        }
        Kind::BlockDevice(device) => {
            let mut numbers = mode.init_blk();
            numbers.set_major(device.major.into());
            numbers.set_minor(device.minor.into());
        }
    }
    if symlink.is_none() && xattrs.is_empty() {
        return Ok(());
    }
    let mut additional = target.init_additional();
    if let Some(symlink) = symlink {
        additional.set_symlink_target(symlink);
    }
    if !xattrs.is_empty() {
        let mut list = additional.init_xattrs(count(xattrs.len())?);
        for (index, xattr) in xattrs.iter().enumerate() {
            let mut entry = list.reborrow().get(index as u32);
            entry.set_key(&xattr.key);
            entry.set_val(&xattr.value);
        }
    }
    Ok(())
}

fn encode_directory(entries: &[crate::tree::Entry], target: dir::Builder<'_>) -> Result<()> {
    let mut list = target.init_entries(count(entries.len())?);
    for (index, entry) in entries.iter().enumerate() {
        let mut target = list.reborrow().get(index as u32);
        target.set_ino(entry.ino.get().into());
        target.set_name(&entry.name);
    }
    Ok(())
}

fn encode_extent(extent: &Extent, metadata: &Rootfs, mut target: file_chunk::Builder<'_>) {
    let blob = &metadata.blobs[extent.blob as usize];
    target.set_len(extent.length);
    let mut reference = target.init_blob();
    reference.set_digest(&blob.digest.0);
    reference.set_offset(extent.offset);
    reference.set_compressed(blob.compressed);
}

/// A Cap'n Proto list has at most 2^29 - 1 elements.
fn count(length: usize) -> Result<u32> {
    const MAX: usize = (1 << 29) - 1;
    if length <= MAX {
        return Ok(length as u32);
    }
    Err(Error::new(
        ErrorKind::Unsupported,
        format!("a list of {length}: the format has room for {MAX}"),
    ))
}

/// At least as many words of 8 bytes as the message has.
fn estimate(metadata: &Rootfs) -> u64 {
    const FIXED: u64 = 64;
    const INODE: u64 = 16;
    const ENTRY: u64 = 3;
    const EXTENT: u64 = 10;
    const XATTR: u64 = 4;
    const VERITY: u64 = 10;
    let bytes = |bytes: &[u8]| bytes.len().div_ceil(8) as u64;
    let inode = |inode: &Inode<Box<[Extent]>>| {
        let xattrs = inode.metadata.xattrs.iter();
        let xattrs: u64 = xattrs.map(|x| XATTR + bytes(&x.key) + bytes(&x.value)).sum();
        let content = match &inode.kind {
            Kind::Directory(entries) => entries.iter().map(|e| ENTRY + bytes(&e.name)).sum(),
            Kind::Regular(extents) => extents.len() as u64 * EXTENT,
            Kind::Symlink(target) => bytes(target),
            _ => 0,
        };
        INODE + xattrs + content
    };
    let verity = metadata.verity.len() as u64 * VERITY;
    FIXED + verity + metadata.tree.inodes().iter().map(inode).sum::<u64>()
}
