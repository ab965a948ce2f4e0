//! Mounting images.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::Arc;
use std::time::Duration;

use super::image::puzzlefs_image;
use super::progress::{Data, puzzlefs_progress_fn, reporter};
use super::{puzzlefs_error, puzzlefs_status};
use super::{ret, symbol_version, utils};
use crate::error::{Error, Result};
use crate::image::Pin;
use crate::mount::{IdMap, Mount, MountOptions, Writable, mount, unmount};
use crate::progress::Monitor;

symbol_version!("LIBPUZZLEFS_0.1":
    puzzlefs_image_mount,
    puzzlefs_mount_point,
    puzzlefs_mount_wait,
    puzzlefs_mount_unmount,
    puzzlefs_mount_free,
    puzzlefs_unmount,
    puzzlefs_image_check,
    puzzlefs_image_enable_verity,
);

/// A mounted image.
///
/// It is served by threads of this process as long as it is mounted: by whoever has the handle, or
/// until somebody else unmounts it.
pub struct puzzlefs_mount(());

impl utils::Handle for puzzlefs_mount {
    type Target = Mounted;
    const TAG: u64 = u64::from_be_bytes(*b"pzfs-mnt");
}

/// What is behind a `puzzlefs_mount`.
pub struct Mounted {
    /// There until it is dropped.
    mount: Option<Mount>,
    point: std::ffi::CString,
    /// The one that has the threads which serve the mount; its children do not.
    process: u32,
}

impl Mounted {
    fn mount(&self) -> Result<&Mount> {
        match &self.mount {
            Some(mount) if self.process == std::process::id() => Ok(mount),
            _ => Err(Error::invalid("'mount' belongs to another process, which forked this one")),
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if self.process != std::process::id() {
            // To unmount is its process's to do, and there is no thread here to be waited for.
            std::mem::forget(self.mount.take());
        }
    }
}

/// Bits of `flags` in `puzzlefs_mount_options`.
#[repr(u64)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum puzzlefs_mount_flags {
    /// Other users may look into the mount, as is the default if root mounts. An ordinary user may
    /// allow that only where `/etc/fuse.conf` says so. Then permissions are checked.
    PUZZLEFS_MOUNT_ALLOW_OTHER = 1 << 0,
    /// Nobody but who mounts may look into the mount, also if that is root.
    PUZZLEFS_MOUNT_OWNER_ONLY = 1 << 1,
    /// The kernel checks permissions as everywhere. Else whoever may look into the mount may read
    /// everything in it.
    PUZZLEFS_MOUNT_DEFAULT_PERMISSIONS = 1 << 2,
    /// Set-user-ID and set-group-ID bits and capabilities have no effect. Always so where an
    /// ordinary user mounts.
    PUZZLEFS_MOUNT_NOSUID = 1 << 3,
    /// Devices cannot be opened. Always so where an ordinary user mounts.
    PUZZLEFS_MOUNT_NODEV = 1 << 4,
    /// No program can be executed.
    PUZZLEFS_MOUNT_NOEXEC = 1 << 5,
    /// The mount can be written to, by overlayfs over the image: into memory, or where `persist`
    /// says. For root, or in a user namespace.
    PUZZLEFS_MOUNT_WRITABLE = 1 << 6,
}

/// Bits of `flags` of `puzzlefs_mount_unmount` and `puzzlefs_unmount`.
#[repr(u64)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum puzzlefs_unmount_flags {
    /// Though it is in use: it is gone at once for all who have nothing open in it, and over when
    /// the last one has closed it.
    PUZZLEFS_UNMOUNT_LAZY = 1 << 0,
}

/// A function of the caller that is told what goes wrong in a mount, such as a file that cannot be
/// read since a data blob is damaged.
///
/// Parameters:
/// - `line`: what it is, in one line: UTF-8, valid during the call only.
/// - `data`: the `data` of the options.
///
/// Threads: it is called from threads of the library, from several at once, until
/// `puzzlefs_mount_free` has returned. Who reads the mount waits for it, so it must not read there
/// itself. No `longjmp`, no C++ exception may leave it.
pub type puzzlefs_log_fn = Option<unsafe extern "C" fn(line: *const c_char, data: *mut c_void)>;

/// A function of the caller that is told when a mount is over though nobody asked for that by its
/// handle: somebody else has unmounted it.
///
/// Parameters:
/// - `data`: the `data` of the options.
///
/// Threads: it is called once, from a thread of the library, before `puzzlefs_mount_free` returns,
/// or never. It may free the handle. No `longjmp`, no C++ exception may leave it.
pub type puzzlefs_ended_fn = Option<unsafe extern "C" fn(data: *mut c_void)>;

/// How an image is mounted. Zeros, but for `size`, are the defaults.
#[repr(C)]
pub struct puzzlefs_mount_options {
    /// `sizeof(puzzlefs_mount_options)`.
    pub size: usize,
    /// Bits of `puzzlefs_mount_flags`.
    pub flags: u64,
    /// The directory that keeps what is written, in its subdirectory `upper`, which the next mount
    /// finds again; it is made if it is not there. Only with `PUZZLEFS_MOUNT_WRITABLE`; NULL for
    /// memory.
    pub persist: *const c_char,
    /// How owners are shown: `INSIDE:OUTSIDE:COUNT`, several with `+` between them, as
    /// `/proc/PID/uid_map` has it; NULL for as they are.
    pub uid_map: *const c_char,
    /// How groups are shown, likewise.
    pub gid_map: *const c_char,
    /// What is shown as mounted: any bytes; NULL for the layout and the digest.
    pub source: *const c_char,
    /// How many threads answer the kernel; 0 for the number of cores, up to 4. As many again read
    /// ahead.
    pub threads: u32,
    /// 0.
    pub reserved: u32,
    /// Is told what goes wrong; NULL for nobody.
    pub log: puzzlefs_log_fn,
    /// Is told when it is over; NULL for nobody.
    pub ended: puzzlefs_ended_fn,
    /// Passed to `log` and `ended`.
    pub data: *mut c_void,
}

// SAFETY: `repr(C)`, the size comes first, numbers and pointers may be 0.
unsafe impl utils::Versioned for puzzlefs_mount_options {
    const FIRST_SIZE: usize = size_of::<Self>();
}

/// Mounts an image on a directory.
///
/// When this returns, the mount is there, and answers. Root mounts by itself, an ordinary user
/// through the program `fusermount3`. No signal handler is installed; a process that is killed
/// leaves a mount that `puzzlefs_unmount` clears.
///
/// The mount belongs to the process. In a child that it forks, the handle can be freed, which does
/// not unmount; all else is `PUZZLEFS_ERR_INVALID_INPUT`.
///
/// Parameters:
/// - `image`: the image, borrowed; it may be freed while it is mounted.
/// - `point`: the path of the directory.
/// - `options`: how it is mounted; NULL for the defaults.
/// - `mounted`: the mount, which the caller frees with `puzzlefs_mount_free`; NULL when it fails.
/// - `error`: see `puzzlefs_error`.
///
/// Returns `PUZZLEFS_OK`, or among others `PUZZLEFS_ERR_NOT_FOUND` without the directory,
/// `PUZZLEFS_ERR_ALREADY_EXISTS` where an image is mounted already, or with a `persist` that
/// another mount uses, `PUZZLEFS_ERR_PERMISSION_DENIED`.
///
/// Threads: any, also with the same image. It starts threads, which end with the mount.
///
/// ```c
/// puzzlefs_mount *mount;
/// if (puzzlefs_image_mount(image, "/mnt", NULL, &mount, &error) != PUZZLEFS_OK)
///     return fail(error);
/// work_in("/mnt");
/// puzzlefs_mount_free(mount);
/// ```
#[unsafe(no_mangle)]
pub unsafe extern "C" fn puzzlefs_image_mount(
    image: *const puzzlefs_image,
    point: *const c_char,
    options: *const puzzlefs_mount_options,
    mounted: *mut *mut puzzlefs_mount,
    error: *mut *mut puzzlefs_error,
) -> puzzlefs_status {
    // SAFETY: the caller passes pointers as the header asks for.
    unsafe {
        ret::call(error, || {
            let mounted = utils::out(mounted, "mounted")?.write(std::ptr::null_mut());
            let image = &utils::handle(image, "image")?.image;
            let point = utils::path(point, "point")?;
            let options = utils::options(options, "options")?.to_core()?;
            let mount = mount(image, point, options)?;
            let point = utils::c_string(mount.point().as_os_str().as_encoded_bytes());
            let process = std::process::id();
            *mounted = utils::give(Mounted { mount: Some(mount), point, process });
            Ok(())
        })
    }
}

impl puzzlefs_mount_options {
    /// # Safety
    ///
    /// The pointers are as the header asks for.
    unsafe fn to_core(&self) -> Result<MountOptions> {
        use puzzlefs_mount_flags::*;
        const ALL: u64 = (PUZZLEFS_MOUNT_WRITABLE as u64) << 1;
        utils::flags(self.flags, ALL - 1, "options.flags")?;
        utils::flags(self.reserved.into(), 0, "options.reserved")?;
        let set = |flag: puzzlefs_mount_flags| self.flags & flag as u64 != 0;
        // SAFETY: the caller promises what is needed.
        let (persist, source, uids, gids) = unsafe {
            (
                utils::optional(self.persist).map(|_| utils::path(self.persist, "options.persist")),
                utils::optional(self.source).map(|_| utils::path(self.source, "options.source")),
                utils::text(self.uid_map, "options.uid_map")?,
                utils::text(self.gid_map, "options.gid_map")?,
            )
        };
        let allow_other = match (set(PUZZLEFS_MOUNT_ALLOW_OTHER), set(PUZZLEFS_MOUNT_OWNER_ONLY)) {
            (false, false) => None,
            (true, true) => {
                let message = "'options.flags' says who may look into it in two ways";
                return Err(Error::invalid(message));
            }
            (allow, _) => Some(allow),
        };
        let writable = match (set(PUZZLEFS_MOUNT_WRITABLE), persist.transpose()?) {
            (false, None) => Writable::No,
            (true, None) => Writable::Memory,
            (true, Some(path)) => Writable::Directory(path.to_owned()),
            (false, Some(_)) => {
                let message = "'options.persist' is given, but 'options.flags' does not say so";
                return Err(Error::invalid(message));
            }
        };
        let map = |text: Option<String>| text.map_or(Ok(IdMap::default()), |text| text.parse());
        let source = source.transpose()?.map(|path| path.as_os_str().to_owned());
        let (log, ended, data) = (self.log, self.ended, Data(self.data));
        Ok(MountOptions {
            allow_other,
            default_permissions: set(PUZZLEFS_MOUNT_DEFAULT_PERMISSIONS),
            nosuid: set(PUZZLEFS_MOUNT_NOSUID),
            nodev: set(PUZZLEFS_MOUNT_NODEV),
            noexec: set(PUZZLEFS_MOUNT_NOEXEC),
            writable,
            uids: map(uids)?,
            gids: map(gids)?,
            threads: utils::nonzero(self.threads as usize),
            source,
            log: log.map(|log| {
                Arc::new(move |line: &str| {
                    // The whole wrapper is captured, not the bare pointer in it.
                    let Data(data) = { data };
                    let line = utils::c_string(line.as_bytes());
                    // SAFETY: the caller promised a function of this type that takes this `data`.
                    unsafe { log(line.as_ptr(), data) };
                }) as Arc<crate::mount::LogFn>
            }),
            ended: ended.map(|ended| {
                Box::new(move || {
                    let Data(data) = { data };
                    // SAFETY: the caller promised a function of this type that takes this `data`.
                    unsafe { ended(data) };
                }) as crate::mount::EndedFn
            }),
        })
    }
}

/// Where an image is mounted.
///
/// Parameters:
/// - `mount`: the mount, borrowed.
///
/// Returns an absolute path without links, a string that belongs to the mount and goes with it; an
/// empty one for NULL.
///
/// Threads: any, also with the same mount.
///
/// ```c
/// printf("mounted on %s\n", puzzlefs_mount_point(mount));
/// ```
#[unsafe(no_mangle)]
pub unsafe extern "C" fn puzzlefs_mount_point(mount: *const puzzlefs_mount) -> *const c_char {
    const NONE: &CStr = c"";
    // SAFETY: the caller passes a mount that is not freed, or NULL.
    let mounted = unsafe { utils::handle(mount, "mount") };
    mounted.map_or(NONE.as_ptr(), |mounted| mounted.point.as_ptr())
}

/// Waits until a mount is over.
///
/// Parameters:
/// - `mount`: the mount, borrowed.
/// - `timeout`: for how long at most, in milliseconds; a negative number for ever.
/// - `over`: 1 if it is over, 0 if not.
/// - `error`: see `puzzlefs_error`.
///
/// Returns `PUZZLEFS_OK`, also if it is not over, or `PUZZLEFS_ERR_INVALID_INPUT`.
///
/// Threads: any, also with the same mount.
///
/// ```c
/// int over;
/// if (puzzlefs_mount_wait(mount, -1, &over, &error) != PUZZLEFS_OK)
///     return fail(error);
/// ```
#[unsafe(no_mangle)]
pub unsafe extern "C" fn puzzlefs_mount_wait(
    mount: *const puzzlefs_mount,
    timeout: i64,
    over: *mut c_int,
    error: *mut *mut puzzlefs_error,
) -> puzzlefs_status {
    // SAFETY: the caller passes pointers as the header asks for.
    unsafe {
        ret::call(error, || {
            let mount = utils::handle(mount, "mount")?.mount()?;
            let over = utils::out(over, "over")?;
            let timeout = u64::try_from(timeout).ok().map(Duration::from_millis);
            over.write(mount.wait(timeout).into());
            Ok(())
        })
    }
}

/// Unmounts, and waits until the mount is over. Does nothing if it is already.
///
/// Parameters:
/// - `mount`: the mount, borrowed: it is still to be freed.
/// - `flags`: bits of `puzzlefs_unmount_flags`.
/// - `error`: see `puzzlefs_error`.
///
/// Returns `PUZZLEFS_OK`, or among others `PUZZLEFS_ERR_IO` with the error number `EBUSY` if
/// somebody has something open in it.
///
/// Threads: any, also with the same mount.
///
/// ```c
/// if (puzzlefs_mount_unmount(mount, 0, &error) != PUZZLEFS_OK)
///     return fail(error);
/// ```
#[unsafe(no_mangle)]
pub unsafe extern "C" fn puzzlefs_mount_unmount(
    mount: *const puzzlefs_mount,
    flags: u64,
    error: *mut *mut puzzlefs_error,
) -> puzzlefs_status {
    // SAFETY: the caller passes pointers as the header asks for.
    unsafe { ret::call(error, || utils::handle(mount, "mount")?.mount()?.unmount(is_lazy(flags)?)) }
}

fn is_lazy(flags: u64) -> Result<bool> {
    let lazy = puzzlefs_unmount_flags::PUZZLEFS_UNMOUNT_LAZY as u64;
    utils::flags(flags, lazy, "flags").map(|()| flags & lazy != 0)
}

/// Unmounts if that has not been done, and frees the mount.
///
/// What somebody has open in it can be read until it is closed, by threads that then end. The
/// functions of the options are not called any more once this has returned.
///
/// Parameters:
/// - `mount`: the mount, to be freed once; NULL is fine.
///
/// Threads: any, once no other uses the mount.
///
/// ```c
/// puzzlefs_mount_free(mount);
/// mount = NULL;
/// ```
#[unsafe(no_mangle)]
pub unsafe extern "C" fn puzzlefs_mount_free(mount: *mut puzzlefs_mount) {
    // SAFETY: the caller gives the mount back, or NULL.
    ret::quietly(|| unsafe { utils::free(mount) });
}

/// Unmounts the image that is mounted on a directory, whichever process serves it; also one whose
/// process is gone.
///
/// Parameters:
/// - `point`: the path of the directory.
/// - `flags`: bits of `puzzlefs_unmount_flags`.
/// - `error`: see `puzzlefs_error`.
///
/// Returns `PUZZLEFS_OK`, or among others `PUZZLEFS_ERR_NOT_FOUND` where nothing is mounted,
/// `PUZZLEFS_ERR_INVALID_INPUT` where something else is, `PUZZLEFS_ERR_IO` with the error number
/// `EBUSY` if somebody has something open in it.
///
/// Threads: any.
///
/// ```c
/// if (puzzlefs_unmount("/mnt", PUZZLEFS_UNMOUNT_LAZY, &error) != PUZZLEFS_OK)
///     return fail(error);
/// ```
#[unsafe(no_mangle)]
pub unsafe extern "C" fn puzzlefs_unmount(
    point: *const c_char,
    flags: u64,
    error: *mut *mut puzzlefs_error,
) -> puzzlefs_status {
    // SAFETY: the caller passes pointers as the header asks for.
    unsafe { ret::call(error, || unmount(utils::path(point, "point")?, is_lazy(flags)?)) }
}

/// How an image is checked. Zeros, but for `size`, are the defaults.
#[repr(C)]
pub struct puzzlefs_check_options {
    /// `sizeof(puzzlefs_check_options)`.
    pub size: usize,
    /// Is told of progress, and may cancel; NULL for nobody.
    pub progress: puzzlefs_progress_fn,
    /// Passed to `progress`.
    pub data: *mut c_void,
}

// SAFETY: `repr(C)`, the size comes first, pointers may be 0.
unsafe impl utils::Versioned for puzzlefs_check_options {
    const FIRST_SIZE: usize = size_of::<Self>();
}

/// Checks that an image is the one that is expected.
///
/// By an fs-verity digest, metadata and data blobs must have those that the image lists, too: the
/// kernel's where it has them, else they are computed, for which all is read.
///
/// Parameters:
/// - `image`: the image, borrowed.
/// - `digest`: `sha256:` and 64 digits of 0-9a-f, the manifest's digest; or such digits alone, its
///   fs-verity digest.
/// - `options`: who is told of progress; NULL for nobody.
/// - `error`: see `puzzlefs_error`.
///
/// Returns `PUZZLEFS_OK`, or among others `PUZZLEFS_ERR_CORRUPT` if the image is another one,
/// `PUZZLEFS_ERR_INVALID_INPUT` for what is no such digest, `PUZZLEFS_ERR_CANCELLED`.
///
/// Threads: any, also with the same image.
///
/// ```c
/// if (puzzlefs_image_check(image, trusted_digest, NULL, &error) != PUZZLEFS_OK)
///     return fail(error);
/// ```
#[unsafe(no_mangle)]
pub unsafe extern "C" fn puzzlefs_image_check(
    image: *const puzzlefs_image,
    digest: *const c_char,
    options: *const puzzlefs_check_options,
    error: *mut *mut puzzlefs_error,
) -> puzzlefs_status {
    // SAFETY: the caller passes pointers as the header asks for.
    unsafe {
        ret::call(error, || {
            let image = &utils::handle(image, "image")?.image;
            let options = utils::options(options, "options")?;
            let digest = utils::text(digest, "digest")?;
            let digest = digest.ok_or_else(|| Error::invalid("'digest' is NULL"))?;
            let report = reporter(options.progress, options.data);
            image.check_pin(&digest.parse()?, &Monitor::new(&report))
        })
    }
}

/// Has the kernel protect all blobs of an image by fs-verity: they can then be removed, but not
/// changed.
///
/// Parameters:
/// - `image`: the image, borrowed.
/// - `digest`: the fs-verity digest that the manifest must have, 64 digits of 0-9a-f; NULL for any.
/// - `options`: who is told of progress; NULL for nobody.
/// - `error`: see `puzzlefs_error`.
///
/// Returns `PUZZLEFS_OK`, or among others `PUZZLEFS_ERR_UNSUPPORTED` if the file system has no
/// fs-verity, `PUZZLEFS_ERR_CORRUPT` if a digest is not the one that is listed,
/// `PUZZLEFS_ERR_CANCELLED`, by which blobs that are protected already stay so.
///
/// Threads: any, also with the same image.
///
/// ```c
/// if (puzzlefs_image_enable_verity(image, NULL, NULL, &error) != PUZZLEFS_OK)
///     return fail(error);
/// ```
#[unsafe(no_mangle)]
pub unsafe extern "C" fn puzzlefs_image_enable_verity(
    image: *const puzzlefs_image,
    digest: *const c_char,
    options: *const puzzlefs_check_options,
    error: *mut *mut puzzlefs_error,
) -> puzzlefs_status {
    // SAFETY: the caller passes pointers as the header asks for.
    unsafe {
        ret::call(error, || {
            let image = &utils::handle(image, "image")?.image;
            let options = utils::options(options, "options")?;
            let digest = match utils::text(digest, "digest")?.as_deref().map(str::parse) {
                None => None,
                Some(Ok(Pin::Verity(digest))) => Some(digest),
                Some(Ok(Pin::Digest(_))) => {
                    return Err(Error::invalid("'digest' is no fs-verity digest"));
                }
                Some(Err(error)) => return Err(error),
            };
            let report = reporter(options.progress, options.data);
            image.enable_verity(digest, &Monitor::new(&report))
        })
    }
}
