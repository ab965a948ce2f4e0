//! Builds, reads and extracts puzzlefs container images.
//!
//! puzzlefs keeps all metadata of a file system in one Cap'n Proto blob and its file data in
//! chunks that images share; the whole is an ordinary OCI image. `doc/format.md` says how.
//!
//! ```no_run
//! use std::path::Path;
//! use puzzlefs::build::{BuildOptions, build};
//! use puzzlefs::extract::{ExtractOptions, extract};
//! use puzzlefs::image::{Image, OpenOptions};
//! use puzzlefs::layout::Reference;
//! use puzzlefs::progress::Monitor;
//!
//! # fn main() -> puzzlefs::Result<()> {
//! let reference = Reference::parse(Path::new("images:v1"))?;
//! let built = build(Path::new("rootfs"), &reference, &BuildOptions::default(), &Monitor::silent())?;
//! println!("{}", built.descriptor.digest);
//!
//! let image = Image::open(&reference, &OpenOptions::default())?;
//! let ino = image.resolve(Path::new("/etc/os-release"))?;
//! let mut start = [0; 512];
//! let length = image.read_at(ino, &mut start, 0)?;
//! println!("{}", start[..length].escape_ascii());
//! extract(&image, Path::new("somewhere"), &ExtractOptions::default(), &Monitor::silent())?;
//! # Ok(())
//! # }
//! ```
//!
//! Data goes one way: [`source`] → [`tree`] → [`chunk`] → [`pack`] → [`layout`], put together by
//! [`mod@build`]; and back, from a layout to an open [`image`], which is read, or written out by
//! [`mod@extract`]. [`format`](mod@format) is the metadata between the two.
//!
//! [`diff`] compares two images, [`graph`] shows what many share. A layout's tags, and what nothing
//! refers to any more, are in [`layout`]; [`config`] changes what an image says of how it is run.
//!
//! Whatever is read from a layout is checked as it may come from anywhere. Errors have a
//! [kind](ErrorKind) to decide by and one line to be shown.
#![deny(unsafe_code)]
#![warn(missing_docs)]

pub mod build;
mod capi;
pub mod chunk;
pub mod config;
pub mod diff;
pub mod digest;
pub mod error;
pub mod export;
pub mod extract;
mod fault;
pub mod format;
pub mod fsck;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzz;
pub mod graph;
pub mod image;
pub mod inspect;
pub mod layout;
pub mod mount;
pub mod pack;
pub mod progress;
pub mod source;
mod sync;
mod sys;
pub mod tree;

/// The example of README.md is compiled as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

// The generated code refers to itself by this path.
use format::metadata_capnp;

pub use error::{Error, ErrorKind, Result};
pub use sys::allocator::Allocator;
