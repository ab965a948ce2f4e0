//! The bytes of files on their way from archives into an image, in a file that has no name.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::archive::Piece;
use crate::error::{Error, Result};
use crate::source::Contents;

/// A file that vanishes with the value.
#[derive(Debug)]
pub struct Spool {
    file: File,
    length: u64,
    /// Where it was made, for messages.
    folder: PathBuf,
}

/// A file's bytes in the spool: its pieces follow each other from `start` on.
#[derive(Debug, Clone)]
pub struct Spooled {
    pub size: u64,
    pub pieces: Box<[Piece]>,
    pub start: u64,
}

impl Spool {
    /// An empty one in `folder`.
    pub fn new(folder: &Path) -> Result<Self> {
        let file = tempfile::tempfile_in(folder)
            .map_err(|error| Error::io("make a temporary file in", folder, error))?;
        Ok(Spool { file, length: 0, folder: folder.to_owned() })
    }

    /// How many bytes it has.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Adds bytes at its end.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file
            .write_all(bytes)
            .map_err(|error| Error::io("write a temporary file in", &self.folder, error))?;
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// What reads the file.
    pub fn open<'a>(&'a self, spooled: &'a Spooled) -> SpooledFile<'a> {
        SpooledFile { spool: self, spooled, next: 0, start: spooled.start }
    }
}

/// A file in the spool that is read from its begin to its end.
pub struct SpooledFile<'a> {
    spool: &'a Spool,
    spooled: &'a Spooled,
    /// The first piece that does not end before what was read last, and where it stands.
    next: usize,
    start: u64,
}

impl SpooledFile<'_> {
    /// The first piece that ends behind `offset`.
    fn seek(&mut self, offset: u64) -> Option<Piece> {
        while let Some(&piece) = self.spooled.pieces.get(self.next) {
            if piece.offset + piece.length > offset {
                return Some(piece);
            }
            self.start += piece.length;
            self.next += 1;
        }
        None
    }
}

/// Offsets must not become smaller from call to call.
impl Contents for SpooledFile<'_> {
    fn data_from(&mut self, offset: u64) -> Result<u64> {
        Ok(self.seek(offset).map_or(self.spooled.size, |piece| piece.offset.max(offset)))
    }

    fn read_exact_at(&mut self, mut buffer: &mut [u8], mut offset: u64) -> Result<()> {
        while !buffer.is_empty() {
            let piece = self.seek(offset);
            let zeros = piece.map_or(u64::MAX, |piece| piece.offset.saturating_sub(offset));
            if zeros > 0 {
                let length = zeros.min(buffer.len() as u64) as usize;
                buffer[..length].fill(0);
                buffer = &mut buffer[length..];
                offset += length as u64;
                continue;
            }
            let Some(piece) = piece else { continue };
            let skip = offset - piece.offset;
            let length = (piece.length - skip).min(buffer.len() as u64) as usize;
            let (now, later) = buffer.split_at_mut(length);
            self.spool.file.read_exact_at(now, self.start + skip).map_err(|error| {
                Error::io("read a temporary file in", &self.spool.folder, error)
            })?;
            buffer = later;
            offset += length as u64;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        Ok(())
    }
}
