//! The data blobs of an open image: opened when needed, with few of them open at once, and
//! frames cached under a bound.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{DefaultHashBuilder, OptionsBuilder, UnitWeighter, Weighter};

use super::Image;
use crate::chunk::{Chunk, Extent};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::fault;
use crate::format::Blob;
use crate::layout::{Layout, open_file as open_blob_file};
use crate::pack::{FRAME_MAX, FRAME_SIZE, PackReader, zeros};

/// How many blobs are kept open.
const OPEN_MAX: usize = 256;
/// How many bytes of decompressed frames are kept.
pub const CACHED_MAX: u64 = 48 * 1024 * 1024;
/// The longest frames that are decompressed before anybody asks for them, in bytes: several threads
/// do that, and of frames that are much longer than ours each would hold one beside the cache.
const PREFETCHED_MAX: u64 = 2 * 1024 * 1024;

/// A blob whose structure has been read.
type OpenBlob = PackReader<File>;

/// Decompressed frames, by blob and number.
type Frames = Cache<(u32, u32), Arc<Vec<u8>>, Bytes>;

/// The data blobs of an image.
pub struct Blobs {
    layout: Layout,
    /// Where blobs are looked for first: those that are no part of the layout yet.
    staged: Option<PathBuf>,
    list: Vec<Slot>,
    open: Cache<u32, Arc<OpenBlob>, UnitWeighter>,
    frames: Frames,
    verify: bool,
}

struct Slot {
    blob: Blob,
    is_zeros: bool,
}

#[derive(Clone)]
struct Bytes;

impl Weighter<(u32, u32), Arc<Vec<u8>>> for Bytes {
    fn weight(&self, _: &(u32, u32), frame: &Arc<Vec<u8>>) -> u64 {
        frame.len().max(1) as u64
    }
}

/// What is known of a data blob without reading its content.
#[derive(Debug)]
pub struct BlobCheck {
    /// The blob's position in the metadata's list.
    pub blob: usize,
    /// What is wrong with it, if anything.
    pub error: Option<Error>,
}

impl std::fmt::Debug for Blobs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Blobs").field("count", &self.list.len()).finish_non_exhaustive()
    }
}

/// A cache of frames, none yet.
fn frames() -> Frames {
    /// Each of them has room for the longest frames: what is not kept is decompressed for each part
    /// of it that is read.
    const SHARDS: usize = 2;
    const _: () = assert!(CACHED_MAX / SHARDS as u64 > FRAME_MAX * 5 / 4);
    let mut options = OptionsBuilder::new();
    options.shards(SHARDS).weight_capacity(CACHED_MAX);
    options.estimated_items_capacity((CACHED_MAX / FRAME_SIZE as u64) as usize);
    let options = options.build().expect("all is given that is needed");
    Cache::with_options(options, Bytes, DefaultHashBuilder::default(), DefaultLifecycle::default())
}

impl Blobs {
    /// The blobs of an image in `layout`; some of them may still be in the folder `staged`.
    pub fn new(layout: Layout, staged: Option<PathBuf>, blobs: Vec<Blob>, verify: bool) -> Self {
        let slot = |blob: Blob| {
            let is_zeros = blob.compressed && blob.digest == zeros::PACK.digest;
            Slot { blob, is_zeros }
        };
        Blobs {
            layout,
            staged,
            list: blobs.into_iter().map(slot).collect(),
            open: Cache::new(OPEN_MAX),
            frames: frames(),
            verify,
        }
    }

    /// Whether this blob is the pack of zeros, whose content need not be read.
    pub fn is_zeros(&self, number: u32) -> bool {
        self.list[number as usize].is_zeros
    }

    /// Whether an extent is of zeros that need not be read: one may claim more than the pack has.
    pub fn is_hole(&self, extent: &Extent) -> bool {
        self.is_zeros(extent.blob) && extent.offset + extent.length <= zeros::LENGTH
    }

    /// Fills `buffer` with the content of a blob from `offset` on.
    pub fn read(&self, number: u32, buffer: &mut [u8], offset: u64) -> Result<()> {
        if self.is_zeros(number) && offset + buffer.len() as u64 <= zeros::LENGTH {
            buffer.fill(0);
            return Ok(());
        }
        self.with(number, |blob| self.read_content(number, blob, buffer, offset))
    }

    fn read_content(
        &self,
        number: u32,
        blob: &OpenBlob,
        buffer: &mut [u8],
        offset: u64,
    ) -> Result<()> {
        let in_blob = |error: Error| self.in_blob(number, error);
        let end = offset + buffer.len() as u64;
        let content = blob.content_length();
        let too_short = || {
            in_blob(Error::corrupt(format!(
                "it has {content} bytes of content, and a file refers to those from {offset} to {end}"
            )))
        };
        if end > content {
            return Err(too_short());
        }
        if blob.frame_count().is_none() {
            return blob.read_raw(buffer, offset).map_err(in_blob);
        }
        let mut done = 0;
        while done < buffer.len() {
            let at = offset + done as u64;
            let (frame, start) = blob.frame_at(at).ok_or_else(too_short)?;
            let content = self.frame(number, blob, frame).map_err(in_blob)?;
            let part = &content[(at - start) as usize..];
            let length = part.len().min(buffer.len() - done);
            buffer[done..done + length].copy_from_slice(&part[..length]);
            done += length;
        }
        Ok(())
    }

    /// The frame that holds all of this part of a blob's content, and where in it that begins;
    /// `None` if no single frame does, or there are none.
    pub fn frame_of(
        &self,
        number: u32,
        offset: u64,
        length: u64,
    ) -> Result<Option<(Arc<Vec<u8>>, usize)>> {
        if self.is_zeros(number) {
            return Ok(None);
        }
        self.with(number, |blob| {
            let Some((frame, start)) = blob.frame_at(offset) else { return Ok(None) };
            let content =
                self.frame(number, blob, frame).map_err(|error| self.in_blob(number, error))?;
            let whole = offset - start + length <= content.len() as u64;
            Ok(whole.then(|| (content, (offset - start) as usize)))
        })
    }

    /// Decompresses this part of a blob's content, as far as it is compressed, there, and in frames
    /// that are not too long.
    pub fn prefetch(&self, number: u32, offset: u64, length: u64) -> Result<()> {
        if self.is_zeros(number) {
            return Ok(());
        }
        self.with(number, |blob| {
            let last = offset + length.saturating_sub(1);
            let (Some((first, _)), Some((last, _))) = (blob.frame_at(offset), blob.frame_at(last))
            else {
                return Ok(());
            };
            let frames = first..=last;
            for frame in frames.filter(|&frame| blob.frame_length(frame) <= PREFETCHED_MAX) {
                self.frame(number, blob, frame).map_err(|error| self.in_blob(number, error))?;
            }
            Ok(())
        })
    }

    /// Does something with the open blob.
    ///
    /// One that fails is not kept open. If it was open before, the file may have been replaced by
    /// a right one meanwhile: then it is opened anew and tried once more.
    fn with<T>(&self, number: u32, mut work: impl FnMut(&OpenBlob) -> Result<T>) -> Result<T> {
        if let Some(blob) = self.open.get(&number) {
            match work(&blob) {
                Ok(done) => return Ok(done),
                Err(_) => drop(self.open.remove(&number)),
            }
        }
        let result = work(&*self.get(number)?);
        if result.is_err() {
            self.open.remove(&number);
        }
        result
    }

    fn frame(&self, number: u32, blob: &OpenBlob, frame: usize) -> Result<Arc<Vec<u8>>> {
        self.frames.get_or_insert_with(&(number, frame as u32), || {
            fault::point!("frame");
            blob.read_frame(frame).map(Arc::new)
        })
    }

    /// The open blob, its digest checked when it was opened if that was asked for.
    fn get(&self, number: u32) -> Result<Arc<OpenBlob>> {
        let open = || {
            self.open.get_or_insert_with(&number, || self.open(number, self.verify).map(Arc::new))
        };
        match open() {
            // The process has no descriptors left: those of other blobs are not needed just now.
            Err(error) if [Some(libc::EMFILE), Some(libc::ENFILE)].contains(&error.errno()) => {
                self.open.clear();
                open()
            }
            result => result,
        }
    }

    /// The length of a blob's chunks in bytes, as far as it tells of them; else of its content.
    pub fn chunks_length(&self, number: u32) -> Result<u64> {
        self.get(number)?.chunks_length().map_err(|error| self.in_blob(number, error))
    }

    /// The chunks that a blob claims to consist of; `None` if it does not tell.
    pub fn chunks(&self, number: u32) -> Result<Option<Vec<Chunk>>> {
        self.get(number)?.chunks().map_err(|error| self.in_blob(number, error))
    }

    /// Opens the file of a blob; tells its length too.
    pub fn open_file(&self, digest: &Digest) -> Result<(File, u64)> {
        if let Some(folder) = &self.staged {
            match open_blob_file(&folder.join(digest.hex())) {
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                opened => return opened,
            }
        }
        self.layout.open_blob(digest)
    }

    fn open(&self, number: u32, verify: bool) -> Result<OpenBlob> {
        let Blob { digest, compressed } = self.list[number as usize].blob;
        let (file, size) = self.open_file(&digest)?;
        fault::point!("open blob");
        // The very file that is read from then on: another one may have its name soon.
        if verify {
            self.check(number, &file)?;
        }
        PackReader::open(file, size, compressed).map_err(|error| self.in_blob(number, error))
    }

    /// Checks the blob's digest.
    pub fn verify(&self, number: u32) -> Result<()> {
        let (file, _) = self.open_file(&self.list[number as usize].blob.digest)?;
        self.check(number, &file)
    }

    fn check(&self, number: u32, mut file: &File) -> Result<()> {
        let expected = self.list[number as usize].blob.digest;
        let path = || self.layout.blob_path(&expected);
        let digest = crate::digest::Digest::of_reader(&mut file)
            .map_err(|error| Error::io("read the blob", path(), error))?;
        if digest == expected {
            return Ok(());
        }
        let error = Error::corrupt("it does not have this digest: it is damaged");
        Err(self.in_blob(number, error))
    }

    /// Checks each blob's structure, and that it has all that files refer to.
    pub fn checks<'a>(&'a self, image: &Image) -> impl Iterator<Item = BlobCheck> + use<'a> {
        let mut needed = vec![0_u64; self.list.len()];
        for extent in image.tree().inodes().iter().filter_map(|inode| inode.file()).flatten() {
            let needed = &mut needed[extent.blob as usize];
            *needed = (*needed).max(extent.offset + extent.length);
        }
        let check = |number: usize, needed: u64| {
            let blob = self.open(number as u32, false)?;
            let length = blob.content_length();
            if needed <= length {
                return Ok(());
            }
            let error = Error::corrupt(format!(
                "it has {length} bytes of content, and files refer to {needed} of it"
            ));
            Err(self.in_blob(number as u32, error))
        };
        needed
            .into_iter()
            .enumerate()
            .map(move |(blob, needed)| BlobCheck { blob, error: check(blob, needed).err() })
    }

    fn in_blob(&self, number: u32, error: Error) -> Error {
        let digest = self.list[number as usize].blob.digest;
        error
            .context(format_args!("the data blob {digest}"))
            .with_path(self.layout.blob_path(&digest))
    }
}
