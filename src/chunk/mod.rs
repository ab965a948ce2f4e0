//! File content as streams of chunks.
//!
//! The files of a tree form *streams*: a file of 64 KiB or more is one of its own, the smaller
//! ones of a directory follow each other, by name, in one. A stream is cut into *chunks* by its
//! content, so that the same bytes give the same chunks wherever they stand. Holes, and runs of
//! zeros as long as the largest chunk, are no part of a stream.

mod extents;
mod read;
mod stream;

pub use extents::{Extent, ExtentMapper, Zeros, append};
pub use read::{BATCH_MAX, Batch, Segment, read_stream};
pub use stream::{Stream, plan};

use fastcdc::v2020::{Normalization, cut, select_masks};

use crate::digest::Digest;

/// The smallest chunk but for a stream's last one, in bytes.
pub const CHUNK_MIN: usize = 4 * 1024;
/// The size around which chunks lie, in bytes.
pub const CHUNK_MEAN: usize = 16 * 1024;
/// The largest chunk, in bytes.
pub const CHUNK_MAX: usize = 64 * 1024;

/// A piece of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunk {
    /// Bytes, 1 to [`CHUNK_MAX`].
    pub length: u32,
    /// The SHA-256 of the bytes.
    pub digest: Digest,
}

/// FastCDC as of 2020, with this format's chunk sizes.
pub struct Cutter {
    mask_small: u64,
    mask_large: u64,
}

impl Default for Cutter {
    fn default() -> Self {
        let (mask_small, mask_large) = select_masks(CHUNK_MEAN, Normalization::Level1);
        Cutter { mask_small, mask_large }
    }
}

impl Cutter {
    /// The length of the first chunk of `data`, which is the rest of the stream, or at least
    /// [`CHUNK_MAX`] bytes of it.
    pub fn cut(&self, data: &[u8]) -> usize {
        let (small, large) = (self.mask_small, self.mask_large);
        let masks = (small, large, small << 1, large << 1);
        cut(data, CHUNK_MIN, CHUNK_MEAN, CHUNK_MAX, masks.0, masks.1, masks.2, masks.3).1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_are_those_of_the_fastcdc_crate() {
        let mut state = 1_u64;
        let data: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 56) as u8
        })
        .take(1 << 20)
        .collect();
        let expected: Vec<usize> =
            fastcdc::v2020::FastCDC::new(&data, CHUNK_MIN, CHUNK_MEAN, CHUNK_MAX)
                .map(|chunk| chunk.length)
                .collect();
        let cutter = Cutter::default();
        let mut rest = &data[..];
        let mut lengths = Vec::new();
        while !rest.is_empty() {
            lengths.push(cutter.cut(rest));
            rest = &rest[lengths[lengths.len() - 1]..];
        }
        assert_eq!(lengths, expected);
        assert!(lengths.len() > 40);
    }
}
