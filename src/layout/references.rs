//! What the documents of a layout refer to, of whatever kind the images are.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::hash::Hash;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::manifest::{INDEX_DEPTH, media_type, parse, too_deep};
use super::{DOCUMENT_MAX, Descriptor, Layout, Listed, too_large};
use crate::digest::Digest;
use crate::error::{Error, Result};

/// Documents of a layout, and what they refer to. Each is read once, however many refer to it, and
/// takes memory for each descriptor that it has, but none for what else it holds.
pub(crate) struct Documents<'a> {
    layout: &'a Layout,
    all: Vec<Document>,
    known: HashMap<Key, DocumentId>,
    blobs: Numbered<Digest>,
    media_types: Numbered<Cow<'static, str>>,
    unread: Vec<DocumentId>,
}

/// What a document is read as. Many descriptors may refer to one, and differ in other ways.
type Key = (BlobId, u64, Kind);

/// The number of a document.
pub(crate) type DocumentId = usize;

/// The number of a blob that some document or entry refers to.
pub(crate) type BlobId = usize;

/// What a descriptor claims.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Claim {
    pub blob: BlobId,
    pub size: u64,
    media_type: usize,
}

/// A descriptor of a document.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Link {
    pub claim: Claim,
    pub document: DocumentId,
    /// How many levels deeper the document is: none if it is a subject.
    levels: usize,
}

/// A manifest, an index, or what may be one; and what it refers to.
pub(crate) struct Document {
    /// The blob that it is.
    pub blob: BlobId,
    /// Its bytes, by what is claimed.
    pub size: u64,
    kind: Kind,
    /// The configuration.
    pub config: Option<Claim>,
    /// The layers of an image.
    pub layers: Box<[Claim]>,
    /// The documents that it refers to.
    pub links: Box<[Link]>,
    /// What it mentions of the blobs that there are, if it is of a kind unknown here.
    pub mentioned: Box<[BlobId]>,
    /// Why it, or a part of it, could not be read.
    failure: Option<Failure>,
    /// The documents that refer to it, and how many levels they are above it.
    parents: Vec<(DocumentId, usize)>,
    /// How many levels of documents there are from it on, as far as that matters.
    levels: usize,
}

/// Why a document, or a part of it, could not be read.
enum Failure {
    Flaw(Flaw),
    Other(Box<Error>),
}

/// What is most often wrong with a document. There may be as many of these as there are
/// descriptors: the words are made when they are told.
#[derive(Clone, Copy)]
enum Flaw {
    Missing,
    /// It has so many bytes.
    Size(u64),
    /// No document has as many bytes as are claimed.
    TooLarge,
}

impl Document {
    fn new((blob, size, kind): Key) -> Self {
        Document {
            blob,
            size,
            kind,
            config: None,
            layers: Box::default(),
            links: Box::default(),
            mentioned: Box::default(),
            failure: None,
            parents: Vec::new(),
            levels: 1,
        }
    }

    /// Whether it, or a part of it, could not be read.
    pub fn failed(&self) -> bool {
        self.failure.is_some()
    }

    /// Whether documents are nested in it deeper than they may be.
    pub fn is_too_deep(&self) -> bool {
        self.levels > INDEX_DEPTH
    }

    /// All blobs that it is or refers to.
    pub fn blobs(&self) -> impl Iterator<Item = BlobId> {
        let claimed = self.claims().map(|claim| claim.blob);
        std::iter::once(self.blob).chain(claimed).chain(self.mentioned.iter().copied())
    }

    /// All that its descriptors claim.
    pub fn claims(&self) -> impl Iterator<Item = Claim> {
        let links = self.links.iter().map(|link| link.claim);
        self.config.into_iter().chain(self.layers.iter().copied()).chain(links)
    }

    /// What it refers to, if that is a document and nothing else.
    fn only_link(&self) -> Option<Link> {
        match (&self.config, &self.layers[..], &self.links[..]) {
            (None, [], [link]) => Some(*link),
            _ => None,
        }
    }
}

impl<'a> Documents<'a> {
    /// None yet.
    pub fn new(layout: &'a Layout) -> Self {
        Documents {
            layout,
            all: Vec::new(),
            known: HashMap::new(),
            blobs: Numbered::default(),
            media_types: Numbered::default(),
            unread: Vec::new(),
        }
    }

    /// Adds a document, which is still to be read.
    pub fn add(&mut self, descriptor: &Descriptor) -> Link {
        let claim = self.claim(descriptor);
        let key = (claim.blob, claim.size, Kind::of(&descriptor.media_type));
        let next = self.all.len();
        let document = *self.known.entry(key).or_insert(next);
        if document == next {
            self.all.push(Document::new(key));
            self.unread.push(document);
        }
        Link { claim, document, levels: 1 }
    }

    fn claim(&mut self, descriptor: &Descriptor) -> Claim {
        Claim {
            blob: self.blobs.number(&descriptor.digest),
            size: descriptor.size,
            media_type: self.media_types.number(&descriptor.media_type),
        }
    }

    /// Reads the documents that are still to be read, and all that they refer to; tells which these
    /// were. What cannot be read has an error. Asks `alive` before each whether to go on.
    ///
    /// How deep documents are nested is no matter here: there are as many as there are files.
    pub fn read(&mut self, alive: &mut dyn FnMut() -> Result<()>) -> Result<Vec<DocumentId>> {
        let mut read = Vec::new();
        while let Some(&document) = self.unread.last() {
            alive()?;
            self.unread.pop();
            self.read_one(document);
            read.push(document);
        }
        Ok(read)
    }

    /// Reads those of these blobs that are documents again with the next [`read`](Self::read),
    /// since they have changed.
    pub fn read_again(&mut self, blobs: &HashSet<BlobId>) {
        let documents = 0..self.all.len();
        self.unread.extend(documents.filter(|&id| blobs.contains(&self.all[id].blob)));
    }

    fn read_one(&mut self, id: DocumentId) {
        let Document { blob, size, kind, .. } = self.all[id];
        let descriptor = self.descriptor(&self.all[id]);
        let flaw = self.flaw(&descriptor, kind);
        let content = match flaw {
            Some(_) => Content::default(),
            None => load(self.layout, &descriptor, kind).unwrap_or_else(Content::from),
        };
        let mut links: Vec<_> = content.links.iter().map(|link| self.add(link)).collect();
        let mut error = content.error;
        for optional in content.optional {
            match self.layout.blob_size(&optional.digest) {
                Ok(Some(size)) => links.push(self.add_optional(optional, size)),
                Ok(None) => {}
                Err(failed) => error = error.or(Some(failed)),
            }
        }
        for link in &links {
            let parents = &mut self.all[link.document].parents;
            // Most have one.
            if parents.is_empty() {
                parents.reserve_exact(1);
            }
            parents.push((id, link.levels));
        }
        let below = links.iter().map(|link| self.all[link.document].levels + link.levels).max();
        let config = content.config.map(|config| self.claim(&config));
        let layers = content.layers.iter().map(|layer| self.claim(layer)).collect();
        // What is mentioned need not be a blob of this layout.
        let is_there = |digest: &&Digest| !matches!(self.layout.blob_size(digest), Ok(None));
        let mentioned = content.mentioned.iter().filter(is_there);
        let mentioned = mentioned.map(|digest| self.blobs.number(digest)).collect();
        let other = error.map(|error| Failure::Other(error.into()));
        let failure = flaw.map(Failure::Flaw).or(other);
        let document = &mut self.all[id];
        *document = Document {
            config,
            layers,
            links: links.into(),
            mentioned,
            failure,
            parents: std::mem::take(&mut document.parents),
            ..Document::new((blob, size, kind))
        };
        self.raise(id, below.unwrap_or(1));
    }

    /// What it is known by.
    fn descriptor(&self, document: &Document) -> Descriptor {
        let digest = *self.digest(document.blob);
        Descriptor { media_type: Cow::Borrowed(""), digest, size: document.size }
    }

    /// What is wrong with a document, as far as that is seen from outside.
    fn flaw(&self, descriptor: &Descriptor, kind: Kind) -> Option<Flaw> {
        if descriptor.size > DOCUMENT_MAX {
            return (kind != Kind::Unknown).then_some(Flaw::TooLarge);
        }
        match self.layout.blob_size(&descriptor.digest) {
            Ok(None) => Some(Flaw::Missing),
            Ok(Some(actual)) if actual != descriptor.size => Some(Flaw::Size(actual)),
            _ => None,
        }
    }

    fn flaw_error(&self, document: DocumentId, flaw: Flaw) -> Error {
        let document = &self.all[document];
        let (descriptor, what) = (self.descriptor(document), document.kind.word());
        match flaw {
            Flaw::Missing => self.layout.lacks(&descriptor.digest),
            Flaw::Size(actual) => self.layout.wrong_size(&descriptor, what, actual),
            Flaw::TooLarge => too_large(&descriptor, what, DOCUMENT_MAX),
        }
    }

    /// Says why the document, or a part of it, could not be read.
    pub fn why(&self, document: DocumentId) -> Option<String> {
        self.all[document].failure.as_ref().map(|failure| match failure {
            Failure::Flaw(flaw) => self.flaw_error(document, *flaw).to_string(),
            Failure::Other(error) => error.to_string(),
        })
    }

    fn add_optional(&mut self, optional: Optional, actual: u64) -> Link {
        let Optional { media_type, digest, size, levels } = optional;
        let size = size.unwrap_or(actual);
        Link { levels, ..self.add(&Descriptor { media_type, digest, size }) }
    }

    /// Notes that there are so many levels from the document on. Each document is raised a few
    /// times, whatever refers to what: more levels than are too many are of no matter.
    fn raise(&mut self, document: DocumentId, levels: usize) {
        let mut pending = vec![(document, levels)];
        while let Some((document, levels)) = pending.pop() {
            let document = &mut self.all[document];
            let levels = levels.min(INDEX_DEPTH + 1);
            if levels > document.levels {
                document.levels = levels;
                let parents = document.parents.iter();
                pending.extend(parents.map(|(parent, above)| (*parent, levels + above)));
            }
        }
    }

    /// The document of this number.
    pub fn get(&self, document: DocumentId) -> &Document {
        &self.all[document]
    }

    /// All documents, in the order of their numbers.
    pub fn all(&self) -> &[Document] {
        &self.all
    }

    /// The digests of all blobs that the documents are or refer to, in the order of their numbers.
    pub fn digests(&self) -> &[Digest] {
        &self.blobs.all
    }

    /// The digest of this blob.
    pub fn digest(&self, blob: BlobId) -> &Digest {
        &self.blobs.all[blob]
    }

    /// The number of the blob, if one of the documents is it or refers to it.
    pub fn blob(&self, digest: &Digest) -> Option<BlobId> {
        self.blobs.numbers.get(digest).copied()
    }

    /// The media type that a descriptor claims.
    pub fn media_type(&self, claim: &Claim) -> &str {
        &self.media_types.all[claim.media_type]
    }

    /// Fails with what is wrong with the first document that could not be read, or with how deep
    /// they are nested.
    pub fn check(mut self) -> Result<()> {
        if let Some(failed) = self.all.iter().position(Document::failed) {
            return match self.all[failed].failure.take() {
                Some(Failure::Flaw(flaw)) => Err(self.flaw_error(failed, flaw)),
                Some(Failure::Other(error)) => Err(*error),
                None => Ok(()),
            };
        }
        match self.all.iter().any(Document::is_too_deep) {
            true => Err(too_deep()),
            false => Ok(()),
        }
    }

    /// Of each document whether it and all that it refers to could be read.
    pub fn whole(&self) -> Vec<bool> {
        let mut whole: Vec<_> = self.all.iter().map(|document| !document.is_too_deep()).collect();
        let failed = (0..self.all.len()).filter(|&id| self.all[id].failed());
        self.climb(failed, &mut Marks::default(), |document| whole[document] = false);
        whole
    }

    /// Visits documents and all that refer to them, directly or not, each once; tells how many
    /// steps that took.
    pub fn climb(
        &self,
        from: impl IntoIterator<Item = DocumentId>,
        seen: &mut Marks,
        mut visit: impl FnMut(DocumentId),
    ) -> usize {
        seen.clear();
        let mut pending: Vec<_> = from.into_iter().collect();
        let mut steps = 0;
        while let Some(document) = pending.pop() {
            steps += 1;
            if seen.mark(document) {
                visit(document);
                pending.extend(self.all[document].parents.iter().map(|(parent, _)| *parent));
            }
        }
        steps
    }
}

/// Values and their numbers, in the order in which they came first.
struct Numbered<T> {
    all: Vec<T>,
    numbers: HashMap<T, usize>,
}

impl<T> Default for Numbered<T> {
    fn default() -> Self {
        Numbered { all: Vec::new(), numbers: HashMap::new() }
    }
}

impl<T: Clone + Eq + Hash> Numbered<T> {
    fn number(&mut self, value: &T) -> usize {
        if let Some(known) = self.numbers.get(value) {
            return *known;
        }
        self.numbers.insert(value.clone(), self.all.len());
        self.all.push(value.clone());
        self.all.len() - 1
    }
}

/// A set of numbers that is emptied at once, and used again.
#[derive(Default)]
pub(crate) struct Marks {
    /// In which round a number was marked last.
    rounds: Vec<usize>,
    round: usize,
}

impl Marks {
    /// Unmarks all.
    pub fn clear(&mut self) {
        self.round += 1;
    }

    /// Marks a number; tells whether it was not.
    pub fn mark(&mut self, number: usize) -> bool {
        if self.rounds.len() <= number {
            self.rounds.resize(number + 1, 0);
        }
        std::mem::replace(&mut self.rounds[number], self.round) != self.round
    }
}

/// How many blobs and bytes there are of what documents refer to, each blob once, as a measure
/// says of each.
///
/// That can take time and space by the number of documents and the number of blobs, where all refer
/// to the same. It is told of an index of one image at once, since that refers to what the image
/// does; and not at all when [`STEPS_MAX`](Self::STEPS_MAX) blobs have been looked at in all.
pub(crate) struct Sums<'d, M> {
    documents: &'d Documents<'d>,
    measure: M,
    known: HashMap<DocumentId, Option<Sum>>,
    documents_seen: Marks,
    blobs_seen: Marks,
    left: usize,
}

/// A number of blobs, and of their bytes.
pub(crate) type Sum = (u64, u64);

impl<'d, M: FnMut(&Claim) -> Sum> Sums<'d, M> {
    /// How many blobs are looked at: the work of less than a second.
    const STEPS_MAX: usize = 1 << 26;

    /// Sums of what these documents refer to.
    pub fn new(documents: &'d Documents<'d>, measure: M) -> Self {
        Sums {
            documents,
            measure,
            known: HashMap::new(),
            documents_seen: Marks::default(),
            blobs_seen: Marks::default(),
            left: Self::STEPS_MAX,
        }
    }

    /// The sum of what the document refers to, itself not counted; `None` when there have been too
    /// many.
    pub fn of(&mut self, mut document: DocumentId) -> Option<Sum> {
        let mut sum = (0, 0);
        while let Some(link) = self.documents.get(document).only_link() {
            sum = add(sum, self.step(&link.claim)?);
            document = link.document;
        }
        let known = self.known.get(&document).copied();
        let rest = known.unwrap_or_else(|| self.count(document));
        self.known.insert(document, rest);
        Some(add(sum, rest?))
    }

    fn count(&mut self, document: DocumentId) -> Option<Sum> {
        self.documents_seen.clear();
        self.blobs_seen.clear();
        let mut sum = (0, 0);
        let mut pending = vec![document];
        while let Some(document) = pending.pop() {
            if !self.documents_seen.mark(document) {
                continue;
            }
            let document = self.documents.get(document);
            for claim in document.claims() {
                let measured = self.step(&claim)?;
                if self.blobs_seen.mark(claim.blob) {
                    sum = add(sum, measured);
                }
            }
            pending.extend(document.links.iter().map(|link| link.document));
        }
        Some(sum)
    }

    fn step(&mut self, claim: &Claim) -> Option<Sum> {
        self.left = self.left.checked_sub(1)?;
        Some((self.measure)(claim))
    }
}

fn add(a: Sum, b: Sum) -> Sum {
    (a.0.saturating_add(b.0), a.1.saturating_add(b.1))
}

// Reading one

/// What a document refers to.
#[derive(Default)]
struct Content {
    config: Option<Descriptor>,
    layers: Vec<Descriptor>,
    /// Documents.
    links: Vec<Descriptor>,
    /// Documents that need not be there.
    optional: Vec<Optional>,
    /// All else that is mentioned.
    mentioned: Vec<Digest>,
    /// What is wrong with a part of it.
    error: Option<Error>,
}

/// A document that need not be there.
struct Optional {
    media_type: Cow<'static, str>,
    digest: Digest,
    /// What it should be, if that is said.
    size: Option<u64>,
    levels: usize,
}

impl From<Error> for Content {
    fn from(error: Error) -> Self {
        Content { error: Some(error), ..Content::default() }
    }
}

fn load(layout: &Layout, descriptor: &Descriptor, kind: Kind) -> Result<Content> {
    match kind {
        Kind::Index => {
            let bytes = layout.read_document(descriptor, kind.word())?;
            Ok(Content::of_index(parse(&bytes, kind.word(), descriptor)?))
        }
        Kind::Manifest => {
            let bytes = layout.read_document(descriptor, kind.word())?;
            Ok(Content::of_manifest(parse(&bytes, kind.word(), descriptor)?))
        }
        Kind::Unknown if descriptor.size <= DOCUMENT_MAX => {
            let bytes = layout.read_document(descriptor, kind.word())?;
            Ok(Content::of_unknown(&bytes))
        }
        // No document has so many bytes: it is data.
        Kind::Unknown => Ok(Content::default()),
    }
}

impl Content {
    fn of_index(index: Index) -> Self {
        let mut content = Content::default();
        content.links = content.take(index.manifests);
        content.subject(index.subject)
    }

    fn of_manifest(manifest: Manifest) -> Self {
        let mut content = Content::default();
        content.config = content.take(Some(vec![manifest.config])).pop();
        content.layers = content.take(manifest.layers);
        content.subject(manifest.subject)
    }

    fn of_unknown(bytes: &[u8]) -> Self {
        let Mentioned { digests, documents } = Mentioned::read(bytes);
        let optional = documents.into_iter();
        let optional = optional.map(|(media_type, digest)| Optional {
            media_type: media_type.into(),
            digest,
            size: None,
            levels: 1,
        });
        Content { optional: optional.collect(), mentioned: digests, ..Content::default() }
    }

    /// The descriptors that are understood, and notes the error of the first that is not.
    fn take(&mut self, listed: Option<Vec<Listed>>) -> Vec<Descriptor> {
        let understood = |Listed(descriptor)| match descriptor {
            Ok(descriptor) => Some(descriptor),
            Err(error) => {
                self.error.get_or_insert(error);
                None
            }
        };
        listed.unwrap_or_default().into_iter().filter_map(understood).collect()
    }

    /// The image-spec allows a subject to be missing.
    fn subject(mut self, subject: Option<Listed>) -> Self {
        let subject = self.take(subject.map(|subject| vec![subject])).pop();
        let optional = |Descriptor { media_type, digest, size }| Optional {
            media_type,
            digest,
            size: Some(size),
            levels: 0,
        };
        self.optional = subject.map(optional).into_iter().collect();
        self
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

    /// What messages call it.
    fn word(self) -> &'static str {
        match self {
            Kind::Index => "index",
            Kind::Manifest => "manifest",
            Kind::Unknown => "blob",
        }
    }
}

/// What an index refers to. Go's programs write an empty list as `null`.
#[derive(Deserialize)]
struct Index {
    manifests: Option<Vec<Listed>>,
    subject: Option<Listed>,
}

/// What a manifest refers to.
#[derive(Deserialize)]
struct Manifest {
    config: Listed,
    layers: Option<Vec<Listed>>,
    subject: Option<Listed>,
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::{Value, json};

    use super::*;
    use crate::progress::Monitor;

    struct Images {
        dir: tempfile::TempDir,
    }

    impl Images {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            Layout::open_or_create(dir.path(), &Monitor::silent()).unwrap();
            Images { dir }
        }

        fn layout(&self) -> Layout {
            Layout::open(self.dir.path()).unwrap()
        }

        fn put(&self, media_type: &'static str, document: &Value) -> Descriptor {
            let bytes = document.to_string();
            let digest = Digest::of(bytes.as_bytes());
            fs::write(self.layout().blob_path(&digest), &bytes).unwrap();
            Descriptor { media_type: media_type.into(), digest, size: bytes.len() as u64 }
        }

        fn index(&self, of: &[&Descriptor]) -> Descriptor {
            let of: Vec<_> = of.iter().map(|descriptor| descriptor.json()).collect();
            self.put(media_type::INDEX, &json!({ "schemaVersion": 2, "manifests": of }))
        }

        fn manifest(&self, layers: &[u64], subject: Option<&Descriptor>) -> Descriptor {
            let layers: Vec<_> = layers.iter().map(|&size| layer(size).json()).collect();
            let subject = subject.map(Descriptor::json);
            let document =
                json!({ "config": layer(1).json(), "layers": layers, "subject": subject });
            self.put(media_type::MANIFEST, &document)
        }
    }

    /// A blob that is not there.
    fn layer(size: u64) -> Descriptor {
        let digest = Digest::of(size.to_string().as_bytes());
        Descriptor { media_type: media_type::DATA.into(), digest, size }
    }

    /// A document may be reached at several depths: it is read once, and each that refers to it
    /// is too deep or not by itself, in whatever order they come.
    #[test]
    fn how_deep_documents_are_nested() {
        let images = Images::new();
        let one = images.manifest(&[2], None);
        let two = images.index(&[&one]);
        let three = images.index(&[&two]);
        let four = images.index(&[&one, &three]);
        let five = images.index(&[&four, &one]);
        let six = images.index(&[&five]);
        let signature = images.manifest(&[], Some(&four));
        let deep = images.manifest(&[3], Some(&five));
        let missing = images.index(&[&layer(9), &one]);
        // The document, whether it is too deep, and whether it is whole.
        let rows = [
            (&one, false, true),
            (&two, false, true),
            (&four, false, true),
            (&five, true, false),
            (&six, true, false),
            (&signature, false, true),
            (&deep, true, false),
            (&missing, false, false),
        ];
        let layout = images.layout();
        for reversed in [false, true] {
            let mut documents = Documents::new(&layout);
            let mut order: Vec<_> = rows.iter().collect();
            if reversed {
                order.reverse();
            }
            // Also where what refers to a document is added after that has been read.
            for (descriptor, ..) in &order {
                documents.add(descriptor);
                documents.read(&mut || Ok(())).unwrap();
            }
            let whole = documents.whole();
            for (row, (descriptor, is_too_deep, is_whole)) in rows.iter().enumerate() {
                let id = documents.add(descriptor).document;
                assert_eq!(documents.get(id).is_too_deep(), *is_too_deep, "{row}, {reversed}");
                assert_eq!(whole[id], *is_whole, "{row}, {reversed}");
            }
            assert_eq!(documents.all().len(), rows.len() + 2, "three, and what is missing");
        }
    }

    #[test]
    fn blobs_are_counted_once_and_not_without_end() {
        let images = Images::new();
        let one = images.manifest(&[2, 3, 2], None);
        let other = images.manifest(&[3, 4], None);
        let only = images.index(&[&one]);
        let both = images.index(&[&one, &only, &other]);
        let layout = images.layout();
        let mut documents = Documents::new(&layout);
        let all = [&one, &other, &only, &both].map(|descriptor| documents.add(descriptor).document);
        documents.read(&mut || Ok(())).unwrap();
        let mut sums = Sums::new(&documents, |claim| (1, claim.size));
        let expected = [
            (3, 1 + 2 + 3),
            (3, 1 + 3 + 4),
            (4, 1 + 2 + 3 + one.size),
            (7, 1 + 2 + 3 + 4 + one.size + other.size + only.size),
        ];
        assert_eq!(all.map(|document| sums.of(document)), expected.map(Some));
        let mut sums = Sums::new(&documents, |claim| (1, claim.size));
        sums.left = 5;
        let first = Some(expected[0]);
        assert_eq!(all.map(|document| sums.of(document)), [first, None, None, None]);
        assert_eq!(sums.of(all[0]), first, "that is known");
    }
}
