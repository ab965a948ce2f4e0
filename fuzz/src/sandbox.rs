//! A file system in memory that nobody but a target sees, and that goes with it.

use std::fs;
use std::path::Path;

use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::thread::UnshareFlags;

/// Where it is mounted: always the same, so that what links to it links to it on every machine.
pub const ROOT: &str = "/dev/shm";

/// Mounts it. Whatever is mounted from now on is seen by this process alone.
pub fn enter() {
    // SAFETY: the table of descriptors stays shared.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS | UnshareFlags::FS) }
        .expect("a namespace of mounts: run it as root");
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private).expect("make all mounts private");
    mount("tmpfs", ROOT, "tmpfs", MountFlags::empty(), c"size=1g").expect("mount a tmpfs");
    // Modes are those that are asked for.
    rustix::process::umask(rustix::fs::Mode::empty());
}

/// Removes what there is of these names.
pub fn remove(names: &[&str]) {
    for path in names.iter().map(Path::new) {
        match fs::symlink_metadata(path) {
            Err(_) => {}
            Ok(found) if found.is_dir() => fs::remove_dir_all(path).expect("remove a directory"),
            Ok(_) => fs::remove_file(path).expect("remove a file"),
        }
    }
}
