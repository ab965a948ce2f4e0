//! Building images.

use std::ffi::{c_char, c_void};
use std::mem::size_of;

use super::progress::{puzzlefs_progress_fn, reporter};
use super::{puzzlefs_error, puzzlefs_status};
use super::{ret, symbol_version, utils};
use crate::build::{BuildOptions, BuildReport, DataLayout, build};
use crate::error::{Error, ErrorKind, Result};
use crate::layout::{ConfigOptions, Reference};
use crate::pack::Compression;
use crate::progress::Monitor;
use crate::source::ScanOptions;

symbol_version!("LIBPUZZLEFS_0.1": puzzlefs_build);

/// Bits of `flags` in `puzzlefs_build_options`.
#[repr(u64)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum puzzlefs_build_flags {
    /// `compression_level` is given.
    PUZZLEFS_BUILD_HAS_COMPRESSION_LEVEL = 1 << 0,
    /// `uid` and `gid` are given.
    PUZZLEFS_BUILD_HAS_OWNER = 1 << 1,
    /// `clamp_mtime` is given.
    PUZZLEFS_BUILD_HAS_CLAMP_MTIME = 1 << 2,
    /// `created` is given.
    PUZZLEFS_BUILD_HAS_CREATED = 1 << 3,
    /// A directory on which another file system is mounted stays empty.
    PUZZLEFS_BUILD_ONE_FILE_SYSTEM = 1 << 4,
    /// `security.selinux`, which belongs to the host, is kept.
    PUZZLEFS_BUILD_SELINUX = 1 << 5,
}
use puzzlefs_build_flags::*;

const FLAGS: u64 = PUZZLEFS_BUILD_HAS_COMPRESSION_LEVEL as u64
    | PUZZLEFS_BUILD_HAS_OWNER as u64
    | PUZZLEFS_BUILD_HAS_CLAMP_MTIME as u64
    | PUZZLEFS_BUILD_HAS_CREATED as u64
    | PUZZLEFS_BUILD_ONE_FILE_SYSTEM as u64
    | PUZZLEFS_BUILD_SELINUX as u64;

/// How data is compressed.
#[repr(u32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum puzzlefs_compression {
    /// With Zstandard, where that makes the data smaller.
    PUZZLEFS_COMPRESSION_ZSTD = 0,
    /// Not at all.
    PUZZLEFS_COMPRESSION_NONE = 1,
}

/// How data is cut into blobs.
#[repr(u32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum puzzlefs_data_layout {
    /// Many chunks a blob: few blobs, which registries and tools copy fast.
    PUZZLEFS_DATA_LAYOUT_PACKS = 0,
    /// A blob a chunk, as the reference implementation has it.
    PUZZLEFS_DATA_LAYOUT_BLOB_PER_CHUNK = 1,
}

/// How an image is built. Zeros, but for `size`, are the defaults. A number that a flag must
/// announce is refused without it.
///
/// Strings are UTF-8. All of it is the caller's, and used during the call only.
#[repr(C)]
pub struct puzzlefs_build_options {
    /// `sizeof(puzzlefs_build_options)`.
    pub size: usize,
    /// Bits of `puzzlefs_build_flags`.
    pub flags: u64,
    /// Patterns of what is left out, with NULL behind the last; NULL for none. One without a
    /// slash matches a name at any depth, one with a slash matches a path from the root of the
    /// tree; `*` does not match a slash, `**` does. What is below a directory that is left out
    /// is left out too.
    pub exclude: *const *const c_char,
    /// The manifest's annotations: a key, its value, the next key, its value, and so on, with
    /// NULL behind the last; NULL for none. Of a key that occurs twice, the last value counts.
    pub annotations: *const *const c_char,
    /// An OCI image configuration to start from, as JSON: all of it is kept but its layers and
    /// history. It need not end with a NUL. NULL for none.
    pub config: *const u8,
    /// The length of `config` in bytes.
    pub config_length: usize,
    /// The image's architecture, as Go's GOARCH; NULL for the one of `config`, else this
    /// machine's.
    pub architecture: *const c_char,
    /// The image's operating system, as Go's GOOS; NULL for the one of `config`, else `linux`.
    pub os: *const c_char,
    /// Who made the image; NULL for the one of `config`, else nobody.
    pub author: *const c_char,
    /// What made the image, for its history; NULL for `puzzlefs build`.
    pub created_by: *const c_char,
    /// A remark for the image's history; NULL for none.
    pub comment: *const c_char,
    /// When the image was created, in seconds since 1970, if `PUZZLEFS_BUILD_HAS_CREATED`; else
    /// the environment's `SOURCE_DATE_EPOCH`, else the newest mtime in the tree.
    pub created: i64,
    /// The newest mtime, in seconds since 1970, if `PUZZLEFS_BUILD_HAS_CLAMP_MTIME`: what is
    /// newer gets this one.
    pub clamp_mtime: i64,
    /// The owner of everything, if `PUZZLEFS_BUILD_HAS_OWNER`; else the ones on disk.
    pub uid: u32,
    /// The group of everything, if `PUZZLEFS_BUILD_HAS_OWNER`; else the ones on disk.
    pub gid: u32,
    /// The mean size of packs in bytes, a power of two from 1 to 32 MiB; 0 for one that fits the
    /// size of the tree.
    pub pack_size: u64,
    /// One of `puzzlefs_compression`.
    pub compression: u32,
    /// Zstandard's level, from -7 to 22, if `PUZZLEFS_BUILD_HAS_COMPRESSION_LEVEL`; else 3.
    pub compression_level: i32,
    /// One of `puzzlefs_data_layout`.
    pub data_layout: u32,
    /// How many threads read and how many compress, from 1 to 256; 0 for the number of cores,
    /// up to 16.
    pub threads: u32,
    /// Is told of progress, and may cancel; NULL for nobody.
    pub progress: puzzlefs_progress_fn,
    /// Passed to `progress`.
    pub data: *mut c_void,
}

// SAFETY: `repr(C)`, the size comes first, numbers and pointers may be 0.
unsafe impl utils::Versioned for puzzlefs_build_options {
    const FIRST_SIZE: usize = size_of::<Self>();
}

/// What was built. The caller sets `size`, and the library fills in the rest.
#[repr(C)]
pub struct puzzlefs_build_result {
    /// `sizeof(puzzlefs_build_result)`.
    pub size: usize,
    /// The digest of the image's manifest: `sha256:` and 64 digits of 0-9a-f. The manifest's media
    /// type is `application/vnd.oci.image.manifest.v1+json`.
    pub digest: [c_char; 72],
    /// The fs-verity digest of the image's manifest: 64 digits of 0-9a-f.
    pub verity: [c_char; 72],
    /// The size of the image's manifest in bytes.
    pub manifest_size: u64,
    /// Inodes in the image.
    pub inodes: u64,
    /// Regular files in the image.
    pub files: u64,
    /// Layers of the manifest: the rootfs and the data blobs.
    pub layers: u64,
    /// Chunks that the files consist of.
    pub chunks: u64,
    /// Chunks among them that were seen for the first time.
    pub new_chunks: u64,
    /// The sum of the files' sizes in bytes.
    pub bytes_tree: u64,
    /// Bytes read from the files: less than their sizes where they have holes.
    pub bytes_read: u64,
    /// Bytes of the new chunks.
    pub bytes_new: u64,
    /// Bytes of the blobs that were written.
    pub bytes_stored: u64,
    /// Bytes of the blobs that the layout had before.
    pub bytes_shared: u64,
    /// Bytes of the metadata.
    pub bytes_metadata: u64,
}

// SAFETY: `repr(C)`, the size comes first, numbers and pointers may be 0.
unsafe impl utils::Versioned for puzzlefs_build_result {
    const FIRST_SIZE: usize = size_of::<Self>();
}

/// Builds an image of a directory and stores it under a tag of an OCI image layout.
///
/// The layout is made if it is not there. Nothing refers to the image before it is complete: when
/// the build fails or is cancelled, the layout's tags are as they were.
///
/// Parameters:
/// - `rootfs`: the path of the directory.
/// - `image`: where the image is stored: `LAYOUT:TAG`, where `LAYOUT` is the path of a folder.
/// - `options`: how it is built; NULL for the defaults.
/// - `result`: what was built, with its `size` set; NULL if that is of no interest. Nothing is
///   filled in when the build fails.
/// - `error`: see `puzzlefs_error`.
///
/// Returns `PUZZLEFS_OK`, or among others `PUZZLEFS_ERR_INVALID_INPUT` for options that make no
/// sense or a layout inside the directory, `PUZZLEFS_ERR_NOT_FOUND` without the directory,
/// `PUZZLEFS_ERR_CHANGED` if a file changed meanwhile, `PUZZLEFS_ERR_NO_SPACE`,
/// `PUZZLEFS_ERR_CANCELLED`.
///
/// Threads: any, several builds at once too, into one layout too. It starts threads of its own,
/// which end before it returns. No other thread may change the environment (`setenv`) meanwhile.
///
/// ```c
/// puzzlefs_build_options options = { .size = sizeof(options), .threads = 2 };
/// puzzlefs_build_result result = { .size = sizeof(result) };
/// puzzlefs_error *error;
/// if (puzzlefs_build("root", "images:v1", &options, &result, &error) == PUZZLEFS_OK)
///     printf("%s\n", result.digest);
/// else
///     fprintf(stderr, "%s\n", puzzlefs_error_message(error));
/// puzzlefs_error_free(error);
/// ```
#[unsafe(no_mangle)]
pub unsafe extern "C" fn puzzlefs_build(
    rootfs: *const c_char,
    image: *const c_char,
    options: *const puzzlefs_build_options,
    result: *mut puzzlefs_build_result,
    error: *mut *mut puzzlefs_error,
) -> puzzlefs_status {
    // SAFETY: the caller passes pointers as the header asks for.
    unsafe {
        ret::call(error, || {
            let rootfs = utils::path(rootfs, "rootfs")?;
            let image = Reference::parse(utils::path(image, "image")?)?;
            let options = utils::options(options, "options")?;
            let result = utils::optional_slot(result, "result")?;
            let report = reporter(options.progress, options.data);
            let built = build(rootfs, &image, &options.to_core()?, &Monitor::new(&report))?;
            if let Some(slot) = result {
                slot.fill(built.into());
            }
            Ok(())
        })
    }
}

impl puzzlefs_build_options {
    /// # Safety
    ///
    /// The pointers are as the header asks for.
    unsafe fn to_core(&self) -> Result<BuildOptions> {
        utils::flags(self.flags, FLAGS, "options.flags")?;
        let has = |flag: puzzlefs_build_flags| self.flags & flag as u64 != 0;
        // SAFETY: the caller promises what is needed.
        unsafe {
            Ok(BuildOptions {
                base: None,
                trust_mtime: false,
                scan: ScanOptions {
                    exclude: utils::texts(self.exclude, "options.exclude")?,
                    one_file_system: has(PUZZLEFS_BUILD_ONE_FILE_SYSTEM),
                    owner: utils::given(
                        has(PUZZLEFS_BUILD_HAS_OWNER),
                        (self.uid, self.gid),
                        "options.uid and gid",
                    )?,
                    clamp_mtime: utils::given(
                        has(PUZZLEFS_BUILD_HAS_CLAMP_MTIME),
                        self.clamp_mtime,
                        "options.clamp_mtime",
                    )?,
                    selinux: has(PUZZLEFS_BUILD_SELINUX),
                },
                compression: self.compression(has(PUZZLEFS_BUILD_HAS_COMPRESSION_LEVEL))?,
                data_layout: self.data_layout()?,
                pack_size: utils::nonzero(self.pack_size),
                config: ConfigOptions {
                    start: utils::bytes(self.config, self.config_length, "options.config")?
                        .map(<[u8]>::to_vec),
                    architecture: utils::text(self.architecture, "options.architecture")?,
                    os: utils::text(self.os, "options.os")?,
                },
                annotations: utils::pairs(self.annotations, "options.annotations")?
                    .into_iter()
                    .collect(),
                created: utils::given(
                    has(PUZZLEFS_BUILD_HAS_CREATED),
                    self.created,
                    "options.created",
                )?,
                author: utils::text(self.author, "options.author")?,
                created_by: utils::text(self.created_by, "options.created_by")?,
                comment: utils::text(self.comment, "options.comment")?,
                threads: utils::nonzero(self.threads as usize),
            })
        }
    }

    fn compression(&self, has_level: bool) -> Result<Compression> {
        let level = utils::given(has_level, self.compression_level, "options.compression_level")?;
        const ZSTD: u32 = puzzlefs_compression::PUZZLEFS_COMPRESSION_ZSTD as u32;
        const NONE: u32 = puzzlefs_compression::PUZZLEFS_COMPRESSION_NONE as u32;
        match (self.compression, level) {
            (ZSTD, Some(level)) => Ok(Compression::Zstd(level)),
            (ZSTD, None) => Ok(Compression::default()),
            (NONE, Some(_)) => Err(Error::invalid("a compression level, but no compression")),
            (NONE, None) => Ok(Compression::None),
            (other, _) => Err(unknown("compression", other)),
        }
    }

    fn data_layout(&self) -> Result<DataLayout> {
        const PACKS: u32 = puzzlefs_data_layout::PUZZLEFS_DATA_LAYOUT_PACKS as u32;
        const BLOB_PER_CHUNK: u32 =
            puzzlefs_data_layout::PUZZLEFS_DATA_LAYOUT_BLOB_PER_CHUNK as u32;
        match self.data_layout {
            PACKS => Ok(DataLayout::Packs),
            BLOB_PER_CHUNK => Ok(DataLayout::BlobPerChunk),
            other => Err(unknown("data_layout", other)),
        }
    }
}

fn unknown(field: &str, value: u32) -> Error {
    Error::new(ErrorKind::Unsupported, format!("'options.{field}' is {value}, which is not known"))
}

impl From<BuildReport> for puzzlefs_build_result {
    fn from(built: BuildReport) -> Self {
        puzzlefs_build_result {
            size: size_of::<Self>(),
            digest: utils::chars(built.descriptor.digest.to_string().as_bytes()),
            verity: utils::chars(hex::encode(built.verity).as_bytes()),
            manifest_size: built.descriptor.size,
            inodes: built.inodes,
            files: built.files,
            layers: built.layers,
            chunks: built.chunks,
            new_chunks: built.new_chunks,
            bytes_tree: built.bytes_tree,
            bytes_read: built.bytes_read,
            bytes_new: built.bytes_new,
            bytes_stored: built.bytes_stored,
            bytes_shared: built.bytes_shared,
            bytes_metadata: built.bytes_metadata,
        }
    }
}
