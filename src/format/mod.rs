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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inspect::{dump, parse_dump};

    const TREE: &str = "\
/ dir 0755 0:0 1700000000.000000000
/a file 4755 1:2 -1.999999999 AA+zstd:0:10 BB:5:7 AA+zstd:100:1 xattr user.k=v xattr user.l=\\-
/b dir 1777 4294967294:4294967294 0.000000000 xattr system.posix_acl_default=\\x02\\x00
/b/again link /a
/b/c symlink 0777 0:0 5.000000005 ../a xattr trusted.t=1
/b/d char 0666 0:0 0.000000000 4095:1048575
/b/e block 0660 0:6 0.000000000 8:0
/f fifo 0600 0:0 9223372036854775807.000000000
/g socket 0600 0:0 -9223372036854775808.000000000
/h file 0644 0:0 0.000000000
";

    fn rootfs() -> Rootfs {
        let text = TREE.replace("AA", &"a".repeat(64)).replace("BB", &"b".repeat(64));
        let mut rootfs = parse_dump(&text).unwrap();
        rootfs.verity = rootfs.blobs.iter().map(|blob| (blob.digest, blob.digest.0)).collect();
        rootfs
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        let rootfs = rootfs();
        let bytes = encode(&rootfs).unwrap();
        let decoded = decode(&bytes).unwrap();
        assert_eq!(decoded, rootfs);
        assert_eq!(encode(&decoded).unwrap(), bytes);
        let (mut before, mut after) = (Vec::new(), Vec::new());
        dump(&rootfs, &mut before).unwrap();
        dump(&decoded, &mut after).unwrap();
        assert_eq!(before, after);

        let mut shifted = vec![0];
        shifted.extend(&bytes);
        assert_eq!(decode(&shifted[1..]).unwrap(), rootfs, "at an odd address");
    }

    /// Bytes written once stay right for ever: this is what images are named by.
    #[test]
    fn the_encoding_does_not_change() {
        let digest = Digest::of(&encode(&rootfs()).unwrap()).to_string();
        assert_eq!(
            digest,
            "sha256:0c1688967f38760946f73f8f163371fec41627f793c34f981ba26f997d41a88c"
        );
    }

    #[test]
    fn damaged_bytes_are_an_error_or_another_tree() {
        let bytes = encode(&rootfs()).unwrap();
        for cut in 0..bytes.len() {
            assert!(decode(&bytes[..cut]).is_err(), "cut to {cut}");
        }
        for position in 0..bytes.len() {
            for bit in 0..8 {
                let mut damaged = bytes.clone();
                damaged[position] ^= 1 << bit;
                // Any outcome is right but a panic, and a tree that cannot be written again.
                if let Ok(rootfs) = decode(&damaged) {
                    assert!(encode(&rootfs).is_ok(), "byte {position}, bit {bit}");
                }
            }
        }
    }
}
