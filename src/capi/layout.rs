//! Layouts: their tags, and what nothing refers to any more.

use std::ffi::{c_char, c_void};
use std::time::Duration;

use serde_json::Value;

use super::progress::{puzzlefs_progress_fn, reporter};
use super::{puzzlefs_error, puzzlefs_status};
use super::{ret, symbol_version, utils};
use crate::error::{Error, Result};
use crate::layout::{GcOptions, Layout, Reference, TagEntry, gc};
use crate::progress::Monitor;

symbol_version!("LIBPUZZLEFS_0.1": puzzlefs_tag, puzzlefs_untag, puzzlefs_tags, puzzlefs_gc);

/// How a tag is set or taken away. Zeros, but for `size`, are the defaults.
#[repr(C)]
pub struct puzzlefs_tag_options {
    /// `sizeof(puzzlefs_tag_options)`.
    pub size: usize,
    /// 0: there are no flags yet.
    pub flags: u64,
    /// Is told while others lock the layout, and may cancel; NULL for nobody.
    pub progress: puzzlefs_progress_fn,
    /// Passed to `progress`.
    pub data: *mut c_void,
}

// SAFETY: `repr(C)`, the size comes first, numbers and pointers may be 0.
unsafe impl utils::Versioned for puzzlefs_tag_options {
    const FIRST_SIZE: usize = size_of::<Self>();
}

/// Makes a tag refer to what another one of the same layout refers to, of whatever kind it is.
///
/// Parameters:
/// - `image`: what it shall refer to: `LAYOUT:TAG` or `LAYOUT@sha256:HEX`.
/// - `tag`: the tag; one that is there is moved.
/// - `options`: how it is set; NULL for the defaults.
/// - `error`: see `puzzlefs_error`.
///
/// Returns `PUZZLEFS_OK`, or among others `PUZZLEFS_ERR_NOT_FOUND` without the layout or the image,
/// `PUZZLEFS_ERR_INVALID_INPUT` for a tag that is none, `PUZZLEFS_ERR_CANCELLED`.
///
/// Threads: any.
///
/// ```c
/// if (puzzlefs_tag("images:v1", "latest", NULL, &error) != PUZZLEFS_OK)
///     return fail(error);
/// ```
#[unsafe(no_mangle)]
pub unsafe extern "C" fn puzzlefs_tag(
    image: *const c_char,
    tag: *const c_char,
    options: *const puzzlefs_tag_options,
    error: *mut *mut puzzlefs_error,
) -> puzzlefs_status {
    // SAFETY: the caller passes pointers as the header asks for.
    unsafe {
        ret::call(error, || {
            let Reference { layout, name } = Reference::parse(utils::path(image, "image")?)?;
            let tag = utils::text(tag, "tag")?.ok_or_else(|| Error::invalid("'tag' is NULL"))?;
            let options = utils::options(options, "options")?;
            utils::flags(options.flags, 0, "options.flags")?;
            let report = reporter(options.progress, options.data);
            Layout::open(&layout)?.tag(&name, &tag, &Monitor::new(&report))
        })
    }
}

/// Takes a tag away. What it refers to stays, until `puzzlefs_gc` finds that nothing refers to it
/// any more.
///
/// Parameters:
/// - `image`: the tag: `LAYOUT:TAG`; or `LAYOUT@sha256:HEX` for all that the layout's index has of
///   that digest, with tags and without.
/// - `options`: how it is taken away; NULL for the defaults.
/// - `error`: see `puzzlefs_error`.
///
/// Returns `PUZZLEFS_OK`, or among others `PUZZLEFS_ERR_NOT_FOUND` without the layout or the tag,
/// `PUZZLEFS_ERR_CANCELLED`.
///
/// Threads: any.
///
/// ```c
/// if (puzzlefs_untag("images:v1", NULL, &error) != PUZZLEFS_OK)
///     return fail(error);
/// ```
#[unsafe(no_mangle)]
pub unsafe extern "C" fn puzzlefs_untag(
    image: *const c_char,
    options: *const puzzlefs_tag_options,
    error: *mut *mut puzzlefs_error,
) -> puzzlefs_status {
    // SAFETY: the caller passes pointers as the header asks for.
    unsafe {
        ret::call(error, || {
            let Reference { layout, name } = Reference::parse(utils::path(image, "image")?)?;
            let options = utils::options(options, "options")?;
            utils::flags(options.flags, 0, "options.flags")?;
            let report = reporter(options.progress, options.data);
            Layout::open(&layout)?.untag(&name, &Monitor::new(&report))
        })
    }
}

/// Lists what the index of a layout has: also without a tag, and what is no image of puzzlefs.
///
/// Parameters:
/// - `layout`: the path of the layout.
/// - `json`: a JSON document, as `puzzlefs tags --json` prints it: UTF-8, without a line feed in
///   it. It is a list of objects with `tag` (or `null`), `digest`, `media_type`, `size` of what
///   the entry refers to, `kind` (`puzzlefs`, `image`, `index`, `other`, `unreadable`), and
///   `bytes` of all blobs (or `null` if it cannot be read, or if counting would take long: when
///   what the entries before it share has been counted again and again, 67 million blobs in all).
///   A string that the caller frees with `puzzlefs_string_free`; NULL when it fails.
/// - `error`: see `puzzlefs_error`.
///
/// Returns `PUZZLEFS_OK`, or among others `PUZZLEFS_ERR_NOT_FOUND` without the layout,
/// `PUZZLEFS_ERR_CORRUPT` if its index is damaged.
///
/// Threads: any.
///
/// ```c
/// char *json;
/// if (puzzlefs_tags("images", &json, &error) != PUZZLEFS_OK)
///     return fail(error);
/// puts(json);
/// puzzlefs_string_free(json);
/// ```
#[unsafe(no_mangle)]
pub unsafe extern "C" fn puzzlefs_tags(
    layout: *const c_char,
    json: *mut *mut c_char,
    error: *mut *mut puzzlefs_error,
) -> puzzlefs_status {
    // SAFETY: the caller passes pointers as the header asks for.
    unsafe {
        ret::call(error, || {
            let json = utils::out(json, "json")?.write(std::ptr::null_mut());
            let tags = Layout::open(utils::path(layout, "layout")?)?.tags()?;
            let document: Value = tags.iter().map(TagEntry::to_json).collect();
            *json = utils::give_string(document.to_string().as_bytes());
            Ok(())
        })
    }
}

/// Bits of `flags` in `puzzlefs_gc_options`.
#[repr(u64)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum puzzlefs_gc_flags {
    /// `grace` is given.
    PUZZLEFS_GC_HAS_GRACE = 1 << 0,
    /// Nothing is deleted, only told.
    PUZZLEFS_GC_DRY_RUN = 1 << 1,
}
use puzzlefs_gc_flags::{PUZZLEFS_GC_DRY_RUN, PUZZLEFS_GC_HAS_GRACE};

/// What is deleted. Zeros, but for `size`, are the defaults. A number that a flag must announce is
/// refused without it.
#[repr(C)]
pub struct puzzlefs_gc_options {
    /// `sizeof(puzzlefs_gc_options)`.
    pub size: usize,
    /// Bits of `puzzlefs_gc_flags`.
    pub flags: u64,
    /// How old a blob must be, in seconds, if `PUZZLEFS_GC_HAS_GRACE`; else an hour. Other tools
    /// put blobs into a layout before they refer to them.
    pub grace: u64,
    /// Is told of progress, and may cancel; NULL for nobody.
    pub progress: puzzlefs_progress_fn,
    /// Passed to `progress`.
    pub data: *mut c_void,
}

// SAFETY: `repr(C)`, the size comes first, numbers and pointers may be 0.
unsafe impl utils::Versioned for puzzlefs_gc_options {
    const FIRST_SIZE: usize = size_of::<Self>();
}

/// Deletes the blobs of a layout that no entry of its index refers to, directly or not, and what
/// builders left behind that were killed.
///
/// Waits until no builder is at work in the layout: a thread that builds into it must not wait for
/// one that is here. Deletes nothing if a document cannot be read that may refer to blobs.
///
/// Parameters:
/// - `layout`: the path of the layout.
/// - `options`: what is deleted; NULL for the defaults.
/// - `json`: a JSON document, as `puzzlefs gc --json` prints it: UTF-8, without a line feed in it.
///   It is an object with the digests that were `removed` and their `bytes`; the `blobs` and
///   `bytes` that were too `young`; the `count` and `bytes` of the `leftovers`. A string that the
///   caller frees with `puzzlefs_string_free`; NULL when it fails. May be NULL if that is of no
///   interest.
/// - `error`: see `puzzlefs_error`.
///
/// Returns `PUZZLEFS_OK`, or among others `PUZZLEFS_ERR_NOT_FOUND` without the layout,
/// `PUZZLEFS_ERR_CORRUPT` if a document is missing or damaged, `PUZZLEFS_ERR_CANCELLED`.
///
/// Threads: any, also while others build into the layout.
///
/// ```c
/// puzzlefs_gc_options options = { .size = sizeof(options), .flags = PUZZLEFS_GC_DRY_RUN };
/// char *json;
/// if (puzzlefs_gc("images", &options, &json, &error) != PUZZLEFS_OK)
///     return fail(error);
/// puts(json);
/// puzzlefs_string_free(json);
/// ```
#[unsafe(no_mangle)]
pub unsafe extern "C" fn puzzlefs_gc(
    layout: *const c_char,
    options: *const puzzlefs_gc_options,
    json: *mut *mut c_char,
    error: *mut *mut puzzlefs_error,
) -> puzzlefs_status {
    // SAFETY: the caller passes pointers as the header asks for.
    unsafe {
        ret::call(error, || {
            let json = utils::optional_out(json).map(|json| json.write(std::ptr::null_mut()));
            let layout = utils::path(layout, "layout")?;
            let options = utils::options(options, "options")?;
            let report = reporter(options.progress, options.data);
            let collected = gc(layout, &options.to_core()?, &Monitor::new(&report))?;
            if let Some(json) = json {
                *json = utils::give_string(collected.to_json().to_string().as_bytes());
            }
            Ok(())
        })
    }
}

impl puzzlefs_gc_options {
    fn to_core(&self) -> Result<GcOptions> {
        let known = PUZZLEFS_GC_HAS_GRACE as u64 | PUZZLEFS_GC_DRY_RUN as u64;
        utils::flags(self.flags, known, "options.flags")?;
        let has = |flag: puzzlefs_gc_flags| self.flags & flag as u64 != 0;
        let grace = utils::given(has(PUZZLEFS_GC_HAS_GRACE), self.grace, "options.grace")?;
        Ok(GcOptions {
            grace: grace.map_or(GcOptions::default().grace, Duration::from_secs),
            dry_run: has(PUZZLEFS_GC_DRY_RUN),
        })
    }
}
