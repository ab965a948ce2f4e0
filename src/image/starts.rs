//! Where the extents of a file begin: a file may have so many that a search for each read is felt.

use std::collections::HashMap;

use crate::chunk::Extent;
use crate::tree::{Ino, Tree};

/// So many extents are passed over one by one.
const STEP: usize = 64;

/// Where in its file each `STEP`th extent begins, and the file's size behind them, for all files with
/// more extents than that.
#[derive(Debug)]
pub struct Starts(HashMap<Ino, Box<[u64]>>);

impl Starts {
    /// Those of all files of a tree.
    pub fn of(tree: &Tree<Box<[Extent]>>) -> Self {
        let many = tree.iter().filter_map(|(ino, inode)| {
            let extents = inode.file().filter(|extents| extents.len() > STEP)?;
            Some((ino, starts(extents)))
        });
        Starts(many.collect())
    }

    /// The size of the file `ino`, which has these extents, in bytes.
    pub fn size(&self, ino: Ino, extents: &[Extent]) -> u64 {
        match self.0.get(&ino) {
            Some(starts) => *starts.last().expect("the size is there"),
            None => crate::format::file_size(extents),
        }
    }

    /// The extents of the file `ino` from the one on that holds the byte `offset`, which the file may
    /// not have, and what comes before it in the first.
    pub fn extents_from<'a>(
        &self,
        ino: Ino,
        extents: &'a [Extent],
        offset: u64,
    ) -> impl Iterator<Item = (&'a Extent, u64)> + use<'a> {
        let (first, start) = match self.0.get(&ino) {
            None => (0, 0),
            Some(starts) => {
                let step = starts.partition_point(|&start| start <= offset).saturating_sub(1);
                ((step * STEP).min(extents.len()), starts[step])
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

fn starts(extents: &[Extent]) -> Box<[u64]> {
    let mut end = 0;
    let mut starts = Vec::with_capacity(extents.len() / STEP + 2);
    for step in extents.chunks(STEP) {
        starts.push(end);
        end += step.iter().map(|extent| extent.length).sum::<u64>();
    }
    starts.push(end);
    starts.into_boxed_slice()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extents_are_found() {
        let lengths = [3, 1, 0, 5];
        for count in [0, 1, 4, STEP, STEP + 1, 2 * STEP, 1000] {
            let extent = |number: usize| {
                let length = lengths[number % lengths.len()];
                Extent { blob: number as u32, offset: 0, length }
            };
            let extents: Vec<_> = (0..count).map(extent).collect();
            let size: u64 = extents.iter().map(|extent| extent.length).sum();
            for starts in [HashMap::new(), HashMap::from([(Ino::ROOT, starts(&extents))])] {
                let starts = Starts(starts);
                assert_eq!(starts.size(Ino::ROOT, &extents), size, "{count} extents");
                for offset in 0..size + 2 {
                    let found = starts.extents_from(Ino::ROOT, &extents, offset);
                    let rest: u64 = found.map(|(extent, skip)| extent.length - skip).sum();
                    assert_eq!(rest, size.saturating_sub(offset), "{count} extents, from {offset}");
                }
            }
        }
    }
}
