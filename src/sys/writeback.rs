//! Asking the kernel to write a file's pages out soon.

use std::fs::File;
use std::os::fd::AsRawFd;

/// Begins to write the file's dirty pages to the disk, without waiting: a later sync then finds
/// little left to do. It is only a hint, so nothing is told when it fails.
#[allow(unsafe_code)]
pub fn begin(file: &File) {
    // SAFETY: the call takes a descriptor, which `file` keeps open, and numbers; no memory.
    unsafe {
        libc::sync_file_range(file.as_raw_fd(), 0, 0, libc::SYNC_FILE_RANGE_WRITE);
    }
}
