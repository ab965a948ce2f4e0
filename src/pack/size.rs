//! Where a pack ends.

use crate::chunk::Chunk;
use crate::error::{Error, Result};

const MIB: u64 = 1024 * 1024;
/// How many packs a tree may have at its mean size; copying many layers takes long.
const PACKS_MAX: u64 = 400;

/// How large packs are.
///
/// A pack ends by its content, so that images built apart share packs: after a chunk whose digest,
/// taken as a number, is below a threshold in proportion to the chunk's length. So the size of
/// packs does not depend on that of the chunks. From half the mean on a pack may end so; at twice
/// the mean it ends anyway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackSize {
    mean: u64,
    threshold_per_byte: u64,
}

impl PackSize {
    /// The least and the largest mean, in bytes.
    pub const RANGE: std::ops::RangeInclusive<u64> = MIB..=32 * MIB;

    /// Packs of `mean` bytes, a power of two from 1 to 32 MiB.
    pub fn new(mean: u64) -> Result<Self> {
        if !mean.is_power_of_two() || !Self::RANGE.contains(&mean) {
            return Err(Error::invalid(format!(
                "a pack size of {mean} bytes: expected a power of two from 1 to 32 MiB"
            )));
        }
        // With this scale the measured mean is 1.05 of `mean`, so that chance has room: see the test.
        let scale = mean / 5 * 3;
        Ok(PackSize { mean, threshold_per_byte: u64::MAX / scale })
    }

    /// The smallest that makes at most 400 packs of a tree with files of `bytes` in all.
    pub fn for_tree(bytes: u64) -> Self {
        let mut mean = *Self::RANGE.start();
        while mean < *Self::RANGE.end() && bytes.div_ceil(mean) > PACKS_MAX {
            mean *= 2;
        }
        Self::new(mean).expect("a power of two in the range")
    }

    /// The mean, in bytes.
    pub fn mean(&self) -> u64 {
        self.mean
    }

    /// The most that a pack's content can be, in bytes.
    pub fn max(&self) -> u64 {
        self.mean * 2
    }

    /// Whether a pack of `length` bytes, `chunk` the last of them, ends here.
    pub fn ends(&self, length: u64, chunk: &Chunk) -> bool {
        let threshold = u64::from(chunk.length).saturating_mul(self.threshold_per_byte);
        let room = self.max() - crate::chunk::CHUNK_MAX as u64;
        length > room || (length >= self.mean / 2 && chunk.digest.prefix() < threshold)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;

    #[test]
    fn the_measured_mean_is_the_mean() {
        for mean in [MIB, 4 * MIB, 32 * MIB] {
            for length in [4096_u32, 20_000, 65_536] {
                let size = PackSize::new(mean).unwrap();
                let total = mean * 2000;
                let (mut packs, mut at, mut done) = (0, 0, 0);
                for number in 0..total / u64::from(length) {
                    let digest = Digest::of(&number.to_le_bytes());
                    at += u64::from(length);
                    done += u64::from(length);
                    if size.ends(at, &Chunk { length, digest }) {
                        assert!((mean / 2..=size.max()).contains(&at));
                        (packs, at) = (packs + 1, 0);
                    }
                }
                let measured = (done as f64) / f64::from(packs) / mean as f64;
                assert!((0.98..1.08).contains(&measured), "{mean} {length}: {measured}");
            }
        }
    }

    #[test]
    fn a_tree_has_at_most_400_packs() {
        let cases = [
            (0, 1),
            (400 * MIB, 1),
            (400 * MIB + 1, 2),
            (860 * MIB, 4),
            (12_288 * MIB, 32),
            (u64::MAX, 32),
        ];
        for (bytes, mean) in cases {
            assert_eq!(PackSize::for_tree(bytes).mean(), mean * MIB, "{bytes}");
        }
        for bad in [0, 1, MIB / 2, 3 * MIB, 64 * MIB] {
            assert!(PackSize::new(bad).is_err(), "{bad}");
        }
    }
}
