//! Where the extents of a file begin: a file may have so many that a search for each read is felt.

use std::fmt;
use std::sync::Arc;

use quick_cache::Weighter;
use quick_cache::sync::Cache;

use crate::chunk::Extent;
use crate::tree::Ino;

/// A file with no more extents than this is looked through from its beginning.
const FEW: usize = 64;
/// How many extents it is known of where they begin.
const KNOWN_MAX: u64 = 512 * 1024;

/// Where the extents begin of files with many of them, which have been read lately.
pub struct Starts(Cache<u32, Arc<[u64]>, Extents>);

#[derive(Clone)]
struct Extents;

impl Weighter<u32, Arc<[u64]>> for Extents {
    fn weight(&self, _: &u32, starts: &Arc<[u64]>) -> u64 {
        starts.len() as u64
    }
}

impl Default for Starts {
    fn default() -> Self {
        Starts(Cache::with_weighter(KNOWN_MAX as usize / FEW, KNOWN_MAX, Extents))
    }
}

impl fmt::Debug for Starts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Starts").finish_non_exhaustive()
    }
}

impl Starts {
    /// The extents of a file from the one on that holds the byte `offset`, which the file may not
    /// have, and what comes before it in the first.
    pub fn extents_from<'a>(
        &self,
        ino: Ino,
        extents: &'a [Extent],
        offset: u64,
    ) -> impl Iterator<Item = (&'a Extent, u64)> + use<'a> {
        let (first, start) = match extents.len() > FEW && offset > 0 {
            false => (0, 0),
            true => {
                let starts = self.0.get_or_insert_with(&ino.get(), || Ok::<_, ()>(starts(extents)));
                let starts = starts.expect("it never fails");
                let first = starts.partition_point(|&start| start <= offset) - 1;
                (first, starts[first])
            }
        };
        let mut skip = offset - start;
        extents[first..].iter().filter_map(move |extent| {
            let before = skip.min(extent.length);
            skip -= before;
            (before < extent.length).then_some((extent, before))
        })
    }
}

fn starts(extents: &[Extent]) -> Arc<[u64]> {
    let starts = extents.iter().scan(0, |end, extent| {
        let start = *end;
        *end += extent.length;
        Some(start)
    });
    starts.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extents_are_found() {
        let lengths = [3, 1, 0, 5];
        for count in [0, 1, 4, FEW, FEW + 1, 1000] {
            let extent = |number: usize| {
                let length = lengths[number % lengths.len()];
                Extent { blob: number as u32, offset: 0, length }
            };
            let extents: Vec<_> = (0..count).map(extent).collect();
            let size: u64 = extents.iter().map(|extent| extent.length).sum();
            let starts = Starts::default();
            for offset in 0..size + 2 {
                let found = starts.extents_from(Ino::ROOT, &extents, offset);
                let rest: u64 = found.map(|(extent, skip)| extent.length - skip).sum();
                assert_eq!(rest, size.saturating_sub(offset), "{count} extents, from {offset}");
            }
        }
    }
}
