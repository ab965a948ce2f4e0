//! Reading a stream: bytes become chunks with digests, and holes.

use super::{CHUNK_MAX, Chunk, Cutter, Stream};
use crate::digest::Digest;
use crate::error::Result;
use crate::source::{Opener, Source};
use crate::tree::Ino;

/// The unit in which zeros are looked for, aligned to the file's start: what of a file is a hole
/// is a matter of its bytes alone, not of how they are stored.
const BLOCK: usize = 4096;
/// The shortest run of zero blocks that is a hole.
const HOLE_MIN: u64 = 64 * 1024;
/// How much is read at once.
const WINDOW: usize = 128 * 1024;
/// How many bytes of chunks are passed on at once.
const BATCH: usize = 1024 * 1024;

/// A piece of a file, in the order of the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Segment {
    /// The next bytes of the stream.
    Data {
        /// The file.
        ino: Ino,
        /// Bytes.
        length: u64,
    },
    /// Zeros that are not in the stream.
    Hole {
        /// The file.
        ino: Ino,
        /// Bytes.
        length: u64,
    },
}

/// A part of a stream.
///
/// The segments that the chunks cover came with the same batch or an earlier one.
#[derive(Debug, Default)]
pub struct Batch {
    /// What the files consist of.
    pub segments: Vec<Segment>,
    /// The next chunks of the stream.
    pub chunks: Vec<Chunk>,
    /// The bytes of these chunks.
    pub data: Vec<u8>,
}

/// Reads a stream of `source` and passes it on in batches.
///
/// Fails as the source or `emit` does.
pub fn read_stream(
    stream: &Stream,
    source: &dyn Source,
    opener: &mut dyn Opener,
    emit: &mut dyn FnMut(Batch) -> Result<()>,
) -> Result<()> {
    let mut chunker = Chunker::new(emit);
    let mut window = vec![0; WINDOW];
    for &ino in &stream.files {
        let mut contents = opener.open(ino)?;
        let size = source.size(ino);
        let mut file = FileScan { chunker: &mut chunker, ino, zeros: 0 };
        let mut offset = 0;
        while offset < size {
            // Whole blocks are skipped; the one in which data begins is read.
            let data = contents.data_from(offset)?;
            let skipped = if data >= size { size } else { data - data % BLOCK as u64 };
            if skipped > offset {
                file.zeros += skipped - offset;
                offset = skipped;
                continue;
            }
            let length = WINDOW.min((size - offset).try_into().unwrap_or(WINDOW));
            contents.read_exact_at(&mut window[..length], offset)?;
            file.scan(&window[..length])?;
            offset += length as u64;
        }
        file.settle()?;
        contents.finish()?;
    }
    chunker.finish()
}

/// Separates a file's zeros from its data.
struct FileScan<'a, 'b> {
    chunker: &'a mut Chunker<'b>,
    ino: Ino,
    /// The zero blocks at the end of what was read, of which it is not yet known what they are.
    zeros: u64,
}

impl FileScan<'_, '_> {
    /// Takes the next bytes of the file: whole blocks, but for the last of the file.
    fn scan(&mut self, window: &[u8]) -> Result<()> {
        let mut data_start = 0;
        let mut position = 0;
        for block in window.chunks(BLOCK) {
            if is_zero(block) {
                if data_start < position {
                    self.chunker.data(self.ino, &window[data_start..position])?;
                }
                self.zeros += block.len() as u64;
                data_start = position + block.len();
            } else {
                self.settle()?;
            }
            position += block.len();
        }
        if data_start < position {
            self.chunker.data(self.ino, &window[data_start..])?;
        }
        Ok(())
    }

    /// Decides what the zeros seen last are: it is known how many they are.
    fn settle(&mut self) -> Result<()> {
        let zeros = std::mem::take(&mut self.zeros);
        if zeros >= HOLE_MIN {
            self.chunker.batch.segments.push(Segment::Hole { ino: self.ino, length: zeros });
        } else if zeros > 0 {
            self.chunker.data(self.ino, &[0; HOLE_MIN as usize][..zeros as usize])?;
        }
        Ok(())
    }
}

fn is_zero(block: &[u8]) -> bool {
    // A comparison of the block with itself, one byte on, is a memcmp: the fastest there is.
    block.first() == Some(&0) && block[1..] == block[..block.len() - 1]
}

/// Cuts a stream into chunks.
struct Chunker<'a> {
    cutter: Cutter,
    batch: Batch,
    /// How many of the batch's bytes are in chunks.
    cut: usize,
    emit: &'a mut dyn FnMut(Batch) -> Result<()>,
}

impl<'a> Chunker<'a> {
    fn new(emit: &'a mut dyn FnMut(Batch) -> Result<()>) -> Self {
        Chunker { cutter: Cutter::default(), batch: Batch::default(), cut: 0, emit }
    }

    fn data(&mut self, ino: Ino, bytes: &[u8]) -> Result<()> {
        let length = bytes.len() as u64;
        match self.batch.segments.last_mut() {
            Some(Segment::Data { ino: last, length: sum }) if *last == ino => *sum += length,
            _ => self.batch.segments.push(Segment::Data { ino, length }),
        }
        self.batch.data.extend_from_slice(bytes);
        while self.batch.data.len() - self.cut >= CHUNK_MAX {
            self.chunk();
        }
        if self.cut >= BATCH { self.flush() } else { Ok(()) }
    }

    fn chunk(&mut self) {
        let rest = &self.batch.data[self.cut..];
        let length = self.cutter.cut(rest);
        let digest = Digest::of(&rest[..length]);
        self.batch.chunks.push(Chunk { length: length as u32, digest });
        self.cut += length;
    }

    fn flush(&mut self) -> Result<()> {
        let rest = self.batch.data.split_off(self.cut);
        let next = Batch { data: rest, ..Batch::default() };
        self.cut = 0;
        (self.emit)(std::mem::replace(&mut self.batch, next))
    }

    fn finish(mut self) -> Result<()> {
        while self.cut < self.batch.data.len() {
            self.chunk();
        }
        self.flush()
    }
}
