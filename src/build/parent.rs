//! The base image with all that is carried on of it.

use std::collections::BTreeMap;
use std::fs::File;

use super::BaseOptions;
use super::base::Base;
use super::step::BaseBlobs;
use crate::chunk::Extent;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::image::Image;
use crate::layout::{BaseManifest, ImageConfig, Layout, PACK_SIZE};
use crate::pack::PackSize;
use crate::progress::{Monitor, Progress, Stage};
use crate::tree::{Inode, Kind, Metadata, Timestamp, Tree, TreeBuilder};

/// The image that a build starts from.
pub struct Parent {
    /// The image; none if it has no layers, as the ones that umoci makes first.
    pub image: Option<Image>,
    pub config: Option<ImageConfig>,
    pub annotations: BTreeMap<String, String>,
    /// The manifest's `artifactType`.
    pub artifact_type: Option<String>,
    /// The mean size of its packs, as annotated.
    pub pack_size: Option<PackSize>,
    /// Keeps its blobs from being collected, should its tag go meanwhile.
    pub _lock: File,
}

impl Parent {
    /// Opens the base, and checks that all of its data is there.
    pub fn open(options: &BaseOptions, monitor: &Monitor<'_>) -> Result<Self> {
        let layout = Layout::open(&options.image.layout)?;
        let lock = layout.lock_blobs(monitor)?;
        let found = BaseManifest::find(&layout, &options.image.name, options.platform.as_ref())?;
        let BaseManifest { image, config, annotations, artifact_type } = found;
        let config = ImageConfig::read(&layout, &config)?;
        let image = match image {
            None => None,
            Some(manifest) => {
                let image = Image::of_manifest(layout, manifest, false)?;
                image.check_blobs()?;
                if options.verify {
                    verify(&image, monitor)?;
                }
                Some(image)
            }
        };
        let pack_size = annotations.get(PACK_SIZE).and_then(|mean| mean.parse().ok());
        let pack_size = pack_size.and_then(|mean| PackSize::new(mean).ok());
        Ok(Parent { image, config, annotations, artifact_type, pack_size, _lock: lock })
    }

    /// What a step needs of it; nothing if it is empty.
    pub fn blobs(&self) -> Option<BaseBlobs<'_>> {
        self.image.as_ref().map(|image| BaseBlobs {
            base: Base { rootfs: image.rootfs(), blobs: image.blobs() },
            layout: image.layout(),
            // The reference's entries for blobs that it stored raw are wrong.
            has_verity: self.pack_size.is_some(),
        })
    }

    /// The digests of its layers.
    pub fn layers(&self) -> Vec<Digest> {
        let manifest = self.image.as_ref().map(Image::manifest);
        let layers = |manifest: &crate::layout::Manifest| {
            let layers = std::iter::once(&manifest.rootfs).chain(&manifest.data);
            layers.map(|layer| layer.digest).collect()
        };
        manifest.map(layers).unwrap_or_default()
    }
}

fn verify(image: &Image, monitor: &Monitor<'_>) -> Result<()> {
    let sizes = image.rootfs().blobs.iter().map(|blob| image.layout().blob_size(&blob.digest));
    let sizes: Vec<u64> = sizes.map(|size| Ok(size?.unwrap_or(0))).collect::<Result<_>>()?;
    let (mut done, total) = (0, sizes.iter().sum());
    for (number, size) in sizes.iter().enumerate() {
        image.verify_blob(number)?;
        done += size;
        monitor.report(Progress { stage: Stage::Check, done, total })?;
    }
    Ok(())
}

/// The tree of an image without layers.
pub fn empty_tree() -> Tree<Box<[Extent]>> {
    let metadata = Metadata { permissions: 0o755, ..Metadata::default() };
    let root = Inode::new(metadata, Kind::Directory(Vec::new()));
    TreeBuilder::new(root).expect("an empty directory").finish()
}

/// Refuses to trust times that tell nothing.
pub fn check_times(clamp: Option<i64>, parent: Option<&Parent>) -> Result<()> {
    if clamp.is_some() {
        return Err(Error::invalid(
            "times to be trusted that are clamped: equal ones are common there, whatever changed",
        ));
    }
    let Some(image) = parent.and_then(|parent| parent.image.as_ref()) else { return Ok(()) };
    let mut times = image.tree().inodes().iter().map(|inode| inode.metadata.mtime);
    let first: Timestamp = times.next().unwrap_or_default();
    if times.len() > 0 && times.all(|time| time == first) {
        return Err(Error::invalid(
            "times to be trusted, but all times in the base are the same: it has none of its own",
        ));
    }
    Ok(())
}
