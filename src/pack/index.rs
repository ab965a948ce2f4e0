//! The chunk index of a pack.
//!
//! A skippable frame of Zstandard (RFC 8878, section 3.1.2), whose content is, for each chunk in
//! the order of the pack, its length (4 bytes, little-endian) and its SHA-256 (32 bytes); then
//! the number of chunks (4 bytes, little-endian) and `pzci`. It is read from its end.

use crate::chunk::{CHUNK_MAX, Chunk};
use crate::digest::Digest;

/// The magic number of the skippable frame; a seek table's is 0x184D2A5E.
const FRAME_MAGIC: u32 = 0x184D_2A5C;
const MAGIC: &[u8; 4] = b"pzci";
const HEADER: usize = 8;
const ENTRY: usize = 36;
/// The length of what ends the frame: the number of chunks and the magic.
pub const FOOTER: usize = 8;

/// The whole frame.
pub fn encode(chunks: &[Chunk]) -> Vec<u8> {
    let content = chunks.len() * ENTRY + FOOTER;
    let mut frame = Vec::with_capacity(HEADER + content);
    frame.extend(FRAME_MAGIC.to_le_bytes());
    frame.extend((content as u32).to_le_bytes());
    for chunk in chunks {
        frame.extend(chunk.length.to_le_bytes());
        frame.extend(chunk.digest.0);
    }
    frame.extend((chunks.len() as u32).to_le_bytes());
    frame.extend(MAGIC);
    frame
}

/// The length of the frame that ends with `footer`; `None` if no chunk index does.
pub fn frame_length(footer: &[u8; FOOTER]) -> Option<u64> {
    let (count, magic) = footer.split_at(4);
    let count = u32::from_le_bytes(count.try_into().ok()?);
    (magic == MAGIC).then(|| HEADER as u64 + u64::from(count) * ENTRY as u64 + FOOTER as u64)
}

/// The chunks of a whole frame; `None` if it is not well-formed.
pub fn decode(frame: &[u8]) -> Option<Vec<Chunk>> {
    let (header, rest) = frame.split_first_chunk::<HEADER>()?;
    let (entries, footer) = rest.split_last_chunk::<FOOTER>()?;
    let expected = [FRAME_MAGIC.to_le_bytes(), (rest.len() as u32).to_le_bytes()].concat();
    if header[..] != expected || frame_length(footer)? != frame.len() as u64 {
        return None;
    }
    let decode_entry = |entry: &[u8]| {
        let (length, digest) = entry.split_first_chunk::<4>()?;
        let length = u32::from_le_bytes(*length);
        let sane = (1..=CHUNK_MAX as u32).contains(&length);
        sane.then_some(Chunk { length, digest: Digest(digest.try_into().ok()?) })
    };
    entries.chunks(ENTRY).map(decode_entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_decoded() {
        let chunk = |length| Chunk { length, digest: Digest::of(&length.to_le_bytes()) };
        for chunks in [vec![], vec![chunk(1)], vec![chunk(65536), chunk(3)]] {
            let frame = encode(&chunks);
            let footer = frame.last_chunk().unwrap();
            assert_eq!(frame_length(footer), Some(frame.len() as u64));
            assert_eq!(decode(&frame), Some(chunks));
            for cut in 0..frame.len() {
                assert_eq!(decode(&frame[..cut]), None, "cut to {cut}");
            }
        }
        assert_eq!(decode(&encode(&[chunk(0)])), None);
        assert_eq!(decode(&encode(&[chunk(65537)])), None);
    }
}
