//! Ordinary OCI images, whose layers are tar archives, become puzzlefs images.

use std::io::{self, BufReader, Read};

use super::base::Base;
use super::parent::Parent;
use super::step::{BaseBlobs, Step, step};
use super::{BuildOptions, BuildReport, publish, write};
use crate::digest::{Digest, Hasher};
use crate::error::{Error, ErrorKind, Result};
use crate::image::Blobs;
use crate::layout::{
    Descriptor, ImageConfig, Layout, Platform, Reference, SourceManifest, Staging, media_type,
};
use crate::pack::PackSize;
use crate::progress::{Monitor, Progress, Stage};
use crate::source::tar::TarLayers;

/// How an ordinary image is converted.
#[derive(Debug, Clone, Default)]
pub struct ConvertOptions {
    /// How the new image is built; without a base.
    pub build: BuildOptions,
    /// Which image of an index; this machine's, or the only one, if not given.
    pub platform: Option<Platform>,
    /// Whether all layers become one step, so that metadata and data are those that
    /// [`build`](super::build()) of the unpacked image would give. Else each layer is a step on
    /// the ones below, and images with the same first layers share what these became.
    pub squash: bool,
}

const CREATED_BY: &str = "puzzlefs convert";

/// Makes a puzzlefs image of the ordinary image that `from` names, and stores it under the tag of
/// `target`.
///
/// Layers are tar archives, plain or compressed with gzip or Zstandard. Each is read once, and its
/// digest and diff ID are checked; nothing of them is unpacked but the content of files, into one
/// temporary file without a name in the target's layout. The configuration, the annotations and
/// the history are carried on; the history gets one more entry.
///
/// Fails if there is no such image, if it is a puzzlefs image already, if its layers are damaged
/// or of another kind, or if the layout cannot be written.
pub fn convert(
    from: &Reference,
    target: &Reference,
    options: &ConvertOptions,
    monitor: &Monitor<'_>,
) -> Result<BuildReport> {
    let tag = target.tag()?;
    options.build.check()?;
    if options.build.base.is_some() {
        return Err(Error::invalid("an image to convert has no base"));
    }
    let source = ForeignImage::open(from, options.platform.as_ref(), monitor)?;
    let layout = Layout::open_or_create(&target.layout, monitor)?;
    layout.index()?;
    let mut staging = Staging::begin(&layout, monitor)?;
    let (step, newest) = Conversion {
        source: &source,
        options,
        layout: &layout,
        monitor,
        done: 0,
        total: source.layers.iter().map(|layer| layer.size).sum(),
    }
    .run(&mut staging)?;
    staging.retain(|digest| step.data.iter().any(|data| data.descriptor.digest == *digest))?;

    let created = match options.build.given_time()? {
        Some(created) => created,
        None => source.parent.config.as_ref().and_then(ImageConfig::created_time).unwrap_or(newest),
    };
    let history = options.build.history(CREATED_BY, created);
    let parent = source.carried_on(options.squash)?;
    // Unless they are squashed, the layers have entries of their own.
    let adds_layer = |_: &[Digest]| options.squash;
    let written = write(&step, Some(&parent), &options.build, &history, adds_layer, &mut staging)?;
    publish(tag, staging, &step, &written, monitor)
}

/// An ordinary image.
struct ForeignImage {
    layout: Layout,
    layers: Vec<Descriptor>,
    /// The digests of the layers when they are not compressed, as the configuration has them.
    diff_ids: Vec<Digest>,
    /// What is carried on.
    parent: Parent,
}

impl ForeignImage {
    fn open(
        reference: &Reference,
        platform: Option<&Platform>,
        monitor: &Monitor<'_>,
    ) -> Result<Self> {
        let layout = Layout::open(&reference.layout)?;
        let lock = layout.lock_blobs(monitor)?;
        let manifest = SourceManifest::find(&layout, &reference.name, platform)?;
        for layer in &manifest.layers {
            check_type(&layer.media_type).map_err(|error| error.context(reference))?;
        }
        let config = ImageConfig::read(&layout, &manifest.config)?;
        let diff_ids = config.as_ref().map_or(Ok(Vec::new()), ImageConfig::diff_ids)?;
        if diff_ids.len() != manifest.layers.len() {
            let (ids, layers) = (diff_ids.len(), manifest.layers.len());
            let config = manifest.config.digest;
            let message = format!("the config {config} has {ids} diff IDs for {layers} layers");
            return Err(Error::corrupt(message));
        }
        let parent = Parent {
            image: None,
            config,
            annotations: manifest.annotations,
            artifact_type: manifest.artifact_type,
            pack_size: None,
            _lock: lock,
        };
        Ok(ForeignImage { layout, layers: manifest.layers, diff_ids, parent })
    }

    /// What the new image is made of; if the layers were `squashed`, none of them is one any more.
    fn carried_on(mut self, squashed: bool) -> Result<Parent> {
        if let (Some(config), true) = (&self.parent.config, squashed) {
            self.parent.config = Some(config.without_layers()?);
        }
        Ok(self.parent)
    }
}

/// Fails unless a layer of this type is a tar archive.
fn check_type(layer: &str) -> Result<()> {
    const PREFIXES: [&str; 4] = [
        "application/vnd.oci.image.layer.v1.tar",
        "application/vnd.oci.image.layer.nondistributable.v1.tar",
        "application/vnd.docker.image.rootfs.diff.tar",
        "application/vnd.docker.image.rootfs.foreign.diff.tar",
    ];
    const SUFFIXES: [&str; 5] = ["", "+gzip", "+zstd", ".gzip", ".zstd"];
    let suffixes = PREFIXES.iter().filter_map(|prefix| layer.strip_prefix(prefix));
    if suffixes.into_iter().any(|suffix| SUFFIXES.contains(&suffix)) {
        return Ok(());
    }
    if layer == media_type::ROOTFS {
        return Err(Error::invalid("it is a puzzlefs image already"));
    }
    let message = format!("it has a layer of type '{layer}', which is no tar archive");
    Err(Error::new(ErrorKind::Unsupported, message))
}

struct Conversion<'a> {
    source: &'a ForeignImage,
    options: &'a ConvertOptions,
    layout: &'a Layout,
    monitor: &'a Monitor<'a>,
    /// Bytes of the layers, for the progress.
    done: u64,
    total: u64,
}

impl Conversion<'_> {
    /// Stores the content of all layers; tells the newest mtime too.
    fn run(&mut self, staging: &mut Staging) -> Result<(Step, i64)> {
        let mut layers = TarLayers::new(staging.folder())?;
        let mut last: Option<Step> = None;
        let count = self.source.layers.len();
        for number in 0..count {
            let layer = &self.source.layers[number];
            self.read(number, &mut layers)
                .map_err(|error| error.context(format_args!("the layer {}", layer.digest)))?;
            if !self.options.squash || number + 1 == count {
                last = Some(self.step(&mut layers, last, staging)?);
            }
        }
        let step = match last {
            Some(step) => step,
            None => self.step(&mut layers, None, staging)?,
        };
        let times = step.rootfs.tree.inodes().iter().map(|inode| inode.metadata.mtime.seconds);
        let newest = times.max().unwrap_or(0);
        Ok((step, newest))
    }

    /// Reads a layer once, and checks that it is what the image says.
    fn read(&mut self, number: usize, layers: &mut TarLayers) -> Result<()> {
        let (layer, diff_id) = (&self.source.layers[number], self.source.diff_ids[number]);
        let (file, size) = self.source.layout.open_blob(&layer.digest)?;
        if size != layer.size {
            return Err(Error::corrupt(format!("has {size} bytes instead of {}", layer.size)));
        }
        let (before, total, monitor) = (self.done, self.total, self.monitor);
        let progress = |bytes: u64| {
            monitor.report(Progress { stage: Stage::Unpack, done: before + bytes, total })
        };
        let mut stored = Hashed::new(file.take(size), &progress);
        let silent = |_| Ok(());
        let mut archive = Hashed::new(decompress(&mut stored)?, &silent);
        drain(layers.add(&mut archive)?)?;
        let found = std::mem::take(&mut archive.hasher).finish();
        drop(archive);
        drain(&mut stored)?;
        if stored.hasher.finish() != layer.digest {
            return Err(Error::corrupt("does not have this digest: it is damaged"));
        }
        if found != diff_id {
            let message = format!("has the diff ID {found} instead of {diff_id}");
            return Err(Error::corrupt(message));
        }
        self.done += size;
        Ok(())
    }

    /// Stores what the layers so far have become.
    fn step(
        &self,
        layers: &mut TarLayers,
        last: Option<Step>,
        staging: &mut Staging,
    ) -> Result<Step> {
        let blobs: Option<Blobs> = last.as_ref().map(|last| last.blobs(self.layout, staging));
        let from = last.as_ref().zip(blobs.as_ref()).map(|(last, blobs)| BaseBlobs {
            base: Base { rootfs: &last.rootfs, blobs },
            layout: self.layout,
            has_verity: true,
        });
        let mean = last.as_ref().and_then(|last| last.pack_size);
        let mean = mean.map(PackSize::new).transpose()?;
        let options = self.options.build.step(mean)?;
        let source = layers.source(&self.options.build.scan)?;
        let nodes = source.nodes();
        let mut step = step(source, from.as_ref(), &options, staging, self.monitor)?;
        layers.stored(&nodes);
        if let Some(last) = &last {
            step.stats.add(&last.stats);
        }
        Ok(step)
    }
}

/// What a layer holds, decompressed: its first bytes tell how. Some tools are wrong about it in
/// the media type.
fn decompress<'a>(mut stored: impl Read + 'a) -> Result<Box<dyn Read + 'a>> {
    const GZIP: [u8; 2] = [0x1f, 0x8b];
    const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
    /// A frame that a decoder skips, which some programs begin with; 16 numbers are such ones.
    const ZSTD_SKIPPABLE: [u8; 3] = [0x2a, 0x4d, 0x18];
    /// The largest window of a Zstandard frame, as a power of two: 128 MiB, as `zstd` takes it.
    const WINDOW_LOG_MAX: u32 = 27;
    let mut magic = Vec::new();
    let failed = |error: io::Error| match error.downcast::<Error>() {
        Ok(own) => own,
        Err(error) => Error::corrupt(format!("cannot be read: {error}")),
    };
    stored.by_ref().take(ZSTD.len() as u64).read_to_end(&mut magic).map_err(failed)?;
    let is = |known: &[u8]| magic.starts_with(known);
    let is_skippable = matches!(*magic, [0x50..=0x5f, ref rest @ ..] if *rest == ZSTD_SKIPPABLE);
    let (gzip, zstd) = (is(&GZIP), is(&ZSTD) || is_skippable);
    let whole = BufReader::with_capacity(128 * 1024, io::Cursor::new(magic).chain(stored));
    Ok(if gzip {
        Box::new(flate2::bufread::MultiGzDecoder::new(whole))
    } else if zstd {
        let mut decoder = zstd::stream::read::Decoder::with_buffer(whole).map_err(failed)?;
        decoder.window_log_max(WINDOW_LOG_MAX).map_err(failed)?;
        Box::new(decoder)
    } else {
        Box::new(whole)
    })
}

/// A stream whose bytes are hashed and counted as they are read.
struct Hashed<'a, R> {
    input: R,
    hasher: Hasher,
    bytes: u64,
    progress: &'a dyn Fn(u64) -> Result<()>,
}

impl<'a, R> Hashed<'a, R> {
    fn new(input: R, progress: &'a dyn Fn(u64) -> Result<()>) -> Self {
        Hashed { input, hasher: Hasher::default(), bytes: 0, progress }
    }
}

impl<R: Read> Read for Hashed<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(buffer).map_err(of_the_system)?;
        self.hasher.update(&buffer[..read]);
        self.bytes += read as u64;
        (self.progress)(self.bytes).map_err(io::Error::other)?;
        Ok(read)
    }
}

/// A failure of the system, rather than one of what is read, as this library's own error.
fn of_the_system(error: io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(_) if error.kind() != io::ErrorKind::Interrupted => {
            io::Error::other(Error::system("read it", error))
        }
        _ => error,
    }
}

/// Reads a stream to its end.
fn drain(mut input: impl Read) -> Result<()> {
    io::copy(&mut input, &mut io::sink()).map(|_| ()).map_err(|error| {
        match error.downcast::<Error>() {
            Ok(own) => own,
            Err(error) => Error::corrupt(format!("cannot be read: {error}")),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_of_layers() {
        for right in [
            "application/vnd.oci.image.layer.v1.tar",
            "application/vnd.oci.image.layer.v1.tar+gzip",
            "application/vnd.oci.image.layer.v1.tar+zstd",
            "application/vnd.docker.image.rootfs.diff.tar.gzip",
        ] {
            assert!(check_type(right).is_ok(), "{right}");
        }
        for (wrong, message) in [
            (media_type::ROOTFS, "puzzlefs image already"),
            ("application/vnd.stacker.image.layer.squashfs+zstd", "no tar archive"),
            ("application/vnd.oci.image.layer.v1.tar+gzip+encrypted", "no tar archive"),
        ] {
            let error = check_type(wrong).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
    }
}
