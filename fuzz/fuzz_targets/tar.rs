//! Tar archives, one laid on the other. Their headers' checksums are made right: few would be.
#![no_main]

use std::path::Path;

use fuzz::sandbox;
use libfuzzer_sys::fuzz_target;
use puzzlefs::source::{Content, Source};
use puzzlefs::tree::Ino;

const BLOCK: usize = 512;
/// How much is read of a file, which may be sparse and of any size.
const READ_MAX: u64 = 1 << 20;

fuzz_target!(init: sandbox::enter(), |data: &[u8]| {
    let mut archives = data.to_vec();
    correct_checksums(&mut archives);
    // What is wrong with archives is their error; what is left are trees that can be read.
    let _ = puzzlefs::fuzz::lay_archives(&archives, Path::new(sandbox::ROOT), read_all);
});

/// Any block might be a header.
fn correct_checksums(archives: &mut [u8]) {
    const CHECKSUM: std::ops::Range<usize> = 148..156;
    for block in archives.chunks_exact_mut(BLOCK) {
        // Only those with digits there are meant to be one.
        if !block[CHECKSUM][..6].iter().all(u8::is_ascii_digit) {
            continue;
        }
        block[CHECKSUM].fill(b' ');
        let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
        block[CHECKSUM].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
}

/// Reads each file twice: as it comes, and only where it is said to have data.
fn read_all(source: &dyn Source) {
    let mut opener = source.opener().expect("the files can be opened");
    for (ino, inode) in source.tree().iter() {
        let Some(Content::New(size)) = inode.file() else { continue };
        let size = (*size).min(READ_MAX);
        let mut read = vec![0xff; size as usize];
        let mut contents = opener.open(ino).expect("a file can be opened");
        contents.read_exact_at(&mut read, 0).expect("a file can be read");
        drop(contents);

        let mut found = vec![0; size as usize];
        let mut contents = opener.open(ino).expect("a file can be opened");
        let mut at = 0;
        while at < size {
            at = contents.data_from(at).expect("data can be found").min(size);
            let end = (at + BLOCK as u64).min(size);
            let part = &mut found[at as usize..end as usize];
            contents.read_exact_at(part, at).expect("a file can be read");
            at = end;
        }
        contents.finish().expect("a file is what it was");
        assert!(read == found, "file {} has data where it has none", ino.get());
    }
    assert!(source.tree().inode(Ino::ROOT).entries().is_some());
}
