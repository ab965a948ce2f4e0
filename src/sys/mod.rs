//! The system calls that the standard library does not have, as safe functions.

pub mod dirs;
pub mod remove;
pub mod thread;
pub mod writeback;
pub mod xattr;
