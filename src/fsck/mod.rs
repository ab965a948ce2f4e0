//! Checking a layout: each digest, each structure, and that nothing is missing; and repairing it.

mod repair;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;
use std::path::{Path, PathBuf};

use crate::digest::Digest;
use crate::error::{Error, ErrorKind, OneLine, Result};
use crate::fault;
use crate::format;
use crate::layout::{
    Descriptor, ImageConfig, Layout, Manifest, Name, Reference, ReferencedBlobs, media_type,
};
use crate::pack::{FRAME_SIZE, PackReader};
use crate::progress::{Monitor, Progress, Stage};
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
    /// The tags of the images that it hurts; an image without a tag is named by its digest.
    pub tags: Vec<String>,
}

impl Finding {
    fn new(severity: Severity, message: impl Into<String>, tags: Vec<String>) -> Self {
        Finding { severity, message: OneLine(&message.into()).to_string(), tags }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.severity, self.message)?;
        let hurts = if self.severity == Severity::Repaired { "hurt" } else { "hurts" };
        match self.tags.as_slice() {
            [] => Ok(()),
            tags => write!(f, " ({hurts}: {})", OneLine(&tags.join(", "))),
        }
    }
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
/// cancels: what is repaired by then stays so.
pub fn fsck(
    path: &Path,
    name: Option<&Name>,
    options: &FsckOptions,
    monitor: &Monitor<'_>,
) -> Result<FsckReport> {
    let layout = Layout::open(path)?;
    let mut repair = Repair::new(&layout, &options.repair_from)?;
    let mut check = Check::new(&layout, name, monitor);
    let images = loop {
        let images = check.collect()?;
        check.check_blobs()?;
        // What is repaired may refer to more.
        if !repair.run(&mut check)? {
            break images;
        }
    };
    check.check_images()?;
    let unreferenced = check.check_unreferenced()?;
    let (blobs, bytes) = (check.blobs.len() as u64, check.bytes());
    let mut findings = check.findings;
    findings.extend(repair.findings);
    findings.sort_by(|a, b| (a.severity, &a.message).cmp(&(b.severity, &b.message)));
    findings.dedup();
    Ok(FsckReport { findings, images, blobs, bytes, unreferenced })
}

fn named(layout: &Layout, name: &Name) -> Result<(String, Descriptor)> {
    let index = layout.index()?;
    let label = match name {
        Name::Tag(tag) => tag.clone(),
        Name::Digest(digest) => digest.to_string(),
    };
    let listed = index.entries().find_map(|(tag, descriptor)| match (name, descriptor) {
        (Name::Tag(wanted), descriptor) if tag == Some(wanted) => Some(descriptor),
        (Name::Digest(wanted), Ok(found)) if found.digest == *wanted => Some(Ok(found)),
        _ => None,
    });
    match listed {
        Some(descriptor) => Ok((label, descriptor?)),
        // The one place that knows how to say that there is none, and to find one by its digest.
        None => Ok((label, Manifest::find(layout, name, None)?.descriptor)),
    }
}

/// What a blob is to those that refer to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Role {
    /// The metadata of a puzzlefs image.
    Rootfs,
    /// Anything else; what a data blob is, is said by the metadata.
    Other,
}

/// A blob that some image refers to.
#[derive(Debug, Default)]
struct Referenced {
    /// One for each size and type that is claimed; none of what is only mentioned.
    descriptors: BTreeSet<Descriptor>,
    roles: BTreeSet<Role>,
    tags: BTreeSet<String>,
    state: State,
}

/// What is known of a blob's content.
#[derive(Debug, Default)]
enum State {
    #[default]
    Unchecked,
    /// The digest is right.
    Sound { size: u64, verity: [u8; 32] },
    /// Why it cannot be relied on.
    Broken(String),
}

impl Referenced {
    fn is_sound(&self) -> bool {
        matches!(self.state, State::Sound { .. })
    }

    fn verity(&self) -> Option<[u8; 32]> {
        match self.state {
            State::Sound { verity, .. } => Some(verity),
            _ => None,
        }
    }

    fn claimed_size(&self) -> u64 {
        self.descriptors.first().map_or(0, |descriptor| descriptor.size)
    }
}

struct Check<'a> {
    layout: &'a Layout,
    name: Option<&'a Name>,
    monitor: &'a Monitor<'a>,
    findings: Vec<Finding>,
    blobs: BTreeMap<Digest, Referenced>,
    /// Documents that could not be read, and for which tag that is told.
    unread: Vec<(Digest, String, String)>,
    /// How many bytes have been read.
    done: u64,
}

impl<'a> Check<'a> {
    fn new(layout: &'a Layout, name: Option<&'a Name>, monitor: &'a Monitor<'a>) -> Self {
        Check {
            layout,
            name,
            monitor,
            findings: Vec::new(),
            blobs: BTreeMap::new(),
            unread: Vec::new(),
            done: 0,
        }
    }

    fn bytes(&self) -> u64 {
        let size = |blob: &Referenced| match blob.state {
            State::Sound { size, .. } => size,
            _ => 0,
        };
        self.blobs.values().map(size).sum()
    }

    fn find<'t>(
        &mut self,
        severity: Severity,
        message: impl Into<String>,
        tags: impl IntoIterator<Item = &'t String>,
    ) {
        let tags = tags.into_iter().cloned().collect();
        self.findings.push(Finding::new(severity, message, tags));
    }

    /// Notes all blobs that images refer to; tells how many images there are.
    fn collect(&mut self) -> Result<u64> {
        self.findings.clear();
        self.unread.clear();
        let Some(name) = self.name else {
            return self.collect_all();
        };
        let (label, descriptor) = named(self.layout, name)?;
        self.collect_image(&[(label.clone(), descriptor)]);
        // Whoever names an image expects one of ours.
        if self.unread.is_empty()
            && let Err(error) = Manifest::find(self.layout, name, None)
        {
            self.find(Severity::Error, error.to_string(), [&label]);
        }
        Ok(1)
    }

    fn collect_all(&mut self) -> Result<u64> {
        let mut images = 0;
        let index = self.layout.index()?;
        let mut seen = HashSet::new();
        // Each is read once, however many entries refer to it.
        let mut documents: BTreeMap<_, Vec<(String, Descriptor)>> = BTreeMap::new();
        for (tag, descriptor) in index.entries() {
            images += 1;
            let label = match (tag, &descriptor) {
                (Some(tag), _) => tag.to_owned(),
                (None, Ok(descriptor)) => descriptor.digest.to_string(),
                (None, Err(_)) => "an image without a tag".to_owned(),
            };
            if tag.is_some() && !seen.insert(label.clone()) {
                let message = format!("index.json has the tag '{label}' twice");
                self.find(Severity::Warning, message, [&label]);
            }
            match descriptor {
                Ok(descriptor) => {
                    let key = ReferencedBlobs::key(&descriptor);
                    documents.entry(key).or_default().push((label, descriptor));
                }
                Err(error) => self.find(Severity::Error, error.to_string(), [&label]),
            }
        }
        for entries in documents.values() {
            self.collect_image(entries);
        }
        Ok(images)
    }

    /// Notes a manifest or index, to which these entries refer, and all that it refers to.
    fn collect_image(&mut self, entries: &[(String, Descriptor)]) {
        let Some((_, descriptor)) = entries.first() else { return };
        let mut found = ReferencedBlobs::default();
        let mut unread = Vec::new();
        let walked = found.walk(self.layout, descriptor, &mut |document, error| {
            unread.push((document.digest, error.to_string()));
            Ok(())
        });
        walked.expect("it goes on whatever fails");
        // What is mentioned need not be a blob of this layout.
        found.mentioned.retain(|digest| !matches!(self.layout.blob_size(digest), Ok(None)));
        for (label, descriptor) in entries {
            self.note(label, descriptor, Role::Other);
            for document in &found.documents {
                self.note(label, document, Role::Other);
            }
            for layers in &found.images {
                self.note_layers(label, layers);
            }
            for digest in &found.mentioned {
                self.blobs.entry(*digest).or_default().tags.insert(label.clone());
            }
            let unread = unread.iter().cloned();
            self.unread.extend(unread.map(|(digest, error)| (digest, error, label.clone())));
        }
    }

    fn note_layers(&mut self, label: &String, layers: &[Descriptor]) {
        let is_puzzlefs =
            layers.first().is_some_and(|first| first.media_type == media_type::ROOTFS);
        let mut seen = HashSet::new();
        for layer in layers {
            let is_rootfs = layer.media_type == media_type::ROOTFS;
            let role = if is_rootfs { Role::Rootfs } else { Role::Other };
            self.note(label, layer, role);
            if is_puzzlefs && !seen.insert(layer.digest) {
                let message = format!("a manifest lists the blob {} more than once", layer.digest);
                self.find(Severity::Warning, message, [label]);
            }
        }
    }

    fn note(&mut self, label: &str, descriptor: &Descriptor, role: Role) {
        let entry = self.blobs.entry(descriptor.digest).or_default();
        entry.descriptors.insert(descriptor.clone());
        entry.roles.insert(role);
        entry.tags.insert(label.to_owned());
    }

    /// Checks the digest of each blob that has not been checked.
    fn check_blobs(&mut self) -> Result<()> {
        let total = self.blobs.values().map(Referenced::claimed_size).fold(0, u64::saturating_add);
        let unchecked = |blob: &Referenced| matches!(blob.state, State::Unchecked);
        let pending: Vec<_> = self
            .blobs
            .iter()
            .filter(|(_, blob)| unchecked(blob))
            .map(|(digest, _)| *digest)
            .collect();
        for digest in pending {
            let state = match self.check_digest(&digest, total) {
                Ok((size, verity)) => State::Sound { size, verity },
                Err(error) if error.kind() == ErrorKind::Cancelled => return Err(error),
                Err(error) => State::Broken(error.to_string()),
            };
            self.blobs.get_mut(&digest).expect("it was just looked at").state = state;
        }
        Ok(())
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

    /// Tells of blobs that are not what their digest or their size says, and of documents that
    /// are not valid.
    fn report_blobs(&mut self) {
        for (digest, blob) in &self.blobs {
            let mut find = |severity, message| {
                let tags = blob.tags.iter().cloned().collect();
                self.findings.push(Finding::new(severity, message, tags));
            };
            let size = match &blob.state {
                State::Sound { size, .. } => *size,
                State::Broken(why) => {
                    find(Severity::Error, why.clone());
                    continue;
                }
                State::Unchecked => unreachable!("all are checked by now"),
            };
            for wrong in blob.descriptors.iter().filter(|descriptor| descriptor.size != size) {
                // The reference gives data blobs the size before compression.
                let is_data =
                    [media_type::DATA, media_type::DATA_ZSTD].contains(&wrong.media_type.as_str());
                let severity = if is_data { Severity::Warning } else { Severity::Error };
                let claimed = wrong.size;
                let message = format!(
                    "the blob {digest} has {size} bytes, and its descriptor says {claimed}"
                );
                find(severity, message);
            }
        }
        for (digest, message, label) in std::mem::take(&mut self.unread) {
            // That a blob is broken has been told.
            if self.blobs.get(&digest).is_none_or(Referenced::is_sound) {
                self.find(Severity::Error, message, [&label]);
            }
        }
    }

    /// Work whose share is not known beforehand calls this, by which it can be cancelled.
    fn alive(&self) -> impl Fn() -> Result<()> + use<'a> {
        let (done, monitor) = (self.done, self.monitor);
        move || monitor.report(Progress { stage: Stage::Check, done, total: done })
    }

    /// Checks the structure of each image whose documents are sound, then of the data blobs.
    fn check_images(&mut self) -> Result<()> {
        self.report_blobs();
        let alive = self.alive();
        let roots: Vec<_> = self
            .blobs
            .values()
            .filter(|blob| blob.is_sound() && blob.roles.contains(&Role::Rootfs))
            .filter_map(|blob| Some((blob.descriptors.first()?.clone(), blob.tags.clone())))
            .collect();
        let mut data: BTreeMap<(Digest, bool), u64> = BTreeMap::new();
        for (descriptor, tags) in roots {
            alive()?;
            let rootfs = self
                .layout
                .open_blob(&descriptor.digest)
                .and_then(|(_, size)| {
                    self.layout.read_blob(&Descriptor { size, ..descriptor.clone() }, "rootfs")
                })
                .and_then(|bytes| format::decode(&bytes))
                .map_err(|error| error.context(format_args!("the rootfs {}", descriptor.digest)));
            match rootfs {
                Ok(rootfs) => self.check_rootfs(&rootfs, &tags, &mut data),
                Err(error) => self.find(Severity::Error, error.to_string(), &tags),
            }
        }
        for ((digest, compressed), needed) in data {
            alive()?;
            let tags = match self.blobs.get(&digest) {
                Some(blob) if blob.is_sound() => blob.tags.clone(),
                _ => continue,
            };
            for (severity, error) in check_pack(self.layout, &digest, compressed, needed) {
                self.find(severity, format!("the data blob {digest}: {error}"), &tags);
            }
        }
        self.check_manifests();
        Ok(())
    }

    fn check_rootfs(
        &mut self,
        rootfs: &format::Rootfs,
        tags: &BTreeSet<String>,
        data: &mut BTreeMap<(Digest, bool), u64>,
    ) {
        for extent in rootfs.tree.inodes().iter().filter_map(|inode| inode.file()).flatten() {
            let blob = rootfs.blobs[extent.blob as usize];
            let needed = data.entry((blob.digest, blob.compressed)).or_default();
            *needed = (*needed).max(extent.offset + extent.length);
        }
        for blob in &rootfs.blobs {
            let actual = self.blobs.get(&blob.digest).and_then(Referenced::verity);
            match (rootfs.verity.get(&blob.digest), actual) {
                (None, _) => {
                    let message =
                        format!("the metadata has no fs-verity digest of the blob {}", blob.digest);
                    self.find(Severity::Warning, message, tags);
                }
                (Some(listed), Some(actual)) if *listed != actual => {
                    let message = format!(
                        "the metadata's fs-verity digest of the blob {} is wrong",
                        blob.digest
                    );
                    self.find(Severity::Warning, message, tags);
                }
                _ => {}
            }
        }
    }

    /// Compares what manifests list with what metadata refers to.
    fn check_manifests(&mut self) {
        let is_manifest = |claim: &Descriptor| claim.media_type == media_type::MANIFEST;
        let manifests: Vec<_> = self
            .blobs
            .iter()
            .filter(|(_, blob)| blob.is_sound() && blob.descriptors.iter().any(is_manifest))
            .map(|(digest, blob)| (*digest, blob.tags.clone()))
            .collect();
        for (digest, tags) in manifests {
            let reference = Name::Digest(digest);
            let manifest = match Manifest::find(self.layout, &reference, None) {
                Ok(manifest) => manifest,
                // An image of another kind; its blobs have been checked.
                Err(error) if error.kind() == ErrorKind::InvalidInput => continue,
                Err(error) => {
                    self.find(Severity::Error, error.to_string(), &tags);
                    continue;
                }
            };
            for (severity, message) in self.check_manifest(&manifest) {
                self.find(severity, message, &tags);
            }
            if self.blobs.get(&manifest.config.digest).is_some_and(Referenced::is_sound)
                && let Err(error) = ImageConfig::read(self.layout, &manifest.config)
            {
                self.find(Severity::Error, error.to_string(), &tags);
            }
        }
    }

    fn check_manifest(&self, manifest: &Manifest) -> Vec<(Severity, String)> {
        let mut found = Vec::new();
        let Some(root) = self.blobs.get(&manifest.rootfs.digest).filter(|blob| blob.is_sound())
        else {
            return found;
        };
        if let (Some(annotated), Some(actual)) = (&manifest.rootfs_verity, root.verity())
            && *annotated != hex::encode(actual)
        {
            let message = format!(
                "the manifest {}: the fs-verity digest of the rootfs is not the annotated one",
                manifest.descriptor.digest
            );
            found.push((Severity::Error, message));
        }
        let bytes = self.layout.read_blob(&manifest.rootfs, "rootfs");
        let Ok(rootfs) = bytes.and_then(|bytes| format::decode(&bytes)) else { return found };
        if let Err(error) = manifest.check_references(&rootfs) {
            found.push((Severity::Error, error.to_string()));
        }
        let used: HashSet<_> = rootfs.blobs.iter().map(|blob| blob.digest).collect();
        let unused = manifest.data.iter().filter(|blob| !used.contains(&blob.digest)).count();
        if unused > 0 {
            let message = format!(
                "the manifest {} lists {unused} data blobs that no file refers to",
                manifest.descriptor.digest
            );
            found.push((Severity::Warning, message));
        }
        found
    }

    /// Checks the digests of the blobs that no image refers to; tells how many there are. One image
    /// alone has none.
    fn check_unreferenced(&mut self) -> Result<u64> {
        if self.name.is_some() {
            return Ok(0);
        }
        let mut digests = self.layout.blobs()?;
        digests.retain(|digest| !self.blobs.contains_key(digest));
        for digest in &digests {
            let Err(error) = self.check_digest(digest, self.done) else { continue };
            match error.kind() {
                ErrorKind::Cancelled => return Err(error),
                // Somebody collects garbage.
                _ if matches!(self.layout.blob_size(digest), Ok(None)) => {}
                _ => {
                    let error = error.advice("nothing that can be read refers to it");
                    self.find(Severity::Warning, error.to_string(), []);
                }
            }
        }
        Ok(digests.len() as u64)
    }
}

/// Reads all of a data blob: its frames, and whether its chunk index tells the truth.
fn check_pack(
    layout: &Layout,
    digest: &Digest,
    compressed: bool,
    needed: u64,
) -> Vec<(Severity, Error)> {
    let mut found = Vec::new();
    let mut check = || -> Result<()> {
        let (file, size) = layout.open_blob(digest)?;
        let pack = PackReader::open(file, size, compressed)?;
        if needed > pack.content_length() {
            let length = pack.content_length();
            return Err(Error::corrupt(format!(
                "it has {length} bytes of content, and files refer to {needed} of it"
            )));
        }
        let chunks = pack.chunks()?.unwrap_or_default();
        let mut claims = Claims { chunks: chunks.iter(), buffer: Vec::new(), wrong: 0 };
        if let Some(frames) = pack.frame_count() {
            for frame in 0..frames {
                claims.content(&pack.read_frame(frame)?);
            }
        } else if !chunks.is_empty() {
            let length: u64 = chunks.iter().map(|chunk| u64::from(chunk.length)).sum();
            let mut window = vec![0; FRAME_SIZE];
            for offset in (0..length).step_by(FRAME_SIZE) {
                let part = &mut window[..FRAME_SIZE.min((length - offset) as usize)];
                pack.read_raw(part, offset)?;
                claims.content(part);
            }
        }
        if claims.wrong > 0 {
            let error = format!("its index is wrong about {} chunks", claims.wrong);
            found.push((Severity::Warning, Error::corrupt(error)));
        }
        Ok(())
    };
    if let Err(error) = check() {
        found.push((Severity::Error, error));
    }
    found
}

/// The chunks that an index claims, compared with the content as it comes.
struct Claims<'a> {
    chunks: std::slice::Iter<'a, crate::chunk::Chunk>,
    buffer: Vec<u8>,
    wrong: u64,
}

impl Claims<'_> {
    fn content(&mut self, bytes: &[u8]) {
        if self.chunks.as_slice().is_empty() {
            return;
        }
        self.buffer.extend_from_slice(bytes);
        let mut start = 0;
        while let Some(chunk) = self.chunks.as_slice().first()
            && start + chunk.length as usize <= self.buffer.len()
        {
            let end = start + chunk.length as usize;
            self.wrong += u64::from(Digest::of(&self.buffer[start..end]) != chunk.digest);
            start = end;
            self.chunks.next();
        }
        self.buffer.drain(..start);
    }
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
