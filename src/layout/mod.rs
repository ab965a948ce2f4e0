//! The OCI image layout: a folder with blobs, an index of tags, and what they refer to.
//!
//! OCI image-spec 1.1, image-layout.md. Locks are `flock(2)` on folders of the layout itself, so
//! that nothing foreign lies in it. There are two, and whoever takes both takes them in this order:
//! 1. on `blobs/sha256`: shared as long as somebody adds or relies on blobs that no tag refers to
//!    yet, exclusive while such blobs are deleted;
//! 2. on the layout's folder: exclusive while `index.json` is rewritten.
//!
//! Whoever waits for the former to be alone holds `blobs` meanwhile, where those who come later
//! wait a moment.

mod config;
mod gc;
mod index;
mod lock;
mod manifest;
mod reference;
mod references;
mod staging;
mod tags;

pub use config::{ConfigOptions, HistoryEntry, ImageConfig, parse_time, time_of};
pub use gc::{GcOptions, GcReport, gc};
pub use index::{Index, TAG};
pub(crate) use manifest::{BaseManifest, SourceManifest, too_deep};
pub use manifest::{
    Manifest, PACK_SIZE, Platform, encode as encode_manifest, host_architecture, media_type,
};
pub(crate) use reference::TAG_MAX;
pub use reference::{Name, Reference, check_tag};
pub(crate) use references::{BlobId, Claim, Document, DocumentId, Documents, Marks, Sums};
pub use staging::{StagedBlob, Staging};
pub use tags::{EntryKind, TagEntry};

use std::borrow::Cow;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::digest::{Digest, FsVerity, Hasher, read_parts};
use crate::error::{Error, ErrorKind, Result};
use crate::fault;
use crate::progress::Monitor;

const LAYOUT_FILE: &str = "oci-layout";
const LAYOUT_VERSION: &str = "1.0.0";
const INDEX_FILE: &str = "index.json";
const BLOBS: &str = "blobs/sha256";

/// The largest JSON document that is read, in bytes. A registry may refuse manifests of more
/// than 4 MiB, but the reference implementation makes some.
const DOCUMENT_MAX: u64 = 32 * 1024 * 1024;
/// The largest configuration that is read, in bytes.
const CONFIG_MAX: u64 = 4 * 1024 * 1024;

/// How many values a document may have that is kept as a whole. One of a few bytes takes hundreds
/// of them in memory: it is values that count there, not bytes.
pub(crate) const VALUES_MAX: usize = 200_000;
/// The same of a configuration, which a description of the image has once more.
const CONFIG_VALUES_MAX: usize = 50_000;

/// What refers to a blob: media type, digest and size.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Descriptor {
    /// The type of the blob. Those that are known here take no memory of their own.
    pub media_type: Cow<'static, str>,
    /// The SHA-256 of the blob.
    pub digest: Digest,
    /// The length of the blob in bytes.
    pub size: u64,
}

impl Descriptor {
    fn of(descriptor: &oci_spec::image::Descriptor) -> Result<Self> {
        let text = descriptor.digest().to_string();
        let digest = text.parse().map_err(|_| {
            Error::new(ErrorKind::Unsupported, format!("the digest '{text}' is not a SHA-256"))
        })?;
        Ok(Descriptor {
            media_type: media_type::text(descriptor.media_type()),
            digest,
            size: descriptor.size(),
        })
    }

    pub(crate) fn json(&self) -> Value {
        json!({
            "mediaType": self.media_type,
            "digest": self.digest.to_string(),
            "size": self.size,
        })
    }
}

/// A descriptor as a document lists it; an error if it is valid, but of no use here.
struct Listed(Result<Descriptor>);

impl<'de> serde::Deserialize<'de> for Listed {
    fn deserialize<D: serde::Deserializer<'de>>(document: D) -> Result<Self, D::Error> {
        // What is kept is small: a manifest may have a hundred thousand of them.
        let descriptor = oci_spec::image::Descriptor::deserialize(document)?;
        Ok(Listed(Descriptor::of(&descriptor)))
    }
}

/// What `oci-layout` says.
#[derive(serde::Deserialize)]
struct LayoutFile {
    #[serde(rename = "imageLayoutVersion")]
    version: Option<String>,
}

/// An OCI image layout on disk.
#[derive(Debug, Clone)]
pub struct Layout {
    path: PathBuf,
}

impl Layout {
    /// Opens the layout at `path`.
    ///
    /// Fails if there is none, or one of a version that is not known.
    pub fn open(path: &Path) -> Result<Self> {
        let layout = Layout { path: path.to_owned() };
        layout.check().map(|()| layout)
    }

    /// Opens the layout at `path`, and makes it if there is nothing or an empty folder; or what
    /// somebody left who was killed while making it. Waits while somebody else does so, until
    /// `monitor` says to stop.
    pub fn open_or_create(path: &Path, monitor: &Monitor<'_>) -> Result<Self> {
        let layout = Layout { path: path.to_owned() };
        if path.exists() && !path.is_dir() {
            return Err(layout.no_directory());
        }
        fs::create_dir_all(path).map_err(|error| Error::io("make the layout", path, error))?;
        // Somebody else may be making it just now.
        let _lock = layout.lock(monitor)?;
        if layout.is_unfinished()? {
            layout.create()?;
        }
        match layout.check() {
            Ok(()) => Ok(layout),
            Err(error) if error.kind() == ErrorKind::InvalidInput => {
                Err(error.advice("a layout is made in a folder that is new or empty"))
            }
            Err(error) => Err(error),
        }
    }

    /// The same layout by its absolute path, which stays right when the process changes its
    /// directory.
    pub(crate) fn absolute(&self) -> Result<Self> {
        let path = std::path::absolute(&self.path)
            .map_err(|error| Error::io("find the path of", &self.path, error))?;
        Ok(Layout { path })
    }

    /// Whether the folder has nothing but what [`create`](Self::create) makes before it is done.
    fn is_unfinished(&self) -> Result<bool> {
        let empty = to_bytes(&empty_index());
        for name in names(&self.path)? {
            let path = self.path.join(&name);
            let made_here = match name.as_encoded_bytes() {
                b"blobs" if path.is_dir() => match &names(&path)?[..] {
                    [] => true,
                    [name] => name == "sha256" && names(&path.join(name))?.is_empty(),
                    _ => false,
                },
                b"index.json" => {
                    open_file(&path)?.1 == empty.len() as u64
                        && read_file(&path, index::SIZE_MAX)? == empty
                }
                name => name.starts_with(staging::PREFIX.as_bytes()),
            };
            if !made_here {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn create(&self) -> Result<()> {
        self.sync_above()?;
        let blobs = self.path.join(BLOBS);
        fs::create_dir_all(&blobs).map_err(|error| Error::io("make", &blobs, error))?;
        sync_folder(&self.path.join("blobs"))?;
        self.replace(INDEX_FILE, &to_bytes(&empty_index()))?;
        // Last, since it is what makes the folder a layout.
        self.replace(LAYOUT_FILE, &to_bytes(&json!({ "imageLayoutVersion": LAYOUT_VERSION })))
    }

    /// Makes the folders that the layout lies in stay, up to where its file system begins: who made
    /// them may have been killed before they were synced.
    fn sync_above(&self) -> Result<()> {
        use std::os::unix::fs::MetadataExt;
        let failed = |error| Error::io("find the path of", &self.path, error);
        let device = |path: &Path| fs::metadata(path).map(|metadata| metadata.dev());
        let real = fs::canonicalize(&self.path).map_err(failed)?;
        let own = device(&real).map_err(failed)?;
        for folder in real.ancestors().skip(1) {
            if device(folder).map_err(failed)? != own {
                break;
            }
            match sync_folder(folder) {
                // A stranger's, who has made it before.
                Err(error) if error.kind() == ErrorKind::PermissionDenied => break,
                synced => synced?,
            }
        }
        Ok(())
    }

    fn check(&self) -> Result<()> {
        let shown = self.path.display();
        let path = self.path.join(LAYOUT_FILE);
        if !self.path.exists() {
            return Err(self.missing());
        }
        if !self.path.is_dir() {
            return Err(self.no_directory());
        }
        let bytes = match read_file(&path, DOCUMENT_MAX) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(self.no_layout(format_args!("it has no file '{LAYOUT_FILE}'")));
            }
            bytes => bytes?,
        };
        let file: LayoutFile = parse_json(&bytes, &path)?;
        match file.version.as_deref() {
            Some(LAYOUT_VERSION) => Ok(()),
            Some(version) => Err(Error::new(
                ErrorKind::Unsupported,
                format!("the layout '{shown}' is of version {version}; this library knows {LAYOUT_VERSION}"),
            )
            .with_path(path)),
            None => Err(Error::corrupt(format!("'{}' has no imageLayoutVersion", path.display()))
                .with_path(path)),
        }
    }

    fn missing(&self) -> Error {
        let message = format!("there is no layout '{}'", self.path.display());
        let error = Error::new(ErrorKind::NotFound, message).with_path(&self.path);
        match Reference::parse(&self.path) {
            Ok(image) if image.layout.is_dir() => {
                error.advice(format_args!("the layout alone is '{}'", image.layout.display()))
            }
            _ => error,
        }
    }

    fn no_directory(&self) -> Error {
        self.no_layout("it is not a directory")
    }

    fn no_layout(&self, why: impl std::fmt::Display) -> Error {
        let shown = self.path.display();
        Error::invalid(format!("'{shown}' is not an OCI image layout: {why}")).with_path(&self.path)
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file of the blob with this digest.
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.path.join(BLOBS).join(digest.hex())
    }

    /// The folder of all blobs.
    pub(crate) fn blobs_path(&self) -> PathBuf {
        self.path.join(BLOBS)
    }

    /// The length of the blob, if the layout has it.
    pub fn blob_size(&self, digest: &Digest) -> Result<Option<u64>> {
        let path = self.blob_path(digest);
        match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_file() => Ok(Some(metadata.len())),
            Ok(_) => Err(Error::corrupt(format!("the blob '{}' is not a file", path.display()))
                .with_path(path)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io("look at the blob", path, error)),
        }
    }

    /// The digests of all blobs that the layout has; files with other names are no blobs.
    pub fn blobs(&self) -> Result<Vec<Digest>> {
        let path = self.path.join(BLOBS);
        let failed = |error| Error::io("list the blobs", &path, error);
        let mut digests = Vec::new();
        for entry in fs::read_dir(&path).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            digests.extend(name.to_str().and_then(Digest::from_hex));
        }
        digests.sort();
        Ok(digests)
    }

    /// Opens a blob for reading; tells its length too.
    pub fn open_blob(&self, digest: &Digest) -> Result<(File, u64)> {
        let path = self.blob_path(digest);
        if self.blob_size(digest)?.is_none() {
            return Err(self.lacks(digest));
        }
        open_file(&path)
    }

    fn lacks(&self, digest: &Digest) -> Error {
        let shown = self.path.display();
        Error::corrupt(format!("the layout '{shown}' lacks the blob {digest}"))
            .with_path(self.blob_path(digest))
    }

    /// Reads all of a blob from its file and checks its digest; tells its fs-verity digest. `report`
    /// is told how many bytes are read.
    pub(crate) fn measure(
        &self,
        digest: &Digest,
        mut file: &File,
        report: &mut dyn FnMut(u64) -> Result<()>,
    ) -> Result<[u8; 32]> {
        let path = self.blob_path(digest);
        let (mut hasher, mut verity) = (Hasher::default(), FsVerity::default());
        let mut done = 0;
        let failed = |error| Error::io("read the blob", &path, error);
        read_parts(&mut file, failed, |part| {
            hasher.update(part);
            verity.update(part);
            done += part.len() as u64;
            report(done)
        })?;
        if hasher.finish() == *digest {
            return Ok(verity.finish());
        }
        let message = format!("the blob {digest} does not have this digest: it is damaged");
        Err(Error::corrupt(message).with_path(path))
    }

    /// Reads a whole blob of the size that its descriptor says, and checks its digest.
    pub fn read_blob(&self, descriptor: &Descriptor, what: &str) -> Result<Vec<u8>> {
        let Descriptor { digest, size, .. } = descriptor;
        let (mut file, actual) = self.open_blob(digest)?;
        let path = self.blob_path(digest);
        let wrong = |how: String| {
            Error::corrupt(format!("the {what} {digest} {how}")).with_path(self.blob_path(digest))
        };
        if actual != *size {
            return Err(self.wrong_size(descriptor, what, actual));
        }
        let mut bytes = Vec::new();
        bytes
            .try_reserve_exact(actual as usize)
            .map_err(|_| wrong(format!("has {actual} bytes, more than memory")))?;
        Read::by_ref(&mut file)
            .take(actual)
            .read_to_end(&mut bytes)
            .map_err(|error| Error::io("read the blob", path, error))?;
        if Digest::of(&bytes) != *digest {
            return Err(wrong("does not have this digest: it is damaged".to_owned()));
        }
        Ok(bytes)
    }

    fn wrong_size(&self, descriptor: &Descriptor, what: &str, actual: u64) -> Error {
        let Descriptor { digest, size, .. } = descriptor;
        Error::corrupt(format!("the {what} {digest} has {actual} bytes instead of {size}"))
            .with_path(self.blob_path(digest))
    }

    /// Reads a manifest or an index, of a size that makes sense.
    pub fn read_document(&self, descriptor: &Descriptor, what: &str) -> Result<Vec<u8>> {
        self.read_limited(descriptor, what, DOCUMENT_MAX)
    }

    /// Reads a configuration, of a size that makes sense.
    pub fn read_config(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        self.read_limited(descriptor, "config", CONFIG_MAX)
    }

    fn read_limited(&self, descriptor: &Descriptor, what: &str, limit: u64) -> Result<Vec<u8>> {
        if descriptor.size > limit {
            return Err(too_large(descriptor, what, limit));
        }
        self.read_blob(descriptor, what)
    }

    /// Reads `index.json`.
    pub fn index(&self) -> Result<Index> {
        let path = self.path.join(INDEX_FILE);
        Index::parse(&read_file(&path, index::SIZE_MAX)?, &path)
    }

    /// Changes `index.json` while nobody else does; waits for that until `monitor` says to stop.
    pub fn update_index(
        &self,
        monitor: &Monitor<'_>,
        change: impl FnOnce(&mut Index) -> Result<()>,
    ) -> Result<()> {
        let _lock = self.lock(monitor)?;
        let mut index = self.index()?;
        fault::point!("index");
        change(&mut index)?;
        self.replace(INDEX_FILE, &index.to_bytes())
    }

    /// Makes `index.json` as it is stay so, whoever wrote it.
    fn sync_index(&self) -> Result<()> {
        let path = self.path.join(INDEX_FILE);
        let (file, _) = open_file(&path)?;
        file.sync_all().map_err(|error| Error::io("sync", &path, error))?;
        sync_folder(&self.path)
    }

    /// Replaces a file of the layout at once and for good.
    fn replace(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let path = self.path.join(name);
        let failed = |error| Error::io("write", &path, error);
        let mut file = tempfile::Builder::new()
            .prefix(staging::PREFIX)
            .permissions(staging::permissions())
            .tempfile_in(&self.path)
            .map_err(failed)?;
        file.write_all(bytes).map_err(failed)?;
        file.as_file().sync_all().map_err(failed)?;
        file.persist(&path).map_err(|error| failed(error.error))?;
        sync_folder(&self.path)
    }
}

fn too_large(descriptor: &Descriptor, what: &str, limit: u64) -> Error {
    let Descriptor { digest, size, .. } = descriptor;
    Error::corrupt(format!("the {what} {digest} has {size} bytes, more than {limit}"))
}

fn empty_index() -> Value {
    json!({
        "schemaVersion": 2,
        "mediaType": media_type::INDEX,
        "manifests": [],
    })
}

/// What a folder holds.
fn names(folder: &Path) -> Result<Vec<OsString>> {
    let list = || fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name())).collect();
    let names: io::Result<_> = list();
    names.map_err(|error| Error::io("list", folder, error))
}

/// Opens a folder; anything else is refused, and a FIFO does not block.
fn open_folder(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    File::options().read(true).custom_flags(libc::O_DIRECTORY).open(path)
}

fn sync_folder(path: &Path) -> Result<()> {
    let sync = || open_folder(path)?.sync_all();
    sync().map_err(|error| Error::io("sync", path, error))
}

/// Opens a regular file; tells its size too. Anything else is refused, and a FIFO does not block.
pub(crate) fn open_file(path: &Path) -> Result<(File, u64)> {
    use std::os::unix::fs::OpenOptionsExt;
    let failed = |error| Error::io("open", path, error);
    let mut options = File::options();
    let file = options.read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if metadata.is_file() {
        return Ok((file, metadata.len()));
    }
    Err(Error::corrupt(format!("'{}' is not a file", path.display())).with_path(path))
}

/// Reads a file of at most `limit` bytes.
fn read_file(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let (file, _) = open_file(path)?;
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).map_err(|error| Error::io("read", path, error))?;
    if bytes.len() as u64 > limit {
        let message = format!("'{}' has more than {limit} bytes", path.display());
        return Err(Error::corrupt(message).with_path(path));
    }
    Ok(bytes)
}

fn parse_json<'a, T: serde::Deserialize<'a>>(bytes: &'a [u8], path: &Path) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|error| invalid_json(error, path))
}

/// Reads a document that is kept as a whole, and has at most so many values.
pub(crate) fn parse_document(bytes: &[u8], values: usize) -> serde_json::Result<Value> {
    use serde::de::Error as _;
    // Each value but the first follows one of these; those in texts count too.
    let follows = |byte: &&u8| matches!(byte, b'[' | b'{' | b',');
    if bytes.iter().filter(follows).count() > values {
        return Err(serde_json::Error::custom(format_args!("it has more than {values} values")));
    }
    serde_json::from_slice(bytes)
}

fn invalid_json(error: serde_json::Error, path: &Path) -> Error {
    Error::corrupt(format!("'{}' is not valid: {error}", path.display())).with_path(path)
}

fn to_bytes(value: &Value) -> Vec<u8> {
    serde_json::to_vec(value).expect("a JSON value can be written")
}
