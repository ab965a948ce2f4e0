//! Reading images.

use std::ffi::{CString, c_char, c_void};
use std::sync::Arc;

use super::{puzzlefs_error, puzzlefs_status};
use super::{ret, symbol_version, utils};
use crate::error::{Error, ErrorKind, Result};
use crate::image::{Image, OpenOptions};
use crate::inspect::inspect;
use crate::layout::{Platform, Reference};
use crate::tree::{Device, Entry, Ino, Kind, Xattr};

symbol_version!("LIBPUZZLEFS_0.1":
    puzzlefs_image_open,
    puzzlefs_image_free,
    puzzlefs_image_digest,
    puzzlefs_image_lookup,
    puzzlefs_image_stat,
    puzzlefs_image_read,
    puzzlefs_image_readlink,
    puzzlefs_image_readdir,
    puzzlefs_image_xattr,
    puzzlefs_image_inspect,
);

/// An open image: a file system to be read.
///
/// Its metadata is in memory; data blobs are opened when they are needed. It never changes,
/// whatever becomes of the tag by which it was opened, so that several threads may use one at
/// once.
pub struct puzzlefs_image(());

/// What is behind a `puzzlefs_image`.
pub struct OpenImage {
    /// A mount has it too.
    pub image: Arc<Image>,
    digest: CString,
}

impl utils::Handle for puzzlefs_image {
    type Target = OpenImage;
    const TAG: u64 = u64::from_be_bytes(*b"pzfs-img");
}

/// Bits of `flags` in `puzzlefs_open_options`.
#[repr(u64)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum puzzlefs_open_flags {
    /// The digests of data blobs are not checked. Else each is, when it is first read from. Those
    /// of manifest, configuration and metadata always are.
    PUZZLEFS_OPEN_NO_VERIFY = 1 << 0,
}

/// How an image is opened. Zeros, but for `size`, are the defaults.
#[repr(C)]
pub struct puzzlefs_open_options {
    /// `sizeof(puzzlefs_open_options)`.
    pub size: usize,
    /// Bits of `puzzlefs_open_flags`.
    pub flags: u64,
    /// Which image, where the tag is that of an index: `OS/ARCHITECTURE[/VARIANT]`; NULL for this
    /// machine's, or the only one.
    pub platform: *const c_char,
}

// SAFETY: `repr(C)`, the size comes first, numbers and pointers may be 0.
unsafe impl utils::Versioned for puzzlefs_open_options {
    const FIRST_SIZE: usize = size_of::<Self>();
}

/// Bits of `flags` of `puzzlefs_image_lookup`.
#[repr(u64)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum puzzlefs_lookup_flags {
    /// A symbolic link at the end of the path is not followed.
    PUZZLEFS_LOOKUP_NOFOLLOW = 1 << 0,
}

/// What is known of an inode, as `stat(2)` tells it. The caller sets `size`, and the library fills
/// in the rest.
#[repr(C)]
pub struct puzzlefs_stat {
    /// `sizeof(puzzlefs_stat)`.
    pub size: usize,
    /// The number of the inode.
    pub ino: u64,
    /// The number of its names; for a directory, two and the number of its subdirectories.
    pub nlink: u64,
    /// The size of a regular file, or the length of a symbolic link's target, in bytes; else 0.
    pub file_size: u64,
    /// The time of the last change of the content, in seconds since 1970.
    pub mtime_seconds: i64,
    /// The nanoseconds of that time, from 0 to 999,999,999: also before 1970, they count forward.
    pub mtime_nanoseconds: u32,
    /// The type and the permissions, as `st_mode` has them: `S_IFREG`, `S_IFDIR` and so on.
    pub mode: u32,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// The device's driver, if the inode is a device; else 0.
    pub rdev_major: u32,
    /// The device among the driver's, if the inode is a device; else 0.
    pub rdev_minor: u32,
}

// SAFETY: `repr(C)`, the size comes first, numbers may be 0.
unsafe impl utils::Versioned for puzzlefs_stat {
    const FIRST_SIZE: usize = size_of::<Self>();
}

/// An entry of a directory. The caller sets `size`, and the library fills in the rest.
#[repr(C)]
pub struct puzzlefs_dirent {
    /// `sizeof(puzzlefs_dirent)`.
    pub size: usize,
    /// The number of the inode that it names; 0 if there is no such entry, which no inode has.
    pub ino: u64,
    /// The inode's type and permissions, as in `puzzlefs_stat`.
    pub mode: u32,
    /// The length of the name in bytes: 1 to 255.
    pub name_length: u32,
    /// The name: any bytes but NUL and `/`, with a NUL behind the last.
    pub name: [c_char; 256],
}

// SAFETY: `repr(C)`, the size comes first, numbers may be 0.
unsafe impl utils::Versioned for puzzlefs_dirent {
    const FIRST_SIZE: usize = size_of::<Self>();
}

/// An extended attribute. The caller sets `size`, and the library fills in the rest.
#[repr(C)]
pub struct puzzlefs_xattr {
    /// `sizeof(puzzlefs_xattr)`.
    pub size: usize,
    /// The value: any bytes, without a NUL behind the last. It belongs to the image and goes with
    /// it. NULL if there is no such attribute.
    pub value: *const u8,
    /// The length of the value in bytes, which may be 0.
    pub value_length: usize,
    /// The length of the name in bytes: 1 to 255.
    pub name_length: usize,
    /// The full name with its namespace, such as `user.mime_type`: any bytes but NUL, with a NUL
    /// behind the last.
    pub name: [c_char; 256],
}

// SAFETY: `repr(C)`, the size comes first, numbers and pointers may be 0.
unsafe impl utils::Versioned for puzzlefs_xattr {
    const FIRST_SIZE: usize = size_of::<Self>();
}

/// Opens an image: reads all of its metadata and checks it.
///
/// Parameters:
/// - `image`: the image: `LAYOUT:TAG` or `LAYOUT@sha256:HEX`, where `LAYOUT` is the path of an OCI
///   image layout.
/// - `options`: how it is opened; NULL for the defaults.
/// - `opened`: the open image, which the caller frees with `puzzlefs_image_free`; NULL when it
///   fails.
/// - `error`: see `puzzlefs_error`.
///
/// Returns `PUZZLEFS_OK`, or among others `PUZZLEFS_ERR_NOT_FOUND` without the layout or the tag,
/// `PUZZLEFS_ERR_INVALID_INPUT` for an image that is not one of puzzlefs, `PUZZLEFS_ERR_CORRUPT`.
///
/// Threads: any.
///
/// ```c
/// puzzlefs_image *image;
/// if (puzzlefs_image_open("images:v1", NULL, &image, &error) != PUZZLEFS_OK)
///     return fail(error);
/// ```
#[unsafe(no_mangle)]
pub unsafe extern "C" fn puzzlefs_image_open(
    image: *const c_char,
    options: *const puzzlefs_open_options,
    opened: *mut *mut puzzlefs_image,
    error: *mut *mut puzzlefs_error,
) -> puzzlefs_status {
    // SAFETY: the caller passes pointers as the header asks for.
    unsafe {
        ret::call(error, || {
            let opened = utils::out(opened, "opened")?.write(std::ptr::null_mut());
            let reference = Reference::parse(utils::path(image, "image")?)?;
            let options = utils::options(options, "options")?.to_core()?;
            let image = Arc::new(Image::open(&reference, &options)?);
            let digest = utils::c_string(image.manifest().descriptor.digest.to_string().as_bytes());
            *opened = utils::give(OpenImage { image, digest });
            Ok(())
        })
    }
}

impl puzzlefs_open_options {
    /// # Safety
    ///
    /// The pointers are as the header asks for.
    unsafe fn to_core(&self) -> Result<OpenOptions> {
        let no_verify = puzzlefs_open_flags::PUZZLEFS_OPEN_NO_VERIFY as u64;
        utils::flags(self.flags, no_verify, "options.flags")?;
        // SAFETY: the caller promises what is needed.
        let platform = unsafe { utils::text(self.platform, "options.platform") }?;
        let platform = platform.map(|text| Platform::parse(&text)).transpose()?;
        Ok(OpenOptions { platform, verify: self.flags & no_verify == 0 })
    }
}

/// Frees an image, and what belongs to it.
///
/// Parameters:
/// - `image`: the image, to be freed once; NULL is fine.
///
/// Threads: any, once no other uses the image.
///
/// ```c
/// puzzlefs_image_free(image);
/// image = NULL;
/// ```
#[unsafe(no_mangle)]
pub unsafe extern "C" fn puzzlefs_image_free(image: *mut puzzlefs_image) {
    // SAFETY: the caller gives the image back, or NULL.
    ret::quietly(|| unsafe { utils::free(image) });
}

/// The digest of an image's manifest.
///
/// Parameters:
/// - `image`: the image, borrowed.
/// - `digest`: `sha256:` and 64 digits of 0-9a-f: a string that belongs to the image and goes
///   with it.
/// - `error`: see `puzzlefs_error`.
///
/// Returns `PUZZLEFS_OK`, or `PUZZLEFS_ERR_INVALID_INPUT`.
///
/// Threads: any, also with the same image.
///
/// ```c
/// const char *digest;
/// if (puzzlefs_image_digest(image, &digest, NULL) == PUZZLEFS_OK)
///     puts(digest);
/// ```
#[unsafe(no_mangle)]
pub unsafe extern "C" fn puzzlefs_image_digest(
    image: *const puzzlefs_image,
    digest: *mut *const c_char,
    error: *mut *mut puzzlefs_error,
) -> puzzlefs_status {
    // SAFETY: the caller passes pointers as the header asks for.
    unsafe {
        ret::call(error, || {
            let (open, digest) = (utils::handle(image, "image")?, utils::out(digest, "digest")?);
            digest.write(open.digest.as_ptr());
            Ok(())
        })
    }
}

/// Finds the inode at a path.
///
/// Parameters:
/// - `image`: the image, borrowed.
/// - `path`: a path from the root of the image, whether it begins with a slash or not: any bytes.
///   Links in it are followed within the image.
/// - `flags`: bits of `puzzlefs_lookup_flags`.
/// - `ino`: the number of the inode. The root directory has 1.
/// - `error`: see `puzzlefs_error`.
///
/// Returns `PUZZLEFS_OK`, or `PUZZLEFS_ERR_NOT_FOUND`, or `PUZZLEFS_ERR_INVALID_INPUT`, for too
/// many symbolic links too.
///
/// Threads: any, also with the same image.
///
/// ```c
/// uint64_t ino;
/// if (puzzlefs_image_lookup(image, "etc/os-release", 0, &ino, &error) != PUZZLEFS_OK)
///     return fail(error);
/// ```
#[unsafe(no_mangle)]
pub unsafe extern "C" fn puzzlefs_image_lookup(
    image: *const puzzlefs_image,
    path: *const c_char,
    flags: u64,
    ino: *mut u64,
    error: *mut *mut puzzlefs_error,
) -> puzzlefs_status {
    // SAFETY: the caller passes pointers as the header asks for.
    unsafe {
        ret::call(error, || {
            let (image, path) = (&utils::handle(image, "image")?.image, utils::path(path, "path")?);
            let ino = utils::out(ino, "ino")?;
            let nofollow = puzzlefs_lookup_flags::PUZZLEFS_LOOKUP_NOFOLLOW as u64;
            utils::flags(flags, nofollow, "flags")?;
            let found =
                if flags & nofollow != 0 { image.lookup(path) } else { image.resolve(path) }?;
            ino.write(found.get().into());
            Ok(())
        })
    }
}

/// Tells what is known of an inode.
///
/// Parameters:
/// - `image`: the image, borrowed.
/// - `ino`: the number of the inode.
/// - `stat`: what is known of it, with its `size` set.
/// - `error`: see `puzzlefs_error`.
///
/// Returns `PUZZLEFS_OK`, or `PUZZLEFS_ERR_NOT_FOUND` without such an inode, or
/// `PUZZLEFS_ERR_INVALID_INPUT`.
///
/// Threads: any, also with the same image.
///
/// ```c
/// puzzlefs_stat stat = { .size = sizeof(stat) };
/// if (puzzlefs_image_stat(image, ino, &stat, &error) == PUZZLEFS_OK && S_ISREG(stat.mode))
///     printf("%llu bytes\n", (unsigned long long)stat.file_size);
/// ```
#[unsafe(no_mangle)]
pub unsafe extern "C" fn puzzlefs_image_stat(
    image: *const puzzlefs_image,
    ino: u64,
    stat: *mut puzzlefs_stat,
    error: *mut *mut puzzlefs_error,
) -> puzzlefs_status {
    // SAFETY: the caller passes pointers as the header asks for.
    unsafe {
        ret::call(error, || {
            let open = utils::handle(image, "image")?;
            let stat = utils::slot(stat, "stat")?;
            stat.fill(open.stat(open.inode(ino)?));
            Ok(())
        })
    }
}

/// Reads bytes of a regular file.
///
/// Parameters:
/// - `image`: the image, borrowed.
/// - `ino`: the number of the inode.
/// - `buffer`: where they are written to; on failure it may be written to as well.
/// - `count`: how many bytes there is room for.
/// - `offset`: where in the file to begin, in bytes.
/// - `done`: how many bytes were read: less than `count` only at the end of the file, 0 from there
///   on.
/// - `error`: see `puzzlefs_error`.
///
/// Returns `PUZZLEFS_OK`, or among others `PUZZLEFS_ERR_CORRUPT` for a data blob that is missing
/// or damaged, `PUZZLEFS_ERR_NOT_FOUND` without such an inode, `PUZZLEFS_ERR_INVALID_INPUT` for one
/// that is not a regular file.
///
/// Threads: any, also with the same image.
///
/// ```c
/// char buffer[65536];
/// uint64_t offset = 0;
/// size_t done;
/// do {
///     if (puzzlefs_image_read(image, ino, buffer, sizeof(buffer), offset, &done, &error) != PUZZLEFS_OK)
///         return fail(error);
///     fwrite(buffer, 1, done, stdout);
///     offset += done;
/// } while (done == sizeof(buffer));
/// ```
#[unsafe(no_mangle)]
pub unsafe extern "C" fn puzzlefs_image_read(
    image: *const puzzlefs_image,
    ino: u64,
    buffer: *mut c_void,
    count: usize,
    offset: u64,
    done: *mut usize,
    error: *mut *mut puzzlefs_error,
) -> puzzlefs_status {
    // SAFETY: the caller passes pointers as the header asks for.
    unsafe {
        ret::call(error, || {
            let open = utils::handle(image, "image")?;
            let buffer = utils::buffer(buffer, count, "buffer")?;
            let done = utils::out(done, "done")?;
            done.write(open.image.read_at(open.inode(ino)?, buffer, offset)?);
            Ok(())
        })
    }
}

/// Tells where a symbolic link points to.
///
/// Parameters:
/// - `image`: the image, borrowed.
/// - `ino`: the number of the inode.
/// - `target`: its target, any bytes but NUL: a string that the caller frees with
///   `puzzlefs_string_free`; NULL when it fails.
/// - `error`: see `puzzlefs_error`.
///
/// Returns `PUZZLEFS_OK`, or `PUZZLEFS_ERR_NOT_FOUND` without such an inode, or
/// `PUZZLEFS_ERR_INVALID_INPUT` for one that is not a symbolic link.
///
/// Threads: any, also with the same image.
///
/// ```c
/// char *target;
/// if (puzzlefs_image_readlink(image, ino, &target, &error) != PUZZLEFS_OK)
///     return fail(error);
/// printf("-> %s\n", target);
/// puzzlefs_string_free(target);
/// ```
#[unsafe(no_mangle)]
pub unsafe extern "C" fn puzzlefs_image_readlink(
    image: *const puzzlefs_image,
    ino: u64,
    target: *mut *mut c_char,
    error: *mut *mut puzzlefs_error,
) -> puzzlefs_status {
    // SAFETY: the caller passes pointers as the header asks for.
    unsafe {
        ret::call(error, || {
            let target = utils::out(target, "target")?.write(std::ptr::null_mut());
            let open = utils::handle(image, "image")?;
            *target = utils::give_string(open.target(open.inode(ino)?)?);
            Ok(())
        })
    }
}

/// Tells an entry of a directory. The entries are sorted by the bytes of their names; `.` and
/// `..` are not among them.
///
/// Parameters:
/// - `image`: the image, borrowed.
/// - `ino`: the number of the directory's inode.
/// - `index`: which entry, from 0.
/// - `entry`: the entry, with its `size` set. Its `ino` is 0 if the directory has no more.
/// - `error`: see `puzzlefs_error`.
///
/// Returns `PUZZLEFS_OK`, behind the last entry too; or `PUZZLEFS_ERR_NOT_FOUND` without such an
/// inode, or `PUZZLEFS_ERR_INVALID_INPUT` for one that is not a directory.
///
/// Threads: any, also with the same image: nothing is remembered between two calls.
///
/// ```c
/// puzzlefs_dirent entry = { .size = sizeof(entry) };
/// for (uint64_t index = 0;; index++) {
///     if (puzzlefs_image_readdir(image, ino, index, &entry, &error) != PUZZLEFS_OK)
///         return fail(error);
///     if (entry.ino == 0)
///         break;
///     puts(entry.name);
/// }
/// ```
#[unsafe(no_mangle)]
pub unsafe extern "C" fn puzzlefs_image_readdir(
    image: *const puzzlefs_image,
    ino: u64,
    index: u64,
    entry: *mut puzzlefs_dirent,
    error: *mut *mut puzzlefs_error,
) -> puzzlefs_status {
    // SAFETY: the caller passes pointers as the header asks for.
    unsafe {
        ret::call(error, || {
            let open = utils::handle(image, "image")?;
            let slot = utils::slot(entry, "entry")?;
            let entries = open.entries(open.inode(ino)?)?;
            slot.fill(open.dirent(nth(entries, index)));
            Ok(())
        })
    }
}

/// Tells an extended attribute of an inode. They are sorted by the bytes of their names.
///
/// Parameters:
/// - `image`: the image, borrowed.
/// - `ino`: the number of the inode.
/// - `index`: which attribute, from 0.
/// - `xattr`: the attribute, with its `size` set. Its `value` is NULL if the inode has no more.
/// - `error`: see `puzzlefs_error`.
///
/// Returns `PUZZLEFS_OK`, behind the last attribute too; or `PUZZLEFS_ERR_NOT_FOUND` without such
/// an inode, or `PUZZLEFS_ERR_INVALID_INPUT`.
///
/// Threads: any, also with the same image: nothing is remembered between two calls.
///
/// ```c
/// puzzlefs_xattr xattr = { .size = sizeof(xattr) };
/// for (uint64_t index = 0;; index++) {
///     if (puzzlefs_image_xattr(image, ino, index, &xattr, &error) != PUZZLEFS_OK)
///         return fail(error);
///     if (xattr.value == NULL)
///         break;
///     setxattr(path, xattr.name, xattr.value, xattr.value_length, 0);
/// }
/// ```
#[unsafe(no_mangle)]
pub unsafe extern "C" fn puzzlefs_image_xattr(
    image: *const puzzlefs_image,
    ino: u64,
    index: u64,
    xattr: *mut puzzlefs_xattr,
    error: *mut *mut puzzlefs_error,
) -> puzzlefs_status {
    // SAFETY: the caller passes pointers as the header asks for.
    unsafe {
        ret::call(error, || {
            let open = utils::handle(image, "image")?;
            let slot = utils::slot(xattr, "xattr")?;
            let xattrs = &open.image.tree().inode(open.inode(ino)?).metadata.xattrs;
            slot.fill(nth(xattrs, index).into());
            Ok(())
        })
    }
}

/// Describes an image: manifest, configuration, counts of inodes and bytes, data blobs, and what
/// it shares with the other images of its layout.
///
/// Parameters:
/// - `image`: the image, borrowed.
/// - `json`: a JSON document, as `puzzlefs inspect --json` prints it: UTF-8, without a line feed
///   in it. A string that the caller frees with `puzzlefs_string_free`; NULL when it fails.
/// - `error`: see `puzzlefs_error`.
///
/// Returns `PUZZLEFS_OK`, or among others `PUZZLEFS_ERR_CORRUPT` if the layout's index is damaged.
///
/// Threads: any, also with the same image.
///
/// ```c
/// char *json;
/// if (puzzlefs_image_inspect(image, &json, &error) != PUZZLEFS_OK)
///     return fail(error);
/// puts(json);
/// puzzlefs_string_free(json);
/// ```
#[unsafe(no_mangle)]
pub unsafe extern "C" fn puzzlefs_image_inspect(
    image: *const puzzlefs_image,
    json: *mut *mut c_char,
    error: *mut *mut puzzlefs_error,
) -> puzzlefs_status {
    // SAFETY: the caller passes pointers as the header asks for.
    unsafe {
        ret::call(error, || {
            let json = utils::out(json, "json")?.write(std::ptr::null_mut());
            let open = utils::handle(image, "image")?;
            *json = utils::give_string(inspect(&open.image)?.to_string().as_bytes());
            Ok(())
        })
    }
}

/// The element with this index, if there is one.
fn nth<T>(list: &[T], index: u64) -> Option<&T> {
    usize::try_from(index).ok().and_then(|index| list.get(index))
}

impl OpenImage {
    fn inode(&self, number: u64) -> Result<Ino> {
        self.image.tree().get(number).ok_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("there is no inode {number} in the image"))
        })
    }

    fn target(&self, ino: Ino) -> Result<&[u8]> {
        match &self.image.tree().inode(ino).kind {
            Kind::Symlink(target) => Ok(target),
            _ => Err(Error::invalid(format!("inode {} is not a symbolic link", ino.get()))),
        }
    }

    fn entries(&self, ino: Ino) -> Result<&[Entry]> {
        self.image
            .tree()
            .inode(ino)
            .entries()
            .ok_or_else(|| Error::invalid(format!("inode {} is not a directory", ino.get())))
    }

    fn mode(&self, ino: Ino) -> u32 {
        use rustix::fs::FileType;
        let inode = self.image.tree().inode(ino);
        let file_type = match inode.kind {
            Kind::Directory(_) => FileType::Directory,
            Kind::Regular(_) => FileType::RegularFile,
            Kind::Symlink(_) => FileType::Symlink,
            Kind::Fifo => FileType::Fifo,
            Kind::Socket => FileType::Socket,
            Kind::CharDevice(_) => FileType::CharacterDevice,
            Kind::BlockDevice(_) => FileType::BlockDevice,
        };
        file_type.as_raw_mode() | u32::from(inode.metadata.permissions)
    }

    fn stat(&self, ino: Ino) -> puzzlefs_stat {
        let inode = self.image.tree().inode(ino);
        let (metadata, mtime) = (&inode.metadata, inode.metadata.mtime);
        let device = match inode.kind {
            Kind::CharDevice(device) | Kind::BlockDevice(device) => device,
            _ => Device { major: 0, minor: 0 },
        };
        let file_size = match &inode.kind {
            Kind::Symlink(target) => target.len() as u64,
            _ => self.image.size(ino),
        };
        puzzlefs_stat {
            size: size_of::<puzzlefs_stat>(),
            ino: ino.get().into(),
            nlink: inode.nlink.into(),
            file_size,
            mtime_seconds: mtime.seconds,
            mtime_nanoseconds: mtime.nanoseconds,
            mode: self.mode(ino),
            uid: metadata.uid,
            gid: metadata.gid,
            rdev_major: device.major,
            rdev_minor: device.minor,
        }
    }

    fn dirent(&self, entry: Option<&Entry>) -> puzzlefs_dirent {
        let name = entry.map_or(&[][..], |entry| &entry.name);
        puzzlefs_dirent {
            size: size_of::<puzzlefs_dirent>(),
            ino: entry.map_or(0, |entry| entry.ino.get().into()),
            mode: entry.map_or(0, |entry| self.mode(entry.ino)),
            name_length: name.len() as u32,
            name: utils::chars(name),
        }
    }
}

impl From<Option<&Xattr>> for puzzlefs_xattr {
    fn from(xattr: Option<&Xattr>) -> Self {
        let key = xattr.map_or(&[][..], |xattr| &xattr.key);
        puzzlefs_xattr {
            size: size_of::<puzzlefs_xattr>(),
            value: xattr.map_or(std::ptr::null(), |xattr| match &xattr.value[..] {
                // The address of an empty box leads nowhere, and some languages look at it.
                [] => c"".as_ptr().cast(),
                value => value.as_ptr(),
            }),
            value_length: xattr.map_or(0, |xattr| xattr.value.len()),
            name_length: key.len(),
            name: utils::chars(key),
        }
    }
}
