//! Reading a stream: bytes become chunks with digests, and holes.

use super::{CHUNK_MAX, Chunk, Cutter, Stream};
use crate::digest::Digest;
use crate::error::Result;
use crate::source::{Content, Opener};
use crate::tree::{Ino, Tree};

/// The unit in which zeros are looked for, aligned to the file's start: what of a file is a hole
/// is a matter of its bytes alone, not of how they are stored.
const BLOCK: usize = 4096;
/// The shortest run of zero blocks that is a hole.
const HOLE_MIN: u64 = 64 * 1024;
/// How much is read at once.
const WINDOW: usize = 128 * 1024;
/// How many bytes of chunks are passed on at once.
const BATCH: usize = 1024 * 1024;
/// The most bytes that a batch has: what is in chunks, and what is not yet.
pub const BATCH_MAX: usize = BATCH + 2 * CHUNK_MAX + WINDOW;

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

/// Reads a stream of the files of `tree` and passes it on in batches.
///
/// Fails as the source behind `opener` or `emit` does.
pub fn read_stream(
    stream: &Stream,
    tree: &Tree<Content>,
    opener: &mut dyn Opener,
    emit: &mut dyn FnMut(Batch) -> Result<()>,
) -> Result<()> {
    let mut chunker = Chunker::new(emit);
    let mut window = vec![0; WINDOW];
    for &ino in &stream.files {
        let mut contents = opener.open(ino)?;
        let size = tree.inode(ino).file().map_or(0, |content| content.new_bytes());
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::{Contents, Source};
    use proptest::prelude::*;

    /// Files in memory; `sparse` ones tell where their zeros are.
    struct Memory {
        files: Vec<Vec<u8>>,
        tree: Tree<Content>,
        sparse: bool,
    }

    impl Memory {
        fn new(files: Vec<Vec<u8>>, sparse: bool) -> Self {
            let root = "/ dir 0755 0:0 0.000000000\n".to_owned();
            let line = |(n, file): (usize, &Vec<u8>)| {
                format!("/{n:04} file 0644 0:0 0.000000000 {}\n", file.len())
            };
            let text: String =
                std::iter::once(root).chain(files.iter().enumerate().map(line)).collect();
            let content = |words: &[&str]| Ok(Content::New(words[0].parse().unwrap()));
            Memory { files, tree: crate::tree::text::parse(&text, content).unwrap(), sparse }
        }

        fn inos(&self) -> Vec<Ino> {
            self.tree.iter().skip(1).map(|(ino, _)| ino).collect()
        }

        fn bytes(&self, ino: Ino) -> &[u8] {
            &self.files[ino.index() - 1]
        }
    }

    impl Source for Memory {
        fn tree(&self) -> &Tree<Content> {
            &self.tree
        }

        fn into_tree(self) -> Tree<Content> {
            self.tree
        }

        fn opener(&self) -> Result<Box<dyn Opener + '_>> {
            Ok(Box::new(self))
        }
    }

    impl Opener for &Memory {
        fn open(&mut self, ino: Ino) -> Result<Box<dyn Contents + '_>> {
            Ok(Box::new((self.bytes(ino), self.sparse)))
        }
    }

    impl Contents for (&[u8], bool) {
        fn data_from(&mut self, offset: u64) -> Result<u64> {
            let (bytes, sparse) = *self;
            let zeros = bytes[offset as usize..].iter().take_while(|&&byte| byte == 0).count();
            Ok(if sparse { offset + zeros as u64 } else { offset })
        }

        fn read_exact_at(&mut self, buffer: &mut [u8], offset: u64) -> Result<()> {
            buffer.copy_from_slice(&self.0[offset as usize..][..buffer.len()]);
            Ok(())
        }

        fn finish(&mut self) -> Result<()> {
            Ok(())
        }
    }

    /// What is read of these files: the segments, the chunks, the bytes of the stream.
    fn read(memory: &Memory) -> (Vec<Segment>, Vec<Chunk>, Vec<u8>) {
        let (mut segments, mut chunks, mut data) = (Vec::new(), Vec::new(), Vec::new());
        let stream = Stream { files: memory.inos() };
        let mut opener = memory.opener().unwrap();
        read_stream(&stream, &memory.tree, &mut *opener, &mut |batch: Batch| {
            let mut position = data.len();
            data.extend_from_slice(&batch.data);
            for chunk in &batch.chunks {
                let end = position + chunk.length as usize;
                assert_eq!(Digest::of(&data[position..end]), chunk.digest);
                position = end;
            }
            assert_eq!(position, data.len(), "a batch has the bytes of its chunks");
            for segment in batch.segments {
                // A batch may end within a file.
                match (segments.last_mut(), segment) {
                    (
                        Some(Segment::Data { ino, length: sum }),
                        Segment::Data { ino: same, length },
                    ) if *ino == same => *sum += length,
                    _ => segments.push(segment),
                }
            }
            chunks.extend(batch.chunks);
            Ok(())
        })
        .unwrap();
        (segments, chunks, data)
    }

    /// What the segments ought to be, from the definition.
    fn expected(memory: &Memory) -> (Vec<Segment>, Vec<u8>) {
        let (mut segments, mut stream) = (Vec::new(), Vec::new());
        for ino in memory.inos() {
            let bytes = memory.bytes(ino);
            let is_zero = |block: &[u8]| block.iter().all(|&byte| byte == 0);
            let mut blocks = bytes.chunks(BLOCK).peekable();
            while let Some(block) = blocks.peek() {
                let zero = is_zero(block);
                let mut length = 0;
                while let Some(block) = blocks.next_if(|block| is_zero(block) == zero) {
                    length += block.len();
                }
                let length = length as u64;
                if zero && length >= HOLE_MIN {
                    segments.push(Segment::Hole { ino, length });
                } else if let Some(Segment::Data { ino: last, length: sum }) = segments.last_mut()
                    && *last == ino
                {
                    *sum += length;
                } else {
                    segments.push(Segment::Data { ino, length });
                }
            }
            let mut position = 0;
            for segment in &segments {
                match *segment {
                    Segment::Data { ino: of, length } if of == ino => {
                        stream.extend_from_slice(&bytes[position..][..length as usize]);
                        position += length as usize;
                    }
                    Segment::Hole { ino: of, length } if of == ino => position += length as usize,
                    _ => {}
                }
            }
        }
        (segments, stream)
    }

    fn file() -> impl Strategy<Value = Vec<u8>> {
        let run = (prop_oneof![Just(0_u8), any::<u8>()], 1..5_usize, prop::bool::ANY);
        let run = run.prop_map(|(byte, blocks, odd)| {
            let length = blocks * 32 * 1024 + if odd { 1234 } else { 0 };
            (0..length)
                .map(|at| if byte == 0 { 0 } else { byte ^ ((at * at) >> 7) as u8 })
                .collect()
        });
        prop::collection::vec(run, 0..6).prop_map(|runs: Vec<Vec<u8>>| runs.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn segments_are_those_of_the_definition(files in prop::collection::vec(file(), 1..4)) {
            let memory = Memory::new(files.clone(), false);
            let (segments, chunks, data) = read(&memory);
            let (expected_segments, expected_data) = expected(&memory);
            prop_assert_eq!(&segments, &expected_segments);
            prop_assert!(data == expected_data, "the stream's bytes");
            let sparse = read(&Memory::new(files, true));
            prop_assert_eq!((segments, chunks), (sparse.0, sparse.1), "how it is stored");
        }
    }
}
