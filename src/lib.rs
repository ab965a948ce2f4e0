//! libpuzzlefs builds, reads and extracts puzzlefs container images.
#![deny(unsafe_code)]
#![warn(missing_docs)]

pub mod build;
mod capi;
pub mod chunk;
pub mod digest;
pub mod error;
pub mod extract;
pub mod format;
pub mod fsck;
pub mod image;
pub mod inspect;
pub mod layout;
pub mod pack;
pub mod progress;
pub mod source;
mod sys;
pub mod tree;

// The generated code refers to itself by this path.
use format::metadata_capnp;

pub use error::{Error, ErrorKind, Result};
