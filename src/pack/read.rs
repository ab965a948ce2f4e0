//! Reading a data blob, of whoever wrote it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::index;
use crate::chunk::Chunk;
use crate::error::{Error, Result};

/// The largest frame that is read, in bytes of content. Ours are 256 KiB; the zeros' are 1 MiB.
pub const FRAME_MAX: u64 = 16 * 1024 * 1024;

/// The most frames that a blob may have: a GiB of the reference's, which have 4 KiB.
const FRAMES_MAX: u64 = 1 << 18;
/// The longest chunk index that is read, in bytes: of more chunks than the largest pack can have.
const INDEX_MAX: u64 = 16 * 1024 * 1024;

/// The length of what ends a seek table: the number of frames, flags and a magic number.
const TABLE_FOOTER: u64 = 9;
/// What a frame may take beyond what zstd says is the most: it knows nothing of an encoder that
/// is flushed often.
const BLOCKS_MORE: u64 = 1024 * 1024;
/// What a seek table ends with.
const SEEKABLE_MAGIC: [u8; 4] = 0x8F92_EAB1_u32.to_le_bytes();
/// The length of a skippable frame's header.
const SKIPPABLE_HEADER: u64 = 8;

/// A file of known size from which bytes are read at any place.
pub trait Readable {
    /// Fills `buffer` with the bytes from `offset` on.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
}

impl Readable for File {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        FileExt::read_exact_at(self, buffer, offset)
    }
}

impl Readable for &[u8] {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let range = usize::try_from(offset)
            .ok()
            .and_then(|start| self.get(start..start.checked_add(buffer.len())?));
        buffer.copy_from_slice(range.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

/// A data blob whose structure has been read and checked, but not its content.
#[derive(Debug)]
pub struct PackReader<R> {
    blob: R,
    /// Where each frame begins in the blob and in the content, and where the last ends; `None`
    /// for a raw blob.
    frames: Option<Vec<FrameStart>>,
    content: u64,
    index: Option<std::ops::Range<u64>>,
}

#[derive(Debug, Clone, Copy)]
struct FrameStart {
    stored: u64,
    raw: u64,
}

impl<R: Readable> PackReader<R> {
    /// Reads the structure of a blob of `size` bytes, in the Zstandard Seekable Format if
    /// `compressed`.
    ///
    /// Fails with what is wrong if it is not well-formed.
    pub fn open(blob: R, size: u64, compressed: bool) -> Result<Self> {
        let (frames, content_end) = if compressed {
            let (table, start) = read_seek_table(&blob, size)?;
            (Some(check_seek_table(&table, start)?), start)
        } else {
            (None, size)
        };
        let index = find_index(&blob, content_end)?;
        // All of a raw blob may be content: its last bytes may look like an index by chance.
        let content = frames.as_ref().map_or(size, |frames| frames[frames.len() - 1].raw);
        Ok(PackReader { blob, frames, content, index })
    }

    /// The length of the content in bytes.
    pub fn content_length(&self) -> u64 {
        self.content
    }

    /// The length of the content without the chunk index that a raw blob may end with, which only
    /// the index itself tells from content.
    pub fn chunks_length(&self) -> Result<u64> {
        match (&self.frames, self.chunks()?) {
            (None, Some(chunks)) => Ok(chunks.iter().map(|chunk| u64::from(chunk.length)).sum()),
            _ => Ok(self.content),
        }
    }

    /// The number of frames; `None` if the blob is raw.
    pub fn frame_count(&self) -> Option<usize> {
        self.frames.as_ref().map(|frames| frames.len() - 1)
    }

    /// How many bytes of content the frame `number` of a compressed blob has.
    pub fn frame_length(&self, number: usize) -> u64 {
        let frames = self.frames.as_ref().expect("only a compressed blob has frames");
        frames[number + 1].raw - frames[number].raw
    }

    /// The chunks that the blob's index claims; `None` if it has no index that is well-formed
    /// and tells of chunks as long as the content.
    pub fn chunks(&self) -> Result<Option<Vec<Chunk>>> {
        let Some(range) = &self.index else { return Ok(None) };
        let mut frame = vec![0; (range.end - range.start) as usize];
        self.blob.read_exact_at(&mut frame, range.start).map_err(unreadable)?;
        let content = if self.frames.is_some() { self.content } else { range.start };
        let length = |chunks: &[Chunk]| -> u64 { chunks.iter().map(|c| u64::from(c.length)).sum() };
        Ok(index::decode(&frame).filter(|chunks| content == length(chunks)))
    }

    /// The frame that holds the content's byte `offset`, and where the frame begins in the
    /// content; `None` if the blob is raw or the content ends before.
    pub fn frame_at(&self, offset: u64) -> Option<(usize, u64)> {
        let frames = self.frames.as_ref()?;
        // Frames may be empty; the last of those that begin at or before the offset has the byte.
        let after = frames.partition_point(|frame| frame.raw <= offset);
        let frame = after.checked_sub(1).filter(|_| offset < self.content)?;
        Some((frame, frames[frame].raw))
    }

    /// The content of the frame `number`, decompressed.
    pub fn read_frame(&self, number: usize) -> Result<Vec<u8>> {
        let frames = self.frames.as_ref().expect("only a compressed blob has frames");
        let (start, end) = (frames[number], frames[number + 1]);
        if start.raw == end.raw {
            return Ok(Vec::new());
        }
        let mut stored = vec![0; (end.stored - start.stored) as usize];
        self.blob.read_exact_at(&mut stored, start.stored).map_err(unreadable)?;
        let length = (end.raw - start.raw) as usize;
        thread_local! {
            static ZSTD: std::cell::RefCell<Option<zstd::bulk::Decompressor<'static>>> = const {
                std::cell::RefCell::new(None)
            };
        }
        let raw = ZSTD.with_borrow_mut(|zstd| {
            let zstd = match zstd {
                Some(zstd) => zstd,
                none => none.insert(zstd::bulk::Decompressor::new()?),
            };
            zstd.decompress(&stored, length)
        });
        match raw {
            Ok(raw) if raw.len() == length => Ok(raw),
            _ => Err(Error::corrupt(format!(
                "frame {number} is not {length} bytes that zstd compressed"
            ))),
        }
    }

    /// Fills `buffer` with the bytes from `offset` on, which lie within the content, of a raw
    /// blob.
    pub fn read_raw(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        self.blob.read_exact_at(buffer, offset).map_err(unreadable)
    }
}

fn unreadable(error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => Error::corrupt("the blob is shorter than it was"),
        _ => Error::new(crate::ErrorKind::Io, format!("cannot read the blob: {error}")),
    }
}

/// The seek table and where it begins.
fn read_seek_table(blob: &impl Readable, size: u64) -> Result<(zeekstd::SeekTable, u64)> {
    let no_table = || Error::corrupt("the blob has no seek table at its end");
    let mut footer = [0; TABLE_FOOTER as usize];
    let footer_start = size.checked_sub(TABLE_FOOTER).ok_or_else(no_table)?;
    blob.read_exact_at(&mut footer, footer_start).map_err(unreadable)?;
    // The length is taken from the footer so that no more is read than the blob has; whether it
    // is right is for the parser to say.
    let frames = u64::from(u32::from_le_bytes(footer[..4].try_into().expect("4 bytes")));
    if frames > FRAMES_MAX && footer.ends_with(&SEEKABLE_MAGIC) {
        let message = format!("the seek table has {frames} frames, more than {FRAMES_MAX}");
        return Err(Error::corrupt(message));
    }
    let entry = if footer[4] & 0x80 != 0 { 12 } else { 8 };
    let length = SKIPPABLE_HEADER + frames * entry + TABLE_FOOTER;
    let start = size.checked_sub(length).ok_or_else(no_table)?;
    let mut bytes = vec![0; length as usize];
    blob.read_exact_at(&mut bytes, start).map_err(unreadable)?;
    let table = zeekstd::SeekTable::from_seekable(&mut zeekstd::BytesWrapper::new(&bytes))
        .map_err(|_| no_table())?;
    Ok((table, start))
}

/// The frames of a table in a blob whose frames end at `end`, if they can be true.
fn check_seek_table(table: &zeekstd::SeekTable, end: u64) -> Result<Vec<FrameStart>> {
    let lies = |what: &str| Error::corrupt(format!("the seek table is wrong: {what}"));
    let mut frames = Vec::with_capacity(table.num_frames() as usize + 1);
    let mut at = FrameStart { stored: 0, raw: 0 };
    for number in 0..table.num_frames() {
        let size = |result: zeekstd::Result<u64>| result.map_err(|_| lies("it lacks a frame"));
        let raw = size(table.frame_size_decomp(number))?;
        if raw > FRAME_MAX {
            return Err(lies(&format!("frame {number} has {raw} bytes, more than {FRAME_MAX}")));
        }
        let stored = size(table.frame_size_comp(number))?;
        let most = zstd::zstd_safe::compress_bound(raw as usize) as u64 + BLOCKS_MORE;
        // One without content is never read: it may be of anything.
        if raw > 0 && stored > most {
            return Err(lies(&format!("frame {number} takes {stored} bytes for {raw}")));
        }
        frames.push(at);
        at.stored += stored;
        at.raw += raw;
    }
    if at.stored > end {
        return Err(lies("its frames are longer than the blob"));
    }
    frames.push(at);
    Ok(frames)
}

/// Where the chunk index stands that ends at `end`, if one does.
fn find_index(blob: &impl Readable, end: u64) -> Result<Option<std::ops::Range<u64>>> {
    let Some(footer_start) = end.checked_sub(index::FOOTER as u64) else { return Ok(None) };
    let mut footer = [0; index::FOOTER];
    blob.read_exact_at(&mut footer, footer_start).map_err(unreadable)?;
    let length = index::frame_length(&footer).filter(|&length| length <= INDEX_MAX);
    let start = length.and_then(|length| end.checked_sub(length));
    Ok(start.map(|start| start..end))
}
