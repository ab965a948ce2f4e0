//! Which files form which stream.

use std::collections::HashSet;

use crate::tree::{Ino, Tree};

/// Files of at least this many bytes are a stream of their own.
pub const OWN_STREAM: u64 = 64 * 1024;

/// The files whose content forms one stream, in its order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stream {
    /// A file of its own, or the small files of a directory.
    pub files: Vec<Ino>,
}

/// The streams of a tree: directory by directory in the order of the walk; of each directory
/// first the stream of its small files, then its larger files by name. A file with several names
/// belongs to the first. Files of which `size` says 0 belong to no stream.
pub fn plan<F>(tree: &Tree<F>, size: impl Fn(Ino, &F) -> u64) -> Vec<Stream> {
    let mut streams = Vec::new();
    let mut linked = HashSet::new();
    for inode in tree.inodes() {
        let mut small = Vec::new();
        let mut large = Vec::new();
        for entry in inode.entries().unwrap_or_default() {
            let child = tree.inode(entry.ino);
            let Some(file) = child.file() else { continue };
            if child.nlink > 1 && !linked.insert(entry.ino) {
                continue;
            }
            match size(entry.ino, file) {
                0 => {}
                size if size < OWN_STREAM => small.push(entry.ino),
                _ => large.push(Stream { files: vec![entry.ino] }),
            }
        }
        if !small.is_empty() {
            streams.push(Stream { files: small });
        }
        streams.append(&mut large);
    }
    streams
}
