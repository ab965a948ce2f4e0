//! The layers of an ordinary OCI image as a source: tar archives, laid one on the other.

mod archive;
mod layers;
mod spool;

use std::collections::HashMap;
use std::io::Read;
use std::path::Path;

pub(crate) use layers::Layers;

use super::{Content, Contents, Opener, ScanOptions, Source};
use crate::error::Result;
use crate::tree::{Ino, Tree};
use archive::Archive;
use layers::Merged;
use spool::{Spool, Spooled};

/// How many bytes are read at once.
const WINDOW: usize = 128 * 1024;

/// The layers of an image that were read so far.
pub(crate) struct TarLayers {
    layers: Layers,
    spool: Spool,
}

impl TarLayers {
    /// None yet. The bytes of files go into a file without a name in `folder`.
    pub fn new(folder: &Path) -> Result<Self> {
        Ok(TarLayers { layers: Layers::new(), spool: Spool::new(folder)? })
    }

    /// Lays the archive that `input` reads on the others; gives `input` back, behind the archive.
    pub fn add<R: Read>(&mut self, input: R) -> Result<R> {
        self.layers.begin_layer();
        let mut archive = Archive::new(input);
        let mut window = vec![0; WINDOW];
        while let Some(entry) = archive.next()? {
            let spooled = Spooled {
                size: entry.size,
                pieces: entry.pieces.clone().into(),
                start: self.spool.length(),
            };
            loop {
                match archive.read_data(&mut window)? {
                    0 => break,
                    length => self.spool.write(&window[..length])?,
                }
            }
            self.layers.apply(entry, spooled)?;
        }
        Ok(archive.into_input())
    }

    /// The tree that the layers make, as far as `options` take it.
    pub fn source(&self, options: &ScanOptions) -> Result<TarSource<'_>> {
        let merged = self.layers.merge(options)?;
        Ok(TarSource { merged, spool: &self.spool })
    }

    /// Tells that a source of these layers has become an image, whose files need not be stored
    /// again.
    pub fn stored(&mut self, nodes: &[usize]) {
        self.layers.stored(nodes);
    }
}

/// The tree of an image's layers.
pub(crate) struct TarSource<'a> {
    merged: Merged,
    spool: &'a Spool,
}

impl TarSource<'_> {
    /// What [`TarLayers::stored`] wants to know once this is stored.
    pub fn nodes(&self) -> Vec<usize> {
        self.merged.nodes()
    }
}

impl Source for TarSource<'_> {
    fn tree(&self) -> &Tree<Content> {
        &self.merged.tree
    }

    fn into_tree(self) -> Tree<Content> {
        self.merged.tree
    }

    fn opener(&self) -> Result<Box<dyn Opener + '_>> {
        Ok(Box::new(SpoolOpener { spool: self.spool, files: &self.merged.files }))
    }
}

struct SpoolOpener<'a> {
    spool: &'a Spool,
    files: &'a HashMap<Ino, Spooled>,
}

impl Opener for SpoolOpener<'_> {
    fn open(&mut self, ino: Ino) -> Result<Box<dyn Contents + '_>> {
        let spooled = self.files.get(&ino).expect("asked for new files only");
        Ok(Box::new(self.spool.open(spooled)))
    }
}
