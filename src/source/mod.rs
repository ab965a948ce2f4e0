//! Where a tree and its bytes come from.

pub mod directory;
pub mod image;
pub mod overlay;
mod select;
pub(crate) mod tar;

pub use select::ScanOptions;

use crate::error::Result;
use crate::tree::{Ino, Tree};

/// What a regular file of a source holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// Bytes that are to be read from the source; how many.
    New(u64),
    /// Just what the base image's file of this number holds, which has not to be read: the source
    /// is a change of that image, and does not touch the file.
    Base(Ino),
}

/// A tree and the content of its regular files.
pub trait Source: Sync {
    /// The tree.
    fn tree(&self) -> &Tree<Content>;

    /// The tree, when the files need not be read any more.
    fn into_tree(self) -> Tree<Content>;

    /// What opens the files: for the calling thread.
    fn opener(&self) -> Result<Box<dyn Opener + '_>>;
}

/// Opens the regular files of a source; each thread that reads has its own.
pub trait Opener {
    /// Opens the regular file `ino`, whose content is [new](Content::New).
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

impl Content {
    /// Bytes that are to be read; 0 if none are.
    pub fn new_bytes(self) -> u64 {
        match self {
            Content::New(size) => size,
            Content::Base(_) => 0,
        }
    }
}
