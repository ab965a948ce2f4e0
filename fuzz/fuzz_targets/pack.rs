//! A data blob: its seek table, frames and chunk index.
//!
//! The first byte tells whether it is compressed, the next two where it is read.
#![no_main]

use libfuzzer_sys::fuzz_target;
use puzzlefs::pack::{FRAME_MAX, PackReader};

/// How many frames are decompressed: each may have 16 MiB.
const FRAMES_READ: usize = 8;

fuzz_target!(|data: &[u8]| {
    let Some((&[compressed, high, low], blob)) = data.split_first_chunk() else { return };
    let (size, part) = (blob.len() as u64, u64::from(u16::from_be_bytes([high, low])));
    let Ok(pack) = PackReader::open(blob, size, compressed % 2 == 1) else { return };
    check_chunks(&pack);
    match pack.frame_count() {
        Some(frames) => check_frames(&pack, frames, part),
        None => check_raw(&pack, blob, part),
    }
});

fn check_chunks(pack: &PackReader<&[u8]>) {
    let chunks = pack.chunks().expect("the index is within the blob");
    let length = pack.chunks_length().expect("the index is within the blob");
    assert!(length <= pack.content_length());
    if let Some(chunks) = chunks {
        assert_eq!(length, chunks.iter().map(|chunk| u64::from(chunk.length)).sum::<u64>());
    }
}

fn check_raw(pack: &PackReader<&[u8]>, blob: &[u8], part: u64) {
    assert_eq!(pack.content_length(), blob.len() as u64);
    assert_eq!(pack.frame_at(part), None);
    let start = (part as usize).min(blob.len());
    let mut read = vec![0; blob.len() - start];
    pack.read_raw(&mut read, start as u64).expect("it is within the blob");
    assert_eq!(read, &blob[start..]);
}

/// Frames follow each other, and each is just as long as the table says.
fn check_frames(pack: &PackReader<&[u8]>, frames: usize, part: u64) {
    let content = pack.content_length();
    let offset = part.wrapping_mul(content) >> 16;
    assert_eq!(pack.frame_at(offset).is_some(), offset < content);
    let (mut at, mut read) = (0, 0);
    while let Some((frame, start)) = pack.frame_at(at) {
        let length = pack.frame_length(frame);
        assert!(frame < frames && start == at && length > 0 && length <= FRAME_MAX);
        if (at..at + length).contains(&offset) || read < FRAMES_READ {
            read += 1;
            if let Ok(bytes) = pack.read_frame(frame) {
                assert_eq!(bytes.len() as u64, length);
            }
        }
        at += length;
    }
    assert_eq!(at, content);
}
