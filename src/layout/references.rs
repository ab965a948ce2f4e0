//! What the documents of a layout refer to, of whatever kind the images are.

use std::collections::HashSet;

use oci_spec::image::Descriptor as OciDescriptor;
use serde::Deserialize;
use serde_json::Value;

use super::manifest::{INDEX_DEPTH, media_type, parse, too_deep};
use super::{DOCUMENT_MAX, Descriptor, Layout};
use crate::digest::Digest;
use crate::error::{Error, Result};

/// All that a manifest or index refers to, of whatever kind the images are.
#[derive(Debug, Clone, Default)]
pub struct ReferencedBlobs {
    /// Manifests, indexes and configurations.
    pub documents: Vec<Descriptor>,
    /// The layers of each image.
    pub images: Vec<Vec<Descriptor>>,
    /// What documents mention that are of a kind unknown here.
    pub mentioned: Vec<Digest>,
    read: HashSet<Descriptor>,
}

/// A document that is still to be read, and how deep indexes may be nested from there on.
type Pending = Vec<(Descriptor, usize)>;

impl ReferencedBlobs {
    /// Reads what `descriptor` refers to, and what that refers to.
    pub fn read(layout: &Layout, descriptor: &Descriptor) -> Result<Self> {
        let mut found = ReferencedBlobs::default();
        found.add(layout, descriptor).map(|()| found)
    }

    /// Adds what `descriptor` refers to, and what that refers to.
    ///
    /// Fails if a document is missing or damaged, but for the subject of a manifest, which the
    /// image-spec allows to be missing.
    pub fn add(&mut self, layout: &Layout, descriptor: &Descriptor) -> Result<()> {
        self.walk(layout, descriptor, &mut |_, error| Err(error))
    }

    /// As [`add`](Self::add), but asks `failed` whether to go on where a document fails.
    pub(crate) fn walk(
        &mut self,
        layout: &Layout,
        descriptor: &Descriptor,
        failed: &mut dyn FnMut(&Descriptor, Error) -> Result<()>,
    ) -> Result<()> {
        let mut pending = vec![(descriptor.clone(), INDEX_DEPTH)];
        while let Some((descriptor, depth)) = pending.pop() {
            let added = match depth {
                0 => Err(too_deep()),
                _ if !self.read.insert(descriptor.clone()) => Ok(()),
                _ => self.add_document(layout, &descriptor, depth, &mut pending),
            };
            added.or_else(|error| failed(&descriptor, error))?;
        }
        Ok(())
    }

    fn add_document(
        &mut self,
        layout: &Layout,
        descriptor: &Descriptor,
        depth: usize,
        pending: &mut Pending,
    ) -> Result<()> {
        let subject = match Kind::of(&descriptor.media_type) {
            Kind::Index => {
                let bytes = layout.read_document(descriptor, "index")?;
                let index: Index = parse(&bytes, "index", descriptor)?;
                for entry in index.manifests.iter().flatten() {
                    self.link(Descriptor::of(entry)?, depth - 1, pending);
                }
                index.subject
            }
            Kind::Manifest => {
                let bytes = layout.read_document(descriptor, "manifest")?;
                let manifest: Manifest = parse(&bytes, "manifest", descriptor)?;
                self.documents.push(Descriptor::of(&manifest.config)?);
                let layers = manifest.layers.iter().flatten().map(Descriptor::of);
                self.images.push(layers.collect::<Result<_>>()?);
                manifest.subject
            }
            Kind::Unknown if descriptor.size <= DOCUMENT_MAX => {
                let bytes = layout.read_document(descriptor, "blob")?;
                if let Ok(document) = serde_json::from_slice(&bytes) {
                    self.mention(layout, &document, depth, pending)?;
                }
                None
            }
            // No document has so many bytes: it is data.
            Kind::Unknown => None,
        };
        if let Some(subject) = subject {
            let subject = Descriptor::of(&subject)?;
            if layout.blob_size(&subject.digest)?.is_some() {
                self.link(subject, depth, pending);
            }
        }
        Ok(())
    }

    fn link(&mut self, descriptor: Descriptor, depth: usize, pending: &mut Pending) {
        self.documents.push(descriptor.clone());
        pending.push((descriptor, depth));
    }

    /// Notes every digest in a document whose structure is not known.
    fn mention(
        &mut self,
        layout: &Layout,
        document: &Value,
        depth: usize,
        pending: &mut Pending,
    ) -> Result<()> {
        // The parser bounds how deep a document is.
        match document {
            Value::String(text) => self.mentioned.extend(text.parse::<Digest>()),
            Value::Array(values) => {
                for value in values {
                    self.mention(layout, value, depth, pending)?;
                }
            }
            Value::Object(object) => {
                let descriptor = OciDescriptor::deserialize(document);
                if let Ok(descriptor) = descriptor.as_ref().map(Descriptor::of)
                    && let Ok(descriptor) = descriptor
                    && Kind::of(&descriptor.media_type) != Kind::Unknown
                    && layout.blob_size(&descriptor.digest)?.is_some()
                {
                    self.link(descriptor, depth - 1, pending);
                }
                for value in object.values() {
                    self.mention(layout, value, depth, pending)?;
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// What is known of the structure of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Index,
    Manifest,
    Unknown,
}

impl Kind {
    fn of(media_type: &str) -> Self {
        match media_type {
            media_type::INDEX | media_type::DOCKER_LIST => Kind::Index,
            media_type::MANIFEST | media_type::DOCKER_MANIFEST => Kind::Manifest,
            _ => Kind::Unknown,
        }
    }
}

/// What an index refers to. Go's programs write an empty list as `null`.
#[derive(Deserialize)]
struct Index {
    manifests: Option<Vec<OciDescriptor>>,
    subject: Option<OciDescriptor>,
}

/// What a manifest refers to.
#[derive(Deserialize)]
struct Manifest {
    config: OciDescriptor,
    layers: Option<Vec<OciDescriptor>>,
    subject: Option<OciDescriptor>,
}
