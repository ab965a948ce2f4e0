//! Where a tree and its bytes come from.

pub mod directory;

use crate::error::Result;
use crate::tree::Ino;

/// The regular files of a tree.
pub trait Source: Sync {
    /// What opens them: for the calling thread.
    fn opener(&self) -> Result<Box<dyn Opener + '_>>;

    /// The size of the regular file `ino` in bytes.
    fn size(&self, ino: Ino) -> u64;
}

/// Opens the regular files of a source; each thread that reads has its own.
pub trait Opener {
    /// Opens the regular file `ino`.
    fn open(&mut self, ino: Ino) -> Result<Box<dyn Contents + '_>>;
}

/// The bytes of one regular file, whose size the tree tells.
pub trait Contents {
    /// The first offset from `offset` on at which there may be anything but zeros, or the file's
    /// size if there is none.
    fn data_from(&mut self, offset: u64) -> Result<u64>;

    /// Fills `buffer` with the bytes from `offset` on, which lie within the file's size.
    fn read_exact_at(&mut self, buffer: &mut [u8], offset: u64) -> Result<()>;

    /// Fails if the file is not any more what it was when the tree was made of it.
    fn finish(&mut self) -> Result<()>;
}
