//! Making images: of directories, of changes, of other images.

use std::ffi::{c_char, c_void};

use super::progress::{puzzlefs_progress_fn, reporter};
use super::{puzzlefs_error, puzzlefs_status};
use super::{ret, symbol_version, utils};
use crate::build::{
    BaseOptions, BuildOptions, BuildReport, ConvertOptions, DataLayout, build, canonicalize,
    convert, delta,
};
use crate::error::{Error, ErrorKind, Result};
use crate::image::OpenOptions;
use crate::layout::{ConfigOptions, Platform, Reference};
use crate::pack::Compression;
use crate::progress::Monitor;
use crate::source::ScanOptions;
use crate::source::overlay::MarkNamespace;

symbol_version!("LIBPUZZLEFS_0.1":
    puzzlefs_build,
    puzzlefs_delta,
    puzzlefs_canonicalize,
    puzzlefs_convert,
);

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
    /// A directory on which another file system is mounted stays empty; means nothing where an
    /// image is canonicalized or converted.
    PUZZLEFS_BUILD_ONE_FILE_SYSTEM = 1 << 4,
    /// `security.selinux`, which belongs to the host, is kept.
    PUZZLEFS_BUILD_SELINUX = 1 << 5,
    /// `puzzlefs_build` only: a file whose type, size, mode, owner and mtime are those of the
    /// base's file of the same path is taken for it unread. Refused where times mean nothing.
    PUZZLEFS_BUILD_TRUST_MTIME = 1 << 6,
    /// The digests of all of the base's data blobs are checked first.
    PUZZLEFS_BUILD_VERIFY_BASE = 1 << 7,
    /// `puzzlefs_convert` only: all layers become one step, so that metadata and data are those
    /// that `puzzlefs_build` of the unpacked image would give.
    PUZZLEFS_BUILD_SQUASH = 1 << 8,
}
use puzzlefs_build_flags::*;

const FLAGS: u64 = PUZZLEFS_BUILD_HAS_COMPRESSION_LEVEL as u64
    | PUZZLEFS_BUILD_HAS_OWNER as u64
    | PUZZLEFS_BUILD_HAS_CLAMP_MTIME as u64
    | PUZZLEFS_BUILD_HAS_CREATED as u64
    | PUZZLEFS_BUILD_ONE_FILE_SYSTEM as u64
    | PUZZLEFS_BUILD_SELINUX as u64
    | PUZZLEFS_BUILD_VERIFY_BASE as u64;

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

/// Which extended attributes of an upperdir are the overlay's own.
#[repr(u32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum puzzlefs_marks {
    /// Those in the namespace that is met first; both in one upperdir are an error.
    PUZZLEFS_MARKS_AUTO = 0,
    /// `trusted.overlay.*`
    PUZZLEFS_MARKS_TRUSTED = 1,
    /// `user.overlay.*`, as of an overlay mounted with `userxattr`.
    PUZZLEFS_MARKS_USER = 2,
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
    /// The image to start from, as `LAYOUT:TAG` or `LAYOUT@sha256:HEX`; it may be in another
    /// layout. Its configuration, history and annotations are carried on. NULL for none; must be
    /// given to `puzzlefs_delta`, and not to `puzzlefs_canonicalize` and `puzzlefs_convert`.
    pub base: *const c_char,
    /// Which image, where the base, or the image that is canonicalized or converted, is that of an
    /// index: `OS/ARCHITECTURE[/VARIANT]`; NULL for this machine's, or the only one.
    pub platform: *const c_char,
    /// The image's architecture, as Go's GOARCH; NULL for the one of `config`, else of the image
    /// that it is made of, else this machine's.
    pub architecture: *const c_char,
    /// The image's operating system, as Go's GOOS; NULL for the one of `config`, else of the image
    /// that it is made of, else `linux`.
    pub os: *const c_char,
    /// Who made the image; NULL for the one of `config`, else nobody.
    pub author: *const c_char,
    /// What made the image, for its history; NULL for `puzzlefs build`, `puzzlefs delta` and so
    /// on.
    pub created_by: *const c_char,
    /// A remark for the image's history; NULL for none.
    pub comment: *const c_char,
    /// When the image was created, in seconds since 1970, if `PUZZLEFS_BUILD_HAS_CREATED`; else
    /// the environment's `SOURCE_DATE_EPOCH`, else what an ordinary image that is converted says,
    /// else the newest mtime in the tree.
    pub created: i64,
    /// The newest mtime, in seconds since 1970, if `PUZZLEFS_BUILD_HAS_CLAMP_MTIME`: what is
    /// newer gets this one.
    pub clamp_mtime: i64,
    /// The owner of everything, if `PUZZLEFS_BUILD_HAS_OWNER`; else the ones on disk.
    pub uid: u32,
    /// The group of everything, if `PUZZLEFS_BUILD_HAS_OWNER`; else the ones on disk.
    pub gid: u32,
    /// The mean size of packs in bytes, a power of two from 1 to 32 MiB; 0 for one that fits the
    /// size of the tree, or the base's if that is larger.
    pub pack_size: u64,
    /// One of `puzzlefs_compression`.
    pub compression: u32,
    /// Zstandard's level, from -7 to 22, if `PUZZLEFS_BUILD_HAS_COMPRESSION_LEVEL`; else 3.
    pub compression_level: i32,
    /// One of `puzzlefs_data_layout`.
    pub data_layout: u32,
    /// One of `puzzlefs_marks`, for `puzzlefs_delta` only.
    pub marks: u32,
    /// How many threads read and how many compress, from 1 to 256; 0 for the number of cores,
    /// up to 16.
    pub threads: u32,
    /// 0.
    pub reserved: u32,
    /// Is told of progress, and may cancel; NULL for nobody.
    pub progress: puzzlefs_progress_fn,
    /// Passed to `progress`.
    pub data: *mut c_void,
    /// How many bytes of memory the build may take, besides what the process has; 0 for no limit.
    /// With little of it fewer threads work, on less at once; the image is the same. If it needs
    /// more in any case, that is `PUZZLEFS_ERR_INVALID_INPUT`, with a message that tells how much.
    pub memory_limit: u64,
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
    /// Regular files that hold what the base's file of the same path holds.
    pub unchanged_files: u64,
    /// Bytes that were stored anew of the base's packs, of which little was used, or which were
    /// small and too many.
    pub bytes_moved: u64,
    /// Bytes of the base's blobs that were copied from its layout.
    pub bytes_copied: u64,
    /// Bytes of the blobs that were written, copied ones among them.
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
/// `PUZZLEFS_ERR_CHANGED` if something in it changed meanwhile, `PUZZLEFS_ERR_NO_SPACE`,
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
        let take = || utils::path(rootfs, "rootfs");
        make(take, image, options, result, error, |rootfs, image, options, monitor| {
            options.allow(PUZZLEFS_BUILD_TRUST_MTIME as u64, false)?;
            build(rootfs, image, &options.to_core()?, monitor)
        })
    }
}

/// Builds an image of a base image and what an upperdir of overlayfs changes of it.
///
/// The image is the one that `puzzlefs_build` makes of the merged tree with the same base, at the
/// cost of the change. Whiteouts and opaque directories are understood in all forms that the kernel
/// knows; marks that tell of content outside the upperdir (`redirect`, `metacopy`, `nlink`) are
/// refused.
///
/// Parameters:
/// - `upperdir`: the path of the upperdir. Nobody must change it meanwhile.
/// - `image`: where the image is stored: `LAYOUT:TAG`.
/// - `options`: how it is built; its `base` is the image that the upperdir lies on.
/// - `result`: what was built, with its `size` set; NULL if that is of no interest. Nothing is
///   filled in when the build fails.
/// - `error`: see `puzzlefs_error`.
///
/// Returns as `puzzlefs_build` does, and `PUZZLEFS_ERR_INVALID_INPUT` without a base,
/// `PUZZLEFS_ERR_UNSUPPORTED` for marks that are refused, `PUZZLEFS_ERR_CORRUPT` if the base lacks
/// data.
///
/// Threads: as `puzzlefs_build`.
///
/// ```c
/// puzzlefs_build_options options = { .size = sizeof(options), .base = "images:v1" };
/// if (puzzlefs_delta("overlay/upper", "images:v2", &options, NULL, &error) != PUZZLEFS_OK)
///     return fail(error);
/// ```
#[unsafe(no_mangle)]
pub unsafe extern "C" fn puzzlefs_delta(
    upperdir: *const c_char,
    image: *const c_char,
    options: *const puzzlefs_build_options,
    result: *mut puzzlefs_build_result,
    error: *mut *mut puzzlefs_error,
) -> puzzlefs_status {
    // SAFETY: the caller passes pointers as the header asks for.
    unsafe {
        let take = || utils::path(upperdir, "upperdir");
        make(take, image, options, result, error, |upperdir, image, options, monitor| {
            options.allow(0, true)?;
            delta(upperdir, options.marks()?, image, &options.to_core()?, monitor)
        })
    }
}

/// Stores an image anew, without its history: with the metadata and data that `puzzlefs_build` of
/// its tree with the same options would give.
///
/// Its configuration and annotations are carried on. Nothing is unpacked.
///
/// Parameters:
/// - `from`: the image: `LAYOUT:TAG` or `LAYOUT@sha256:HEX`.
/// - `image`: where the new image is stored: `LAYOUT:TAG`.
/// - `options`: how it is built, without a base; NULL for the defaults.
/// - `result`: what was built, with its `size` set; NULL if that is of no interest. Nothing is
///   filled in when it fails.
/// - `error`: see `puzzlefs_error`.
///
/// Returns `PUZZLEFS_OK`, or among others `PUZZLEFS_ERR_NOT_FOUND` without the image,
/// `PUZZLEFS_ERR_CORRUPT` if it is damaged, `PUZZLEFS_ERR_NO_SPACE`, `PUZZLEFS_ERR_CANCELLED`.
///
/// Threads: as `puzzlefs_build`.
///
/// ```c
/// if (puzzlefs_canonicalize("images:v9", "images:release", NULL, NULL, &error) != PUZZLEFS_OK)
///     return fail(error);
/// ```
#[unsafe(no_mangle)]
pub unsafe extern "C" fn puzzlefs_canonicalize(
    from: *const c_char,
    image: *const c_char,
    options: *const puzzlefs_build_options,
    result: *mut puzzlefs_build_result,
    error: *mut *mut puzzlefs_error,
) -> puzzlefs_status {
    // SAFETY: the caller passes pointers as the header asks for.
    unsafe {
        let take = || Reference::parse(utils::path(from, "from")?);
        make(take, image, options, result, error, |from, image, options, monitor| {
            options.allow(0, false)?;
            let open = OpenOptions { platform: options.platform()?, verify: true };
            canonicalize(&from, &open, image, &options.to_core()?, monitor)
        })
    }
}

/// Makes a puzzlefs image of an ordinary OCI image, whose layers are tar archives.
///
/// Each layer is read once, its digest and diff ID are checked, and it is not unpacked. By default
/// each is a step on the ones below, so that images share what lower layers became. Configuration,
/// annotations and history are carried on.
///
/// Parameters:
/// - `from`: the ordinary image: `LAYOUT:TAG` or `LAYOUT@sha256:HEX`.
/// - `image`: where the new image is stored: `LAYOUT:TAG`.
/// - `options`: how it is built, without a base; NULL for the defaults.
/// - `result`: what was built, with its `size` set; NULL if that is of no interest. Nothing is
///   filled in when it fails.
/// - `error`: see `puzzlefs_error`.
///
/// Returns `PUZZLEFS_OK`, or among others `PUZZLEFS_ERR_NOT_FOUND` without the image,
/// `PUZZLEFS_ERR_INVALID_INPUT` for a puzzlefs image, `PUZZLEFS_ERR_UNSUPPORTED` for layers of
/// other kinds, `PUZZLEFS_ERR_CORRUPT` for damaged ones, `PUZZLEFS_ERR_NO_SPACE`,
/// `PUZZLEFS_ERR_CANCELLED`.
///
/// Threads: as `puzzlefs_build`.
///
/// ```c
/// if (puzzlefs_convert("debian:12", "images:debian", NULL, NULL, &error) != PUZZLEFS_OK)
///     return fail(error);
/// ```
#[unsafe(no_mangle)]
pub unsafe extern "C" fn puzzlefs_convert(
    from: *const c_char,
    image: *const c_char,
    options: *const puzzlefs_build_options,
    result: *mut puzzlefs_build_result,
    error: *mut *mut puzzlefs_error,
) -> puzzlefs_status {
    // SAFETY: the caller passes pointers as the header asks for.
    unsafe {
        let take = || Reference::parse(utils::path(from, "from")?);
        make(take, image, options, result, error, |from, image, options, monitor| {
            let squash = PUZZLEFS_BUILD_SQUASH as u64;
            options.allow(squash, false)?;
            let options = ConvertOptions {
                platform: options.platform()?,
                squash: options.flags & squash != 0,
                build: options.to_core()?,
            };
            convert(&from, image, &options, monitor)
        })
    }
}

/// What all functions do that make an image: takes the arguments in, and gives the result out.
/// `take` takes what the image is made of.
///
/// # Safety
///
/// The pointers are as the header asks for.
unsafe fn make<S>(
    take: impl FnOnce() -> Result<S>,
    image: *const c_char,
    options: *const puzzlefs_build_options,
    result: *mut puzzlefs_build_result,
    error: *mut *mut puzzlefs_error,
    work: impl FnOnce(S, &Reference, &puzzlefs_build_options, &Monitor<'_>) -> Result<BuildReport>,
) -> puzzlefs_status {
    // SAFETY: the caller promises what is needed.
    unsafe {
        ret::call(error, || {
            let source = take()?;
            let image = Reference::parse(utils::path(image, "image")?)?;
            let options = utils::options(options, "options")?;
            let result = utils::optional_slot(result, "result")?;
            let report = reporter(options.progress, options.data);
            let built = work(source, &image, &options, &Monitor::new(&report))?;
            if let Some(slot) = result {
                slot.fill(built.into());
            }
            Ok(())
        })
    }
}

impl puzzlefs_build_options {
    /// Refuses flags that make no sense for a function, but for those of all and `flags`; and
    /// marks, unless it takes `marks`.
    fn allow(&self, flags: u64, marks: bool) -> Result<()> {
        utils::flags(self.flags, FLAGS | flags, "options.flags")?;
        utils::flags(self.reserved.into(), 0, "options.reserved")?;
        match marks || self.marks == 0 {
            true => Ok(()),
            false => Err(Error::invalid("'options.marks' is given, but there is no upperdir")),
        }
    }

    fn marks(&self) -> Result<MarkNamespace> {
        const AUTO: u32 = puzzlefs_marks::PUZZLEFS_MARKS_AUTO as u32;
        const TRUSTED: u32 = puzzlefs_marks::PUZZLEFS_MARKS_TRUSTED as u32;
        const USER: u32 = puzzlefs_marks::PUZZLEFS_MARKS_USER as u32;
        match self.marks {
            AUTO => Ok(MarkNamespace::Auto),
            TRUSTED => Ok(MarkNamespace::Trusted),
            USER => Ok(MarkNamespace::User),
            other => Err(unknown("marks", other)),
        }
    }

    /// # Safety
    ///
    /// The pointers are as the header asks for.
    unsafe fn platform(&self) -> Result<Option<Platform>> {
        // SAFETY: the caller promises the same.
        let platform = unsafe { utils::text(self.platform, "options.platform") }?;
        platform.map(|platform| Platform::parse(&platform)).transpose()
    }

    /// # Safety
    ///
    /// The pointers are as the header asks for.
    unsafe fn base(&self) -> Result<Option<BaseOptions>> {
        let verify = self.flags & PUZZLEFS_BUILD_VERIFY_BASE as u64 != 0;
        if self.base.is_null() {
            return match verify {
                true => Err(Error::invalid("a base is to be verified, but 'options.base' is NULL")),
                false => Ok(None),
            };
        }
        // SAFETY: the caller promises the same.
        unsafe {
            let image = Reference::parse(utils::path(self.base, "options.base")?)?;
            Ok(Some(BaseOptions { image, platform: self.platform()?, verify }))
        }
    }

    /// # Safety
    ///
    /// The pointers are as the header asks for.
    unsafe fn to_core(&self) -> Result<BuildOptions> {
        let has = |flag: puzzlefs_build_flags| self.flags & flag as u64 != 0;
        // SAFETY: the caller promises what is needed.
        unsafe {
            Ok(BuildOptions {
                base: self.base()?,
                trust_mtime: has(PUZZLEFS_BUILD_TRUST_MTIME),
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
                memory_limit: utils::nonzero(self.memory_limit),
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
            unchanged_files: built.unchanged_files,
            bytes_moved: built.bytes_moved,
            bytes_copied: built.bytes_copied,
            bytes_stored: built.bytes_stored,
            bytes_shared: built.bytes_shared,
            bytes_metadata: built.bytes_metadata,
        }
    }
}
