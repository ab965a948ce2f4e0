//! Status codes, and errors that say more.

use std::ffi::{CStr, CString, c_char};
use std::os::unix::ffi::OsStrExt;

use super::{ret, symbol_version, utils};
use crate::error::{Error, ErrorKind};

symbol_version!("LIBPUZZLEFS_0.1":
    puzzlefs_error_status,
    puzzlefs_error_errno,
    puzzlefs_error_message,
    puzzlefs_error_path,
    puzzlefs_error_free,
);

/// What a function returns: `PUZZLEFS_OK`, or what kind of thing went wrong, which is what a
/// program decides by. All errors are negative. A later version may return others than these.
#[repr(i32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum puzzlefs_status {
    /// Done.
    PUZZLEFS_OK = 0,
    /// An argument or an option makes no sense, whatever is on disk.
    PUZZLEFS_ERR_INVALID_INPUT = -1,
    /// A path, layout, tag or blob that was asked for is not there.
    PUZZLEFS_ERR_NOT_FOUND = -2,
    /// Something is in the way, such as a folder that is not empty.
    PUZZLEFS_ERR_ALREADY_EXISTS = -3,
    /// The system refused access.
    PUZZLEFS_ERR_PERMISSION_DENIED = -4,
    /// Data in a layout or an image is not what its format or its digest says.
    PUZZLEFS_ERR_CORRUPT = -5,
    /// Well-formed, but unknown to this library: an image of a newer version, an option or a flag
    /// of a newer header.
    PUZZLEFS_ERR_UNSUPPORTED = -6,
    /// The source changed while it was read, or the target while it was written.
    PUZZLEFS_ERR_CHANGED = -7,
    /// The file system is full, or a quota is used up.
    PUZZLEFS_ERR_NO_SPACE = -8,
    /// A function of the caller asked to stop.
    PUZZLEFS_ERR_CANCELLED = -9,
    /// Another failure of the system.
    PUZZLEFS_ERR_IO = -10,
    /// A defect of this library.
    PUZZLEFS_ERR_INTERNAL = -11,
}

impl From<ErrorKind> for puzzlefs_status {
    fn from(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::InvalidInput => Self::PUZZLEFS_ERR_INVALID_INPUT,
            ErrorKind::NotFound => Self::PUZZLEFS_ERR_NOT_FOUND,
            ErrorKind::AlreadyExists => Self::PUZZLEFS_ERR_ALREADY_EXISTS,
            ErrorKind::PermissionDenied => Self::PUZZLEFS_ERR_PERMISSION_DENIED,
            ErrorKind::Corrupt => Self::PUZZLEFS_ERR_CORRUPT,
            ErrorKind::Unsupported => Self::PUZZLEFS_ERR_UNSUPPORTED,
            ErrorKind::Changed => Self::PUZZLEFS_ERR_CHANGED,
            ErrorKind::NoSpace => Self::PUZZLEFS_ERR_NO_SPACE,
            ErrorKind::Cancelled => Self::PUZZLEFS_ERR_CANCELLED,
            ErrorKind::Io => Self::PUZZLEFS_ERR_IO,
            ErrorKind::Internal => Self::PUZZLEFS_ERR_INTERNAL,
        }
    }
}

/// Why a function failed: status, the system's error number, a message, a path.
///
/// Every function that can fail has a last parameter `puzzlefs_error **error`, which may be NULL.
/// What `*error` held before is not looked at. When the function fails, `*error` is a new error,
/// which the caller frees with `puzzlefs_error_free`; when not, it is NULL.
///
/// An error never changes: several threads may read one.
pub struct puzzlefs_error(());

/// What is behind a `puzzlefs_error`.
pub struct ErrorDetails {
    status: puzzlefs_status,
    errno: i32,
    message: CString,
    path: Option<CString>,
}

impl utils::Handle for puzzlefs_error {
    type Target = ErrorDetails;
    const TAG: u64 = u64::from_be_bytes(*b"pzfs-err");
}

impl From<&Error> for ErrorDetails {
    fn from(error: &Error) -> Self {
        ErrorDetails {
            status: error.kind().into(),
            errno: error.errno().unwrap_or(0),
            message: utils::c_string(error.to_string().as_bytes()),
            path: error.path().map(|path| utils::c_string(path.as_os_str().as_bytes())),
        }
    }
}

/// The status that the function returned which gave this error.
///
/// Parameters:
/// - `error`: the error, borrowed; NULL for none.
///
/// Returns the status; `PUZZLEFS_OK` for NULL.
///
/// Threads: any.
///
/// ```c
/// if (puzzlefs_error_status(error) == PUZZLEFS_ERR_NO_SPACE)
///     make_room();
/// ```
#[unsafe(no_mangle)]
pub unsafe extern "C" fn puzzlefs_error_status(error: *const puzzlefs_error) -> puzzlefs_status {
    // SAFETY: the caller passes an error that is not freed, or NULL.
    let details = unsafe { utils::handle(error, "error") };
    details.map_or(puzzlefs_status::PUZZLEFS_OK, |details| details.status)
}

/// The system's error number behind an error.
///
/// Parameters:
/// - `error`: the error, borrowed; NULL for none.
///
/// Returns a number as `errno` has it, such as `ENOSPC`; 0 if no system call failed, or for NULL.
///
/// Threads: any.
///
/// ```c
/// if (puzzlefs_error_errno(error) == EMFILE)
///     close_some_files();
/// ```
#[unsafe(no_mangle)]
pub unsafe extern "C" fn puzzlefs_error_errno(error: *const puzzlefs_error) -> i32 {
    // SAFETY: the caller passes an error that is not freed, or NULL.
    let details = unsafe { utils::handle(error, "error") };
    details.map_or(0, |details| details.errno)
}

/// What went wrong, as a sentence that a user can act on: UTF-8, without a full stop and without
/// a line feed at its end.
///
/// Parameters:
/// - `error`: the error, borrowed; NULL for none.
///
/// Returns a string that belongs to the error and goes with it; an empty one for NULL.
///
/// Threads: any.
///
/// ```c
/// fprintf(stderr, "%s\n", puzzlefs_error_message(error));
/// ```
#[unsafe(no_mangle)]
pub unsafe extern "C" fn puzzlefs_error_message(error: *const puzzlefs_error) -> *const c_char {
    const NONE: &CStr = c"";
    // SAFETY: the caller passes an error that is not freed, or NULL.
    let details = unsafe { utils::handle(error, "error") };
    details.map_or(NONE.as_ptr(), |details| details.message.as_ptr())
}

/// The path that an error is about: any bytes but NUL. The message names it too.
///
/// Parameters:
/// - `error`: the error, borrowed; NULL for none.
///
/// Returns a string that belongs to the error and goes with it; NULL if the error is not about a
/// path, or for NULL.
///
/// Threads: any.
///
/// ```c
/// const char *path = puzzlefs_error_path(error);
/// if (path != NULL)
///     mark_as_broken(path);
/// ```
#[unsafe(no_mangle)]
pub unsafe extern "C" fn puzzlefs_error_path(error: *const puzzlefs_error) -> *const c_char {
    // SAFETY: the caller passes an error that is not freed, or NULL.
    let details = unsafe { utils::handle(error, "error") };
    let path = details.ok().and_then(|details| details.path.as_ref());
    path.map_or(std::ptr::null(), |path| path.as_ptr())
}

/// Frees an error, and the strings that belong to it.
///
/// Parameters:
/// - `error`: the error, to be freed once; NULL is fine.
///
/// Threads: any, once no other uses the error.
///
/// ```c
/// puzzlefs_error *error;
/// if (puzzlefs_build("root", "images:v1", NULL, NULL, &error) != PUZZLEFS_OK)
///     fprintf(stderr, "%s\n", puzzlefs_error_message(error));
/// puzzlefs_error_free(error);
/// ```
#[unsafe(no_mangle)]
pub unsafe extern "C" fn puzzlefs_error_free(error: *mut puzzlefs_error) {
    // SAFETY: the caller gives the error back, or NULL.
    ret::quietly(|| unsafe { utils::free(error) });
}
