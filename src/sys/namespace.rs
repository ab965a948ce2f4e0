//! Namespaces: of mounts, of users.

use rustix::thread::UnshareFlags;

use crate::error::{Error, Result};

/// Whether this process is in another user namespace than the system's first. Its root has not all
/// privileges.
pub fn in_user_namespace() -> Result<bool> {
    const MAP: &str = "/proc/self/uid_map";
    let map = std::fs::read_to_string(MAP).map_err(|error| Error::io("read", MAP, error))?;
    Ok(map.split_ascii_whitespace().ne(["0", "0", "4294967295"]))
}

/// Gives the calling thread alone a mount namespace, a root and a working directory of its own.
///
/// For a thread that ends soon: with it, its namespace goes, and all that was mounted only there.
#[allow(unsafe_code)]
pub fn private_mounts() -> rustix::io::Result<()> {
    // SAFETY: only sharing the table of file descriptors (`FILES`) is what others rely on.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS | UnshareFlags::FS) }
}
