//! What C passes in: the only place where a C pointer becomes a Rust value.
//!
//! Each `name` is that of the parameter, for the message when it is wrong.

use std::ffi::{CStr, CString, OsStr, c_char, c_void};
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorKind, Result};

fn null(name: &str) -> Error {
    Error::invalid(format!("'{name}' is NULL"))
}

fn unsupported(message: String) -> Error {
    Error::new(ErrorKind::Unsupported, message)
}

/// Refuses bits of `flags` that are not `known`.
pub fn flags(flags: u64, known: u64, name: &str) -> Result<()> {
    match flags & !known {
        0 => Ok(()),
        unknown => Err(unsupported(format!("'{name}' has the unknown bits {unknown:#x}"))),
    }
}

/// A number that a flag says is given; without the flag it must be 0, or somebody forgot it.
pub fn given<T: Default + PartialEq>(flag: bool, value: T, name: &str) -> Result<Option<T>> {
    if flag || value == T::default() {
        return Ok(flag.then_some(value));
    }
    Err(Error::invalid(format!("'{name}' is given, but 'options.flags' does not say so")))
}

/// 0 as what C says for "not given".
pub fn nonzero<T: Default + PartialEq>(value: T) -> Option<T> {
    (value != T::default()).then_some(value)
}

// Strings and bytes

/// A string of any bytes, or NULL.
///
/// # Safety
///
/// `string` is NULL, or ends with a NUL and does not change while the result is used.
pub unsafe fn optional<'a>(string: *const c_char) -> Option<&'a [u8]> {
    // SAFETY: not NULL, and the caller promises the rest.
    (!string.is_null()).then(|| unsafe { CStr::from_ptr(string) }.to_bytes())
}

/// A path.
///
/// # Safety
///
/// As for [`optional`].
pub unsafe fn path<'a>(string: *const c_char, name: &str) -> Result<&'a Path> {
    // SAFETY: the caller promises the same.
    let bytes = unsafe { optional(string) }.ok_or_else(|| null(name))?;
    Ok(Path::new(OsStr::from_bytes(bytes)))
}

/// A list of paths that ends with NULL; NULL is an empty one.
///
/// # Safety
///
/// `list` is NULL, or an array whose last element is NULL and whose others are as for [`optional`].
pub unsafe fn paths(list: *const *const c_char) -> Vec<PathBuf> {
    let mut paths = Vec::new();
    if list.is_null() {
        return paths;
    }
    // SAFETY: all elements before the one that is NULL are behind us, so this one is there.
    while let Some(next) = unsafe { optional(*list.add(paths.len())) } {
        paths.push(PathBuf::from(OsStr::from_bytes(next)));
    }
    paths
}

/// A text in UTF-8, or NULL.
///
/// # Safety
///
/// As for [`optional`].
pub unsafe fn text(string: *const c_char, name: &str) -> Result<Option<String>> {
    let decode = |bytes: &[u8]| match str::from_utf8(bytes) {
        Ok(text) => Ok(text.to_owned()),
        Err(_) => Err(Error::invalid(format!("'{name}' is not UTF-8: '{}'", bytes.escape_ascii()))),
    };
    // SAFETY: the caller promises the same.
    unsafe { optional(string) }.map(decode).transpose()
}

/// A list of texts in UTF-8 that ends with NULL; NULL is an empty one.
///
/// # Safety
///
/// `list` is NULL, or an array whose last element is NULL and whose others are as for [`text`].
pub unsafe fn texts(list: *const *const c_char, name: &str) -> Result<Vec<String>> {
    let mut texts = Vec::new();
    if list.is_null() {
        return Ok(texts);
    }
    // SAFETY: all elements before the one that is NULL are behind us, so this one is there.
    while let Some(next) = unsafe { text(*list.add(texts.len()), name) }? {
        texts.push(next);
    }
    Ok(texts)
}

/// As [`texts`], but NULL is no list.
///
/// # Safety
///
/// As for [`texts`].
pub unsafe fn optional_texts(
    list: *const *const c_char,
    name: &str,
) -> Result<Option<Vec<String>>> {
    // SAFETY: the caller promises the same.
    (!list.is_null()).then(|| unsafe { texts(list, name) }).transpose()
}

/// A list of texts, as [`texts`], of which each second one belongs to the one before.
///
/// # Safety
///
/// As for [`texts`].
pub unsafe fn pairs(list: *const *const c_char, name: &str) -> Result<Vec<(String, String)>> {
    let mut pairs = Vec::new();
    // SAFETY: the caller promises the same.
    let mut texts = unsafe { texts(list, name) }?.into_iter();
    while let Some(key) = texts.next() {
        let value = texts.next().ok_or_else(|| {
            Error::invalid(format!("'{name}' ends with a key, '{key}', without a value"))
        })?;
        pairs.push((key, value));
    }
    Ok(pairs)
}

/// Bytes to be read; NULL with a length of 0 are none.
///
/// # Safety
///
/// `start` is NULL, or `length` bytes from there on can be read, and do not change while the
/// result is used.
pub unsafe fn bytes<'a>(start: *const u8, length: usize, name: &str) -> Result<Option<&'a [u8]>> {
    match (start.is_null(), length) {
        (true, 0) => Ok(None),
        (true, _) => Err(null(name)),
        // SAFETY: not NULL, of a length that a slice may have, and the caller promises the rest.
        (false, _) => {
            fits(length, name).map(|()| Some(unsafe { std::slice::from_raw_parts(start, length) }))
        }
    }
}

/// Bytes to be written; NULL with a length of 0 are none.
///
/// # Safety
///
/// `start` is NULL, or `length` bytes from there on can be written, and nobody else uses them
/// while the result is used.
pub unsafe fn buffer<'a>(start: *mut c_void, length: usize, name: &str) -> Result<&'a mut [u8]> {
    match (start.is_null(), length) {
        (true, 0) => Ok(&mut []),
        (true, _) => Err(null(name)),
        (false, _) => fits(length, name).map(|()| {
            // SAFETY: not NULL, of a length that a slice may have, and the caller promises the
            // rest. The core only writes.
            unsafe { std::slice::from_raw_parts_mut(start.cast(), length) }
        }),
    }
}

/// No memory has more than `isize::MAX` bytes; Rust relies on it.
fn fits(length: usize, name: &str) -> Result<()> {
    match isize::try_from(length) {
        Ok(_) => Ok(()),
        Err(_) => Err(Error::invalid(format!("'{name}' cannot have {length} bytes"))),
    }
}

/// A copy as a C string; a NUL, which few texts have and no path, becomes `\0`.
pub fn c_string(bytes: impl Into<Vec<u8>>) -> CString {
    CString::new(bytes).unwrap_or_else(|error| {
        let parts: Vec<_> = error.into_vec().split(|&byte| byte == 0).map(<[u8]>::to_vec).collect();
        CString::new(parts.join(&b"\\0"[..])).expect("all NULs are replaced")
    })
}

/// Gives a copy to the caller, who frees it with `puzzlefs_string_free`.
pub fn give_string(bytes: &[u8]) -> *mut c_char {
    c_string(bytes).into_raw()
}

/// Takes back what [`give_string`] gave.
///
/// # Safety
///
/// `string` is NULL, or comes from `give_string` and is not used any more.
pub unsafe fn take_string(string: *mut c_char) {
    if !string.is_null() {
        // SAFETY: it comes from `CString::into_raw`, and the caller gives it up.
        drop(unsafe { CString::from_raw(string) });
    }
}

/// Copies a short text without NUL to where it ends with one.
pub fn chars<const N: usize>(text: &[u8]) -> [c_char; N] {
    assert!(text.len() < N, "names and digests fit");
    let mut chars = [0; N];
    for (to, &from) in chars.iter_mut().zip(text) {
        *to = from as c_char;
    }
    chars
}

// Results

/// The place for a result.
///
/// # Safety
///
/// `place` is NULL, or valid for a write by nobody else while the result is used.
pub unsafe fn out<'a, T>(place: *mut T, name: &str) -> Result<&'a mut MaybeUninit<T>> {
    // SAFETY: the caller promises what is needed; a `MaybeUninit` need not be initialised.
    unsafe { place.cast::<MaybeUninit<T>>().as_mut() }.ok_or_else(|| null(name))
}

/// The place for a result that the caller may do without.
///
/// # Safety
///
/// As for [`out`].
pub unsafe fn optional_out<'a, T>(place: *mut T) -> Option<&'a mut MaybeUninit<T>> {
    // SAFETY: the caller promises the same.
    unsafe { out(place, "") }.ok()
}

// Structures that grow

/// A structure that begins with its own size, so that later versions can add fields at its end.
///
/// # Safety
///
/// The type is `repr(C)`, its first field is `size: usize`, and it may consist of zeros.
pub unsafe trait Versioned {
    /// The size in the first version that had the structure: the smallest that a caller may say.
    /// Once a field is added, it is `offset_of!` the first one added.
    const FIRST_SIZE: usize;
}

/// No structure will ever be larger; what is, is no size.
const SIZE_MAX: usize = 4096;

/// Reads what the caller says is the size of its structure.
///
/// # Safety
///
/// A `usize` can be read from `structure`.
unsafe fn size_of_callers<T: Versioned>(structure: *const T, name: &str) -> Result<usize> {
    // SAFETY: the size is the first field, and the caller promises that it can be read.
    let size = unsafe { structure.cast::<usize>().read() };
    if (T::FIRST_SIZE..=SIZE_MAX).contains(&size) {
        return Ok(size);
    }
    Err(Error::invalid(format!(
        "'{name}.size' is {size}: expected sizeof(*{name}), which is at least {}",
        T::FIRST_SIZE
    )))
}

/// The caller's options: those that an older caller does not have are 0; what a newer caller has
/// and this library does not know must be 0. NULL is all 0.
///
/// # Safety
///
/// `structure` is NULL, or as many bytes as its first field says can be read from there.
pub unsafe fn options<T: Versioned>(structure: *const T, name: &str) -> Result<T> {
    let mut options = MaybeUninit::<T>::zeroed();
    if !structure.is_null() {
        // SAFETY: the caller promises what is needed.
        let size = unsafe { size_of_callers(structure, name) }?;
        let (bytes, known) = (structure.cast::<u8>(), size.min(size_of::<T>()));
        // SAFETY: the caller promises `size` readable bytes, of which `known` are a part.
        let beyond = unsafe { std::slice::from_raw_parts(bytes.add(known), size - known) };
        if beyond.iter().any(|&byte| byte != 0) {
            return Err(unsupported(format!(
                "'{name}' has {size} bytes, those from {known} on not all 0: this library knows no such option"
            )));
        }
        // SAFETY: `known` bytes are readable here and fit there.
        unsafe { std::ptr::copy_nonoverlapping(bytes, options.as_mut_ptr().cast(), known) };
    }
    // SAFETY: it is of zeros or a copy of the caller's, both of which the type allows.
    Ok(unsafe { options.assume_init() })
}

/// The caller's place for a structure.
pub struct Slot<T> {
    place: *mut T,
    size: usize,
}

/// The caller's place for a structure, of which it has set the size.
///
/// # Safety
///
/// `place` is NULL, or as many bytes as its first field says can be written there as long as the
/// slot is used.
pub unsafe fn slot<T: Versioned>(place: *mut T, name: &str) -> Result<Slot<T>> {
    // SAFETY: the caller promises the same.
    unsafe { optional_slot(place, name) }?.ok_or_else(|| null(name))
}

/// As [`slot`], but the caller may do without.
///
/// # Safety
///
/// As for [`slot`].
pub unsafe fn optional_slot<T: Versioned>(place: *mut T, name: &str) -> Result<Option<Slot<T>>> {
    if place.is_null() {
        return Ok(None);
    }
    // SAFETY: the caller promises what is needed.
    let size = unsafe { size_of_callers(place, name) }?;
    Ok(Some(Slot { place, size }))
}

impl<T: Versioned> Slot<T> {
    /// Fills in what the caller has fields for; fields that this library does not know become 0.
    /// The size stays the caller's.
    pub fn fill(self, value: T) {
        const SIZE: usize = size_of::<usize>();
        let known = self.size.min(size_of::<T>());
        let (from, to) = ((&raw const value).cast::<u8>(), self.place.cast::<u8>());
        // SAFETY: whoever made the slot promised `size` writable bytes there; the size is not
        // less than `FIRST_SIZE`, nor that than the size of its first field.
        unsafe {
            std::ptr::copy_nonoverlapping(from.add(SIZE), to.add(SIZE), known - SIZE);
            std::ptr::write_bytes(to.add(known), 0, self.size - known);
        }
    }
}

// Handles

/// An opaque type of C, and what is behind it.
pub trait Handle {
    /// What is behind it, which any thread may use and free.
    type Target: Send + Sync;
    /// Marks what is such a handle and not freed.
    const TAG: u64;
}

/// What a handle points to.
#[repr(C)]
struct Tagged<T> {
    tag: u64,
    value: T,
}

/// Makes a handle, which the caller owns.
pub fn give<H: Handle>(value: H::Target) -> *mut H {
    Box::into_raw(Box::new(Tagged { tag: H::TAG, value })).cast()
}

/// What is behind a handle.
///
/// A handle of another type, or one that is freed, is an error where it can be told, which is
/// likely but not sure.
///
/// # Safety
///
/// `handle` is NULL, or comes from [`give`] and is not freed while the result is used.
pub unsafe fn handle<'a, H: Handle>(handle: *const H, name: &str) -> Result<&'a H::Target> {
    // SAFETY: the caller promises the same.
    let tagged = unsafe { tagged(handle, name) }?;
    // SAFETY: the caller promises that it is there, and shares it only.
    Ok(unsafe { &(*tagged).value })
}

/// Frees a handle; does nothing with NULL, and with what is no such handle where it can be told.
///
/// # Safety
///
/// `handle` is NULL, or comes from [`give`], and nobody uses it any more.
pub unsafe fn free<H: Handle>(handle: *mut H) {
    // SAFETY: the caller promises the same.
    if let Ok(tagged) = unsafe { tagged(handle, "") } {
        // SAFETY: it comes from a box, and the caller gives it up. The tag is written as volatile,
        // or the compiler would leave it out: only somebody who breaks the rules reads it again.
        unsafe {
            (&raw mut (*tagged).tag).write_volatile(0);
            drop(Box::from_raw(tagged));
        }
    }
}

/// # Safety
///
/// `handle` is NULL, or comes from [`give`] and is not freed.
unsafe fn tagged<H: Handle>(handle: *const H, name: &str) -> Result<*mut Tagged<H::Target>> {
    let tagged = handle.cast::<Tagged<H::Target>>().cast_mut();
    if tagged.is_null() {
        return Err(null(name));
    }
    // SAFETY: not NULL and aligned, and the caller promises the rest.
    if tagged.is_aligned() && unsafe { (&raw const (*tagged).tag).read_volatile() } == H::TAG {
        return Ok(tagged);
    }
    Err(Error::invalid(format!("'{name}' is not of this type, or freed already")))
}
