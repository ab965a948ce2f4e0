//! An open image: looking around in it, and reading it.

mod blobs;
mod starts;
mod verity;

use std::path::Path;
use std::sync::OnceLock;

use serde_json::Value;

use crate::chunk::Extent;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{self, Rootfs};
use crate::layout::{ImageConfig, Layout, Manifest, Platform, Reference};
use crate::tree::{Ino, Kind, Tree, show};

pub use blobs::BlobCheck;
pub(crate) use blobs::Blobs;
pub(crate) use blobs::CACHED_MAX;
use starts::Starts;
pub use verity::Pin;

/// How an image is opened.
#[derive(Debug, Clone, Default)]
pub struct OpenOptions {
    /// Which image of an index; this machine's, or the only one, if not given.
    pub platform: Option<Platform>,
    /// Whether the digest of each data blob is checked when it is first read from.
    pub verify: bool,
}

/// An open image.
///
/// All of the metadata is read and checked when the image is opened; data blobs are opened when
/// they are needed. May be used by any number of threads at once.
#[derive(Debug)]
pub struct Image {
    layout: Layout,
    manifest: Manifest,
    config: Option<ImageConfig>,
    rootfs: Rootfs,
    metadata_size: u64,
    blobs: Blobs,
    starts: OnceLock<Starts>,
}

/// How many symbolic links are followed on the way to a file, as Linux has it.
const LINKS_MAX: usize = 40;

impl Image {
    /// Opens the image that `reference` names.
    ///
    /// Fails if there is no such image, or its manifest, configuration or metadata is missing,
    /// damaged or not valid.
    pub fn open(reference: &Reference, options: &OpenOptions) -> Result<Self> {
        let layout = Layout::open(&reference.layout)?;
        let manifest = Manifest::find(&layout, &reference.name, options.platform.as_ref())?;
        Self::of_manifest(layout, manifest, options.verify)
    }

    pub(crate) fn of_manifest(layout: Layout, manifest: Manifest, verify: bool) -> Result<Self> {
        let config = ImageConfig::read(&layout, &manifest.config)?;
        let metadata = layout.read_blob(&manifest.rootfs, "rootfs")?;
        let rootfs = format::decode(&metadata).map_err(|error| {
            error.context(format_args!("the rootfs {}", manifest.rootfs.digest))
        })?;
        manifest.check_references(rootfs.blobs.iter().map(|blob| &blob.digest))?;
        let blobs = Blobs::new(layout.absolute()?, None, rootfs.blobs.clone(), verify);
        let metadata_size = metadata.len() as u64;
        let starts = OnceLock::new();
        Ok(Image { layout, manifest, config, rootfs, metadata_size, blobs, starts })
    }

    /// The layout that the image is in.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The configuration as a JSON document; `None` if the image has none, as those of the
    /// reference implementation.
    pub fn config(&self) -> Option<&Value> {
        self.config.as_ref().map(ImageConfig::document)
    }

    pub(crate) fn blobs(&self) -> &Blobs {
        &self.blobs
    }

    /// The metadata.
    pub fn rootfs(&self) -> &Rootfs {
        &self.rootfs
    }

    /// The file system.
    pub fn tree(&self) -> &Tree<Box<[Extent]>> {
        &self.rootfs.tree
    }

    /// The size of the metadata in bytes.
    pub fn metadata_size(&self) -> u64 {
        self.metadata_size
    }

    /// The inode at `path`, from the root of the image whether it begins with a slash or not. A
    /// symbolic link at its end is not followed, others are, within the image.
    pub fn lookup(&self, path: &Path) -> Result<Ino> {
        self.walk(path, false)
    }

    /// The inode at `path`, as [`lookup`](Self::lookup), but links are followed to the end.
    pub fn resolve(&self, path: &Path) -> Result<Ino> {
        self.walk(path, true)
    }

    fn walk(&self, path: &Path, follow_last: bool) -> Result<Ino> {
        use std::os::unix::ffi::OsStrExt;
        let tree = self.tree();
        let fail = |kind, why: &str| {
            Err(Error::new(kind, format!("'{}' in the image: {why}", path.display()))
                .with_path(path))
        };
        // The names still to be walked, the next one last.
        let names = |path: &[u8]| -> Vec<Box<[u8]>> {
            let parts = path.split(|&byte| byte == b'/').rev();
            parts.filter(|name| !name.is_empty() && *name != b".").map(Box::from).collect()
        };
        let mut pending = names(path.as_os_str().as_bytes());
        let mut walked = vec![Ino::ROOT];
        let mut links = 0;
        while let Some(name) = pending.pop() {
            let dir = *walked.last().expect("the root stays");
            if *name == *b".." {
                walked.truncate((walked.len() - 1).max(1));
                continue;
            }
            if tree.inode(dir).entries().is_none() {
                return fail(ErrorKind::NotFound, "not a directory");
            }
            let Some(found) = tree.lookup(dir, &name) else {
                return fail(ErrorKind::NotFound, &format!("there is no '{}'", show(&name)));
            };
            match &tree.inode(found).kind {
                Kind::Symlink(target) if follow_last || !pending.is_empty() => {
                    links += 1;
                    if links > LINKS_MAX {
                        return fail(ErrorKind::InvalidInput, "too many symbolic links");
                    }
                    if target.first() == Some(&b'/') {
                        walked.truncate(1);
                    }
                    pending.extend(names(target));
                }
                _ => walked.push(found),
            }
        }
        Ok(*walked.last().expect("the root stays"))
    }

    /// Reads bytes of the regular file `ino` from `offset` on, as many as there are and `buffer`
    /// holds; tells how many that is.
    ///
    /// Fails if a blob is missing or damaged, or `ino` is not a regular file.
    pub fn read_at(&self, ino: Ino, buffer: &mut [u8], offset: u64) -> Result<usize> {
        if self.tree().inode(ino).file().is_none() {
            return Err(Error::invalid(format!("inode {} is not a regular file", ino.get())));
        }
        let mut done = 0;
        for (extent, skip) in self.extents_from(ino, offset) {
            if done == buffer.len() {
                break;
            }
            let length = (extent.length - skip).min((buffer.len() - done) as u64);
            self.read_extent(extent, &mut buffer[done..done + length as usize], skip)?;
            done += length as usize;
        }
        Ok(done)
    }

    /// Calls `work` with the bytes of the regular file `ino` from `offset` on, as many as there are
    /// up to `length`; `buffer` is for those which do not stand in memory already as they are.
    pub(crate) fn with_content(
        &self,
        ino: Ino,
        offset: u64,
        length: usize,
        buffer: &mut Vec<u8>,
        work: impl FnOnce(&[u8]),
    ) -> Result<()> {
        if let Some((extent, skip)) = self.extents_from(ino, offset).next()
            && extent.length - skip >= length as u64
            && let Some((frame, start)) =
                self.blobs.frame_of(extent.blob, extent.offset + skip, length as u64)?
        {
            work(&frame[start..start + length]);
            return Ok(());
        }
        if buffer.len() < length {
            buffer.resize(length, 0);
        }
        let done = self.read_at(ino, &mut buffer[..length], offset)?;
        work(&buffer[..done]);
        Ok(())
    }

    /// Decompresses a part of the regular file `ino`, so that it is at hand when it is read soon.
    pub(crate) fn prefetch(&self, ino: Ino, offset: u64, length: u64) -> Result<()> {
        let mut rest = length;
        for (extent, skip) in self.extents_from(ino, offset) {
            if rest == 0 {
                break;
            }
            let length = (extent.length - skip).min(rest);
            self.blobs.prefetch(extent.blob, extent.offset + skip, length)?;
            rest -= length;
        }
        Ok(())
    }

    /// Fills `buffer` with the bytes of an extent of this image from `offset` in it on.
    pub(crate) fn read_extent(
        &self,
        extent: &Extent,
        buffer: &mut [u8],
        offset: u64,
    ) -> Result<()> {
        self.blobs.read(extent.blob, buffer, extent.offset + offset)
    }

    /// The size of the regular file `ino` in bytes; 0 for any other inode.
    pub fn size(&self, ino: Ino) -> u64 {
        let extents = self.tree().inode(ino).file();
        extents.map_or(0, |extents| self.starts().size(ino, extents))
    }

    fn starts(&self) -> &Starts {
        self.starts.get_or_init(|| Starts::of(self.tree()))
    }

    /// The extents of the regular file `ino` from the byte `offset` on, and what comes before that in
    /// the first one; none of any other inode.
    fn extents_from(&self, ino: Ino, offset: u64) -> impl Iterator<Item = (&Extent, u64)> {
        let extents = self.tree().inode(ino).file().map_or(&[][..], |extents| extents);
        self.starts().extents_from(ino, extents, offset)
    }

    /// Whether the extent is of zeros, which a file's hole is made of.
    pub(crate) fn is_zeros(&self, extent: &Extent) -> bool {
        self.blobs.is_hole(extent)
    }

    /// Checks that all data blobs are there, well-formed, and as long as the files need them:
    /// quickly, without reading their content.
    pub fn check_blobs(&self) -> Result<()> {
        for check in self.blobs.checks(self) {
            if let Some(error) = check.error {
                return Err(error);
            }
        }
        Ok(())
    }

    /// What [`check_blobs`](Self::check_blobs) finds, blob by blob.
    pub fn blob_checks(&self) -> impl Iterator<Item = BlobCheck> {
        self.blobs.checks(self)
    }

    /// Checks the digest of the data blob with this position in the metadata's list.
    pub fn verify_blob(&self, blob: usize) -> Result<()> {
        self.blobs.verify(blob as u32)
    }
}
