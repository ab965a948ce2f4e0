//! The tags of a layout, whatever they refer to.

use serde_json::{Value, json};

use super::manifest::{media_type, no_such_tag};
use super::references::{Documents, Link, Sums};
use super::{DOCUMENT_MAX, Descriptor, Index, Layout, Name, VALUES_MAX, check_tag, parse_document};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::progress::Monitor;

/// What an entry of the index is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// A puzzlefs image.
    Puzzlefs,
    /// Another image, or an artifact that is stored as one.
    Image,
    /// An index of images.
    Index,
    /// Anything else.
    Other,
    /// It cannot be read: something is missing or damaged.
    Unreadable,
}

impl EntryKind {
    /// The kind as a word.
    pub fn as_str(self) -> &'static str {
        match self {
            EntryKind::Puzzlefs => "puzzlefs",
            EntryKind::Image => "image",
            EntryKind::Index => "index",
            EntryKind::Other => "other",
            EntryKind::Unreadable => "unreadable",
        }
    }
}

/// An entry of a layout's index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagEntry {
    /// The tag; an entry may have none.
    pub tag: Option<String>,
    /// The digest of what it refers to, which need not be a SHA-256.
    pub digest: String,
    /// The media type of what it refers to.
    pub media_type: String,
    /// The size of what it refers to in bytes: of a manifest, say.
    pub size: u64,
    /// What it refers to.
    pub kind: EntryKind,
    /// The size of all blobs that it needs, each counted once, by what their descriptors say;
    /// `None` if it cannot be read. `None` too where counting would take long: when what the
    /// entries before it share has been counted again and again, 67 million blobs in all.
    pub bytes: Option<u64>,
}

impl TagEntry {
    fn of(value: &Value, known: Option<Known>) -> Self {
        let text = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
        let media_type = text("mediaType");
        TagEntry {
            tag: super::index::tag_of(value).map(str::to_owned),
            digest: text("digest"),
            size: value["size"].as_u64().unwrap_or(0),
            kind: known.as_ref().map_or(EntryKind::Unreadable, |known| kind(&media_type, known)),
            bytes: known.and_then(|known| known.bytes),
            media_type,
        }
    }

    /// The entry as a JSON document.
    pub fn to_json(&self) -> Value {
        json!({
            "tag": self.tag,
            "digest": self.digest,
            "media_type": self.media_type,
            "size": self.size,
            "kind": self.kind.as_str(),
            "bytes": self.bytes,
        })
    }
}

/// What is known of an entry that could be read.
struct Known {
    /// Whether it is an image that begins with a puzzlefs rootfs.
    has_rootfs: bool,
    bytes: Option<u64>,
}

fn kind(media_type: &str, known: &Known) -> EntryKind {
    match media_type {
        media_type::INDEX | media_type::DOCKER_LIST => EntryKind::Index,
        media_type::MANIFEST if known.has_rootfs => EntryKind::Puzzlefs,
        media_type::MANIFEST | media_type::DOCKER_MANIFEST => EntryKind::Image,
        _ => EntryKind::Other,
    }
}

impl Layout {
    /// All entries of the index, in its order: also those without a tag, and of what is no image
    /// of puzzlefs.
    pub fn tags(&self) -> Result<Vec<TagEntry>> {
        let index = self.index()?;
        let mut documents = Documents::new(self);
        let add = |(_, descriptor): (_, Result<_>)| Some(documents.add(&descriptor.ok()?));
        let links: Vec<Option<Link>> = index.entries().map(add).collect();
        documents.read(&mut || Ok(()))?;
        let whole = documents.whole();
        let mut sums = Sums::new(&documents, |claim| (1, claim.size));
        let mut known = |Link { claim, document, .. }: Link| {
            whole[document].then(|| Known {
                has_rootfs: documents
                    .get(document)
                    .layers
                    .first()
                    .is_some_and(|first| documents.media_type(first) == media_type::ROOTFS),
                // OCI's sizes are 64-bit integers with a sign, and readers of our JSON take this
                // for one.
                bytes: sums
                    .of(document)
                    .map(|(_, bytes)| bytes.saturating_add(claim.size).min(i64::MAX as u64)),
            })
        };
        let entries = index.raw_entries().zip(links);
        Ok(entries.map(|(value, link)| TagEntry::of(value, link.and_then(&mut known))).collect())
    }

    /// Makes `tag` refer to what `name` refers to, instead of what it referred to. Of an entry of
    /// the index all but its tag is carried over: annotations, platform and what else there is.
    /// Waits while others lock the layout, until `monitor` says to stop.
    ///
    /// Fails if the tag is not valid, or there is nothing called `name`.
    pub fn tag(&self, name: &Name, tag: &str, monitor: &Monitor<'_>) -> Result<()> {
        check_tag(tag)?;
        // A blob that no tag refers to yet must not go meanwhile.
        let _blobs_lock = self.lock_blobs(monitor)?;
        self.update_index(monitor, |index| {
            let entry = self.entry(index, name)?;
            index.set(tag, entry);
            Ok(())
        })
    }

    /// Takes a tag away; or, with a digest, all entries of the index that refer to it, whether
    /// they have a tag or not. The blobs stay, until [`gc`](super::gc) deletes those to which
    /// nothing refers any more. Waits while others lock the layout, until `monitor` says to stop.
    ///
    /// Fails if there is no such entry.
    pub fn untag(&self, name: &Name, monitor: &Monitor<'_>) -> Result<()> {
        self.update_index(monitor, |index| match (index.remove(name), name) {
            (true, _) => Ok(()),
            (false, Name::Tag(tag)) => Err(no_such_tag(self, tag, index.tags())),
            (false, Name::Digest(digest)) => Err(self.no_such_digest(digest)),
        })
    }

    /// The entry of the index for `name`, or one that could be there: a manifest or an index in
    /// the layout can be named by its digest.
    pub(crate) fn entry(&self, index: &Index, name: &Name) -> Result<Value> {
        match (index.entry(name), name) {
            (Some(entry), _) => Ok(entry.clone()),
            (None, Name::Tag(tag)) => Err(no_such_tag(self, tag, index.tags())),
            (None, Name::Digest(digest)) => self.entry_of_blob(digest),
        }
    }

    pub(super) fn no_such_digest(&self, digest: &Digest) -> Error {
        let shown = self.path.display();
        let message = format!("no image with the digest {digest} in layout '{shown}'");
        Error::new(ErrorKind::NotFound, message).with_path(&self.path)
    }

    fn entry_of_blob(&self, digest: &Digest) -> Result<Value> {
        let shown = self.path.display();
        let size = self.blob_size(digest)?.ok_or_else(|| self.no_such_digest(digest))?;
        let no_document = || {
            Error::invalid(format!(
                "the blob {digest} in layout '{shown}' is neither a manifest nor an index"
            ))
            .with_path(self.blob_path(digest))
        };
        if size > DOCUMENT_MAX {
            return Err(no_document());
        }
        let mut descriptor =
            Descriptor { media_type: media_type::MANIFEST.into(), digest: *digest, size };
        let bytes = self.read_document(&descriptor, "manifest")?;
        let document = parse_document(&bytes, VALUES_MAX).map_err(|_| no_document())?;
        let kinds = [("layers", media_type::MANIFEST), ("manifests", media_type::INDEX)];
        let kind = kinds.into_iter().find(|(key, _)| document.get(key).is_some());
        let (_, otherwise) = kind.ok_or_else(no_document)?;
        descriptor.media_type =
            document["mediaType"].as_str().unwrap_or(otherwise).to_owned().into();
        Ok(descriptor.json())
    }
}
