//! A small image that is right.

use crate::forge::{Blob, FRAME, Image, dir, file, symlink};

// The inodes of the sample:
//   /    d/r, f, l → f
pub const ROOT: u64 = 1;
pub const D: u64 = 2;
pub const F: u64 = 3;
pub const L: u64 = 4;
pub const R: u64 = 5;

/// The blobs of the sample: of `f`, in three frames, and of `r`, stored as it is.
pub const ZSTD: usize = 0;
pub const RAW: usize = 1;

/// What `f` holds: some frames, the last of them not full.
pub fn content_of_f() -> Vec<u8> {
    let numbers = (0..).flat_map(|i: u32| i.to_le_bytes());
    numbers.take(2 * FRAME + FRAME / 2).collect()
}

pub const CONTENT_OF_R: &[u8] = b"stored as it is\n";

pub fn sample() -> Image {
    let content = content_of_f();
    let zstd = Blob::zstd(&content);
    let raw = Blob::raw(CONTENT_OF_R);
    let inodes = vec![
        dir(ROOT, &[("d", D), ("f", F), ("l", L)]),
        dir(D, &[("r", R)]),
        file(F, &[zstd.extent(0, content.len() as u64)]),
        symlink(L, "f"),
        file(R, &[raw.extent(0, CONTENT_OF_R.len() as u64)]),
    ];
    Image::new(inodes, vec![zstd, raw])
}
