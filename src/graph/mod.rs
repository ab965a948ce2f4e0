//! What the images of a layout share: as data, and as a picture.

mod svg;

use std::collections::{HashMap, HashSet};

use crate::digest::Digest;
use crate::error::Result;
use crate::layout::{Descriptor, Layout, Manifest, Name, Platform};

/// Images, and the blobs that they are made of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Graph {
    /// The images, in the order of the layout's index.
    pub images: Vec<GraphImage>,
    /// The blobs that the images refer to, each once, in the order of first use.
    pub blobs: Vec<GraphBlob>,
    /// How many entries of the index are of other kinds: they have no part in the graph.
    pub others: usize,
    /// How many entries of the index cannot be read.
    pub unreadable: usize,
}

/// An image of a [`Graph`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GraphImage {
    /// The digest of the manifest.
    pub manifest: Digest,
    /// The tags, with the platform behind a tag of several; none if nothing names it.
    pub names: Vec<String>,
    /// The metadata, as an index into the blobs.
    pub metadata: usize,
    /// The packs, as indexes into the blobs, each once.
    pub packs: Vec<usize>,
}

impl GraphImage {
    /// All blobs of the image, as indexes, each once.
    pub fn blobs(&self) -> impl Iterator<Item = usize> {
        let packs = self.packs.iter().copied().filter(|&pack| pack != self.metadata);
        std::iter::once(self.metadata).chain(packs)
    }
}

/// A blob of a [`Graph`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GraphBlob {
    /// The digest of the blob.
    pub digest: Digest,
    /// Its bytes in the layout; what its descriptor says if it is missing there.
    pub size: u64,
    /// The images that refer to it, as indexes in ascending order.
    pub images: Vec<usize>,
}

impl Graph {
    /// The graph of all puzzlefs images of a layout. What else there is, is counted.
    pub fn of_layout(layout: &Layout) -> Result<Self> {
        let index = layout.index()?;
        let mut reader = Reader::new(layout);
        // What an entry refers to is read once, however many tags it has.
        let mut known = HashMap::new();
        for (tag, descriptor) in index.entries() {
            let Ok(descriptor) = descriptor else {
                reader.graph.unreadable += 1;
                continue;
            };
            let found = known.entry(descriptor.digest).or_insert_with(|| reader.read(&descriptor));
            reader.name(found, tag);
        }
        Ok(reader.graph)
    }

    /// The graph of one image.
    pub fn of_image(layout: &Layout, name: &Name, platform: Option<&Platform>) -> Result<Self> {
        let mut reader = Reader::new(layout);
        let image = reader.add(&Manifest::find(layout, name, platform)?);
        if let Name::Tag(tag) = name {
            reader.graph.images[image].names.push(tag.clone());
        }
        Ok(reader.graph)
    }

    /// The bytes of an image.
    pub fn size(&self, image: &GraphImage) -> u64 {
        self.bytes(image.blobs())
    }

    /// The bytes of an image that no image before it has.
    pub fn added(&self, image: usize) -> u64 {
        let first = |&blob: &usize| self.blobs[blob].images.first() == Some(&image);
        self.bytes(self.images[image].blobs().filter(first))
    }

    /// The bytes of all images, as if none shared anything.
    pub fn sum(&self) -> u64 {
        self.images.iter().map(|image| self.size(image)).fold(0, u64::saturating_add)
    }

    /// The bytes of all blobs, each counted once: what is stored.
    pub fn distinct(&self) -> u64 {
        self.bytes(0..self.blobs.len())
    }

    /// The part of [`sum`](Self::sum) that need not be stored, from 0 to 1.
    pub fn share(&self) -> f64 {
        match self.sum() {
            0 => 0.0,
            sum => 1.0 - self.distinct() as f64 / sum as f64,
        }
    }

    fn bytes(&self, blobs: impl Iterator<Item = usize>) -> u64 {
        blobs.map(|blob| self.blobs[blob].size).fold(0, u64::saturating_add)
    }

    /// The graph as a picture, an SVG document under a title: a row an image, a column a pack,
    /// as wide as the pack is large. The same graph gives the same bytes.
    pub fn to_svg(&self, title: &str) -> String {
        svg::draw(self, title)
    }
}

/// An image that an entry of the index stands for, and what an index says of its platform.
type Found = (usize, Option<Platform>);

struct Reader<'a> {
    layout: &'a Layout,
    graph: Graph,
    /// What manifests are: each is read once, however many indexes refer to it.
    manifests: HashMap<Descriptor, Read>,
    blobs: HashMap<Digest, usize>,
}

/// What a manifest was read as.
enum Read {
    /// An image that is in the graph.
    Image(usize),
    /// One that may come to be there.
    New(Box<Manifest>),
    Other,
    Unreadable,
}

impl<'a> Reader<'a> {
    fn new(layout: &'a Layout) -> Self {
        let (manifests, blobs) = Default::default();
        Reader { layout, graph: Graph::default(), manifests, blobs }
    }

    /// Adds the puzzlefs images that an entry refers to: all or, if one cannot be read, none.
    fn read(&mut self, entry: &Descriptor) -> Vec<Found> {
        let Ok(listed) = Manifest::listed(self.layout, entry) else {
            self.graph.unreadable += 1;
            return Vec::new();
        };
        if !listed.iter().all(|(_, manifest)| self.is_readable(manifest)) {
            self.graph.unreadable += 1;
            return Vec::new();
        }
        let image =
            |(platform, manifest): (_, Descriptor)| Some((self.image(&manifest)?, platform));
        let found: Vec<_> = listed.into_iter().filter_map(image).collect();
        self.graph.others += usize::from(found.is_empty());
        found
    }

    fn is_readable(&mut self, descriptor: &Descriptor) -> bool {
        let read = self.manifests.entry(descriptor.clone()).or_insert_with(|| {
            match Manifest::read_ours(self.layout, descriptor) {
                Ok(Some(manifest)) => Read::New(manifest.into()),
                Ok(None) => Read::Other,
                Err(_) => Read::Unreadable,
            }
        });
        !matches!(read, Read::Unreadable)
    }

    /// The image of a manifest that was read; `None` if it is of another kind.
    fn image(&mut self, manifest: &Descriptor) -> Option<usize> {
        match self.manifests.get_mut(manifest)? {
            Read::Image(known) => Some(*known),
            read @ Read::New(_) => {
                let number = self.graph.images.len();
                let read = std::mem::replace(read, Read::Image(number));
                if let Read::New(manifest) = read {
                    self.add(&manifest);
                }
                Some(number)
            }
            Read::Other | Read::Unreadable => None,
        }
    }

    fn name(&mut self, found: &[Found], tag: Option<&str>) {
        let Some(tag) = tag else { return };
        for (image, platform) in found {
            let name = match platform {
                Some(platform) if found.len() > 1 => format!("{tag} ({platform})"),
                _ => tag.to_owned(),
            };
            self.graph.images[*image].names.push(name);
        }
    }

    fn add(&mut self, manifest: &Manifest) -> usize {
        let digest = manifest.descriptor.digest;
        let number = self.graph.images.len();
        let metadata = self.blob(&manifest.rootfs, number);
        let mut seen = HashSet::new();
        let packs = manifest.data.iter().map(|pack| self.blob(pack, number));
        let packs = packs.filter(|&pack| seen.insert(pack)).collect();
        self.graph.images.push(GraphImage { manifest: digest, names: Vec::new(), metadata, packs });
        number
    }

    fn blob(&mut self, descriptor: &Descriptor, image: usize) -> usize {
        let digest = descriptor.digest;
        let blobs = &mut self.graph.blobs;
        let number = *self.blobs.entry(digest).or_insert_with(|| {
            // The reference's descriptors have the size before compression. What is no file is as
            // good as missing here; fsck tells more of it.
            let stored = self.layout.blob_size(&digest).ok().flatten();
            let size = stored.unwrap_or(descriptor.size);
            blobs.push(GraphBlob { digest, size, images: Vec::new() });
            blobs.len() - 1
        });
        let images = &mut blobs[number].images;
        if images.last() != Some(&image) {
            images.push(image);
        }
        number
    }
}
