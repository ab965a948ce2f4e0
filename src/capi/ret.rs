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
    let status =
        result.as_ref().map_or_else(|error| error.kind().into(), |()| puzzlefs_status::PUZZLEFS_OK);
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

#[cfg(test)]
mod tests {
    use std::ffi::CStr;

    use super::*;
    use crate::sys::thread;

    const CHILD: &str = "PUZZLEFS_TEST_PANICS";

    /// In a child process, whose standard error shows what is printed.
    #[test]
    fn panics_become_errors_and_are_not_printed() {
        if std::env::var_os(CHILD).is_some() {
            return panic_in_all_ways();
        }
        let name = "capi::ret::tests::panics_become_errors_and_are_not_printed";
        let child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture", "--test-threads=1"])
            .env(CHILD, "1")
            .output()
            .unwrap();
        let (out, err) = (child.stdout.escape_ascii(), child.stderr.escape_ascii().to_string());
        assert!(child.status.success(), "{out} {err}");
        assert!(err.contains("panic elsewhere") && !err.contains("panic here"), "{err}");
    }

    fn panic_in_all_ways() {
        fails_with("panic here 1 (src/capi/ret.rs:", || panic!("panic here {}", 1));
        fails_with("panic here (src/capi/ret.rs:", || {
            std::panic::panic_any("panic here".to_owned())
        });
        fails_with("a panic (src/capi/ret.rs:", || std::panic::panic_any(1));
        // The cause, though the caller's thread sees only that the other panicked.
        fails_with("panic here too (src/capi/ret.rs:", || {
            std::thread::scope(|scope| {
                thread::spawn(scope, || panic!("panic here too")).map(|_| ())
            })
        });
        quietly(|| panic!("panic here 2"));
        let elsewhere = std::thread::spawn(|| panic!("panic elsewhere"));
        assert!(elsewhere.join().is_err());
        // The silence ends with the call.
        let after = std::panic::catch_unwind(|| panic!("panic elsewhere too"));
        assert!(after.is_err());
    }

    fn fails_with(text: &str, body: impl FnOnce() -> Result<()>) {
        let mut error = std::ptr::null_mut();
        // SAFETY: the error may be written.
        let status = unsafe { call(&mut error, body) };
        assert_eq!(status, puzzlefs_status::PUZZLEFS_ERR_INTERNAL);
        // SAFETY: the error was just made, and is freed once, after its message was read.
        unsafe {
            let message = CStr::from_ptr(super::super::error::puzzlefs_error_message(error));
            let message = message.to_str().unwrap();
            assert!(message.starts_with(&format!("a defect of libpuzzlefs: {text}")), "{message}");
            super::super::error::puzzlefs_error_free(error);
        }
    }
}
