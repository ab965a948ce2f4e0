//! What the targets in `fuzz/` reach that is nobody else's to call. There is no such module but in
//! their builds.

use std::path::Path;

use crate::error::Result;
use crate::image::Image;
use crate::source::tar::TarLayers;
use crate::source::{ScanOptions, Source};
use crate::tree::Ino;

/// Lays the tar archives that follow each other in `archives` one on the other; `work` gets what
/// they make. The bytes of files go into a file without a name in `folder`.
pub fn lay_archives(
    mut archives: &[u8],
    folder: &Path,
    work: impl FnOnce(&dyn Source),
) -> Result<()> {
    let mut layers = TarLayers::new(folder)?;
    while !archives.is_empty() {
        archives = layers.add(archives)?;
    }
    work(&layers.source(&ScanOptions::default())?);
    Ok(())
}

/// Reads a file as a mount does, which looks ahead.
pub fn read_as_mounted(image: &Image, ino: Ino, offset: u64, length: usize) -> Result<Vec<u8>> {
    let mut read = Vec::new();
    image.with_content(ino, offset, length, &mut Vec::new(), |bytes| read.extend(bytes))?;
    image.prefetch(ino, offset, length as u64)?;
    Ok(read)
}
