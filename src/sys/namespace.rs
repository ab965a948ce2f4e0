//! Mount namespaces.

use rustix::thread::UnshareFlags;

/// Gives the calling thread alone a mount namespace, a root and a working directory of its own.
///
/// For a thread that ends soon: with it, its namespace goes, and all that was mounted only there.
#[allow(unsafe_code)]
pub fn private_mounts() -> rustix::io::Result<()> {
    // SAFETY: only sharing the table of file descriptors (`FILES`) is what others rely on.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS | UnshareFlags::FS) }
}
