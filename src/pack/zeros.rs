//! The pack of zeros that the holes of all images refer to.
//!
//! It is the same blob everywhere, whatever the options and the version of zstd: its frames are
//! spelled out here. Each is 1 MiB as eight blocks of 128 KiB, of the type that repeats one byte
//! (RFC 8878, section 3.1.1.2.2).

use std::sync::LazyLock;

use super::write::{SealedPack, serialize};

/// Zero bytes in the pack.
pub const LENGTH: u64 = 64 * 1024 * 1024;
const FRAME: u32 = 1024 * 1024;
const BLOCK: u32 = 128 * 1024;

/// The pack.
pub static PACK: LazyLock<SealedPack> = LazyLock::new(|| {
    let frame = frame();
    let mut table = zeekstd::SeekTable::new();
    let mut parts = Vec::new();
    for _ in 0..LENGTH / u64::from(FRAME) {
        table.log_frame(frame.len() as u32, FRAME).expect("64 frames are not too many");
        parts.push(frame.clone());
    }
    parts.push(serialize(table));
    SealedPack::new(parts, true)
});

fn frame() -> Vec<u8> {
    const MAGIC: u32 = 0xFD2F_B528;
    /// A single segment, whose content size is given in 4 bytes, without a checksum.
    const DESCRIPTOR: u8 = 0b1010_0000;
    const TYPE_RLE: u32 = 1 << 1;
    let mut frame = MAGIC.to_le_bytes().to_vec();
    frame.push(DESCRIPTOR);
    frame.extend(FRAME.to_le_bytes());
    let blocks = FRAME / BLOCK;
    for number in 1..=blocks {
        let last = u32::from(number == blocks);
        let header = BLOCK << 3 | TYPE_RLE | last;
        frame.extend(&header.to_le_bytes()[..3]);
        frame.push(0);
    }
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pack_is_64_mib_of_zeros_and_always_the_same() {
        let blob = PACK.parts.concat();
        let zeros = zstd::decode_all(&blob[..]).unwrap();
        assert_eq!(zeros.len() as u64, LENGTH);
        assert!(zeros.iter().all(|&byte| byte == 0));
        let digest = "sha256:e9308bb2280bb652407370b37b8b08a97e2173f6a6cc954d985fcb0ae7da0f40";
        assert_eq!((PACK.digest.to_string().as_str(), PACK.size), (digest, blob.len() as u64));
    }
}
