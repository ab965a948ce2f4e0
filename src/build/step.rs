//! One step: a source, and perhaps a base, become metadata and staged data blobs.

use std::collections::HashMap;

use super::base::Base;
use super::memory::Work;
use super::pipeline::{self, Settings, Stats, StoredPack};
use crate::chunk;
use crate::digest::Digest;
use crate::error::Result;
use crate::format::{Blob, Rootfs, file_size};
use crate::image::Blobs;
use crate::layout::{Descriptor, Layout, Staging, media_type};
use crate::pack::{Compression, PackSize, zeros};
use crate::progress::{Monitor, Progress, Stage};
use crate::source::{Content, Source};

/// How a step is done.
#[derive(Debug, Clone, Copy)]
pub struct StepOptions {
    pub compression: Compression,
    /// How large packs are.
    pub packs: Packs,
    pub threads: usize,
    /// How many bytes of memory it may take.
    pub memory_limit: Option<u64>,
    /// Whether a file that looks like the base's is taken for it unread.
    pub trust_mtime: bool,
}

/// How large packs are.
#[derive(Debug, Clone, Copy)]
pub enum Packs {
    /// A blob for each chunk.
    PerChunk,
    /// Packs of this mean size.
    Of(PackSize),
    /// As the size of the tree asks for, or this mean if it is larger.
    ForTree(Option<PackSize>),
}

/// A data blob of an image.
#[derive(Debug, Clone)]
pub struct Data {
    pub descriptor: Descriptor,
    pub origin: Origin,
}

/// Where a data blob of an image came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The step made it.
    New,
    /// It is the base's, and was copied from another layout.
    Copied,
    /// The layout had it before.
    Present,
}

/// What a step made.
pub struct Step {
    pub rootfs: Rootfs,
    /// The data blobs, each once, in the order of the metadata's.
    pub data: Vec<Data>,
    /// The mean size of its packs, in bytes.
    pub pack_size: Option<u64>,
    /// The sum of the files' sizes in bytes.
    pub bytes_tree: u64,
    /// Files that hold what the base's file of the same path holds.
    pub unchanged: u64,
    pub stats: Stats,
}

/// Where the blobs of a base are.
pub struct BaseBlobs<'a> {
    pub base: Base<'a>,
    pub layout: &'a Layout,
    /// Whether the fs-verity digests in its metadata are right wherever they are there.
    pub has_verity: bool,
}

/// Stores what is new of `source`.
pub fn step<S: Source>(
    source: S,
    from: Option<&BaseBlobs<'_>>,
    options: &StepOptions,
    staging: &mut Staging,
    monitor: &Monitor<'_>,
) -> Result<Step> {
    let base = from.map(|from| from.base);
    let tree = source.tree();
    let (threads, limit) = (options.threads, options.memory_limit);
    let mut work = Work::of_trees(&source, base, options.compression);
    let threads_now = work.pace(threads, limit)?.threads;
    let unchanged = match base {
        Some(base) => base.unchanged(&source, options.trust_mtime, threads_now, monitor)?,
        None => vec![None; tree.inodes().len()],
    };
    let size = |content: &Content| match (content, base) {
        (Content::Base(ino), Some(base)) => {
            base.rootfs.tree.inode(*ino).file().map_or(0, |extents| file_size(extents))
        }
        (content, _) => content.new_bytes(),
    };
    let files = || tree.inodes().iter().filter_map(|inode| inode.file());
    let bytes_tree = files().map(size).fold(0, u64::saturating_add);
    let streams = chunk::plan(tree, |ino, content| match unchanged[ino.index()] {
        Some(_) => 0,
        None => content.new_bytes(),
    });
    let new_files = streams.iter().flat_map(|stream| &stream.files);
    let new_sizes = new_files.filter_map(|ino| tree.inode(*ino).file());
    let packs = options.packs.size(bytes_tree);
    let bytes = new_sizes.map(|content| content.new_bytes()).fold(0, u64::saturating_add);
    work = Work { packs, bytes, streams: streams.len() as u64, ..work };
    let settings = Settings {
        compression: options.compression,
        packs,
        pace: work.pace(threads, limit)?,
        chunks_max: limit.map(|_| work.chunks()),
        bytes,
    };
    let unchanged_files = unchanged.iter().flatten().count() as u64;
    let content = pipeline::Content { source: &source, base, unchanged, streams };
    let stored = pipeline::store(content, &settings, staging, monitor)?;
    let stats = stored.stats;
    let mut extents = stored.extents;
    let packs = stored.packs.iter().chain(stored.zeros.as_ref());
    let blobs = Available { from, packs: packs.copied().collect(), staging };
    let used = blobs.use_all(&mut extents, monitor)?;
    let tree = source.into_tree();
    Ok(Step {
        rootfs: Rootfs {
            blobs: used.blobs,
            verity: used.verity,
            tree: tree.map(|ino, _| std::mem::take(&mut extents[ino.index()]).into_boxed_slice()),
        },
        data: used.data,
        pack_size: settings.packs.map(|size| size.mean()),
        bytes_tree,
        unchanged: unchanged_files,
        stats,
    })
}

impl Packs {
    fn size(self, bytes: u64) -> Option<PackSize> {
        match self {
            Packs::PerChunk => None,
            Packs::Of(size) => Some(size),
            Packs::ForTree(base) => {
                let own = PackSize::for_tree(bytes);
                Some(base.filter(|base| base.mean() > own.mean()).unwrap_or(own))
            }
        }
    }
}

/// The blobs that extents may refer to: the base's, those of the step, and the zeros last.
struct Available<'a> {
    from: Option<&'a BaseBlobs<'a>>,
    packs: Vec<StoredPack>,
    staging: &'a mut Staging,
}

/// The blobs that extents do refer to.
#[derive(Default)]
struct Used {
    blobs: Vec<Blob>,
    verity: std::collections::BTreeMap<Digest, [u8; 32]>,
    data: Vec<Data>,
}

impl Available<'_> {
    /// Numbers the blobs in the order of their first use, and sees to it that the layout has them.
    fn use_all(
        mut self,
        extents: &mut [Vec<crate::chunk::Extent>],
        monitor: &Monitor<'_>,
    ) -> Result<Used> {
        let base = self.from.map_or(0, |from| from.base.rootfs.blobs.len());
        let mut numbers: Vec<Option<u32>> = vec![None; base + self.packs.len()];
        let mut known: HashMap<Blob, u32> = HashMap::new();
        let mut used = Used::default();
        for extent in extents.iter_mut().flatten() {
            let at = (extent.blob as usize).min(numbers.len() - 1);
            extent.blob = match numbers[at] {
                Some(number) => number,
                None => {
                    let (pack, origin) = self.pack(at, base, monitor)?;
                    let blob = Blob { digest: pack.digest, compressed: pack.compressed };
                    let number = *known.entry(blob).or_insert_with(|| used.add(&pack, origin));
                    *numbers[at].insert(number)
                }
            };
        }
        Ok(used)
    }

    fn pack(
        &mut self,
        at: usize,
        base: usize,
        monitor: &Monitor<'_>,
    ) -> Result<(StoredPack, Origin)> {
        let Some(from) = self.from.filter(|_| at < base) else {
            let pack = self.packs[at - base];
            return Ok((pack, if pack.existed { Origin::Present } else { Origin::New }));
        };
        // An earlier step of the same build may have made it.
        let digest = &from.base.rootfs.blobs[at].digest;
        let is_staged = self.staging.is_staged(digest);
        let pack = from.take(at as u32, self.staging, monitor)?;
        let origin = match pack.existed {
            true if is_staged => Origin::New,
            true => Origin::Present,
            false => Origin::Copied,
        };
        Ok((pack, origin))
    }
}

impl Used {
    fn add(&mut self, pack: &StoredPack, origin: Origin) -> u32 {
        let StoredPack { digest, compressed, verity, size, .. } = *pack;
        self.blobs.push(Blob { digest, compressed });
        // Metadata may refer to one blob as raw and as compressed; it is one layer all the same.
        if self.verity.insert(digest, verity).is_none() {
            let media_type = if compressed { media_type::DATA_ZSTD } else { media_type::DATA };
            let media_type = media_type.into();
            self.data.push(Data { descriptor: Descriptor { media_type, digest, size }, origin });
        }
        (self.blobs.len() - 1) as u32
    }
}

impl BaseBlobs<'_> {
    /// One of the base's blobs, which the layout that is written to has, or gets now.
    fn take(
        &self,
        number: u32,
        staging: &mut Staging,
        monitor: &Monitor<'_>,
    ) -> Result<StoredPack> {
        let Blob { digest, compressed } = self.base.rootfs.blobs[number as usize];
        let known = self.base.rootfs.verity.get(&digest).filter(|_| self.has_verity).copied();
        let known = known.or_else(|| (digest == zeros::PACK.digest).then_some(zeros::PACK.verity));
        let (file, size) = self.base.blobs.open_file(&digest)?;
        let existed = staging.has(&digest, size)?;
        let verity = match known {
            Some(verity) if existed => verity,
            _ => {
                let mut report =
                    |done| monitor.report(Progress { stage: Stage::Check, done, total: size });
                match existed {
                    true => self.layout.measure(&digest, &file, &mut report)?,
                    false => staging.take(digest, self.layout, &file, &mut report)?,
                }
            }
        };
        Ok(StoredPack { digest, verity, size, compressed, existed })
    }
}

/// What the next step of the same image starts from.
impl Step {
    pub fn blobs(&self, layout: &Layout, staging: &Staging) -> Blobs {
        let staged = Some(staging.folder().to_owned());
        Blobs::new(layout.clone(), staged, self.rootfs.blobs.clone(), false)
    }
}
