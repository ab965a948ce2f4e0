//! Checking a layout: each digest, each structure, and that nothing is missing; and repairing it.

mod holders;
mod labels;
mod packs;
mod repair;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::digest::Digest;
use crate::error::{ErrorKind, OneLine, Result};
use crate::fault;
use crate::format::{self, Rootfs};
use crate::layout::{
    BlobId, Claim, Descriptor, Document, DocumentId, Documents, ImageConfig, Layout, Manifest,
    Marks, Name, Reference, TAG_MAX, media_type, too_deep,
};
use crate::progress::{Monitor, Progress, Stage};
use holders::Holders;
use labels::Labels;
use packs::{Fault, Packs, Part};
use repair::Repair;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Something is lost or cannot be trusted.
    Error,
    /// Something is not as it should be, but everything can be read.
    Warning,
    /// Something was lost or damaged, and has been repaired.
    Repaired,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Repaired => "repaired",
        })
    }
}

/// Something that is wrong, or was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong, in one line.
    pub message: String,
    /// The tags of the images that it hurts; an image without a tag, or with one of more than 128
    /// bytes, is named by its digest.
    pub tags: Tags,
}

/// Tags, in their order. Findings that hurt the same images share one list.
pub type Tags = Arc<[Arc<str>]>;

impl Finding {
    fn new(severity: Severity, message: impl Into<String>, tags: Tags) -> Self {
        Finding { severity, message: OneLine::of(message.into()), tags }
    }
}

/// One line, which names at most 100 tags and says how many more there are.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 100;
        write!(f, "{}: {}", self.severity, self.message)?;
        let (shown, more) = self.tags.split_at(self.tags.len().min(SHOWN));
        if shown.is_empty() {
            return Ok(());
        }
        let hurts = if self.severity == Severity::Repaired { "hurt" } else { "hurts" };
        write!(f, " ({hurts}: {}", OneLine(&join(shown)))?;
        match more.len() {
            0 => f.write_str(")"),
            more => write!(f, " and {more} more)"),
        }
    }
}

/// The tags as a list, which ends somewhere behind where a line does.
fn join(tags: &[Arc<str>]) -> String {
    let mut list = String::new();
    for tag in tags {
        if list.len() > OneLine::LONGEST {
            break;
        }
        list += if list.is_empty() { "" } else { ", " };
        list.extend(tag.chars().take(OneLine::LONGEST));
    }
    list
}

/// What a check found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FsckReport {
    /// What is wrong, the errors first.
    pub findings: Vec<Finding>,
    /// Images checked.
    pub images: u64,
    /// Blobs checked.
    pub blobs: u64,
    /// Bytes of these blobs.
    pub bytes: u64,
    /// Blobs of the layout that no image refers to. One that is damaged is a warning: a build may
    /// find it and rely on it.
    pub unreferenced: u64,
}

impl FsckReport {
    /// Whether there are no errors; there may be warnings.
    pub fn is_clean(&self) -> bool {
        self.findings.iter().all(|finding| finding.severity != Severity::Error)
    }
}

/// How a layout is checked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FsckOptions {
    /// Layouts from which good copies of missing and damaged blobs are taken, the first that has
    /// one. Nothing is repaired if there are none.
    pub repair_from: Vec<PathBuf>,
}

/// Checks the layout at `path`, or only the image called `name` in it, and repairs it if the
/// options say from what.
///
/// A blob that is taken from another layout has the digest that it must have, and replaces the
/// broken one at once and for good; who has that open goes on reading it. What is not a blob is
/// not repaired: `index.json` says what only this layout knows, which tags there are.
///
/// What is wrong with blobs is in the report. Fails if there is no layout, its index cannot be
/// read, there is no such image, the layout cannot be written that is repaired, or the caller
/// cancels: what is repaired by then stays so. Fails too if so many blobs are broken, to which so
/// many images refer in so many ways, that the lists of what each hurts would be 16 million long.
///
/// Takes time and memory by what the layout holds, however many of its documents refer to the same.
pub fn fsck(
    path: &Path,
    name: Option<&Name>,
    options: &FsckOptions,
    monitor: &Monitor<'_>,
) -> Result<FsckReport> {
    let layout = Layout::open(path)?;
    let mut repair = Repair::new(&layout, &options.repair_from)?;
    let mut check = Check::new(&layout, name, monitor)?;
    loop {
        check.read()?;
        let broken = check.check_blobs()?;
        let repaired = repair.run(&mut check, broken)?;
        if repaired.is_empty() {
            break;
        }
        // They may refer to more.
        check.again(&repaired);
    }
    check.holders = Holders::of(&check.documents);
    check.check_images()?;
    check.report_documents()?;
    check.report_blobs()?;
    let unreferenced = check.check_unreferenced()?;
    repair.report(&mut check)?;
    Ok(check.into_report(unreferenced))
}

/// An entry of the index: its tag, and what it refers to.
struct Listed {
    /// Not one that is too long.
    tag: Option<String>,
    descriptor: Result<Descriptor>,
    /// What is wrong with its tag.
    warning: Option<String>,
}

impl Listed {
    fn new(tag: Option<&str>, descriptor: Result<Descriptor>) -> Self {
        let is_long = |tag: &&str| tag.len() > TAG_MAX;
        Listed {
            tag: tag.filter(|tag| !is_long(tag)).map(str::to_owned),
            descriptor,
            warning: tag.filter(is_long).map(too_long),
        }
    }

    /// What it is called in findings.
    fn label(&self) -> Arc<str> {
        match (&self.tag, &self.descriptor) {
            (Some(tag), _) => tag.as_str().into(),
            (None, Ok(known)) => known.digest.to_string().into(),
            (None, Err(_)) if self.warning.is_some() => {
                "an image with a tag that is too long".into()
            }
            (None, Err(_)) => "an image without a tag".into(),
        }
    }
}

/// Says that a tag is too long. Each finding would repeat it.
fn too_long(tag: &str) -> String {
    let start: String = tag.chars().take(TAG_MAX / 4).collect();
    format!("index.json has a tag of {} bytes, more than {TAG_MAX}: '{start}…'", tag.len())
}

/// The entry that is called `name`, or all of them.
fn listed(layout: &Layout, name: Option<&Name>) -> Result<Vec<Listed>> {
    if let Some(name) = name {
        return Ok(vec![named(layout, name)?]);
    }
    let index = layout.index()?;
    Ok(index.entries().map(|(tag, descriptor)| Listed::new(tag, descriptor)).collect())
}

fn named(layout: &Layout, name: &Name) -> Result<Listed> {
    let index = layout.index()?;
    let tag = match name {
        Name::Tag(tag) => Some(&**tag),
        Name::Digest(_) => None,
    };
    let listed = index.entries().find_map(|(tag, descriptor)| match (name, descriptor) {
        (Name::Tag(wanted), descriptor) if tag == Some(wanted) => Some(descriptor),
        (Name::Digest(wanted), Ok(found)) if found.digest == *wanted => Some(Ok(found)),
        _ => None,
    });
    let descriptor = match listed {
        Some(descriptor) => descriptor?,
        // The one place that knows how to say that there is none, and to find one by its digest.
        None => Manifest::find(layout, name, None)?.descriptor,
    };
    Ok(Listed::new(tag, Ok(descriptor)))
}

/// A blob that some image refers to.
#[derive(Debug, Default)]
struct Blob {
    is_manifest: bool,
    /// Whether it is the metadata of a puzzlefs image.
    is_rootfs: bool,
    state: State,
}

/// What is known of a blob's content.
#[derive(Debug)]
enum State {
    /// What the descriptor that came first claims.
    Unchecked { size: Option<u64> },
    /// The digest is right.
    Sound { size: u64, verity: [u8; 32] },
    /// Why it cannot be relied on.
    Broken(String),
}

impl Default for State {
    fn default() -> Self {
        State::Unchecked { size: None }
    }
}

impl Blob {
    fn is_sound(&self) -> bool {
        matches!(self.state, State::Sound { .. })
    }

    fn size(&self) -> Option<u64> {
        match self.state {
            State::Sound { size, .. } => Some(size),
            _ => None,
        }
    }

    fn verity(&self) -> Option<[u8; 32]> {
        match self.state {
            State::Sound { verity, .. } => Some(verity),
            _ => None,
        }
    }
}

struct Check<'a> {
    layout: &'a Layout,
    name: Option<&'a Name>,
    monitor: &'a Monitor<'a>,
    findings: Vec<Finding>,
    images: u64,
    /// Whether an image that is named is one of ours.
    is_ours: bool,
    documents: Documents<'a>,
    /// What the entries claim of the documents that they name.
    entries: Vec<(DocumentId, Claim)>,
    labels: Labels,
    /// By their numbers.
    blobs: Vec<Blob>,
    unchecked: Vec<BlobId>,
    /// Known once all documents have been read.
    holders: Holders,
    /// How many bytes have been read, and how many are to be.
    done: u64,
    total: u64,
}

impl<'a> Check<'a> {
    /// Finds the image that is to be checked, or all entries of the index.
    fn new(layout: &'a Layout, name: Option<&'a Name>, monitor: &'a Monitor<'a>) -> Result<Self> {
        // Before anything else takes memory, since this takes some.
        let is_ours = name.is_none_or(|name| Manifest::find(layout, name, None).is_ok());
        let mut documents = Documents::new(layout);
        let (mut findings, mut entries, mut named) = (Vec::new(), Vec::new(), Vec::new());
        let mut images = 0;
        let mut seen = HashSet::new();
        for listed in listed(layout, name)? {
            images += 1;
            let label = listed.label();
            let again = listed.tag.filter(|_| !seen.insert(label.clone()));
            let again = again.map(|tag| format!("index.json has the tag '{tag}' twice"));
            findings.extend(
                again.into_iter().chain(listed.warning).map(|message| {
                    Finding::new(Severity::Warning, message, [label.clone()].into())
                }),
            );
            match listed.descriptor {
                Ok(descriptor) => {
                    let link = documents.add(&descriptor);
                    entries.push((link.document, link.claim));
                    named.push((label, link.document));
                }
                Err(error) => {
                    let tags = [label].into();
                    findings.push(Finding::new(Severity::Error, error.to_string(), tags));
                }
            }
        }
        let labels = Labels::new(&named);
        let (blobs, unchecked, holders) = Default::default();
        let (done, total) = (0, 0);
        Ok(Check {
            layout,
            name,
            monitor,
            findings,
            images,
            is_ours,
            documents,
            entries,
            labels,
            blobs,
            unchecked,
            holders,
            done,
            total,
        })
    }

    fn find(&mut self, severity: Severity, message: impl Into<String>, tags: &Tags) {
        self.findings.push(Finding::new(severity, message, tags.clone()));
    }

    /// Notes what is wrong with a blob, or with what is known of it.
    fn blame(
        &mut self,
        blob: BlobId,
        found: impl IntoIterator<Item = (Severity, String)>,
    ) -> Result<()> {
        let mut found = found.into_iter().peekable();
        if found.peek().is_some() {
            let tags = self.labels.above(&self.documents, self.holders.get(blob))?;
            for (severity, message) in found {
                self.find(severity, message, &tags);
            }
        }
        Ok(())
    }

    fn blob(&self, digest: &Digest) -> Option<&Blob> {
        self.documents.blob(digest).map(|blob| &self.blobs[blob])
    }

    /// The blobs that this is true of.
    fn blobs_that(&self, is_so: impl Fn(&Blob) -> bool) -> Vec<BlobId> {
        (0..self.blobs.len()).filter(|&blob| is_so(&self.blobs[blob])).collect()
    }

    /// Reads the documents that have not been read, and notes the blobs that they refer to.
    fn read(&mut self) -> Result<()> {
        let alive = self.alive();
        let read = self.documents.read(&mut || alive())?;
        let known = self.blobs.len();
        self.blobs.resize_with(self.documents.digests().len(), Blob::default);
        self.unchecked.extend(known..self.blobs.len());
        let documents = read.iter().map(|id| self.documents.get(*id));
        let claims = documents.clone().flat_map(|document| document.claims());
        for claim in self.entries.iter().map(|(_, claim)| *claim).chain(claims) {
            let blob = &mut self.blobs[claim.blob];
            blob.is_manifest |= self.documents.media_type(&claim) == media_type::MANIFEST;
            if let State::Unchecked { size: size @ None } = &mut blob.state {
                *size = Some(claim.size);
                self.total = self.total.saturating_add(claim.size);
            }
        }
        for layer in documents.flat_map(|document| &document.layers) {
            let is_rootfs = self.documents.media_type(layer) == media_type::ROOTFS;
            self.blobs[layer.blob].is_rootfs |= is_rootfs;
        }
        Ok(())
    }

    /// Has blobs checked again that have changed, and read again what is a document of them.
    fn again(&mut self, blobs: &HashSet<BlobId>) {
        for &blob in blobs {
            self.blobs[blob].state = State::Unchecked { size: Some(0) };
            self.unchecked.push(blob);
        }
        self.documents.read_again(blobs);
    }

    /// Checks the digest of each blob that has not been checked; tells which are broken.
    fn check_blobs(&mut self) -> Result<Vec<BlobId>> {
        let mut broken = Vec::new();
        for blob in std::mem::take(&mut self.unchecked) {
            let digest = *self.documents.digest(blob);
            self.blobs[blob].state = match self.check_digest(&digest, self.total) {
                Ok((size, verity)) => State::Sound { size, verity },
                Err(error) if error.kind() == ErrorKind::Cancelled => return Err(error),
                Err(error) => {
                    broken.push(blob);
                    let mut why = error.to_string();
                    // There may be very many.
                    why.shrink_to_fit();
                    State::Broken(why)
                }
            };
        }
        Ok(broken)
    }

    /// Reads a whole blob and compares its digest; tells its size and fs-verity digest.
    fn check_digest(&mut self, digest: &Digest, total: u64) -> Result<(u64, [u8; 32])> {
        let (file, size) = self.layout.open_blob(digest)?;
        fault::point!("check blob");
        let before = self.done;
        let mut report = |read: u64| {
            let done = before.saturating_add(read);
            let total = total.max(done);
            self.monitor.report(Progress { stage: Stage::Check, done, total })
        };
        let verity = self.layout.measure(digest, &file, &mut report)?;
        self.done = before.saturating_add(size);
        Ok((size, verity))
    }

    /// Tells of blobs that are not what their digest or their size says.
    fn report_blobs(&mut self) -> Result<()> {
        let broken = self.blobs.iter().filter(|blob| matches!(blob.state, State::Broken(_)));
        self.findings.reserve_exact(broken.count());
        for blob in 0..self.blobs.len() {
            if let State::Broken(why) = &mut self.blobs[blob].state {
                let why = std::mem::take(why);
                self.blame(blob, [(Severity::Error, why)])?;
            }
        }
        self.report_sizes()
    }

    /// Tells of descriptors with a wrong size. That hurts whose descriptors they are.
    fn report_sizes(&mut self) -> Result<()> {
        let documents = (0..)
            .zip(self.documents.all())
            .flat_map(|(id, document)| document.claims().map(move |claim| (id, claim)));
        let claims = self.entries.iter().copied().chain(documents);
        let is_wrong = |(_, claim): &(DocumentId, Claim)| {
            self.blobs[claim.blob].size().is_some_and(|actual| actual != claim.size)
        };
        let mut wrong: BTreeMap<(BlobId, Severity, u64), Vec<DocumentId>> = BTreeMap::new();
        for (document, claim) in claims.filter(is_wrong) {
            let claimed = (claim.blob, self.size_matters(&claim), claim.size);
            wrong.entry(claimed).or_default().push(document);
        }
        for ((blob, severity, claimed), mut documents) in wrong {
            documents.sort_unstable();
            documents.dedup();
            let tags = self.labels.above(&self.documents, &documents)?;
            let digest = self.documents.digest(blob);
            let size = self.blobs[blob].size().unwrap_or_default();
            let message =
                format!("the blob {digest} has {size} bytes, and its descriptor says {claimed}");
            self.find(severity, message, &tags);
        }
        Ok(())
    }

    /// How bad it is that the size of a blob is not what is claimed: the reference gives data
    /// blobs the size before compression.
    fn size_matters(&self, claim: &Claim) -> Severity {
        match self.documents.media_type(claim) {
            media_type::DATA | media_type::DATA_ZSTD => Severity::Warning,
            _ => Severity::Error,
        }
    }

    /// Tells of documents that are not valid.
    fn report_documents(&mut self) -> Result<()> {
        let mut seen = Marks::default();
        for id in 0..self.documents.all().len() {
            let document = self.documents.get(id);
            let mut found = self.listed_again(document, &mut seen);
            // That a blob is broken has been told.
            if self.blobs[document.blob].is_sound() {
                found.extend(self.documents.why(id).map(|why| (Severity::Error, why)));
            }
            if !found.is_empty() {
                let tags = self.labels.above(&self.documents, &[id])?;
                for (severity, message) in found {
                    self.find(severity, message, &tags);
                }
            }
        }
        let documents = (0..).zip(self.documents.all());
        let deep: Vec<DocumentId> =
            documents.filter(|(_, document)| document.is_too_deep()).map(|(id, _)| id).collect();
        if !deep.is_empty() {
            let tags = self.labels.above(&self.documents, &deep)?;
            self.find(Severity::Error, too_deep().to_string(), &tags);
        }
        self.report_named()
    }

    /// Tells of blobs that a puzzlefs manifest lists more than once.
    fn listed_again(&self, document: &Document, seen: &mut Marks) -> Vec<(Severity, String)> {
        let is_rootfs = |claim: &Claim| self.documents.media_type(claim) == media_type::ROOTFS;
        if !document.layers.first().is_some_and(is_rootfs) {
            return Vec::new();
        }
        seen.clear();
        let again = document.layers.iter().filter(|layer| !seen.mark(layer.blob));
        let again: BTreeSet<_> = again.map(|layer| layer.blob).collect();
        let again = again.into_iter().map(|blob| {
            let digest = self.documents.digest(blob);
            let message = format!("a manifest lists the blob {digest} more than once");
            (Severity::Warning, message)
        });
        again.collect()
    }

    /// Whoever names an image expects one of ours.
    fn report_named(&mut self) -> Result<()> {
        let is_wrong = |document: &Document| document.failed() || document.is_too_deep();
        if let Some(name) = self.name
            && !self.is_ours
            && !self.documents.all().iter().any(is_wrong)
            && let Err(error) = Manifest::find(self.layout, name, None)
        {
            // The one that was named was the first to be added.
            let tags = self.labels.above(&self.documents, &[0])?;
            self.find(Severity::Error, error.to_string(), &tags);
        }
        Ok(())
    }

    /// Work whose share is not known beforehand calls this, by which it can be cancelled.
    fn alive(&self) -> impl Fn() -> Result<()> + use<'a> {
        let (done, monitor) = (self.done, self.monitor);
        move || monitor.report(Progress { stage: Stage::Check, done, total: done })
    }

    /// Checks the structure of each image whose documents are sound, then of the data blobs. Each
    /// blob is read once more, however many images have it.
    fn check_images(&mut self) -> Result<()> {
        let alive = self.alive();
        let mut images: BTreeMap<Option<BlobId>, Vec<BlobId>> = BTreeMap::new();
        for rootfs in self.blobs_that(|blob| blob.is_sound() && blob.is_rootfs) {
            images.insert(Some(rootfs), Vec::new());
        }
        for manifest in self.blobs_that(|blob| blob.is_sound() && blob.is_manifest) {
            let rootfs =
                self.rootfs_of(manifest).filter(|rootfs| images.contains_key(&Some(*rootfs)));
            images.entry(rootfs).or_default().push(manifest);
        }
        let mut needed = Needed::default();
        for (blob, manifests) in images {
            alive()?;
            let used = match blob {
                Some(blob) => self.check_rootfs(blob, &mut needed)?,
                None => None,
            };
            for manifest in manifests {
                alive()?;
                self.check_manifest(manifest, used.as_ref(), &mut needed)?;
            }
        }
        self.check_configs(needed.configs)?;
        self.report_packs(needed.packs)
    }

    /// Tells what is wrong with packs. That hurts whose metadata says that they are such packs:
    /// another's may say of the same blob what is not true.
    fn report_packs(&mut self, packs: Packs) -> Result<()> {
        let mut known: HashMap<Vec<BlobId>, Tags> = HashMap::new();
        for Fault { severity, message, claimed_by } in packs.into_faults() {
            let tags = match known.get(&claimed_by) {
                Some(tags) => tags.clone(),
                None => {
                    let holders = claimed_by.iter().flat_map(|blob| self.holders.get(*blob));
                    let holders: BTreeSet<DocumentId> = holders.copied().collect();
                    let holders: Vec<_> = holders.into_iter().collect();
                    let tags = self.labels.above(&self.documents, &holders)?;
                    known.insert(claimed_by, tags.clone());
                    tags
                }
            };
            self.find(severity, message, &tags);
        }
        Ok(())
    }

    /// The first layer of a manifest.
    fn rootfs_of(&self, manifest: BlobId) -> Option<BlobId> {
        let holders = self.holders.get(manifest).iter();
        let mut itself = holders
            .map(|holder| self.documents.get(*holder))
            .filter(|document| document.blob == manifest);
        itself.find_map(|document| document.layers.first()).map(|first| first.blob)
    }

    /// Checks metadata, and notes what it needs; tells the data blobs of it.
    fn check_rootfs(&mut self, blob: BlobId, needed: &mut Needed) -> Result<Option<Used>> {
        let digest = *self.documents.digest(blob);
        let size = self.blobs[blob].size().unwrap_or_default();
        let descriptor = Descriptor { media_type: media_type::ROOTFS.into(), digest, size };
        let rootfs = self
            .layout
            .read_blob(&descriptor, "rootfs")
            .and_then(|bytes| format::decode(&bytes))
            .map_err(|error| error.context(format_args!("the rootfs {digest}")));
        let rootfs = match rootfs {
            Ok(rootfs) => rootfs,
            Err(error) => {
                self.blame(blob, [(Severity::Error, error.to_string())])?;
                return Ok(None);
            }
        };
        let found = rootfs.blobs.iter().filter_map(|blob| self.check_verity(&rootfs, &blob.digest));
        let found: Vec<_> = found.map(|message| (Severity::Warning, message)).collect();
        self.blame(blob, found)?;
        let (used, parts) = (Used::by(&rootfs), Part::all(&rootfs));
        // The packs are read now, which takes memory of its own.
        drop(rootfs);
        self.check_parts(blob, parts, &mut needed.packs)?;
        Ok(Some(used))
    }

    /// Checks that packs are what the metadata `rootfs` claims, and have all that it refers to.
    fn check_parts(&mut self, rootfs: BlobId, parts: Vec<Part>, packs: &mut Packs) -> Result<()> {
        let alive = self.alive();
        let (mut first, mut count) = (None, 0);
        for part in parts {
            alive()?;
            let Some(blob) =
                self.documents.blob(&part.digest).filter(|&b| self.blobs[b].is_sound())
            else {
                continue;
            };
            let length = packs.length(self.layout, blob, &part, rootfs);
            if let Some(length) = length.filter(|&length| length < part.end) {
                first.get_or_insert((part, length));
                count += 1;
            }
        }
        let Some((Part { digest, end, .. }, length)) = first else { return Ok(()) };
        let more = match count {
            1 => String::new(),
            _ => format!("; of {} others they do, too", count - 1),
        };
        let rootfs_digest = self.documents.digest(rootfs);
        let message = format!(
            "the rootfs {rootfs_digest}: the data blob {digest}: it has {length} bytes of content, \
             and files refer to {end} of it{more}"
        );
        self.blame(rootfs, [(Severity::Error, message)])
    }

    fn check_verity(&self, rootfs: &Rootfs, blob: &Digest) -> Option<String> {
        let actual = self.blob(blob).and_then(Blob::verity);
        match (rootfs.verity.get(blob), actual) {
            (None, _) => Some(format!("the metadata has no fs-verity digest of the blob {blob}")),
            (Some(listed), Some(actual)) if *listed != actual => {
                Some(format!("the metadata's fs-verity digest of the blob {blob} is wrong"))
            }
            _ => None,
        }
    }

    /// Checks a manifest, and compares what it lists with what the metadata refers to, if that
    /// could be read.
    fn check_manifest(
        &mut self,
        blob: BlobId,
        used: Option<&Used>,
        needed: &mut Needed,
    ) -> Result<()> {
        let digest = *self.documents.digest(blob);
        let size = self.blobs[blob].size().unwrap_or_default();
        let media_type = media_type::MANIFEST.into();
        let found = match Manifest::read(self.layout, Descriptor { media_type, digest, size }) {
            Ok(manifest) => {
                let found = self.compare(&manifest, used);
                needed.configs.insert(manifest.config);
                found
            }
            // An image of another kind; its blobs have been checked.
            Err(error) if error.kind() == ErrorKind::InvalidInput => Vec::new(),
            Err(error) => vec![(Severity::Error, error.to_string())],
        };
        self.blame(blob, found)
    }

    fn compare(&self, manifest: &Manifest, used: Option<&Used>) -> Vec<(Severity, String)> {
        let mut found = Vec::new();
        let digest = manifest.descriptor.digest;
        if let (Some(annotated), Some(actual)) =
            (&manifest.rootfs_verity, self.blob(&manifest.rootfs.digest).and_then(Blob::verity))
            && *annotated != hex::encode(actual)
        {
            let message = format!(
                "the manifest {digest}: the fs-verity digest of the rootfs is not the annotated one"
            );
            found.push((Severity::Error, message));
        }
        let Some(used) = used else { return found };
        if let Err(error) = manifest.check_references(&used.in_order) {
            found.push((Severity::Error, error.to_string()));
        }
        let unused = manifest.data.iter().filter(|blob| !used.all.contains(&blob.digest)).count();
        if unused > 0 {
            let message =
                format!("the manifest {digest} lists {unused} data blobs that no file refers to");
            found.push((Severity::Warning, message));
        }
        found
    }

    fn check_configs(&mut self, configs: BTreeSet<Descriptor>) -> Result<()> {
        for config in configs {
            let Some(blob) = self.documents.blob(&config.digest) else { continue };
            // That the size is another one has been told.
            if self.blobs[blob].size() == Some(config.size)
                && let Err(error) = ImageConfig::read(self.layout, &config)
            {
                self.blame(blob, [(Severity::Error, error.to_string())])?;
            }
        }
        Ok(())
    }

    /// Checks the digests of the blobs that no image refers to; tells how many there are. One image
    /// alone has none.
    fn check_unreferenced(&mut self) -> Result<u64> {
        if self.name.is_some() {
            return Ok(0);
        }
        let mut digests = self.layout.blobs()?;
        digests.retain(|digest| self.documents.blob(digest).is_none());
        for digest in &digests {
            let Err(error) = self.check_digest(digest, self.done) else { continue };
            match error.kind() {
                ErrorKind::Cancelled => return Err(error),
                // Somebody collects garbage.
                _ if matches!(self.layout.blob_size(digest), Ok(None)) => {}
                _ => {
                    let error = error.advice("nothing that can be read refers to it");
                    self.find(Severity::Warning, error.to_string(), &Tags::default());
                }
            }
        }
        Ok(digests.len() as u64)
    }

    fn into_report(mut self, unreferenced: u64) -> FsckReport {
        self.findings.sort_by(|a, b| (a.severity, &a.message).cmp(&(b.severity, &b.message)));
        self.findings.dedup();
        FsckReport {
            findings: self.findings,
            images: self.images,
            blobs: self.blobs.len() as u64,
            bytes: self.blobs.iter().filter_map(Blob::size).sum(),
            unreferenced,
        }
    }
}

/// The data blobs that metadata refers to, each once.
struct Used {
    in_order: Vec<Digest>,
    all: HashSet<Digest>,
}

impl Used {
    fn by(rootfs: &Rootfs) -> Self {
        let mut all = HashSet::new();
        let digests = rootfs.blobs.iter().map(|blob| blob.digest);
        Used { in_order: digests.filter(|digest| all.insert(*digest)).collect(), all }
    }
}

/// What images need.
#[derive(Default)]
struct Needed {
    configs: BTreeSet<Descriptor>,
    packs: Packs,
}

/// Reads `LAYOUT`, `LAYOUT:TAG` or `LAYOUT@sha256:HEX`: a folder that exists is a layout.
pub fn parse_target(text: &Path) -> Result<(std::path::PathBuf, Option<Name>)> {
    if text.is_dir() {
        return Ok((text.to_owned(), None));
    }
    match Reference::parse(text) {
        Ok(Reference { layout, name }) => Ok((layout, Some(name))),
        Err(_) => Ok((text.to_owned(), None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_some_tags() {
        let rows: &[(usize, Severity, &str)] = &[
            (0, Severity::Error, "error: it is\\n bad"),
            (1, Severity::Warning, "warning: it is\\n bad (hurts: t0)"),
            (2, Severity::Repaired, "repaired: it is\\n bad (hurt: t0, t1)"),
            (100, Severity::Error, ", t98, t99)"),
            (101, Severity::Error, ", t98, t99 and 1 more)"),
            (14_000, Severity::Error, ", t98, t99 and 13900 more)"),
        ];
        for (count, severity, expected) in rows {
            let tags = (0..*count).map(|number| format!("t{number}").into()).collect();
            let text = Finding::new(*severity, "it is\n bad", tags).to_string();
            assert!(text.ends_with(expected), "{text}");
        }
    }
}
