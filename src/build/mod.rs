//! Building an image: source → tree → chunks → packs → layout.
//!
//! A build makes *steps*: each takes a source and perhaps a base image, and makes metadata and data
//! blobs. With a base, one rule holds however the change was learnt: a file whose content is that
//! of the base's file of the same path keeps the base's extents; the rest form streams, whose
//! chunks refer to the base's packs where those hold them, and go into new packs where not.

mod base;
mod convert;
mod memory;
mod parent;
mod pipeline;
mod repack;
mod step;

use std::collections::BTreeMap;
use std::path::Path;

use crate::digest::{self, Digest};
use crate::error::{Error, Result};
use crate::format;
use crate::image::{Image, OpenOptions};
use crate::layout::{
    ConfigOptions, Descriptor, HistoryEntry, ImageConfig, Layout, PACK_SIZE, Platform, Reference,
    Staging, encode_manifest, media_type, parse_time,
};
use crate::pack::{Compression, PackSize};
use crate::progress::Monitor;
use crate::source::directory::{Lower, scan};
use crate::source::image::ImageSource;
use crate::source::overlay::MarkNamespace;
use crate::source::{ScanOptions, Source};
use crate::sys::thread::threads;
use crate::tree::Tree;

pub use convert::{ConvertOptions, convert};
use parent::Parent;
use step::{Origin, Packs, Step, StepOptions, step};

/// How chunks become blobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DataLayout {
    /// Many chunks a blob.
    #[default]
    Packs,
    /// A blob a chunk, as the reference implementation has it.
    BlobPerChunk,
}

/// The image that another one starts from.
#[derive(Debug, Clone)]
pub struct BaseOptions {
    /// Which image; it may be in another layout.
    pub image: Reference,
    /// Which image of an index; this machine's, or the only one, if not given.
    pub platform: Option<Platform>,
    /// Whether the digests of all of its data blobs are checked first.
    pub verify: bool,
}

/// How an image is built.
#[derive(Debug, Clone, Default)]
pub struct BuildOptions {
    /// The image to start from. Its configuration, history and annotations are carried on.
    pub base: Option<BaseOptions>,
    /// Whether a file whose type, size, mode, owner and mtime are those of the base's file of the
    /// same path is taken for it unread. Refused where times mean nothing.
    pub trust_mtime: bool,
    /// What of the source goes into the image, and how.
    pub scan: ScanOptions,
    /// How the data is compressed.
    pub compression: Compression,
    /// How chunks become blobs.
    pub data_layout: DataLayout,
    /// The mean size of packs in bytes; by the size of the tree if not given.
    pub pack_size: Option<u64>,
    /// What the configuration is made of.
    pub config: ConfigOptions,
    /// The manifest's annotations.
    pub annotations: BTreeMap<String, String>,
    /// When the image was created, in seconds since 1970: else the environment's
    /// `SOURCE_DATE_EPOCH`, else what an ordinary image that is converted says, else the newest
    /// mtime in the tree.
    pub created: Option<i64>,
    /// Who made the image.
    pub author: Option<String>,
    /// What made the image; else the name of the command.
    pub created_by: Option<String>,
    /// A remark in the history.
    pub comment: Option<String>,
    /// How many threads read and how many compress; as many as there are cores if not given.
    pub threads: Option<usize>,
    /// How many bytes of memory the build may take, besides what the process has; without a limit
    /// if not given. With little of it fewer threads work, on less at once. The image is the same.
    pub memory_limit: Option<u64>,
}

/// What was built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildReport {
    /// The manifest.
    pub descriptor: Descriptor,
    /// The fs-verity digest of the manifest.
    pub verity: [u8; 32],
    /// Inodes in the image.
    pub inodes: u64,
    /// Regular files in the image.
    pub files: u64,
    /// Layers of the manifest: the rootfs and the data blobs.
    pub layers: u64,
    /// Chunks that the files consist of.
    pub chunks: u64,
    /// Chunks among them that were seen for the first time.
    pub new_chunks: u64,
    /// The sum of the files' sizes.
    pub bytes_tree: u64,
    /// Bytes read from the files: less than their sizes where they have holes.
    pub bytes_read: u64,
    /// Bytes of the new chunks.
    pub bytes_new: u64,
    /// Files that hold what the base's file of the same path holds.
    pub unchanged_files: u64,
    /// Bytes that were stored anew of the base's packs of which little is used, or that are small
    /// and too many.
    pub bytes_moved: u64,
    /// Bytes of the blobs that were written; those of `bytes_copied` among them.
    pub bytes_stored: u64,
    /// Bytes of the base's blobs that were copied from its layout into this one.
    pub bytes_copied: u64,
    /// Bytes of the blobs that the layout had before.
    pub bytes_shared: u64,
    /// Bytes of the metadata.
    pub bytes_metadata: u64,
}

/// Builds an image of the directory `rootfs` and stores it under the tag of `target`.
///
/// The layout is made if it is not there. Nothing refers to the image before it is complete; when
/// the build fails or is cancelled, the layout is as it was.
///
/// Fails if the options are not valid, the source cannot be read or changes meanwhile, the base is
/// missing or damaged, or the layout cannot be written.
pub fn build(
    rootfs: &Path,
    target: &Reference,
    options: &BuildOptions,
    monitor: &Monitor<'_>,
) -> Result<BuildReport> {
    let job = Job::new("puzzlefs build", target, options, monitor)?;
    let source = scan(rootfs, None, &options.scan, Some(&target.layout), monitor)?;
    job.run(source)
}

/// Builds an image of what is seen where the overlayfs upperdir `upper` lies on the base image of
/// `options`, and stores it under the tag of `target`.
///
/// The result is that of [`build`] of the merged tree with the same base, at the cost of the
/// change. `marks` tells which attributes in the upperdir are overlayfs's.
///
/// Fails as [`build`] does, without a base, and on marks of overlayfs that an upperdir alone does
/// not explain (see [`crate::source::overlay`]).
pub fn delta(
    upper: &Path,
    marks: MarkNamespace,
    target: &Reference,
    options: &BuildOptions,
    monitor: &Monitor<'_>,
) -> Result<BuildReport> {
    if options.base.is_none() {
        return Err(Error::invalid("a delta without a base image"));
    }
    let job = Job::new("puzzlefs delta", target, options, monitor)?;
    let empty = parent::empty_tree();
    let tree = job.parent.as_ref().and_then(|parent| parent.image.as_ref()).map(Image::tree);
    let lower = Lower { tree: tree.unwrap_or(&empty), marks };
    let source = scan(upper, Some(lower), &options.scan, Some(&target.layout), monitor)?;
    job.run(source)
}

/// Stores the image that `from` names without its history under the tag of `target`: with the
/// metadata and data that [`build`] of its tree with the same options would give.
///
/// Its configuration and annotations are carried on. Fails if the image is missing or damaged, if
/// `options` have a base, or the layout cannot be written.
pub fn canonicalize(
    from: &Reference,
    open: &OpenOptions,
    target: &Reference,
    options: &BuildOptions,
    monitor: &Monitor<'_>,
) -> Result<BuildReport> {
    if options.base.is_some() {
        return Err(Error::invalid("a canonical image has no base"));
    }
    // Keeps its blobs from being collected while they are read.
    let _lock = Layout::open(&from.layout)?.lock_blobs(monitor)?;
    let image = Image::open(from, open)?;
    image.check_blobs()?;
    let mut options = options.clone();
    if options.config.start.is_none() {
        options.config.start = image.config().map(|config| config.to_string().into_bytes());
    }
    for (key, value) in &image.manifest().annotations {
        if key != PACK_SIZE {
            options.annotations.entry(key.clone()).or_insert_with(|| value.clone());
        }
    }
    let source = ImageSource::new(&image, &options.scan)?;
    Job::new("puzzlefs canonicalize", target, &options, monitor)?.run(source)
}

/// A build whose options were checked, and whose base is open.
struct Job<'a> {
    created_by: &'static str,
    target: &'a Reference,
    options: &'a BuildOptions,
    parent: Option<Parent>,
    monitor: &'a Monitor<'a>,
}

impl<'a> Job<'a> {
    /// `created_by` is what the history says if the options do not.
    fn new(
        created_by: &'static str,
        target: &'a Reference,
        options: &'a BuildOptions,
        monitor: &'a Monitor<'a>,
    ) -> Result<Self> {
        target.tag()?;
        options.check()?;
        let parent = options.base.as_ref().map(|base| Parent::open(base, monitor)).transpose()?;
        if options.trust_mtime {
            parent::check_times(options.scan.clamp_mtime, parent.as_ref())?;
        }
        Ok(Job { created_by, target, options, parent, monitor })
    }

    fn run<S: Source>(&self, source: S) -> Result<BuildReport> {
        let Job { options, monitor, .. } = self;
        let created = options.created(source.tree())?;
        let layout = Layout::open_or_create(&self.target.layout, monitor)?;
        layout.index()?;
        let mut staging = Staging::begin(&layout, monitor)?;
        let parent = self.parent.as_ref();
        let from = parent.and_then(Parent::blobs);
        let step_options = options.step(parent.and_then(|parent| parent.pack_size))?;
        let step = step(source, from.as_ref(), &step_options, &mut staging, monitor)?;
        let history = options.history(self.created_by, created);
        let is_new = is_new(parent);
        let written = write(&step, parent, options, &history, is_new, &mut staging)?;
        publish(self.target.tag()?, staging, &step, &written, monitor)
    }
}

/// Makes the image that is staged part of the layout, under this tag; tells what was made.
fn publish(
    tag: &str,
    staging: Staging,
    step: &Step,
    written: &Written,
    monitor: &Monitor<'_>,
) -> Result<BuildReport> {
    staging.publish(monitor, |index| index.set(tag, written.manifest.json()))?;
    Ok(report(step, written))
}

fn report(step: &Step, written: &Written) -> BuildReport {
    let (mut stored, mut copied, mut shared) = (written.stored, 0, written.shared);
    for data in &step.data {
        let size = data.descriptor.size;
        match data.origin {
            Origin::New => stored += size,
            Origin::Copied => {
                stored += size;
                copied += size;
            }
            Origin::Present => shared += size,
        }
    }
    let tree = &step.rootfs.tree;
    let stats = step.stats;
    BuildReport {
        descriptor: written.manifest.clone(),
        verity: written.verity,
        inodes: tree.inodes().len() as u64,
        files: tree.inodes().iter().filter(|inode| inode.file().is_some()).count() as u64,
        unchanged_files: step.unchanged,
        layers: step.data.len() as u64 + 1,
        chunks: stats.chunks,
        new_chunks: stats.new_chunks,
        bytes_tree: step.bytes_tree,
        bytes_read: stats.bytes_read,
        bytes_new: stats.bytes_new,
        bytes_moved: stats.bytes_moved,
        bytes_stored: stored,
        bytes_copied: copied,
        bytes_shared: shared,
        bytes_metadata: written.metadata,
    }
}

impl BuildOptions {
    /// Finds what is wrong with the options before anything is read or written.
    fn check(&self) -> Result<()> {
        if let Compression::Zstd(level) = self.compression
            && !Compression::LEVELS.contains(&level)
        {
            let (first, last) = (Compression::LEVELS.start(), Compression::LEVELS.end());
            return Err(Error::invalid(format!(
                "a compression level of {level}: expected {first} to {last}"
            )));
        }
        if let Some((uid, gid)) = self.scan.owner
            && (uid == u32::MAX || gid == u32::MAX)
        {
            return Err(Error::invalid("an owner of 2^32 - 1, which is nobody's number"));
        }
        if self.annotations.contains_key("") {
            return Err(Error::invalid("an annotation without a key"));
        }
        if self.trust_mtime && self.base.is_none() {
            return Err(Error::invalid("times to be trusted, but no base image to compare with"));
        }
        self.step(None)?;
        ImageConfig::step(None, &self.config, &HistoryEntry::default(), &[], true).map(|_| ())
    }

    /// How a step is done on a base with packs of this mean size.
    fn step(&self, base: Option<PackSize>) -> Result<StepOptions> {
        let packs = match (self.data_layout, self.pack_size) {
            (DataLayout::BlobPerChunk, None) => Packs::PerChunk,
            (DataLayout::BlobPerChunk, Some(_)) => {
                return Err(Error::invalid("a pack size, but blobs of one chunk each"));
            }
            (DataLayout::Packs, Some(mean)) => Packs::Of(PackSize::new(mean)?),
            (DataLayout::Packs, None) => Packs::ForTree(base),
        };
        Ok(StepOptions {
            compression: self.compression,
            packs,
            threads: threads(self.threads)?,
            memory_limit: self.memory_limit,
            trust_mtime: self.trust_mtime,
        })
    }

    fn history(&self, created_by: &str, created: i64) -> HistoryEntry {
        HistoryEntry {
            created,
            created_by: Some(self.created_by.clone().unwrap_or_else(|| created_by.to_owned())),
            author: self.author.clone(),
            comment: self.comment.clone(),
        }
    }

    fn given_time(&self) -> Result<Option<i64>> {
        self.created.map_or_else(source_date_epoch, |given| Ok(Some(given)))
    }

    fn created<F>(&self, tree: &Tree<F>) -> Result<i64> {
        if let Some(created) = self.given_time()? {
            return Ok(created);
        }
        let newest = tree.inodes().iter().map(|inode| inode.metadata.mtime.seconds).max();
        Ok(newest.unwrap_or(0))
    }
}

/// The environment's `SOURCE_DATE_EPOCH`, in seconds since 1970
/// (reproducible-builds.org/specs/source-date-epoch).
pub fn source_date_epoch() -> Result<Option<i64>> {
    const NAME: &str = "SOURCE_DATE_EPOCH";
    match std::env::var(NAME) {
        Err(std::env::VarError::NotPresent) => Ok(None),
        Ok(text) => parse_time(&text).map(Some).map_err(|error| error.context(NAME)),
        Err(error) => Err(Error::invalid(format!("{NAME}: {error}"))),
    }
}

/// Whether any of an image's layers is not one of its parent.
fn is_new(parent: Option<&Parent>) -> impl Fn(&[Digest]) -> bool + use<> {
    let before = parent.map(Parent::layers).unwrap_or_default();
    move |layers| layers.iter().any(|layer| !before.contains(layer))
}

struct Written {
    manifest: Descriptor,
    verity: [u8; 32],
    metadata: u64,
    /// Bytes of the blobs that are new, and of those that the layout had before.
    stored: u64,
    shared: u64,
}

/// Stages metadata, configuration and manifest of an image whose data is staged.
fn write(
    step: &Step,
    parent: Option<&Parent>,
    options: &BuildOptions,
    history: &HistoryEntry,
    adds_layer: impl Fn(&[Digest]) -> bool,
    staging: &mut Staging,
) -> Result<Written> {
    let (mut stored, mut shared) = (0, 0);
    let mut put = |bytes: &[u8], media_type: &'static str| -> Result<Descriptor> {
        let (digest, size) = (Digest::of(bytes), bytes.len() as u64);
        let existed = staging.put(digest, size, &[bytes])?.existed;
        *if existed { &mut shared } else { &mut stored } += size;
        Ok(Descriptor { media_type: media_type.into(), digest, size })
    };
    let metadata = format::encode(&step.rootfs)?;
    let rootfs = put(&metadata, media_type::ROOTFS)?;
    let data: Vec<_> = step.data.iter().map(|data| data.descriptor.clone()).collect();
    let layers: Vec<_> = std::iter::once(&rootfs).chain(&data).map(|layer| layer.digest).collect();
    let base = parent.and_then(|parent| parent.config.as_ref());
    let config = ImageConfig::step(base, &options.config, history, &layers, adds_layer(&layers))?;
    let config = put(&config.to_bytes(), media_type::CONFIG)?;
    let mut annotations = parent.map(|parent| parent.annotations.clone()).unwrap_or_default();
    annotations.remove(PACK_SIZE);
    annotations.extend(options.annotations.clone());
    if let Some(mean) = step.pack_size {
        annotations.entry(PACK_SIZE.to_owned()).or_insert_with(|| mean.to_string());
    }
    let artifact_type = parent.and_then(|parent| parent.artifact_type.as_deref());
    let verity = digest::fs_verity(&metadata);
    let manifest = encode_manifest(&config, &rootfs, &verity, &data, &annotations, artifact_type);
    Ok(Written {
        manifest: put(&manifest, media_type::MANIFEST)?,
        verity: digest::fs_verity(&manifest),
        metadata: metadata.len() as u64,
        stored,
        shared,
    })
}
