//! What an image is, as a document; and its metadata as text.

use std::io::{self, Write};

use serde_json::{Value, json};

use crate::chunk::Extent;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::format::{Blob, Rootfs, file_size};
use crate::image::Image;
use crate::layout::{DocumentId, Documents, Sums};
use crate::tree::{Kind, text};

/// Describes an image as a JSON document: manifest, configuration, counts of inodes and bytes,
/// data blobs, and what it shares with the other images of its layout.
pub fn inspect(image: &Image) -> Result<Value> {
    let manifest = image.manifest();
    Ok(json!({
        "manifest": manifest.descriptor.json(),
        "rootfs": manifest.rootfs.json(),
        "verity": manifest.rootfs_verity,
        "annotations": manifest.annotations,
        "config": image.config(),
        "inodes": inodes(image.rootfs()),
        "bytes": bytes(image),
        "blobs": blobs(image),
        "shared": shared(image)?,
    }))
}

fn inodes(rootfs: &Rootfs) -> Value {
    let mut counts = [0_u64; 7];
    let mut hard_links = 0;
    for inode in rootfs.tree.inodes() {
        let kind = match inode.kind {
            Kind::Directory(_) => 0,
            Kind::Regular(_) => 1,
            Kind::Symlink(_) => 2,
            Kind::Fifo => 3,
            Kind::Socket => 4,
            Kind::CharDevice(_) => 5,
            Kind::BlockDevice(_) => 6,
        };
        counts[kind] += 1;
        if kind != 0 {
            hard_links += u64::from(inode.nlink.saturating_sub(1));
        }
    }
    let [directories, files, symlinks, fifos, sockets, char_devices, block_devices] = counts;
    json!({
        "total": rootfs.tree.inodes().len(),
        "directories": directories,
        "files": files,
        "symlinks": symlinks,
        "fifos": fifos,
        "sockets": sockets,
        "char_devices": char_devices,
        "block_devices": block_devices,
        "hard_links": hard_links,
    })
}

fn bytes(image: &Image) -> Value {
    let files = image.tree().inodes().iter().filter_map(|inode| inode.file());
    let extents: usize = files.clone().map(|extents| extents.len()).sum();
    json!({
        "files": files.map(|extents| file_size(extents)).fold(0, u64::saturating_add),
        "extents": extents,
        "metadata": image.metadata_size(),
        "data": sizes(image).iter().sum::<u64>(),
    })
}

/// The sizes of the data blobs as they are in the layout; 0 for one that is missing.
fn sizes(image: &Image) -> Vec<u64> {
    image.rootfs().blobs.iter().map(|blob| size(image, &blob.digest)).collect()
}

/// What is no file is as good as missing here; fsck tells more of it.
fn size(image: &Image, digest: &Digest) -> u64 {
    image.layout().blob_size(digest).ok().flatten().unwrap_or(0)
}

fn blobs(image: &Image) -> Value {
    let sizes = sizes(image);
    let compressed = image.rootfs().blobs.iter().filter(|blob| blob.compressed).count();
    let missing = sizes.iter().filter(|&&size| size == 0).count();
    json!({
        "count": sizes.len(),
        "compressed": compressed,
        "missing": missing,
        "smallest": sizes.iter().min(),
        "largest": sizes.iter().max(),
    })
}

/// What the image shares with each other image of the layout; with as many of them as that can be
/// told of (see [`Sums`]).
fn shared(image: &Image) -> Result<Value> {
    let mut documents = Documents::new(image.layout());
    let others = others(image, &mut documents)?;
    documents.read(&mut || Ok(()))?;
    let whole = documents.whole();
    let mut own = vec![None; documents.digests().len()];
    for blob in &image.rootfs().blobs {
        if let Some(known) = documents.blob(&blob.digest) {
            own[known] = Some(size(image, &blob.digest));
        }
    }
    let mut sums = Sums::new(&documents, |claim| own[claim.blob].map_or((0, 0), |size| (1, size)));
    let others = others.into_iter().filter(|(_, document)| whole[*document]);
    let shared = others.filter_map(|(tag, document)| {
        let (blobs, bytes) = sums.of(document)?;
        Some(json!({ "tag": tag, "blobs": blobs, "bytes": bytes }))
    });
    Ok(shared.collect())
}

/// Adds the other images of the layout, with their tags.
fn others(image: &Image, documents: &mut Documents<'_>) -> Result<Vec<(String, DocumentId)>> {
    let index = image.layout().index()?;
    // An entry that is broken shares nothing; fsck tells more of it.
    let entries = index.entries().filter_map(|(tag, descriptor)| Some((tag?, descriptor.ok()?)));
    let others = entries.filter(|(_, other)| other.digest != image.manifest().descriptor.digest);
    Ok(others.map(|(tag, other)| (tag.to_owned(), documents.add(&other).document)).collect())
}

/// Writes the metadata as text, a line an inode (see [`text`]). A file's content is one word
/// `DIGEST:OFFSET:LENGTH` for each extent, with `+zstd` behind the digest of a compressed blob.
pub fn dump(rootfs: &Rootfs, out: &mut dyn Write) -> io::Result<()> {
    let word = |extent: &Extent| {
        let Blob { digest, compressed } = rootfs.blobs[extent.blob as usize];
        let zstd = if compressed { "+zstd" } else { "" };
        format!("{}{zstd}:{}:{}", digest.hex(), extent.offset, extent.length)
    };
    text::write(&rootfs.tree, out, |extents| extents.iter().map(word).collect())
}

/// Reads what [`dump`] wrote; the fs-verity digests are not part of it.
pub fn parse_dump(text: &str) -> Result<Rootfs> {
    let blobs = std::cell::RefCell::new(Vec::<Blob>::new());
    let parse = |word: &str| -> Option<Extent> {
        let mut parts = word.splitn(3, ':');
        let digest = parts.next()?;
        let (offset, length) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        let plain = digest.strip_suffix("+zstd");
        let digest = Digest::from_hex(plain.unwrap_or(digest))?;
        let blob = Blob { digest, compressed: plain.is_some() };
        let mut blobs = blobs.borrow_mut();
        let number = blobs.iter().position(|known| *known == blob).unwrap_or_else(|| {
            blobs.push(blob);
            blobs.len() - 1
        });
        Some(Extent { blob: number as u32, offset, length })
    };
    let content = |words: &[&str]| {
        let extent = |word: &&str| {
            parse(word).ok_or_else(|| Error::invalid(format!("'{word}' is no extent")))
        };
        words.iter().map(extent).collect::<Result<Box<[Extent]>>>()
    };
    let tree = text::parse(text, content)?;
    Ok(Rootfs { tree, blobs: blobs.into_inner(), verity: Default::default() })
}
