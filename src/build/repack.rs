//! Which of the base's packs an image goes on using, and which it leaves behind.
//!
//! A pack of which little is used costs more than it holds; and every pack is a layer, of which an
//! image can have only so many. The chunks that are still used of a pack that is left behind are
//! stored anew. All of this depends on the base and the tree alone.

use std::ops::Range;

use crate::chunk::Extent;

/// How many layers an image has at most: manifests stay small, and tools copy them fast.
const LAYERS_MAX: usize = 512;
/// How many layers are left when packs are merged for being too many, so that it is not done again
/// at every step.
const LAYERS_MERGED: usize = 448;
/// A pack stays as long as this part of it is used: one of so many.
const USED_MIN: u64 = 4;

/// A pack of the base, and how much of it is used.
#[derive(Debug, Clone, Copy)]
pub struct Usage {
    /// Bytes of its content.
    pub content: u64,
    /// Bytes of its content that files refer to.
    pub used: u64,
}

/// The ranges of one pack that extents refer to, as few as there can be, in order.
pub fn merge_ranges(mut ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    ranges.sort_unstable_by_key(|range| (range.start, range.end));
    let mut merged: Vec<Range<u64>> = Vec::new();
    for range in ranges {
        match merged.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => merged.push(range),
        }
    }
    merged
}

/// Which packs of the base are left behind; those that are not used at all are no matter.
///
/// `others` is the number of layers besides the base's packs. `mean` is the mean size of packs:
/// merging those that are half as large or more would gain nothing; none if there is a blob for
/// each chunk, of which there may be any number.
pub fn left_behind(packs: &[Usage], others: usize, mean: Option<u64>) -> Vec<bool> {
    let is_used = |pack: &Usage| pack.used > 0;
    let mut left: Vec<bool> =
        packs.iter().map(|pack| is_used(pack) && pack.used * USED_MIN < pack.content).collect();
    let Some(mean) = mean else { return left };
    let stay = packs.iter().zip(&left).filter(|(pack, left)| is_used(pack) && !**left).count();
    let mut moved: u64 =
        packs.iter().zip(&left).filter(|(_, left)| **left).map(|(pack, _)| pack.used).sum();
    // A pack is at least half the mean, but for the last.
    let made = |bytes: u64| (bytes / (mean / 2)) as usize + usize::from(bytes > 0);
    if others + stay + made(moved) <= LAYERS_MAX {
        return left;
    }
    let small = |&number: &usize| {
        let pack = &packs[number];
        is_used(pack) && !left[number] && pack.used < mean / 2
    };
    let mut smallest: Vec<usize> = (0..packs.len()).filter(small).collect();
    smallest.sort_by_key(|&number| (packs[number].used, number));
    for (merged, number) in smallest.into_iter().enumerate() {
        if others + stay - merged + made(moved) <= LAYERS_MERGED {
            break;
        }
        left[number] = true;
        moved += packs[number].used;
    }
    left
}

/// Where the bytes went of a pack that is left behind.
#[derive(Debug, Default)]
pub struct Moves {
    /// Each piece's begin in the pack, and where it is now; in order, without overlaps.
    pieces: Vec<(u64, Extent)>,
}

impl Moves {
    /// The piece that begins at `start` in the pack is at `now`. Pieces come in order.
    pub fn push(&mut self, start: u64, now: Extent) {
        self.pieces.push((start, now));
    }

    /// Gives what was at `extent`, piece by piece. All of it must have been moved.
    pub fn follow(&self, mut extent: Extent, give: &mut dyn FnMut(Extent)) {
        let after = self.pieces.partition_point(|(start, _)| *start <= extent.offset);
        for (start, now) in &self.pieces[after.saturating_sub(1)..] {
            if extent.length == 0 {
                return;
            }
            let skip = extent.offset - start;
            let length = (now.length - skip).min(extent.length);
            give(Extent { blob: now.blob, offset: now.offset + skip, length });
            extent.offset += length;
            extent.length -= length;
        }
        assert_eq!(extent.length, 0, "all that is used was moved");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;

    #[test]
    fn ranges_are_merged() {
        assert_eq!(merge_ranges(vec![5..7, 0..2, 2..3, 6..9, 6..7]), [0..3, 5..9]);
        assert_eq!(merge_ranges(Vec::new()), []);
    }

    #[test]
    fn packs_of_which_little_is_used_are_left_behind() {
        let pack = |content, used| Usage { content, used };
        let packs = [pack(100, 24), pack(100, 25), pack(100, 0), pack(100, 100)];
        for mean in [None, Some(MIB)] {
            assert_eq!(left_behind(&packs, 2, mean), [true, false, false, false], "{mean:?}");
        }
    }

    #[test]
    fn the_smallest_are_merged_when_there_are_too_many() {
        let of = |bytes| Usage { content: bytes, used: bytes };
        let large = vec![of(MIB); 200];
        let small: Vec<_> = (0..311).map(|number| of(1000 + number)).collect();
        let packs = [large, small].concat();
        let count = |left: &[bool]| left.iter().filter(|left| **left).count();
        assert_eq!(count(&left_behind(&packs, 1, Some(MIB))), 0, "512 are not too many");
        let left = left_behind(&packs, 2, Some(MIB));
        // 513 - 66 + 1
        assert_eq!(count(&left), 66);
        assert!(left[200..266].iter().all(|left| *left), "the smallest");
        assert_eq!(count(&left_behind(&packs, 2, None)), 0);
        let all_large = vec![of(MIB); 1000];
        assert_eq!(count(&left_behind(&all_large, 2, Some(MIB))), 0, "none is small");
    }

    #[test]
    fn moves_are_followed() {
        let at = |blob, offset, length| Extent { blob, offset, length };
        let mut moves = Moves::default();
        moves.push(10, at(1, 0, 5));
        moves.push(15, at(2, 7, 5));
        moves.push(30, at(1, 5, 2));
        let follow = |extent| {
            let mut found = Vec::new();
            moves.follow(extent, &mut |extent| found.push(extent));
            found
        };
        assert_eq!(follow(at(0, 10, 10)), [at(1, 0, 5), at(2, 7, 5)]);
        assert_eq!(follow(at(0, 12, 4)), [at(1, 2, 3), at(2, 7, 1)]);
        assert_eq!(follow(at(0, 31, 1)), [at(1, 6, 1)]);
    }
}
