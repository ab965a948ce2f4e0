//! An open image as a source.

use super::{Content, Contents, Opener, ScanOptions, Source};
use crate::chunk::Extent;
use crate::error::{Error, Result};
use crate::format::file_size;
use crate::image::{Blobs, Image};
use crate::tree::{Ino, Tree};

/// The tree of an image, whose files are read from its data blobs.
pub struct ImageSource<'a> {
    image: &'a Image,
    tree: Tree<Content>,
    /// The image's number of each inode.
    origins: Vec<Ino>,
}

impl<'a> ImageSource<'a> {
    /// What `options` take of the image.
    ///
    /// Fails if a pattern of the options is not valid.
    pub fn new(image: &'a Image, options: &ScanOptions) -> Result<Self> {
        let (tree, origins) =
            options.filter(image.tree(), |extents| Content::New(file_size(extents)))?;
        Ok(ImageSource { image, tree, origins })
    }
}

impl Source for ImageSource<'_> {
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

impl Opener for &ImageSource<'_> {
    fn open(&mut self, ino: Ino) -> Result<Box<dyn Contents + '_>> {
        let extents = self.image.tree().inode(self.origins[ino.index()]).file();
        let extents = extents.map_or(&[][..], |extents| extents);
        Ok(Box::new(ImageFile::new(self.image.blobs(), extents)))
    }
}

/// A file of an image that is read from its begin to its end.
pub(crate) struct ImageFile<'a> {
    blobs: &'a Blobs,
    /// Those that do not end before what was read last.
    extents: &'a [Extent],
    /// Where the first of `extents` begins in the file.
    start: u64,
}

impl<'a> ImageFile<'a> {
    /// The file that consists of these extents, which refer to `blobs`.
    pub fn new(blobs: &'a Blobs, extents: &'a [Extent]) -> Self {
        ImageFile { blobs, extents, start: 0 }
    }

    fn seek(&mut self, offset: u64) {
        while let Some((first, rest)) = self.extents.split_first()
            && self.start + first.length <= offset
        {
            self.start += first.length;
            self.extents = rest;
        }
    }
}

/// Offsets must not become smaller from call to call.
impl Contents for ImageFile<'_> {
    fn data_from(&mut self, offset: u64) -> Result<u64> {
        self.seek(offset);
        let zeros = self.extents.iter().take_while(|extent| self.blobs.is_hole(extent));
        let end = self.start + zeros.map(|extent| extent.length).sum::<u64>();
        Ok(end.max(offset))
    }

    fn read_exact_at(&mut self, mut buffer: &mut [u8], mut offset: u64) -> Result<()> {
        while !buffer.is_empty() {
            self.seek(offset);
            let Some(extent) = self.extents.first() else {
                return Err(Error::corrupt("a file is shorter than its size"));
            };
            let skip = offset - self.start;
            let length = (extent.length - skip).min(buffer.len() as u64) as usize;
            let (now, later) = buffer.split_at_mut(length);
            self.blobs.read(extent.blob, now, extent.offset + skip)?;
            buffer = later;
            offset += length as u64;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        Ok(())
    }
}
