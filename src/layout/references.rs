//! What the documents of a layout refer to, of whatever kind the images are.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use oci_spec::image::Descriptor as OciDescriptor;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

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
    read: HashSet<DocumentKey>,
}

/// What a document is read as. Many descriptors may refer to one, and differ in other ways.
pub(crate) type DocumentKey = (Digest, u64, Kind);

/// A document that is still to be read, and how deep indexes may be nested from there on.
type Pending = Vec<(Descriptor, usize)>;

impl ReferencedBlobs {
    /// Reads what `descriptor` refers to, and what that refers to.
    pub fn read(layout: &Layout, descriptor: &Descriptor) -> Result<Self> {
        let mut found = ReferencedBlobs::default();
        found.add(layout, descriptor).map(|()| found)
    }

    /// What the document is read as: descriptors with the same key refer to the same.
    pub(crate) fn key(descriptor: &Descriptor) -> DocumentKey {
        (descriptor.digest, descriptor.size, Kind::of(&descriptor.media_type))
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
                _ if !self.read.insert(Self::key(&descriptor)) => Ok(()),
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
                self.mention(layout, Mentioned::read(&bytes), depth, pending)?;
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

    /// Notes what a document mentions whose structure is not known.
    fn mention(
        &mut self,
        layout: &Layout,
        mentioned: Mentioned,
        depth: usize,
        pending: &mut Pending,
    ) -> Result<()> {
        for (media_type, digest) in mentioned.documents {
            if let Some(size) = layout.blob_size(&digest)? {
                self.link(Descriptor { media_type, digest, size }, depth - 1, pending);
            }
        }
        self.mentioned.extend(mentioned.digests);
        Ok(())
    }
}

/// The digests in a document of any structure, and which of them are said to be documents. The
/// document itself is not kept: it would take many times as much memory as it has bytes.
#[derive(Default)]
struct Mentioned {
    digests: Vec<Digest>,
    documents: Vec<(String, Digest)>,
}

impl Mentioned {
    /// Nothing, if it is no JSON.
    fn read(bytes: &[u8]) -> Self {
        let mut found = Mentioned::default();
        let mut json = serde_json::Deserializer::from_slice(bytes);
        match found.deserialize(&mut json).and_then(|_| json.end()) {
            Ok(()) => found,
            Err(_) => Mentioned::default(),
        }
    }
}

/// A value, as far as it is a text.
type Text = Option<String>;

impl<'de> DeserializeSeed<'de> for &mut Mentioned {
    type Value = Text;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Text, D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for &mut Mentioned {
    type Value = Text;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_str<E>(self, text: &str) -> Result<Text, E> {
        self.digests.extend(text.parse::<Digest>());
        Ok(Some(text.to_owned()))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Text, E> {
        Ok(None)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Text, E> {
        Ok(None)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Text, E> {
        Ok(None)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Text, E> {
        Ok(None)
    }

    fn visit_unit<E>(self) -> Result<Text, E> {
        Ok(None)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Text, A::Error> {
        while list.next_element_seed(&mut *self)?.is_some() {}
        Ok(None)
    }

    // The parser bounds how deep a document is.
    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Text, A::Error> {
        let (mut media_type, mut digest) = (None, None);
        while let Some(key) = object.next_key::<Cow<'de, str>>()? {
            let text = object.next_value_seed(&mut *self)?;
            match &*key {
                "mediaType" => media_type = text,
                "digest" => digest = text.and_then(|text| text.parse().ok()),
                _ => {}
            }
        }
        if let (Some(media_type), Some(digest)) = (media_type, digest)
            && Kind::of(&media_type) != Kind::Unknown
        {
            self.documents.push((media_type, digest));
        }
        Ok(None)
    }
}

/// What is known of the structure of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
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
