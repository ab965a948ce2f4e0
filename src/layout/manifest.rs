//! The image manifest (OCI image-spec, manifest.md) of a puzzlefs image.

use std::collections::{BTreeMap, HashSet};
use std::fmt;

use oci_spec::image::{Descriptor as OciDescriptor, ImageIndex};
use serde::de::{Deserialize, Deserializer, SeqAccess, Visitor};
use serde_json::{Value, json};

use super::{Descriptor, Layout, Listed, Name, to_bytes};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};

/// Media types.
pub mod media_type {
    /// An image index.
    pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
    /// An image manifest.
    pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    /// An image index as Docker has it.
    pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// An image manifest as Docker has it.
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    /// An image configuration.
    pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    /// No content at all, as where a configuration is called for that there is not.
    pub const EMPTY: &str = "application/vnd.oci.empty.v1+json";
    /// The metadata of a puzzlefs image.
    pub const ROOTFS: &str = "application/vnd.puzzlefs.image.rootfs.v1";
    /// File data, raw.
    pub const DATA: &str = "application/vnd.puzzlefs.image.filedata.v1";
    /// File data in the Zstandard Seekable Format, or (as the reference implementation has it)
    /// raw where that is smaller.
    pub const DATA_ZSTD: &str = "application/vnd.puzzlefs.image.filedata.v1+zstd";

    pub(crate) fn text(media_type: &oci_spec::image::MediaType) -> std::borrow::Cow<'static, str> {
        let known = [DATA, DATA_ZSTD, ROOTFS, MANIFEST, CONFIG, INDEX];
        let text = media_type.to_string();
        let known = known.into_iter().find(|known| *known == text);
        known.map_or(text.into(), Into::into)
    }
}

/// The annotation of the rootfs descriptor with the fs-verity digest of that blob, in hex.
pub const VERITY: &str = "io.puzzlefsoci.puzzlefs.puzzlefs_verity_root_hash";
/// The manifest's annotation with the mean size of the image's packs, in bytes.
pub const PACK_SIZE: &str = "io.puzzlefsoci.libpuzzlefs.pack_size";

/// How deep indexes may be nested in indexes.
pub(super) const INDEX_DEPTH: usize = 4;

/// A manifest as far as it matters here.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// What refers to this manifest.
    pub descriptor: Descriptor,
    /// The configuration.
    pub config: Descriptor,
    /// The metadata of the file system.
    pub rootfs: Descriptor,
    /// The fs-verity digest of the metadata in hex, as annotated.
    pub rootfs_verity: Option<String>,
    /// The data blobs, in the manifest's order.
    pub data: Vec<Descriptor>,
    /// The annotations.
    pub annotations: BTreeMap<String, String>,
}

/// A platform, as an image index distinguishes images by: `OS/ARCHITECTURE[/VARIANT]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Platform {
    /// The operating system, as Go's GOOS.
    pub os: String,
    /// The architecture, as Go's GOARCH.
    pub architecture: String,
    /// The variant of the architecture, such as `v8`.
    pub variant: Option<String>,
}

impl Platform {
    /// Reads `OS/ARCHITECTURE[/VARIANT]`.
    pub fn parse(text: &str) -> Result<Self> {
        match text.split('/').collect::<Vec<_>>()[..] {
            [os, architecture, ref rest @ ..]
                if rest.len() <= 1 && !text.split('/').any(str::is_empty) =>
            {
                Ok(Platform {
                    os: os.to_owned(),
                    architecture: architecture.to_owned(),
                    variant: rest.first().map(|&variant| variant.to_owned()),
                })
            }
            _ => Err(Error::invalid(format!(
                "'{text}' is no platform: expected OS/ARCHITECTURE[/VARIANT]"
            ))),
        }
    }

    /// The platform of this machine.
    pub fn host() -> Self {
        Platform {
            os: "linux".to_owned(),
            architecture: host_architecture().to_owned(),
            variant: None,
        }
    }

    fn of(platform: &oci_spec::image::Platform) -> Self {
        Platform {
            os: platform.os().to_string(),
            architecture: platform.architecture().to_string(),
            variant: platform.variant().clone(),
        }
    }

    fn matches(&self, platform: &oci_spec::image::Platform) -> bool {
        platform.os().to_string() == self.os
            && platform.architecture().to_string() == self.architecture
            && (self.variant.is_none() || self.variant == *platform.variant())
    }
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.as_ref().map_or(Ok(()), |variant| write!(f, "/{variant}"))
    }
}

/// This machine's architecture as Go's GOARCH spells it, which OCI asks for.
pub fn host_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "x86" => "386",
        "aarch64" => "arm64",
        "powerpc64" if cfg!(target_endian = "little") => "ppc64le",
        "powerpc64" => "ppc64",
        "loongarch64" => "loong64",
        other => other,
    }
}

impl Manifest {
    /// The manifest that `name` refers to in `layout`; where that is an index, the one of
    /// `platform`, or the only one.
    pub fn find(layout: &Layout, name: &Name, platform: Option<&Platform>) -> Result<Self> {
        let (descriptor, manifest) = find_document(layout, name, platform)?;
        Self::named(layout, name, descriptor, manifest)
    }

    /// Reads the manifest that this descriptor refers to.
    pub(crate) fn read(layout: &Layout, descriptor: Descriptor) -> Result<Self> {
        let manifest = read_manifest(layout, &descriptor)?;
        Self::named(layout, &Name::Digest(descriptor.digest), descriptor, manifest)
    }

    /// The manifest of what `name` refers to, which errors tell.
    fn named(
        layout: &Layout,
        name: &Name,
        descriptor: Descriptor,
        manifest: Document,
    ) -> Result<Self> {
        Self::of(descriptor, manifest).map_err(|error| {
            let shown = layout.path().display();
            error.context(format_args!("'{shown}{name}'")).with_path(layout.path())
        })
    }

    /// The manifests that an entry of an index refers to: itself, or those of an index, each once,
    /// with the platform that the innermost index says. None if it is of another kind.
    ///
    /// Fails if an index is missing or damaged.
    pub(crate) fn listed(
        layout: &Layout,
        descriptor: &Descriptor,
    ) -> Result<Vec<(Option<Platform>, Descriptor)>> {
        let mut found = Vec::new();
        let mut seen = HashSet::from([descriptor.digest]);
        let mut pending = vec![(None, descriptor.clone(), INDEX_DEPTH)];
        while let Some((platform, descriptor, depth)) = pending.pop() {
            match &*descriptor.media_type {
                media_type::INDEX | media_type::DOCKER_LIST if depth == 0 => return Err(too_deep()),
                media_type::INDEX | media_type::DOCKER_LIST => {
                    let index = read_index(layout, &descriptor)?;
                    for entry in index.manifests().iter().rev() {
                        let descriptor = Descriptor::of(entry)?;
                        if seen.insert(descriptor.digest) {
                            let platform = entry.platform().as_ref().map(Platform::of);
                            pending.push((platform, descriptor, depth - 1));
                        }
                    }
                }
                media_type::MANIFEST => found.push((platform, descriptor)),
                _ => {}
            }
        }
        Ok(found)
    }

    /// Reads a manifest; `None` if it is of an image of another kind.
    pub(crate) fn read_ours(layout: &Layout, descriptor: &Descriptor) -> Result<Option<Self>> {
        let manifest = read_manifest(layout, descriptor)?;
        match manifest.layers.is_puzzlefs() {
            true => Self::of(descriptor.clone(), manifest).map(Some),
            false => Ok(None),
        }
    }

    fn of(descriptor: Descriptor, mut manifest: Document) -> Result<Self> {
        let wrong = |kind, what: String| {
            Error::new(kind, format!("the manifest {} {what}", descriptor.digest))
        };
        if manifest.schema_version != 2 {
            return Err(wrong(ErrorKind::Unsupported, "is not of schemaVersion 2".to_owned()));
        }
        let layers = &mut manifest.layers;
        let rootfs = match (layers.all.first(), layers.error.take_if(|_| layers.all.is_empty())) {
            (Some(first), _) => first,
            (None, Some(error)) => return Err(error),
            (None, None) => {
                return Err(wrong(
                    ErrorKind::InvalidInput,
                    "has no layers: it is no puzzlefs image".to_owned(),
                ));
            }
        };
        if rootfs.media_type != media_type::ROOTFS {
            return Err(if layers.all.iter().any(|layer| layer.media_type == media_type::ROOTFS) {
                wrong(ErrorKind::Corrupt, "has its rootfs layer not first".to_owned())
            } else {
                let what = format!(
                    "is not of a puzzlefs image: its first layer is of type '{}'",
                    rootfs.media_type
                );
                let error = wrong(ErrorKind::InvalidInput, what);
                match rootfs.media_type.contains(".tar") {
                    true => error.advice("`puzzlefs convert` makes one of it"),
                    false => error,
                }
            });
        }
        let verity = manifest.layers.verity.take();
        let mut data = manifest.layers.all()?;
        let rootfs = data.remove(0);
        let known = [media_type::DATA, media_type::DATA_ZSTD];
        if let Some(layer) = data.iter().find(|layer| !known.contains(&&*layer.media_type)) {
            let what = format!("has a layer of the unknown type '{}'", layer.media_type);
            return Err(wrong(ErrorKind::Unsupported, what));
        }
        Ok(Manifest {
            config: manifest.config.0?,
            rootfs,
            rootfs_verity: verity,
            data,
            annotations: manifest.annotations.unwrap_or_default(),
            descriptor,
        })
    }

    /// Checks that all blobs that the metadata refers to are listed.
    pub(crate) fn check_references<'a>(
        &self,
        blobs: impl IntoIterator<Item = &'a Digest>,
    ) -> Result<()> {
        let listed: HashSet<_> = self.data.iter().map(|descriptor| descriptor.digest).collect();
        match blobs.into_iter().find(|blob| !listed.contains(*blob)) {
            None => Ok(()),
            Some(blob) => Err(Error::corrupt(format!(
                "the manifest {} does not list the data blob {blob} that files refer to",
                self.descriptor.digest
            ))),
        }
    }
}

/// The manifest document of an image, of whatever kind, that `name` refers to; where that is an
/// index, the one of `platform`, or the only one.
fn find_document(
    layout: &Layout,
    name: &Name,
    platform: Option<&Platform>,
) -> Result<(Descriptor, Document)> {
    let descriptor = find_entry(layout, name)?;
    resolve(layout, descriptor, platform, INDEX_DEPTH)
}

fn find_entry(layout: &Layout, name: &Name) -> Result<Descriptor> {
    let index = layout.index()?;
    match name {
        Name::Tag(tag) => match index.find(tag) {
            Some(descriptor) => descriptor,
            None => Err(no_such_tag(layout, tag, index.tags())),
        },
        Name::Digest(digest) => {
            let known = index.entries().filter_map(|(_, descriptor)| descriptor.ok());
            let listed = known.into_iter().find(|descriptor| descriptor.digest == *digest);
            match (listed, layout.blob_size(digest)?) {
                (Some(descriptor), _) => Ok(descriptor),
                (None, Some(size)) => {
                    let media_type = media_type::MANIFEST.into();
                    Ok(Descriptor { media_type, digest: *digest, size })
                }
                (None, None) => Err(layout.no_such_digest(digest)),
            }
        }
    }
}

fn resolve(
    layout: &Layout,
    descriptor: Descriptor,
    platform: Option<&Platform>,
    depth: usize,
) -> Result<(Descriptor, Document)> {
    if ![media_type::INDEX, media_type::DOCKER_LIST].contains(&&*descriptor.media_type) {
        let manifest = read_manifest(layout, &descriptor)?;
        return Ok((descriptor, manifest));
    }
    if depth == 0 {
        return Err(too_deep());
    }
    let index = read_index(layout, &descriptor)?;
    let host = Platform::host();
    let all = index.manifests();
    let wanted = platform.unwrap_or(&host);
    let matching = |descriptor: &&oci_spec::image::Descriptor| {
        descriptor.platform().as_ref().is_some_and(|platform| wanted.matches(platform))
    };
    let chosen = match (all.iter().find(matching), all.as_slice(), platform) {
        (Some(chosen), _, _) | (None, [chosen], None) => chosen,
        _ => {
            let has = all.iter().filter_map(|entry| entry.platform().as_ref());
            let has: Vec<_> =
                has.map(|entry| format!("{}/{}", entry.os(), entry.architecture())).collect();
            return Err(Error::new(
                ErrorKind::NotFound,
                format!(
                    "no image for {wanted} in the index {} (it has: {})",
                    descriptor.digest,
                    list(has)
                ),
            ));
        }
    };
    resolve(layout, Descriptor::of(chosen)?, platform, depth - 1)
}

fn read_manifest(layout: &Layout, descriptor: &Descriptor) -> Result<Document> {
    parse(&layout.read_document(descriptor, "manifest")?, "manifest", descriptor)
}

fn read_index(layout: &Layout, descriptor: &Descriptor) -> Result<ImageIndex> {
    parse(&layout.read_document(descriptor, "index")?, "index", descriptor)
}

/// What is converted of an ordinary image's manifest.
pub(crate) struct SourceManifest {
    pub config: Descriptor,
    pub layers: Vec<Descriptor>,
    pub annotations: BTreeMap<String, String>,
    pub artifact_type: Option<String>,
}

impl SourceManifest {
    /// As [`Manifest::find`], of an image of any kind.
    pub fn find(layout: &Layout, name: &Name, platform: Option<&Platform>) -> Result<Self> {
        let (descriptor, manifest) = find_document(layout, name, platform)?;
        if manifest.schema_version != 2 {
            let message = format!("the manifest {} is not of schemaVersion 2", descriptor.digest);
            return Err(Error::new(ErrorKind::Unsupported, message));
        }
        Ok(SourceManifest {
            config: manifest.config.0?,
            layers: manifest.layers.all()?,
            artifact_type: manifest.artifact_type,
            annotations: manifest.annotations.unwrap_or_default(),
        })
    }
}

/// The manifest of an image to start from, which may have no layers yet, as the ones that umoci
/// makes first.
pub(crate) struct BaseManifest {
    /// The puzzlefs image; none if there are no layers.
    pub image: Option<Manifest>,
    pub config: Descriptor,
    pub annotations: BTreeMap<String, String>,
    pub artifact_type: Option<String>,
}

impl BaseManifest {
    /// As [`Manifest::find`].
    pub fn find(layout: &Layout, name: &Name, platform: Option<&Platform>) -> Result<Self> {
        let (descriptor, manifest) = find_document(layout, name, platform)?;
        if manifest.layers.all.is_empty() && manifest.layers.error.is_none() {
            return Ok(BaseManifest {
                image: None,
                config: manifest.config.0?,
                annotations: manifest.annotations.unwrap_or_default(),
                artifact_type: manifest.artifact_type,
            });
        }
        let artifact_type = manifest.artifact_type.clone();
        let image = Manifest::named(layout, name, descriptor, manifest)?;
        let (config, annotations) = (image.config.clone(), image.annotations.clone());
        Ok(BaseManifest { image: Some(image), config, annotations, artifact_type })
    }
}

/// A manifest as it is written, without what is of no use here.
#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    schema_version: u32,
    config: Listed,
    layers: Layers,
    artifact_type: Option<String>,
    annotations: Option<BTreeMap<String, String>>,
}

/// The layers of a manifest, of which there may be a hundred thousand.
#[derive(Default)]
struct Layers {
    /// All up to one that is of no use here.
    all: Vec<Descriptor>,
    error: Option<Error>,
    /// The first one's fs-verity digest, as annotated.
    verity: Option<String>,
}

impl Layers {
    fn is_puzzlefs(&self) -> bool {
        self.all.first().is_some_and(|first| first.media_type == media_type::ROOTFS)
    }

    fn add(&mut self, layer: &OciDescriptor) {
        if self.all.is_empty() {
            let annotations = layer.annotations().as_ref();
            self.verity = annotations.and_then(|annotations| annotations.get(VERITY)).cloned();
        }
        match Descriptor::of(layer) {
            _ if self.error.is_some() => {}
            Ok(layer) => self.all.push(layer),
            Err(error) => self.error = Some(error),
        }
    }

    fn all(self) -> Result<Vec<Descriptor>> {
        self.error.map_or(Ok(self.all), Err)
    }
}

impl<'de> Deserialize<'de> for Layers {
    fn deserialize<D: Deserializer<'de>>(list: D) -> Result<Self, D::Error> {
        list.deserialize_seq(Layers::default())
    }
}

impl<'de> Visitor<'de> for Layers {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a sequence")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<Self, A::Error> {
        while let Some(layer) = list.next_element()? {
            self.add(&layer);
        }
        Ok(self)
    }
}

pub(crate) fn too_deep() -> Error {
    Error::corrupt(format!("indexes are nested deeper than {INDEX_DEPTH}"))
}

/// The document of a manifest.
pub fn encode(
    config: &Descriptor,
    rootfs: &Descriptor,
    rootfs_verity: &[u8; 32],
    data: &[Descriptor],
    annotations: &BTreeMap<String, String>,
    artifact_type: Option<&str>,
) -> Vec<u8> {
    let mut first = rootfs.json();
    first["annotations"] = json!({ VERITY: hex::encode(rootfs_verity) });
    let layers: Vec<Value> =
        std::iter::once(first).chain(data.iter().map(Descriptor::json)).collect();
    let mut manifest = json!({
        "schemaVersion": 2,
        "mediaType": media_type::MANIFEST,
        "config": config.json(),
        "layers": layers,
    });
    if let Some(artifact_type) = artifact_type {
        manifest["artifactType"] = json!(artifact_type);
    }
    if !annotations.is_empty() {
        manifest["annotations"] = json!(annotations);
    }
    to_bytes(&manifest)
}

pub(super) fn parse<'a, T: serde::Deserialize<'a>>(
    bytes: &'a [u8],
    what: &str,
    descriptor: &Descriptor,
) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|error| {
        Error::corrupt(format!("the {what} {} is not valid: {error}", descriptor.digest))
    })
}

pub(super) fn no_such_tag<'a>(
    layout: &Layout,
    tag: &str,
    tags: impl Iterator<Item = &'a str>,
) -> Error {
    let has = list(tags.map(str::to_owned).collect());
    let shown = layout.path().display();
    Error::new(
        ErrorKind::NotFound,
        format!("no image tagged '{tag}' in layout '{shown}' (it has: {has})"),
    )
    .with_path(layout.path())
}

fn list(mut names: Vec<String>) -> String {
    const SHOWN: usize = 20;
    if names.is_empty() {
        return "none".to_owned();
    }
    names.sort();
    let more = names.len().saturating_sub(SHOWN);
    names.truncate(SHOWN);
    let shown = names.join(", ");
    if more > 0 { format!("{shown} and {more} more") } else { shown }
}
