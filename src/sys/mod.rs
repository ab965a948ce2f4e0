//! The system calls that the standard library does not have, as safe functions.

pub mod allocator;
pub mod dirs;
pub mod lock;
pub mod namespace;
pub mod remove;
pub mod thread;
pub mod verity;
pub mod writeback;
pub mod xattr;
