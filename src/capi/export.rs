//! Writing images out as tar archives.

use std::ffi::{c_int, c_void};
use std::fs::File;
use std::io::BufWriter;
use std::os::fd::BorrowedFd;

use super::image::puzzlefs_image;
use super::progress::{puzzlefs_progress_fn, reporter};
use super::{puzzlefs_error, puzzlefs_status};
use super::{ret, symbol_version, utils};
use crate::error::Error;
use crate::export::{ExportReport, export};
use crate::progress::Monitor;

symbol_version!("LIBPUZZLEFS_0.1": puzzlefs_image_export);

/// How many bytes are written at once.
const BUFFER: usize = 1 << 20;

/// How an image is exported. Zeros, but for `size`, are the defaults.
#[repr(C)]
pub struct puzzlefs_export_options {
    /// `sizeof(puzzlefs_export_options)`.
    pub size: usize,
    /// Is told of progress, and may cancel; NULL for nobody.
    pub progress: puzzlefs_progress_fn,
    /// Passed to `progress`.
    pub data: *mut c_void,
}

// SAFETY: `repr(C)`, the size comes first, numbers and pointers may be 0.
unsafe impl utils::Versioned for puzzlefs_export_options {
    const FIRST_SIZE: usize = size_of::<Self>();
}

/// What was exported. The caller sets `size`, and the library fills in the rest.
#[repr(C)]
pub struct puzzlefs_export_result {
    /// `sizeof(puzzlefs_export_result)`.
    pub size: usize,
    /// Entries in the archive.
    pub entries: u64,
    /// Bytes of the files.
    pub bytes: u64,
    /// Sockets, which no archive can hold, and which were left out.
    pub sockets: u64,
}

// SAFETY: `repr(C)`, the size comes first, numbers may be 0.
unsafe impl utils::Versioned for puzzlefs_export_result {
    const FIRST_SIZE: usize = size_of::<Self>();
}

/// Writes an image out as a tar archive, in the pax format: the same bytes for the same tree.
///
/// Parameters:
/// - `image`: the image, borrowed.
/// - `fd`: a file descriptor to be written to, such as a file or a pipe; it stays open.
/// - `options`: NULL for the defaults.
/// - `result`: what was exported, with its `size` set; NULL if that is of no interest. Nothing is
///   filled in when it fails.
/// - `error`: see `puzzlefs_error`.
///
/// Returns `PUZZLEFS_OK`, or among others `PUZZLEFS_ERR_CORRUPT` for a data blob that is missing
/// or damaged, `PUZZLEFS_ERR_IO` and `PUZZLEFS_ERR_NO_SPACE` if `fd` cannot be written,
/// `PUZZLEFS_ERR_CANCELLED`. Then `fd` has got the begin of an archive.
///
/// Threads: any, also with the same image.
///
/// ```c
/// if (puzzlefs_image_export(image, STDOUT_FILENO, NULL, NULL, &error) != PUZZLEFS_OK)
///     return fail(error);
/// ```
#[unsafe(no_mangle)]
pub unsafe extern "C" fn puzzlefs_image_export(
    image: *const puzzlefs_image,
    fd: c_int,
    options: *const puzzlefs_export_options,
    result: *mut puzzlefs_export_result,
    error: *mut *mut puzzlefs_error,
) -> puzzlefs_status {
    // SAFETY: the caller passes pointers as the header asks for.
    unsafe {
        ret::call(error, || {
            let image = &utils::handle(image, "image")?.image;
            let options = utils::options(options, "options")?;
            let result = utils::optional_slot(result, "result")?;
            if fd < 0 {
                return Err(Error::invalid(format!("'fd' is {fd}")));
            }
            let report = reporter(options.progress, options.data);
            let failed = |error| Error::system("write the archive", error);
            let file = File::from(BorrowedFd::borrow_raw(fd).try_clone_to_owned().map_err(failed)?);
            let mut out = BufWriter::with_capacity(BUFFER, file);
            let exported = export(image, &mut out, &Monitor::new(&report))?;
            out.into_inner().map_err(|error| failed(error.into_error()))?;
            if let Some(slot) = result {
                slot.fill(exported.into());
            }
            Ok(())
        })
    }
}

impl From<ExportReport> for puzzlefs_export_result {
    fn from(exported: ExportReport) -> Self {
        puzzlefs_export_result {
            size: size_of::<Self>(),
            entries: exported.entries,
            bytes: exported.bytes,
            sockets: exported.sockets.len() as u64,
        }
    }
}
