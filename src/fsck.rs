//! Checking a layout: each digest, each structure, and that nothing is missing.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;
use std::path::Path;

use crate::digest::{Digest, FsVerity, Hasher};
use crate::error::{Error, ErrorKind, OneLine, Result};
use crate::fault;
use crate::format;
use crate::layout::{
    Descriptor, ImageConfig, Layout, Manifest, Name, Reference, ReferencedBlobs, media_type,
};
use crate::pack::{FRAME_SIZE, PackReader};
use crate::progress::{Monitor, Progress, Stage};

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Something is lost or cannot be trusted.
    Error,
    /// Something is not as it should be, but everything can be read.
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
        })
    }
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong, in one line.
    pub message: String,
    /// The tags of the images that it hurts; an image without a tag is named by its digest.
    pub tags: Vec<String>,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.severity, self.message)?;
        match self.tags.as_slice() {
            [] => Ok(()),
            tags => write!(f, " (hurts: {})", OneLine(&tags.join(", "))),
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
    /// Blobs of the layout that no image refers to; they are not checked.
    pub unreferenced: u64,
}

impl FsckReport {
    /// Whether there are no errors; there may be warnings.
    pub fn is_clean(&self) -> bool {
        self.findings.iter().all(|finding| finding.severity != Severity::Error)
    }
}

/// Checks the layout at `path`, or only the image called `name` in it.
///
/// What is wrong with blobs is in the report. Fails if there is no layout, its index cannot be
/// read, there is no such image, or the caller cancels.
pub fn fsck(path: &Path, name: Option<&Name>, monitor: &Monitor<'_>) -> Result<FsckReport> {
    let layout = Layout::open(path)?;
    let mut check = Check {
        layout: &layout,
        findings: Vec::new(),
        blobs: BTreeMap::new(),
        mentioned: HashSet::new(),
    };
    let images = match name {
        Some(name) => {
            let (label, descriptor) = named(&layout, name)?;
            check.collect(&[(label.clone(), descriptor)]);
            // Whoever names an image expects one of ours.
            if let Err(error) = Manifest::find(&layout, name, None) {
                check.find(Severity::Error, error.to_string(), [&label]);
            }
            1
        }
        None => check.collect_all()?,
    };
    let (blobs, bytes) = check.check_blobs(monitor)?;
    // Its share of the work is not known beforehand; it can be cancelled all the same.
    check.check_images(&|| {
        monitor.report(Progress { stage: Stage::Check, done: bytes, total: bytes })
    })?;
    let unreferenced = if name.is_none() { check.count_unreferenced()? } else { 0 };
    let mut findings = check.findings;
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
#[derive(Debug)]
struct Referenced {
    /// One for each size and type that is claimed.
    descriptors: BTreeSet<Descriptor>,
    roles: BTreeSet<Role>,
    tags: BTreeSet<String>,
    /// Whether size and digest are right.
    sound: bool,
    verity: Option<[u8; 32]>,
}

impl Referenced {
    fn descriptor(&self) -> &Descriptor {
        self.descriptors.first().expect("one made it known")
    }
}

struct Check<'a> {
    layout: &'a Layout,
    findings: Vec<Finding>,
    blobs: BTreeMap<Digest, Referenced>,
    /// What documents mention that are of a kind unknown here.
    mentioned: HashSet<Digest>,
}

impl Check<'_> {
    fn find<'t>(
        &mut self,
        severity: Severity,
        message: impl Into<String>,
        tags: impl IntoIterator<Item = &'t String>,
    ) {
        let tags = tags.into_iter().cloned().collect();
        let message = OneLine(&message.into()).to_string();
        self.findings.push(Finding { severity, message, tags });
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
            self.collect(entries);
        }
        Ok(images)
    }

    /// Notes a manifest or index, to which these entries refer, and all that it refers to.
    fn collect(&mut self, entries: &[(String, Descriptor)]) {
        let Some((_, descriptor)) = entries.first() else { return };
        let found = ReferencedBlobs::read(self.layout, descriptor);
        for (label, descriptor) in entries {
            self.note(label, descriptor, Role::Other);
            match &found {
                Ok(found) => {
                    for document in &found.documents {
                        self.note(label, document, Role::Other);
                    }
                    for layers in &found.images {
                        self.note_layers(label, layers);
                    }
                }
                Err(error) => self.find(Severity::Error, error.to_string(), [label]),
            }
        }
        self.mentioned.extend(found.into_iter().flat_map(|found| found.mentioned));
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
        let entry = self.blobs.entry(descriptor.digest).or_insert_with(|| Referenced {
            descriptors: BTreeSet::new(),
            roles: BTreeSet::new(),
            tags: BTreeSet::new(),
            sound: false,
            verity: None,
        });
        entry.descriptors.insert(descriptor.clone());
        entry.roles.insert(role);
        entry.tags.insert(label.to_owned());
    }

    /// Checks the digest of each blob; tells how many blobs and bytes that was.
    fn check_blobs(&mut self, monitor: &Monitor<'_>) -> Result<(u64, u64)> {
        let size = |blob: &Referenced| blob.descriptor().size;
        let total = self.blobs.values().map(size).fold(0, u64::saturating_add);
        let mut done = 0;
        for digest in self.blobs.keys().copied().collect::<Vec<_>>() {
            let result = check_digest(self.layout, &digest);
            let blob = self.blobs.get_mut(&digest).expect("it was just looked at");
            let tags = blob.tags.clone();
            match result {
                Ok((size, verity)) => {
                    done += size;
                    (blob.sound, blob.verity) = (true, Some(verity));
                    for wrong in blob.descriptors.clone().iter().filter(|d| d.size != size) {
                        // The reference gives data blobs the size before compression.
                        let is_data = [media_type::DATA, media_type::DATA_ZSTD]
                            .contains(&wrong.media_type.as_str());
                        let severity = if is_data { Severity::Warning } else { Severity::Error };
                        let claimed = wrong.size;
                        let message = format!(
                            "the blob {digest} has {size} bytes, and its descriptor says {claimed}"
                        );
                        self.find(severity, message, &tags);
                    }
                }
                Err(error) => self.find(Severity::Error, error.to_string(), &tags),
            }
            monitor.report(Progress { stage: Stage::Check, done, total: total.max(done) })?;
        }
        Ok((self.blobs.len() as u64, done))
    }

    /// Checks the structure of each image whose documents are sound, then of the data blobs.
    fn check_images(&mut self, alive: &dyn Fn() -> Result<()>) -> Result<()> {
        let roots: Vec<_> = self
            .blobs
            .values()
            .filter(|blob| blob.sound && blob.roles.contains(&Role::Rootfs))
            .map(|blob| (blob.descriptor().clone(), blob.tags.clone()))
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
                Some(blob) if blob.sound => blob.tags.clone(),
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
            let actual = self.blobs.get(&blob.digest).and_then(|known| known.verity);
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
            .filter(|(_, blob)| blob.sound && blob.descriptors.iter().any(is_manifest))
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
            if self.blobs.get(&manifest.config.digest).is_some_and(|config| config.sound)
                && let Err(error) = ImageConfig::read(self.layout, &manifest.config)
            {
                self.find(Severity::Error, error.to_string(), &tags);
            }
        }
    }

    fn check_manifest(&self, manifest: &Manifest) -> Vec<(Severity, String)> {
        let mut found = Vec::new();
        let Some(root) = self.blobs.get(&manifest.rootfs.digest).filter(|blob| blob.sound) else {
            return found;
        };
        if let (Some(annotated), Some(actual)) = (&manifest.rootfs_verity, root.verity)
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

    fn count_unreferenced(&self) -> Result<u64> {
        let digests = self.layout.blobs()?;
        let known =
            |digest: &Digest| self.blobs.contains_key(digest) || self.mentioned.contains(digest);
        Ok(digests.iter().filter(|digest| !known(digest)).count() as u64)
    }
}

/// Reads a whole blob and compares its digest; tells its size and fs-verity digest.
fn check_digest(layout: &Layout, digest: &Digest) -> Result<(u64, [u8; 32])> {
    use std::io::Read;
    let (mut file, size) = layout.open_blob(digest)?;
    fault::point!("check blob");
    let (mut hasher, mut verity) = (Hasher::default(), FsVerity::default());
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => {
                hasher.update(&buffer[..length]);
                verity.update(&buffer[..length]);
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Error::io("read the blob", layout.blob_path(digest), error)),
        }
    }
    if hasher.finish() == *digest {
        return Ok((size, verity.finish()));
    }
    Err(Error::corrupt(format!("the blob {digest} does not have this digest: it is damaged")))
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
