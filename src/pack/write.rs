//! Making a pack: frames, chunk index, seek table.

use std::io;

use super::{FRAME_SIZE, index};
use crate::chunk::Chunk;
use crate::digest::{Digest, FsVerity, Hasher};
use crate::error::{Error, ErrorKind, Result};

/// How the data is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// With Zstandard at this level, from -7 to 22.
    Zstd(i32),
}

impl Compression {
    /// The levels that there are.
    pub const LEVELS: std::ops::RangeInclusive<i32> = -7..=22;
}

impl Default for Compression {
    /// Zstandard, level 3.
    fn default() -> Self {
        Compression::Zstd(3)
    }
}

/// A frame as it is stored.
#[derive(Debug)]
pub struct Frame {
    stored: Vec<u8>,
    raw_length: usize,
}

/// Compresses frames; each thread has its own.
pub struct Compressor(Option<zstd::bulk::Compressor<'static>>);

impl Compressor {
    /// A compressor of this kind.
    pub fn new(compression: Compression) -> Result<Self> {
        let make = |level| {
            let mut zstd = zstd::bulk::Compressor::new(level).map_err(failed)?;
            // A reader that does not check digests shall not take damaged data for right.
            zstd.include_checksum(true).map_err(failed)?;
            Ok(zstd)
        };
        Ok(Compressor(match compression {
            Compression::None => None,
            Compression::Zstd(level) => Some(make(level)?),
        }))
    }

    /// How many bytes of memory one takes at most.
    pub fn memory(compression: Compression) -> u64 {
        const MIB: u64 = 1024 * 1024;
        match compression {
            Compression::None => 0,
            Compression::Zstd(..=5) => 2 * MIB,
            Compression::Zstd(_) => 6 * MIB,
        }
    }

    /// Makes a frame of `raw`, at most [`FRAME_SIZE`] bytes.
    pub fn frame(&mut self, raw: Vec<u8>) -> Result<Frame> {
        let raw_length = raw.len();
        let stored = match &mut self.0 {
            None => raw,
            Some(zstd) => zstd.compress(&raw).map_err(failed)?,
        };
        Ok(Frame { stored, raw_length })
    }
}

fn failed(error: io::Error) -> Error {
    Error::new(ErrorKind::Internal, format!("zstd: {error}"))
}

/// The frames of a pack, until it is complete.
#[derive(Debug, Default)]
pub struct PackWriter {
    frames: Vec<Frame>,
}

/// A complete pack: the bytes of the blob, in parts.
#[derive(Debug)]
pub struct SealedPack {
    /// The blob's bytes.
    pub parts: Vec<Vec<u8>>,
    /// The SHA-256 of the blob.
    pub digest: Digest,
    /// The fs-verity digest of the blob.
    pub verity: [u8; 32],
    /// The length of the blob in bytes.
    pub size: u64,
    /// Whether the blob is in the Zstandard Seekable Format.
    pub compressed: bool,
}

impl PackWriter {
    /// Adds the next frame.
    pub fn push(&mut self, frame: Frame) {
        self.frames.push(frame);
    }

    /// Makes the blob of what was added, which consists of `chunks`, and begins anew.
    ///
    /// `compression` is what the frames were made with.
    pub fn seal(&mut self, chunks: &[Chunk], compression: Compression) -> Result<SealedPack> {
        let frames = std::mem::take(&mut self.frames);
        let stored: usize = frames.iter().map(|frame| frame.stored.len()).sum();
        let raw: usize = frames.iter().map(|frame| frame.raw_length).sum();
        // Less than 1 of 32 saved does not pay for having to decompress.
        let compressed = compression != Compression::None && stored < raw - raw / 32;
        let mut parts = match compression {
            Compression::Zstd(_) if !compressed => decompress(&frames)?,
            _ => Vec::with_capacity(frames.len() + 2),
        };
        let table = compressed.then(|| seek_table(&frames));
        if parts.is_empty() {
            parts.extend(frames.into_iter().map(|frame| frame.stored));
        }
        parts.push(index::encode(chunks));
        parts.extend(table);
        Ok(SealedPack::new(parts, compressed))
    }
}

impl SealedPack {
    /// A pack of these bytes.
    pub fn new(parts: Vec<Vec<u8>>, compressed: bool) -> Self {
        let (mut hasher, mut verity, mut size) = (Hasher::default(), FsVerity::default(), 0);
        for part in &parts {
            hasher.update(part);
            verity.update(part);
            size += part.len() as u64;
        }
        SealedPack { digest: hasher.finish(), verity: verity.finish(), parts, size, compressed }
    }
}

fn decompress(frames: &[Frame]) -> Result<Vec<Vec<u8>>> {
    let mut zstd = zstd::bulk::Decompressor::new().map_err(failed)?;
    let raw = |frame: &Frame| zstd.decompress(&frame.stored, FRAME_SIZE).map_err(failed);
    frames.iter().map(raw).collect()
}

fn seek_table(frames: &[Frame]) -> Vec<u8> {
    let mut table = zeekstd::SeekTable::new();
    for frame in frames {
        table
            .log_frame(frame.stored.len() as u32, frame.raw_length as u32)
            .expect("a pack has far fewer frames than a seek table can hold");
    }
    serialize(table)
}

/// The seek table as a skippable frame.
pub(super) fn serialize(table: zeekstd::SeekTable) -> Vec<u8> {
    let mut serializer = table.into_serializer();
    let mut bytes = vec![0; serializer.encoded_len()];
    let mut written = 0;
    while written < bytes.len() {
        written += serializer.write_into(&mut bytes[written..]);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compressors_take_no_more_memory_than_is_said() {
        let raw: Vec<u8> = (0..FRAME_SIZE as u32).map(|at| ((at * at) >> 7) as u8).collect();
        for level in Compression::LEVELS {
            let compression = Compression::Zstd(level);
            let mut compressor = Compressor::new(compression).unwrap();
            compressor.frame(raw.clone()).unwrap();
            let taken = compressor.0.as_mut().unwrap().context_mut().sizeof() as u64;
            let said = Compressor::memory(compression);
            assert!(taken <= said && said < 4 * taken, "level {level}: {taken} of {said}");
        }
    }
}
