//! How much memory a step needs, and how it gets by with less.

use super::base::Base;
use crate::chunk::{BATCH_MAX, CHUNK_MEAN};
use crate::error::{Error, ErrorKind, Result};
use crate::image::CACHED_MAX;
use crate::pack::{Compression, Compressor, FRAME_SIZE, PackSize};
use crate::source::Source;

const MIB: u64 = 1024 * 1024;

/// How much of the work is under way at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// How many threads read, and how many compress.
    pub threads: usize,
    /// How many streams are read ahead of the assembler, for each thread.
    pub streams_ahead: usize,
    /// How many frames wait for the pack writer, for each thread.
    pub frames_ahead: usize,
}

impl Pace {
    /// As fast as so many threads go.
    pub fn full(threads: usize) -> Self {
        Pace { threads, streams_ahead: 4, frames_ahead: 16 }
    }

    /// This one, and those with less under way, down to the one that does one thing after the
    /// other.
    fn and_slower(self) -> impl Iterator<Item = Pace> {
        let fewer = (1..=self.threads).rev().map(move |threads| Pace { threads, ..self });
        let alone = [(2, 4), (1, 1)].map(|(streams_ahead, frames_ahead)| Pace {
            threads: 1,
            streams_ahead,
            frames_ahead,
        });
        fewer.chain(alone)
    }
}

/// What the memory that a step needs depends on.
#[derive(Debug, Clone, Copy)]
pub struct Work {
    /// Of the tree, and of the base's.
    pub inodes: u64,
    /// Of the files that are read.
    pub bytes: u64,
    pub streams: u64,
    /// Of the base's files: so many bytes of its packs may be looked for chunks.
    pub base_bytes: Option<u64>,
    pub compression: Compression,
    /// A blob a chunk if none.
    pub packs: Option<PackSize>,
}

impl Work {
    /// An inode of a tree, in the tree and in the metadata that is made of it.
    const INODE: u64 = 320;
    /// A chunk in the table of those that are known, and in the extents of files.
    const CHUNK: u64 = 160;
    /// Stacks, windows, and what else does not grow.
    const FIXED: u64 = 4 * MIB;

    /// What is known before files are compared: they may all be those of the base.
    pub fn of_trees(
        source: &impl Source,
        base: Option<Base<'_>>,
        compression: Compression,
    ) -> Self {
        let trees = [Some(source.tree().inodes().len()), base.map(|base| base.inodes())];
        Work {
            inodes: trees.iter().flatten().map(|&inodes| inodes as u64).sum(),
            bytes: 0,
            streams: 0,
            base_bytes: base.map(|base| base.packs_bytes()),
            compression,
            packs: None,
        }
    }

    /// How many distinct chunks there are, at most, unless somebody made the files so that they are
    /// cut into small ones.
    pub fn chunks(&self) -> u64 {
        const SMALL: u64 = CHUNK_MEAN as u64 / 4 * 3;
        let chunks = |bytes: u64| bytes / SMALL + 1;
        chunks(self.bytes) + self.streams + self.base_bytes.map_or(0, chunks)
    }

    /// The most that is needed, in bytes.
    fn needs(&self, pace: Pace) -> u64 {
        let Pace { threads, streams_ahead, frames_ahead } = pace;
        let (threads, streams, frames) =
            (threads as u64, streams_ahead as u64, frames_ahead as u64);
        // Those that wait, those that are made, and the one that is looked at.
        let batches = (threads * streams + threads + 1) * BATCH_MAX as u64;
        // Each as it was and as it is stored, while it is compressed.
        let frames =
            (threads * frames + 2 * threads + 1) * (FRAME_SIZE as u64 + FRAME_SIZE as u64 / 16);
        let compressors = threads * Compressor::memory(self.compression);
        // A pack as it is stored; and as it was, if it turns out that compressing does not pay.
        let packs = 2 * self.packs.map_or(FRAME_SIZE as u64, |size| size.max());
        let base = self.base_bytes.map_or(0, |_| CACHED_MAX + 2 * threads * FRAME_SIZE as u64);
        let table = self.inodes * Self::INODE + self.chunks() * Self::CHUNK;
        Self::FIXED + table + batches + frames + compressors + packs + base
    }

    /// How fast the work can be done by so many threads within `limit` bytes of memory.
    ///
    /// Fails if it needs more than that in any case.
    pub fn pace(&self, threads: usize, limit: Option<u64>) -> Result<Pace> {
        let full = Pace::full(threads);
        let Some(limit) = limit else { return Ok(full) };
        let mut needs = 0;
        for pace in full.and_slower() {
            needs = self.needs(pace);
            if needs <= limit {
                return Ok(pace);
            }
        }
        let message = format!(
            "it needs {} MiB of memory, and the limit is {} MiB",
            needs.div_ceil(MIB),
            limit / MIB
        );
        Err(Error::new(ErrorKind::InvalidInput, message))
    }
}

/// What is said where files are made of more chunks than [`Work::chunks`] tells.
pub fn unusual(chunks: u64) -> Error {
    let message = format!(
        "there are more than {chunks} distinct chunks, unusually small ones, for which the memory \
         limit is too low"
    );
    Error::new(ErrorKind::InvalidInput, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORK: Work = Work {
        inodes: 20_000,
        bytes: 860 * MIB,
        streams: 5000,
        base_bytes: None,
        compression: Compression::Zstd(3),
        packs: None,
    };

    #[test]
    fn less_memory_means_a_slower_pace() {
        let work = Work { packs: Some(PackSize::for_tree(WORK.bytes)), ..WORK };
        let pace = |limit: Option<u64>| work.pace(4, limit.map(|mib| mib * MIB));
        assert_eq!(pace(None).unwrap(), Pace::full(4));
        assert_eq!(pace(Some(1024)).unwrap(), Pace::full(4));
        let mut last = Pace::full(4);
        let mut paces = 1;
        for limit in (1..1024).rev() {
            let Ok(next) = pace(Some(limit)) else { break };
            assert!(work.needs(next) <= limit * MIB);
            if next != last {
                assert!(work.needs(next) < work.needs(last), "{next:?} after {last:?}");
                (last, paces) = (next, paces + 1);
            }
        }
        assert_eq!(paces, 6);
        let error = pace(Some(1)).unwrap_err();
        let least = work.needs(last).div_ceil(MIB);
        assert_eq!(
            error.to_string(),
            format!("it needs {least} MiB of memory, and the limit is 1 MiB")
        );
        assert!(pace(Some(least)).is_ok() && pace(Some(least - 1)).is_err());
    }
}
