//! What the integration tests share.
//!
//! Nothing here calls the library: a tree is made, read and compared by system
//! calls alone, an image is judged by its JSON and its bytes. So a mistake of
//! the library cannot hide in the test of it.
//!
//! The tests run as root.

#![allow(dead_code, reason = "each test program uses its part")]

pub mod command;
pub mod layout;
pub mod mount;
pub mod overlay;
pub mod process;
pub mod registry;
pub mod snapshot;
pub mod tree;
pub mod verity;

use rustix::fs::Mode;
use std::os::unix::fs::PermissionsExt;
use tempfile::TempDir;

/// A fresh directory that goes with the value. Other users may look into it:
/// some tests start programs as an ordinary user. What is made there has the
/// same modes whatever the umask of the caller is.
pub fn temp_dir() -> TempDir {
    rustix::process::umask(Mode::from_raw_mode(0o022));
    tempfile::Builder::new()
        .prefix("puzzlefs-test-")
        .permissions(std::fs::Permissions::from_mode(0o755))
        .tempdir()
        .expect("cannot make a temporary directory")
}
