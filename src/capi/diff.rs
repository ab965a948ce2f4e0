//! Comparing images.

use std::ffi::{c_char, c_int, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::image::puzzlefs_image;
use super::{puzzlefs_error, puzzlefs_status};
use super::{ret, symbol_version, utils};
use crate::diff::{Added, Aspect, Change, added, changes};
use crate::error::{Error, Result};

symbol_version!("LIBPUZZLEFS_0.1": puzzlefs_image_diff);

/// How a path distinguishes two images. A later version may have others than these.
#[repr(u32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum puzzlefs_change_kind {
    /// Only the other image has the path.
    PUZZLEFS_CHANGE_ADDED = 1,
    /// Only the image has the path.
    PUZZLEFS_CHANGE_REMOVED = 2,
    /// Both have the path, with differences.
    PUZZLEFS_CHANGE_CHANGED = 3,
}

impl From<&Change> for puzzlefs_change_kind {
    fn from(change: &Change) -> Self {
        match change {
            Change::Added => Self::PUZZLEFS_CHANGE_ADDED,
            Change::Removed => Self::PUZZLEFS_CHANGE_REMOVED,
            Change::Changed(_) => Self::PUZZLEFS_CHANGE_CHANGED,
        }
    }
}

/// Bits of `aspects` in `puzzlefs_change`: what of a path is another one. A later version may have
/// others than these.
#[repr(u64)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum puzzlefs_aspects {
    /// Its type. Then neither content, target nor device are compared.
    PUZZLEFS_ASPECT_TYPE = 1 << 0,
    /// A file's content: certainly if its size differs, else it stands elsewhere, which it does
    /// seldom if it is the same.
    PUZZLEFS_ASPECT_CONTENT = 1 << 1,
    /// A symbolic link's target.
    PUZZLEFS_ASPECT_TARGET = 1 << 2,
    /// A device's numbers.
    PUZZLEFS_ASPECT_DEVICE = 1 << 3,
    /// The permissions.
    PUZZLEFS_ASPECT_MODE = 1 << 4,
    /// The owner or the group.
    PUZZLEFS_ASPECT_OWNER = 1 << 5,
    /// The mtime.
    PUZZLEFS_ASPECT_TIME = 1 << 6,
    /// The extended attributes.
    PUZZLEFS_ASPECT_XATTR = 1 << 7,
    /// Which other paths are links to the same file.
    PUZZLEFS_ASPECT_LINKS = 1 << 8,
}

impl From<Aspect> for puzzlefs_aspects {
    fn from(aspect: Aspect) -> Self {
        match aspect {
            Aspect::Type => Self::PUZZLEFS_ASPECT_TYPE,
            Aspect::Content => Self::PUZZLEFS_ASPECT_CONTENT,
            Aspect::Target => Self::PUZZLEFS_ASPECT_TARGET,
            Aspect::Device => Self::PUZZLEFS_ASPECT_DEVICE,
            Aspect::Mode => Self::PUZZLEFS_ASPECT_MODE,
            Aspect::Owner => Self::PUZZLEFS_ASPECT_OWNER,
            Aspect::Time => Self::PUZZLEFS_ASPECT_TIME,
            Aspect::Xattr => Self::PUZZLEFS_ASPECT_XATTR,
            Aspect::Links => Self::PUZZLEFS_ASPECT_LINKS,
        }
    }
}

/// A path that distinguishes two images.
#[repr(C)]
pub struct puzzlefs_change {
    /// The size of this structure in the library that runs: fields beyond it are not there.
    pub size: usize,
    /// The path in the images, with a slash at its begin: any bytes but NUL, and longer than
    /// `PATH_MAX` if the images say so.
    pub path: *const c_char,
    /// The length of the path in bytes.
    pub path_length: usize,
    /// Bits of `puzzlefs_aspects`, if `kind` is `PUZZLEFS_CHANGE_CHANGED`; else 0.
    pub aspects: u64,
    /// How it distinguishes them.
    pub kind: puzzlefs_change_kind,
    /// 0.
    pub reserved: u32,
}

/// A function of the caller that is told what distinguishes two images, once for each path, in the
/// order of a walk that is depth first and by name.
///
/// Parameters:
/// - `change`: the path and how it differs, valid during the call only.
/// - `data`: the `data` of `puzzlefs_image_diff`.
///
/// Returns 0 to go on. With anything else it is called no more, and `puzzlefs_image_diff` fails with
/// `PUZZLEFS_ERR_CANCELLED`.
///
/// Threads: it is called from the thread that called the library, before that call returns. It may
/// call the library. It must return: no `longjmp`, no C++ exception may leave it.
pub type puzzlefs_change_fn =
    Option<unsafe extern "C" fn(change: *const puzzlefs_change, data: *mut c_void) -> c_int>;

/// What an image adds to another one. The caller sets `size`, and the library fills in the rest.
#[repr(C)]
pub struct puzzlefs_diff_result {
    /// `sizeof(puzzlefs_diff_result)`.
    pub size: usize,
    /// Data blobs that only the other image has.
    pub blobs: u64,
    /// Bytes of these blobs as they are stored.
    pub bytes_data: u64,
    /// Bytes of the other image's metadata, unless the image has the same.
    pub bytes_metadata: u64,
}

// SAFETY: `repr(C)`, the size comes first, numbers may be 0.
unsafe impl utils::Versioned for puzzlefs_diff_result {
    const FIRST_SIZE: usize = size_of::<Self>();
}

/// Tells what distinguishes another image from an image, from their metadata alone: paths that are
/// added, removed or changed, and what the other adds in bytes.
///
/// The paths take no memory but while they are told: all of them together may be far larger than
/// the images.
///
/// Parameters:
/// - `image`: the image, borrowed.
/// - `other`: the other image, which may be in another layout, borrowed.
/// - `visit`: is told each path that is distinguished, and may cancel; NULL if that is of no
///   interest.
/// - `data`: passed to `visit`.
/// - `result`: what the other adds, with its `size` set; NULL if that is of no interest. Nothing is
///   filled in when it fails.
/// - `error`: see `puzzlefs_error`.
///
/// Returns `PUZZLEFS_OK`, or among others `PUZZLEFS_ERR_INVALID_INPUT` for what is no image, or
/// `PUZZLEFS_ERR_CANCELLED`.
///
/// Threads: any, also with the same images.
///
/// ```c
/// int print(const puzzlefs_change *change, void *data)
/// {
///     if (change->kind == PUZZLEFS_CHANGE_CHANGED && change->aspects == PUZZLEFS_ASPECT_TIME)
///         return 0;
///     return puts(change->path) == EOF;
/// }
///
/// puzzlefs_diff_result result = { .size = sizeof(result) };
/// if (puzzlefs_image_diff(yesterday, today, print, NULL, &result, &error) != PUZZLEFS_OK)
///     return fail(error);
/// printf("%llu bytes more\n", (unsigned long long)(result.bytes_data + result.bytes_metadata));
/// ```
#[unsafe(no_mangle)]
pub unsafe extern "C" fn puzzlefs_image_diff(
    image: *const puzzlefs_image,
    other: *const puzzlefs_image,
    visit: puzzlefs_change_fn,
    data: *mut c_void,
    result: *mut puzzlefs_diff_result,
    error: *mut *mut puzzlefs_error,
) -> puzzlefs_status {
    // SAFETY: the caller passes pointers as the header asks for.
    unsafe {
        ret::call(error, || {
            let old = &utils::handle(image, "image")?.image;
            let new = &utils::handle(other, "other")?.image;
            let result = utils::optional_slot(result, "result")?;
            let added = added(old, new)?;
            if let Some(function) = visit {
                let mut visitor = Visitor { function, data, path: Vec::new() };
                changes(old, new, |path, change| visitor.tell(path, &change))?;
            }
            if let Some(slot) = result {
                slot.fill(added.into());
            }
            Ok(())
        })
    }
}

/// The caller's function that is told of changes.
struct Visitor {
    function: unsafe extern "C" fn(*const puzzlefs_change, *mut c_void) -> c_int,
    data: *mut c_void,
    /// Room for a path, and the NUL behind it.
    path: Vec<u8>,
}

impl Visitor {
    /// # Safety
    ///
    /// The function is as the header asks for.
    unsafe fn tell(&mut self, path: &Path, change: &Change) -> Result<()> {
        self.path.clear();
        self.path.extend_from_slice(path.as_os_str().as_bytes());
        self.path.push(0);
        let change = puzzlefs_change {
            size: size_of::<puzzlefs_change>(),
            path: self.path.as_ptr().cast(),
            path_length: self.path.len() - 1,
            aspects: aspects(change),
            kind: change.into(),
            reserved: 0,
        };
        // SAFETY: the caller promised a function of this type that takes this `data`.
        match unsafe { (self.function)(&change, self.data) } {
            0 => Ok(()),
            _ => Err(Error::cancelled()),
        }
    }
}

fn aspects(change: &Change) -> u64 {
    let Change::Changed(aspects) = change else { return 0 };
    aspects.iter().fold(0, |bits, &aspect| bits | puzzlefs_aspects::from(aspect) as u64)
}

impl From<Added> for puzzlefs_diff_result {
    fn from(added: Added) -> Self {
        puzzlefs_diff_result {
            size: size_of::<Self>(),
            blobs: added.blobs,
            bytes_data: added.bytes_data,
            bytes_metadata: added.bytes_metadata,
        }
    }
}
