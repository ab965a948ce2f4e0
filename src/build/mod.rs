//! Building an image: source → tree → chunks → packs → layout.

mod pipeline;

use std::collections::BTreeMap;
use std::path::Path;

use crate::chunk;
use crate::digest::{self, Digest};
use crate::error::{Error, Result};
use crate::format::{self, Blob, Rootfs};
use crate::layout::{
    ConfigOptions, Descriptor, HistoryEntry, ImageConfig, Layout, PACK_SIZE, Reference, Staging,
    encode_manifest, media_type, parse_time,
};
use crate::pack::{Compression, PackSize};
use crate::progress::Monitor;
use crate::source::directory::{Directory, ScanOptions, scan};
use crate::sys::thread::threads;
use crate::tree::Tree;

use pipeline::Stored;

/// What the history says of an image when the caller does not.
const CREATED_BY: &str = "puzzlefs build";

/// How chunks become blobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DataLayout {
    /// Many chunks a blob.
    #[default]
    Packs,
    /// A blob a chunk, as the reference implementation has it.
    BlobPerChunk,
}

/// How an image is built.
#[derive(Debug, Clone, Default)]
pub struct BuildOptions {
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
    /// `SOURCE_DATE_EPOCH`, else the newest mtime in the tree.
    pub created: Option<i64>,
    /// Who made the image.
    pub author: Option<String>,
    /// What made the image.
    pub created_by: Option<String>,
    /// A remark in the history.
    pub comment: Option<String>,
    /// How many threads read and how many compress; as many as there are cores if not given.
    pub threads: Option<usize>,
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
    /// Bytes of the blobs that were written.
    pub bytes_stored: u64,
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
/// Fails if the options are not valid, the source cannot be read or changes meanwhile, or the
/// layout cannot be written.
pub fn build(
    rootfs: &Path,
    target: &Reference,
    options: &BuildOptions,
    monitor: &Monitor<'_>,
) -> Result<BuildReport> {
    let tag = target.tag()?;
    options.check()?;
    let directory = scan(rootfs, &options.scan, Some(&target.layout), monitor)?;
    let created = options.created(&directory.tree)?;
    let layout = Layout::open_or_create(&target.layout)?;
    layout.index()?;
    let mut staging = Staging::begin(&layout)?;

    let streams = chunk::plan(&directory.tree, |file| file.size);
    let bytes_tree = directory.bytes();
    let settings = pipeline::Settings {
        compression: options.compression,
        packs: options.packs(bytes_tree)?,
        threads: threads(options.threads)?,
        bytes: bytes_tree,
    };
    let inodes = directory.tree.inodes().len();
    let stored = pipeline::store(&directory, inodes, streams, &settings, &mut staging, monitor)?;
    let stats = stored.stats;
    let (rootfs, data) = assemble(directory.tree, stored);
    let image = Image { rootfs, data, created, pack_size: settings.packs.map(|size| size.mean()) };
    let written = image.write(options, &mut staging)?;
    staging.commit()?;
    layout.update_index(|index| {
        index.set(tag, written.manifest.json());
        Ok(())
    })?;

    let (mut bytes_stored, mut bytes_shared) = (written.stored, written.shared);
    for blob in &image.data {
        let sum = if blob.existed { &mut bytes_shared } else { &mut bytes_stored };
        *sum += blob.descriptor.size;
    }
    let tree = &image.rootfs.tree;
    Ok(BuildReport {
        descriptor: written.manifest,
        verity: written.verity,
        inodes: tree.inodes().len() as u64,
        files: tree.inodes().iter().filter(|inode| inode.file().is_some()).count() as u64,
        layers: image.data.len() as u64 + 1,
        chunks: stats.chunks,
        new_chunks: stats.new_chunks,
        bytes_tree,
        bytes_read: stats.bytes_read,
        bytes_new: stats.bytes_new,
        bytes_stored,
        bytes_shared,
        bytes_metadata: written.metadata,
    })
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
        self.packs(0)?;
        threads(self.threads)?;
        ImageConfig::step(None, &self.config, &HistoryEntry::default(), &[], true).map(|_| ())
    }

    fn packs(&self, bytes: u64) -> Result<Option<PackSize>> {
        match (self.data_layout, self.pack_size) {
            (DataLayout::BlobPerChunk, None) => Ok(None),
            (DataLayout::BlobPerChunk, Some(_)) => {
                Err(Error::invalid("a pack size, but blobs of one chunk each"))
            }
            (DataLayout::Packs, Some(mean)) => PackSize::new(mean).map(Some),
            (DataLayout::Packs, None) => Ok(Some(PackSize::for_tree(bytes))),
        }
    }

    fn created<F>(&self, tree: &Tree<F>) -> Result<i64> {
        if let Some(created) =
            self.created.map_or_else(source_date_epoch, |given| Ok(Some(given)))?
        {
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

impl Directory {
    fn bytes(&self) -> u64 {
        let files = self.tree.inodes().iter().filter_map(|inode| inode.file());
        files.map(|file| file.size).fold(0, u64::saturating_add)
    }
}

/// A data blob of the image.
struct Data {
    descriptor: Descriptor,
    existed: bool,
}

/// Joins the tree with what the pipeline stored: blobs in the order of their first use.
fn assemble<F>(tree: Tree<F>, stored: Stored) -> (Rootfs, Vec<Data>) {
    let Stored { mut extents, packs, zeros, .. } = stored;
    let mut numbers: Vec<Option<u32>> = vec![None; packs.len() + 1];
    let mut used = Vec::new();
    for extent in extents.iter_mut().flatten() {
        // The zeros come behind the packs.
        let pack = (extent.blob as usize).min(packs.len());
        extent.blob = *numbers[pack].get_or_insert_with(|| {
            used.push(pack);
            used.len() as u32 - 1
        });
    }
    let all: Vec<_> = packs.iter().chain(zeros.as_ref()).collect();
    let blobs = used.iter().map(|&pack| {
        let pipeline::StoredPack { digest, compressed, .. } = *all[pack];
        Blob { digest, compressed }
    });
    let data = used.iter().map(|&pack| {
        let pack = all[pack];
        let media_type = if pack.compressed { media_type::DATA_ZSTD } else { media_type::DATA };
        let media_type = media_type.to_owned();
        Data {
            descriptor: Descriptor { media_type, digest: pack.digest, size: pack.size },
            existed: pack.existed,
        }
    });
    let rootfs = Rootfs {
        blobs: blobs.collect(),
        verity: all.iter().map(|pack| (pack.digest, pack.verity)).collect(),
        tree: tree.map(|ino, _| std::mem::take(&mut extents[ino.index()]).into_boxed_slice()),
    };
    (rootfs, data.collect())
}

/// An image whose data is stored.
struct Image {
    rootfs: Rootfs,
    data: Vec<Data>,
    created: i64,
    pack_size: Option<u64>,
}

struct Written {
    manifest: Descriptor,
    verity: [u8; 32],
    metadata: u64,
    /// Bytes of the blobs that are new, and of those that the layout had before.
    stored: u64,
    shared: u64,
}

impl Image {
    /// Stores metadata, configuration and manifest.
    fn write(&self, options: &BuildOptions, staging: &mut Staging) -> Result<Written> {
        let (mut stored, mut shared) = (0, 0);
        let mut put = |bytes: &[u8], media_type: &str| -> Result<Descriptor> {
            let (digest, size) = (Digest::of(bytes), bytes.len() as u64);
            let existed = staging.put(digest, size, &[bytes])?.existed;
            *if existed { &mut shared } else { &mut stored } += size;
            Ok(Descriptor { media_type: media_type.to_owned(), digest, size })
        };
        let metadata = format::encode(&self.rootfs)?;
        let rootfs = put(&metadata, media_type::ROOTFS)?;
        let data: Vec<_> = self.data.iter().map(|data| data.descriptor.clone()).collect();
        let layers: Vec<_> =
            std::iter::once(&rootfs).chain(&data).map(|layer| layer.digest).collect();
        let history = options.history(self.created);
        let config = ImageConfig::step(None, &options.config, &history, &layers, true)?;
        let config = put(&config.to_bytes(), media_type::CONFIG)?;
        let mut annotations = options.annotations.clone();
        if let Some(mean) = self.pack_size {
            annotations.entry(PACK_SIZE.to_owned()).or_insert_with(|| mean.to_string());
        }
        let manifest =
            encode_manifest(&config, &rootfs, &digest::fs_verity(&metadata), &data, &annotations);
        Ok(Written {
            manifest: put(&manifest, media_type::MANIFEST)?,
            verity: digest::fs_verity(&manifest),
            metadata: metadata.len() as u64,
            stored,
            shared,
        })
    }
}

impl BuildOptions {
    fn history(&self, created: i64) -> HistoryEntry {
        HistoryEntry {
            created,
            created_by: Some(self.created_by.clone().unwrap_or_else(|| CREATED_BY.to_owned())),
            author: self.author.clone(),
            comment: self.comment.clone(),
        }
    }
}
