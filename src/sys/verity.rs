//! fs-verity: the kernel's digest of a file that it keeps from being changed.
#![allow(unsafe_code)]

use std::ffi::c_ulong;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// `FS_VERITY_HASH_ALG_SHA256`.
const SHA256: u16 = 1;
const DIGEST: usize = 32;

/// `struct fsverity_digest` of Linux with room for the digest.
#[repr(C)]
struct Measured {
    algorithm: u16,
    size: u16,
    digest: [u8; DIGEST],
}

/// `struct fsverity_enable_arg`.
#[repr(C)]
#[derive(Default)]
struct Enable {
    version: u32,
    hash_algorithm: u32,
    block_size: u32,
    salt_size: u32,
    salt: u64,
    signature_size: u32,
    reserved1: u32,
    signature: u64,
    reserved2: [u64; 11],
}

/// The digest that the kernel has of the file; `None` if it has none.
pub fn measure(file: &File) -> io::Result<Option<[u8; DIGEST]>> {
    // Its size is that of the header alone.
    const MEASURE: c_ulong = rustix::ioctl::opcode::read_write::<[u16; 2]>(b'f', 134) as c_ulong;
    let mut measured = Measured { algorithm: 0, size: DIGEST as u16, digest: [0; DIGEST] };
    // SAFETY: the kernel writes no more than the structure has room for, as its size says.
    match unsafe { libc::ioctl(file.as_raw_fd(), MEASURE as _, &raw mut measured) } {
        0 if measured.algorithm == SHA256 => Ok(Some(measured.digest)),
        // Of another kind than the image lists.
        0 => Ok(None),
        _ => match io::Error::last_os_error() {
            error if is_unknown(&error) => Ok(None),
            error => match error.raw_os_error() {
                Some(libc::ENODATA | libc::EOVERFLOW) => Ok(None),
                _ => Err(error),
            },
        },
    }
}

/// Has the kernel protect the file, which nobody may have open for writing. Nothing to do where it
/// does already.
pub fn enable(file: &File) -> io::Result<()> {
    const ENABLE: c_ulong = rustix::ioctl::opcode::write::<Enable>(b'f', 133) as c_ulong;
    let enable =
        Enable { version: 1, hash_algorithm: SHA256.into(), block_size: 4096, ..Enable::default() };
    // SAFETY: the kernel reads the structure, which refers to no other memory.
    match unsafe { libc::ioctl(file.as_raw_fd(), ENABLE as _, &raw const enable) } {
        0 => Ok(()),
        _ => match io::Error::last_os_error() {
            error if error.raw_os_error() == Some(libc::EEXIST) => Ok(()),
            error => Err(error),
        },
    }
}

/// Whether the error says that the file system knows nothing of it.
pub fn is_unknown(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOTTY | libc::EOPNOTSUPP | libc::ENOSYS))
}
