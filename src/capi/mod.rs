//! The C ABI: `include/puzzlefs.h` is generated from here.
//!
//! The core knows nothing of C, and here nothing is done but translating: `utils` is the only
//! place where a C pointer becomes a Rust value, `ret` the only one where a `Result` becomes a
//! return value, and each function takes its arguments in, calls the core, and gives out.
//!
//! All functions have one safety contract, the one that the header states: a pointer is NULL or
//! valid for what its documentation says, as long as it says. Whatever can be told of a breach,
//! is an error.
#![allow(unsafe_code, non_camel_case_types, clippy::missing_safety_doc)]

mod build;
mod config;
mod diff;
mod error;
mod export;
mod extract;
mod fsck;
mod image;
mod layout;
mod mount;
mod panics;
mod progress;
mod ret;
mod utils;

use std::ffi::{CStr, c_char};

use error::{puzzlefs_error, puzzlefs_status};

#[cfg(c_library)]
#[global_allocator]
static ALLOCATOR: crate::Allocator = crate::Allocator;

/// Gives the functions of a module their symbol version; only the shared library has them, and
/// is built with `--cfg symver`.
macro_rules! symbol_version {
    ($version:literal: $($function:ident),+ $(,)?) => {
        $(
            #[cfg(symver)]
            std::arch::global_asm!(concat!(
                ".symver ", stringify!($function), ", ", stringify!($function), "@@", $version
            ));
        )+
    };
}
use symbol_version;

// The linker reads it: cargo shall link anew when it changes.
#[cfg(symver)]
const _: &str = include_str!("symbol-versions");

symbol_version!("LIBPUZZLEFS_0.1": puzzlefs_version, puzzlefs_string_free);

const VERSION: &CStr =
    match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
        Ok(version) => version,
        Err(_) => unreachable!(),
    };

/// The version of the library that runs, such as `0.1.0`: a static string.
///
/// Threads: any.
///
/// ```c
/// printf("libpuzzlefs %s\n", puzzlefs_version());
/// ```
#[unsafe(no_mangle)]
pub extern "C" fn puzzlefs_version() -> *const c_char {
    VERSION.as_ptr()
}

/// Frees a string that the library gave to the caller.
///
/// Parameters:
/// - `string`: one that a function gave whose documentation says so, such as
///   `puzzlefs_image_inspect`, to be freed once; NULL is fine. Not one that belongs to a handle.
///
/// Threads: any.
///
/// ```c
/// char *json;
/// if (puzzlefs_image_inspect(image, &json, NULL) == PUZZLEFS_OK) {
///     puts(json);
///     puzzlefs_string_free(json);
/// }
/// ```
#[unsafe(no_mangle)]
pub unsafe extern "C" fn puzzlefs_string_free(string: *mut c_char) {
    // SAFETY: the caller gives back what `utils::give_string` made.
    ret::quietly(|| unsafe { utils::take_string(string) });
}
