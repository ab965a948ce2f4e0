//! Packs: the data blobs, each of many chunks.
//!
//! ```text
//! compressed:  frame…  chunk index  seek table     (the Zstandard Seekable Format)
//! raw:         content              chunk index
//! ```
//!
//! A *frame* is the unit of compression and of reading: 256 KiB of the pack's content, whatever
//! chunks that is. The *chunk index* tells the chunks' digests and lengths in a skippable frame;
//! it is its writer's claim, and nobody believes it unread. A pack that compression would not
//! make smaller is raw.

mod index;
mod read;
mod size;
mod write;
pub mod zeros;

pub use read::{FRAME_MAX, PackReader, Readable};
pub use size::PackSize;
pub use write::{Compression, Compressor, Frame, PackWriter, SealedPack};

/// Bytes of a pack's content in one frame; the last frame of a pack may be shorter.
pub const FRAME_SIZE: usize = 256 * 1024;
