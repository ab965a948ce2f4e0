//! The system calls that the standard library does not have, as safe functions.

pub mod dirs;
pub mod thread;
pub mod xattr;
