//! Metadata that is a well-formed message of inodes that make no sense.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/forge/mod.rs"]
#[allow(dead_code)]
mod forge;
#[path = "../../src/format/metadata_capnp.rs"]
#[rustfmt::skip]
#[allow(clippy::all, dead_code)]
mod metadata_capnp;

use forge::{Image, Inode, Mode};

fuzz_target!(|layers: Vec<Vec<Inode>>| {
    let mut image = Image::new(Vec::new(), Vec::new());
    image.metadatas = layers.into_iter().map(numbered).collect();
    fuzz::metadata::check(&image.encode());
});

/// The inodes with small numbers, in order, so that most entries name one that is there.
fn numbered(mut inodes: Vec<Inode>) -> Vec<Inode> {
    inodes.truncate(64);
    for inode in &mut inodes {
        inode.ino %= 64;
        if let Mode::Dir { entries, .. } = &mut inode.mode {
            entries.iter_mut().for_each(|(_, ino)| *ino %= 64);
        }
    }
    inodes.sort_by_key(|inode| inode.ino);
    inodes
}
