//! Extracting images.

use std::ffi::{c_char, c_void};
use std::os::unix::ffi::OsStrExt;

use super::image::puzzlefs_image;
use super::progress::{puzzlefs_progress_fn, reporter};
use super::{puzzlefs_error, puzzlefs_status};
use super::{ret, symbol_version, utils};
use crate::error::Result;
use crate::extract::{ExtractOptions, ExtractReport, Lost, extract};
use crate::progress::Monitor;

symbol_version!("LIBPUZZLEFS_0.1": puzzlefs_image_extract);

/// Bits of `flags` in `puzzlefs_extract_options`.
#[repr(u64)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum puzzlefs_extract_flags {
    /// Everything is made the caller's own.
    PUZZLEFS_EXTRACT_NO_SAME_OWNER = 1 << 0,
}

/// Something that was not restored: for want of privileges, or since a program's owner is another one
/// than in the image.
#[repr(C)]
pub struct puzzlefs_lost {
    /// The size of this structure in the library that runs: fields beyond it are not there.
    pub size: usize,
    /// What it is: `owner`, `device`, `set-user-ID or set-group-ID`, or the name of an extended
    /// attribute.
    pub what: *const c_char,
    /// The path in the image of the inode with the lowest number that lost it: any bytes but NUL.
    pub first: *const c_char,
    /// How many inodes lost it.
    pub count: u64,
}

/// A function of the caller that is told what could not be restored, once for each `what`, in the
/// order of their bytes.
///
/// Parameters:
/// - `lost`: what it is, valid during the call only, with its strings.
/// - `data`: the `data` of the options.
///
/// Threads: it is called from the thread that called the library, before that call returns. No
/// `longjmp`, no C++ exception may leave it.
pub type puzzlefs_lost_fn =
    Option<unsafe extern "C" fn(lost: *const puzzlefs_lost, data: *mut c_void)>;

/// How an image is extracted. Zeros, but for `size`, are the defaults.
#[repr(C)]
pub struct puzzlefs_extract_options {
    /// `sizeof(puzzlefs_extract_options)`.
    pub size: usize,
    /// Bits of `puzzlefs_extract_flags`.
    pub flags: u64,
    /// How many threads write files; 0 for the number of cores, up to 16.
    pub threads: u32,
    /// 0.
    pub reserved: u32,
    /// Is told of progress, and may cancel; NULL for nobody.
    pub progress: puzzlefs_progress_fn,
    /// Is told what could not be restored; NULL for nobody.
    pub lost: puzzlefs_lost_fn,
    /// Passed to `progress` and `lost`.
    pub data: *mut c_void,
}

// SAFETY: `repr(C)`, the size comes first, numbers and pointers may be 0.
unsafe impl utils::Versioned for puzzlefs_extract_options {
    const FIRST_SIZE: usize = size_of::<Self>();
}

/// What was extracted. The caller sets `size`, and the library fills in the rest.
#[repr(C)]
pub struct puzzlefs_extract_result {
    /// `sizeof(puzzlefs_extract_result)`.
    pub size: usize,
    /// Inodes of the image.
    pub inodes: u64,
    /// The sum of the files' sizes in bytes.
    pub bytes: u64,
    /// How many kinds of things could not be restored: how often `lost` was called, or would have
    /// been.
    pub lost: u64,
}

// SAFETY: `repr(C)`, the size comes first, numbers may be 0.
unsafe impl utils::Versioned for puzzlefs_extract_result {
    const FIRST_SIZE: usize = size_of::<Self>();
}

/// Writes an image out as a directory.
///
/// Owners, device nodes and some extended attributes need privileges. Whoever lacks them gets the
/// rest, and is told what is missing. Nothing is written outside the directory, whatever the image
/// says. When it fails or is cancelled, what was written is removed again.
///
/// Parameters:
/// - `image`: the image, borrowed.
/// - `target`: the path of the directory, which must be empty or not there; its parent must be.
/// - `options`: how it is extracted; NULL for the defaults.
/// - `result`: what was extracted, with its `size` set; NULL if that is of no interest. Nothing is
///   filled in when it fails.
/// - `error`: see `puzzlefs_error`.
///
/// Returns `PUZZLEFS_OK`, or among others `PUZZLEFS_ERR_ALREADY_EXISTS` if the directory is not
/// empty, `PUZZLEFS_ERR_CORRUPT` for a data blob that is missing or damaged,
/// `PUZZLEFS_ERR_NO_SPACE`, `PUZZLEFS_ERR_CANCELLED`.
///
/// Threads: any, also with the same image. It starts threads of its own, which end before it
/// returns.
///
/// ```c
/// if (puzzlefs_image_extract(image, "root", NULL, NULL, &error) != PUZZLEFS_OK)
///     return fail(error);
/// ```
#[unsafe(no_mangle)]
pub unsafe extern "C" fn puzzlefs_image_extract(
    image: *const puzzlefs_image,
    target: *const c_char,
    options: *const puzzlefs_extract_options,
    result: *mut puzzlefs_extract_result,
    error: *mut *mut puzzlefs_error,
) -> puzzlefs_status {
    // SAFETY: the caller passes pointers as the header asks for.
    unsafe {
        ret::call(error, || {
            let image = &utils::handle(image, "image")?.image;
            let target = utils::path(target, "target")?;
            let options = utils::options(options, "options")?;
            let result = utils::optional_slot(result, "result")?;
            let report = reporter(options.progress, options.data);
            let extracted = extract(image, target, &options.to_core()?, &Monitor::new(&report))?;
            for lost in &extracted.lost {
                options.tell(lost);
            }
            if let Some(slot) = result {
                slot.fill(extracted.into());
            }
            Ok(())
        })
    }
}

impl puzzlefs_extract_options {
    fn to_core(&self) -> Result<ExtractOptions> {
        let no_same_owner = puzzlefs_extract_flags::PUZZLEFS_EXTRACT_NO_SAME_OWNER as u64;
        utils::flags(self.flags, no_same_owner, "options.flags")?;
        utils::flags(self.reserved.into(), 0, "options.reserved")?;
        let threads = utils::nonzero(self.threads as usize);
        Ok(ExtractOptions { same_owner: self.flags & no_same_owner == 0, threads })
    }

    /// # Safety
    ///
    /// The function is as the header asks for.
    unsafe fn tell(&self, lost: &Lost) {
        let what = utils::c_string(lost.what.as_bytes());
        let first = utils::c_string(lost.first.as_os_str().as_bytes());
        let lost = puzzlefs_lost {
            size: size_of::<puzzlefs_lost>(),
            what: what.as_ptr(),
            first: first.as_ptr(),
            count: lost.count,
        };
        if let Some(function) = self.lost {
            // SAFETY: the caller promised a function of this type that takes this `data`.
            unsafe { function(&lost, self.data) };
        }
    }
}

impl From<ExtractReport> for puzzlefs_extract_result {
    fn from(extracted: ExtractReport) -> Self {
        puzzlefs_extract_result {
            size: size_of::<Self>(),
            inodes: extracted.inodes,
            bytes: extracted.bytes,
            lost: extracted.lost.len() as u64,
        }
    }
}
