//! What C gets back: the only place where a `Result` becomes a return value, and where panics end.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::error::{ErrorDetails, puzzlefs_error, puzzlefs_status};
use super::{panics, utils};
use crate::error::{Error, ErrorKind, Result};

/// Runs the body of a C function and turns its outcome into a status and `*error`.
///
/// Every function that can fail does its work in here, so that no panic unwinds into C.
///
/// # Safety
///
/// `error` is NULL or valid for a write.
pub unsafe fn call(
    error: *mut *mut puzzlefs_error,
    body: impl FnOnce() -> Result<()>,
) -> puzzlefs_status {
    let result = guarded(body).and_then(|result| result);
    let status = result.as_ref().map_or_else(|error| error.kind().into(), |()| puzzlefs_status::PUZZLEFS_OK);
    if !error.is_null() {
        let handle = match &result {
            Ok(()) => std::ptr::null_mut(),
            Err(error) => utils::give::<puzzlefs_error>(ErrorDetails::from(error)),
        };
        // SAFETY: not NULL, so the caller promised that it may be written.
        unsafe { error.write(handle) };
    }
    status
}

/// Runs the body of a C function that cannot tell an error: of a panic nobody hears.
pub fn quietly(body: impl FnOnce()) {
    drop(guarded(body));
}

fn guarded<T>(body: impl FnOnce() -> T) -> Result<T> {
    let _silence = panics::silence();
    // What a panic leaves half done is a handle that the caller should free, and no more: the
    // core's caches and locks notice it themselves.
    catch_unwind(AssertUnwindSafe(body)).map_err(|payload| {
        let what = panics::last().unwrap_or_else(|| panics::text(&*payload).to_owned());
        Error::new(ErrorKind::Internal, format!("a defect of libpuzzlefs: {what}"))
    })
}
