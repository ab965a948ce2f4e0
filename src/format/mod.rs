//! The metadata of an image: a tree as one Cap'n Proto message, and back.
//!
//! `capnp/metadata.capnp` is the schema, `doc/format.md` says what its fields mean.

mod decode;
mod encode;
#[allow(clippy::all, clippy::pedantic, missing_docs, unsafe_code, unused_qualifications)]
#[rustfmt::skip]
pub(crate) mod metadata_capnp;

pub use decode::decode;
pub use encode::encode;

use std::collections::BTreeMap;

use crate::chunk::Extent;
use crate::digest::Digest;
use crate::tree::Tree;

/// The version of the metadata that this library reads and writes.
pub const VERSION: u64 = 3;

/// A data blob as the metadata refers to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Blob {
    /// The SHA-256 of the blob as stored.
    pub digest: Digest,
    /// Whether it is in the Zstandard Seekable Format; else its bytes are the content.
    pub compressed: bool,
}

/// The metadata of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rootfs {
    /// The file system; its files' extents refer to `blobs` by position.
    pub tree: Tree<Box<[Extent]>>,
    /// The data blobs, each once, in the order of their first use by the tree.
    pub blobs: Vec<Blob>,
    /// The fs-verity digests of the data blobs.
    pub verity: BTreeMap<Digest, [u8; 32]>,
}

/// The size of a file with these extents, in bytes.
pub fn file_size(extents: &[Extent]) -> u64 {
    extents.iter().map(|extent| extent.length).sum()
}
