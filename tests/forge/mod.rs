//! Forged images: a whole OCI layout in which every part says what a test wants
//! it to say.
//!
//! Nothing of the library is used but the Cap'n Proto schema: the forge must be
//! able to write what the library never would, and a mistake of the library's
//! must not stand on both sides of a comparison. A test crate that has this
//! module also has `metadata_capnp`, which the generated code looks for at the
//! crate's root.

use std::fs;
use std::path::{Path, PathBuf};

use capnp::message::{Builder, HeapAllocator};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::metadata_capnp::{inode, rootfs};

pub mod words;

pub const ROOTFS_TYPE: &str = "application/vnd.puzzlefs.image.rootfs.v1";
pub const RAW_TYPE: &str = "application/vnd.puzzlefs.image.filedata.v1";
pub const ZSTD_TYPE: &str = "application/vnd.puzzlefs.image.filedata.v1+zstd";
pub const INDEX_TYPE: &str = "application/vnd.oci.image.index.v1+json";
pub const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
pub const CONFIG_TYPE: &str = "application/vnd.oci.image.config.v1+json";
pub const EMPTY_TYPE: &str = "application/vnd.oci.empty.v1+json";

const TAG_ANNOTATION: &str = "org.opencontainers.image.ref.name";
const VERITY_ANNOTATION: &str = "io.puzzlefsoci.puzzlefs.puzzlefs_verity_root_hash";

/// The uncompressed bytes of a frame of [`Blob::zstd`].
pub const FRAME: usize = 128 << 10;

/// An inode as the metadata tells it; nothing keeps it consistent.
#[cfg_attr(fuzzing, derive(Debug, arbitrary::Arbitrary))]
#[derive(Clone, Default)]
pub struct Inode {
    pub ino: u64,
    pub mode: Mode,
    pub uid: u32,
    pub gid: u32,
    pub permissions: u16,
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub target: Option<Vec<u8>>,
    pub mtime: (i64, u32),
}

#[cfg_attr(fuzzing, derive(Debug, arbitrary::Arbitrary))]
#[derive(Clone, Default)]
pub enum Mode {
    #[default]
    Unknown,
    Fifo,
    Chr(u64, u64),
    Dir {
        entries: Vec<(Vec<u8>, u64)>,
        look_below: bool,
    },
    Blk(u64, u64),
    File(Vec<Extent>),
    Lnk,
    Sock,
    Wht,
    /// A discriminant that the schema's union does not have.
    Other(u16),
}

/// A FileChunk.
#[cfg_attr(fuzzing, derive(Debug, arbitrary::Arbitrary))]
#[derive(Clone)]
pub struct Extent {
    pub digest: Vec<u8>,
    pub offset: u64,
    pub len: u64,
    pub compressed: bool,
}

pub fn dir(ino: u64, entries: &[(&str, u64)]) -> Inode {
    let entries = entries.iter().map(|(name, ino)| (name.as_bytes().to_vec(), *ino)).collect();
    let mode = Mode::Dir { entries, look_below: false };
    Inode { ino, mode, permissions: 0o755, ..Inode::default() }
}

pub fn file(ino: u64, extents: &[Extent]) -> Inode {
    Inode { ino, mode: Mode::File(extents.to_vec()), permissions: 0o644, ..Inode::default() }
}

pub fn symlink(ino: u64, target: &str) -> Inode {
    Inode {
        ino,
        mode: Mode::Lnk,
        permissions: 0o777,
        target: Some(target.as_bytes().to_vec()),
        ..Inode::default()
    }
}

/// A whiteout, or any other inode that is nothing but its mode.
pub fn special(ino: u64, mode: Mode) -> Inode {
    Inode { ino, mode, permissions: 0o644, ..Inode::default() }
}

impl Inode {
    /// The entries, of an inode that is a directory.
    pub fn entries(&mut self) -> &mut Vec<(Vec<u8>, u64)> {
        match &mut self.mode {
            Mode::Dir { entries, .. } => entries,
            _ => panic!("inode {} is not a directory", self.ino),
        }
    }

    /// The extents, of an inode that is a regular file.
    pub fn extents(&mut self) -> &mut Vec<Extent> {
        match &mut self.mode {
            Mode::File(extents) => extents,
            _ => panic!("inode {} is not a regular file", self.ino),
        }
    }
}

/// A data blob as it is stored.
#[derive(Clone)]
pub struct Blob {
    pub bytes: Vec<u8>,
    pub media_type: &'static str,
}

impl Blob {
    pub fn raw(bytes: &[u8]) -> Self {
        Self { bytes: bytes.to_vec(), media_type: RAW_TYPE }
    }

    /// The bytes in frames of [`FRAME`], with a seek table that is true.
    pub fn zstd(bytes: &[u8]) -> Self {
        Self::lying_zstd(bytes, |_| {})
    }

    /// The same with a seek table of which `lie` has changed the frames' sizes.
    pub fn lying_zstd(bytes: &[u8], lie: fn(&mut Vec<SeekEntry>)) -> Self {
        let (mut stored, mut entries) = frames(bytes, FRAME);
        lie(&mut entries);
        stored.extend(seek_table(&entries, entries.len() as u32));
        Self::stored(stored)
    }

    /// Arbitrary bytes that claim to be zstd.
    pub fn stored(bytes: Vec<u8>) -> Self {
        Self { bytes, media_type: ZSTD_TYPE }
    }

    pub fn digest(&self) -> [u8; 32] {
        Sha256::digest(&self.bytes).into()
    }

    pub fn extent(&self, offset: u64, len: u64) -> Extent {
        Extent {
            digest: self.digest().to_vec(),
            offset,
            len,
            compressed: self.media_type == ZSTD_TYPE,
        }
    }
}

/// The bytes in frames of `size`, one after the other, and what a seek table says of them.
pub fn frames(bytes: &[u8], size: usize) -> (Vec<u8>, Vec<SeekEntry>) {
    let mut stored = Vec::new();
    let mut entries = Vec::new();
    for raw in bytes.chunks(size) {
        let frame = zstd::bulk::compress(raw, 3).expect("compress a frame");
        let (compressed, decompressed) = (frame.len() as u32, raw.len() as u32);
        entries.push(SeekEntry { compressed, decompressed });
        stored.extend(frame);
    }
    (stored, entries)
}

/// One frame in the seek table.
#[derive(Clone, Copy)]
pub struct SeekEntry {
    pub compressed: u32,
    pub decompressed: u32,
}

/// The seek table of the Zstandard Seekable Format, whose footer claims `count`
/// frames.
pub fn seek_table(entries: &[SeekEntry], count: u32) -> Vec<u8> {
    const SKIPPABLE_MAGIC: u32 = 0x184D_2A5E;
    const SEEKABLE_MAGIC: u32 = 0x8F92_EAB1;
    const FOOTER: usize = 9;
    const NO_CHECKSUMS: u8 = 0;

    let content = entries.len() * 8 + FOOTER;
    let mut table = SKIPPABLE_MAGIC.to_le_bytes().to_vec();
    table.extend((content as u32).to_le_bytes());
    for entry in entries {
        table.extend(entry.compressed.to_le_bytes());
        table.extend(entry.decompressed.to_le_bytes());
    }
    table.extend(count.to_le_bytes());
    table.push(NO_CHECKSUMS);
    table.extend(SEEKABLE_MAGIC.to_le_bytes());
    table
}

/// An image, true in all that a test does not change.
pub struct Image {
    /// The metadata layers, the topmost first.
    pub metadatas: Vec<Vec<Inode>>,
    pub manifest_version: u64,
    /// The data blobs that are stored and that the manifest lists.
    pub blobs: Vec<Blob>,
    /// fsVerityData; the truth about the blobs when it is `None`.
    pub verity: Option<Vec<(Vec<u8>, Vec<u8>)>>,
    /// The rootfs blob's bytes, in place of what the fields above say.
    pub rootfs: Option<Vec<u8>>,
    pub config_type: &'static str,
    /// The last word on each JSON document before it is stored.
    pub config: fn(&mut Value),
    pub manifest: fn(&mut Value),
    pub descriptor: fn(&mut Value),
}

/// Where an image's parts were stored.
pub struct Stored {
    pub manifest: PathBuf,
    pub config: PathBuf,
    pub rootfs: PathBuf,
    pub blobs: Vec<PathBuf>,
}

impl Image {
    pub fn new(inodes: Vec<Inode>, blobs: Vec<Blob>) -> Self {
        Self {
            metadatas: vec![inodes],
            manifest_version: 3,
            blobs,
            verity: None,
            rootfs: None,
            config_type: CONFIG_TYPE,
            config: |_| {},
            manifest: |_| {},
            descriptor: |_| {},
        }
    }

    /// The inode of this number in the topmost layer.
    pub fn inode(&mut self, ino: u64) -> &mut Inode {
        self.metadatas[0]
            .iter_mut()
            .find(|inode| inode.ino == ino)
            .unwrap_or_else(|| panic!("no inode {ino}"))
    }

    /// Stores the image in the layout `dir`, which is made when it is not there,
    /// and tags it.
    pub fn write(&self, dir: &Path, tag: &str) -> Stored {
        let rootfs_bytes = self.rootfs.clone().unwrap_or_else(|| self.encode());
        let mut rootfs = store(dir, ROOTFS_TYPE, &rootfs_bytes);
        rootfs["annotations"] = json!({ VERITY_ANNOTATION: hex::encode(verity(&rootfs_bytes)) });
        let mut layers = vec![rootfs];
        layers.extend(self.blobs.iter().map(|b| store(dir, b.media_type, &b.bytes)));

        let diff_ids: Vec<&Value> = layers.iter().map(|layer| &layer["digest"]).collect();
        let created = "2026-01-01T00:00:00Z";
        let mut config = json!({
            "created": created,
            "architecture": "amd64",
            "os": "linux",
            "config": {},
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
            "history": [{ "created": created, "created_by": "forge" }],
        });
        (self.config)(&mut config);
        let config = store(dir, self.config_type, config.to_string().as_bytes());
        let mut manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": config,
            "layers": layers,
        });
        (self.manifest)(&mut manifest);
        let mut descriptor = store(dir, MANIFEST_TYPE, manifest.to_string().as_bytes());
        descriptor["annotations"] = json!({ TAG_ANNOTATION: tag });
        let stored = Stored {
            manifest: path_of(dir, &descriptor),
            config: path_of(dir, &config),
            rootfs: path_of(dir, &layers[0]),
            blobs: layers[1..].iter().map(|blob| path_of(dir, blob)).collect(),
        };
        (self.descriptor)(&mut descriptor);
        add_to_index(dir, descriptor);
        stored
    }

    /// The rootfs blob.
    pub fn encode(&self) -> Vec<u8> {
        let mut message = Builder::new_default();
        let mut root = message.init_root::<rootfs::Builder<'_>>();
        root.set_manifest_version(self.manifest_version);
        let mut layers = root.reborrow().init_metadatas(self.metadatas.len() as u32);
        for (i, inodes) in (0..).zip(&self.metadatas) {
            let mut list = layers.reborrow().get(i).init_inodes(inodes.len() as u32);
            for (j, inode) in (0..).zip(inodes) {
                encode_inode(list.reborrow().get(j), inode);
            }
        }
        let verity = self.verity.clone().unwrap_or_else(|| verity_data(&self.blobs));
        let mut list = root.init_fs_verity_data(verity.len() as u32);
        for (i, (digest, value)) in (0..).zip(&verity) {
            let mut entry = list.reborrow().get(i);
            entry.set_digest(digest);
            entry.set_verity(value);
        }
        let bytes = serialize(&message);
        self.metadatas.iter().flatten().fold(bytes, patch_mode)
    }
}

fn serialize(message: &Builder<HeapAllocator>) -> Vec<u8> {
    let mut bytes = Vec::new();
    capnp::serialize::write_message(&mut bytes, message).expect("write to memory");
    bytes
}

fn encode_inode(mut to: inode::Builder<'_>, from: &Inode) {
    to.set_ino(from.ino);
    to.set_uid(from.uid);
    to.set_gid(from.gid);
    to.set_permissions(from.permissions);
    to.set_mtime_seconds(from.mtime.0);
    to.set_mtime_nanoseconds(from.mtime.1);
    let mut mode = to.reborrow().init_mode();
    match &from.mode {
        Mode::Unknown | Mode::Other(_) => mode.set_unknown(()),
        Mode::Fifo => mode.set_fifo(()),
        Mode::Lnk => mode.set_lnk(()),
        Mode::Sock => mode.set_sock(()),
        Mode::Wht => mode.set_wht(()),
        Mode::Chr(major, minor) => {
            let mut device = mode.init_chr();
            device.set_major(*major);
            device.set_minor(*minor);
        }
        Mode::Blk(major, minor) => {
            let mut device = mode.init_blk();
            device.set_major(*major);
            device.set_minor(*minor);
        }
        Mode::Dir { entries, look_below } => {
            let mut dir = mode.init_dir();
            dir.set_look_below(*look_below);
            let mut list = dir.init_entries(entries.len() as u32);
            for (i, (name, ino)) in (0..).zip(entries) {
                let mut entry = list.reborrow().get(i);
                entry.set_name(name);
                entry.set_ino(*ino);
            }
        }
        Mode::File(extents) => {
            let mut list = mode.init_file(extents.len() as u32);
            for (i, extent) in (0..).zip(extents) {
                let mut chunk = list.reborrow().get(i);
                chunk.set_len(extent.len);
                let mut blob = chunk.init_blob();
                blob.set_digest(&extent.digest);
                blob.set_offset(extent.offset);
                blob.set_compressed(extent.compressed);
            }
        }
    }
    if from.xattrs.is_empty() && from.target.is_none() {
        return;
    }
    let mut additional = to.init_additional();
    if let Some(target) = &from.target {
        additional.set_symlink_target(target);
    }
    let mut list = additional.init_xattrs(from.xattrs.len() as u32);
    for (i, (key, value)) in (0..).zip(&from.xattrs) {
        let mut xattr = list.reborrow().get(i);
        xattr.set_key(key);
        xattr.set_val(value);
    }
}

/// Sets a discriminant that the generated code can't, in the first two bytes of an inode's second
/// word. The first word, the number, occurs in entries too.
fn patch_mode(mut bytes: Vec<u8>, inode: &Inode) -> Vec<u8> {
    if let Mode::Other(discriminant) = inode.mode {
        let second = u64::from(inode.permissions) << 16 | u64::from(inode.uid) << 32;
        let start = [inode.ino, second].map(u64::to_le_bytes).concat();
        let mut words = (0..bytes.len() - 16).step_by(8);
        let at = words.find(|&at| bytes[at..].starts_with(&start));
        let at = at.expect("the inode is in the message") + 8;
        bytes[at..at + 2].copy_from_slice(&discriminant.to_le_bytes());
    }
    bytes
}

/// The true fsVerityData of these blobs.
fn verity_data(blobs: &[Blob]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut data: Vec<_> =
        blobs.iter().map(|blob| (blob.digest().to_vec(), verity(&blob.bytes).to_vec())).collect();
    data.sort();
    data.dedup();
    data
}

/// The fs-verity digest: SHA-256, blocks of 4 KiB, no salt.
pub fn verity(bytes: &[u8]) -> [u8; 32] {
    const BLOCK: usize = 4096;
    fn hash_blocks(bytes: &[u8]) -> Vec<[u8; 32]> {
        let hash_block = |block: &[u8]| {
            let padding = [0; BLOCK];
            let hash = Sha256::new().chain_update(block);
            hash.chain_update(&padding[block.len()..]).finalize().into()
        };
        bytes.chunks(BLOCK).map(hash_block).collect()
    }
    let mut level = hash_blocks(bytes);
    while level.len() > 1 {
        level = hash_blocks(&level.concat());
    }
    let root = level.pop().unwrap_or_default();

    let (version, sha256, log_block_size) = (1, 1, 12);
    let mut descriptor = vec![version, sha256, log_block_size, 0, 0, 0, 0, 0];
    descriptor.extend((bytes.len() as u64).to_le_bytes());
    descriptor.extend(root);
    descriptor.resize(256, 0);
    Sha256::digest(&descriptor).into()
}

/// Stores a blob in the layout and gives its descriptor.
pub fn store(dir: &Path, media_type: &str, bytes: &[u8]) -> Value {
    let descriptor = descriptor(media_type, bytes);
    fs::create_dir_all(dir.join("blobs/sha256")).expect("create the layout");
    fs::write(path_of(dir, &descriptor), bytes).expect("write a blob");
    descriptor
}

/// The descriptor of a blob.
pub fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    let digest = format!("sha256:{}", hex::encode(Sha256::digest(bytes)));
    json!({ "mediaType": media_type, "digest": digest, "size": bytes.len() })
}

/// Where the blob of this descriptor is.
fn path_of(dir: &Path, descriptor: &Value) -> PathBuf {
    let digest = descriptor["digest"].as_str().expect("a digest");
    dir.join("blobs").join(digest.replacen(':', "/", 1))
}

/// Adds a descriptor to index.json, and makes what else a layout needs.
pub fn add_to_index(dir: &Path, descriptor: Value) {
    let path = dir.join("index.json");
    let mut index = match fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes).expect("parse index.json"),
        Err(_) => json!({ "schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [] }),
    };
    index["manifests"].as_array_mut().expect("a list of manifests").push(descriptor);
    fs::create_dir_all(dir).expect("create the layout");
    fs::write(&path, index.to_string()).expect("write index.json");
    fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)
        .expect("write oci-layout");
}
