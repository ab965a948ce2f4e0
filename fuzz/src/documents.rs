//! An OCI layout as one file, in which nothing need be right but the digests.
//!
//! The documents are separated by [`SEPARATOR`]; the first is `index.json`, the others are blobs.
//! A document refers to a later one by its number, a digit or a letter: in one that begins with
//! `{`, `@N` stands for the digest in hex and `#N` for the length; in any other, the 32 bytes of
//! [`DIGEST_OF`] and `N` for the digest.

use std::fs;
use std::path::Path;

use puzzlefs::digest::Digest;

/// What is between two documents.
pub const SEPARATOR: &[u8] = b"\n%%\n";
/// What stands, with a number behind it, for a digest in bytes.
pub const DIGEST_OF: &[u8; 31] = b"the SHA-256 of document number ";

const NUMBERS: &[u8] = b"0123456789abcdefghijklmnopqrstuvwxyz";

/// Writes the layout to the directory `layout`, which is made; gives the digests of its blobs.
pub fn write(data: &[u8], layout: &Path) -> Vec<Digest> {
    let blobs = layout.join("blobs/sha256");
    fs::create_dir_all(&blobs).expect("make the layout");
    let version = r#"{"imageLayoutVersion":"1.0.0"}"#;
    fs::write(layout.join("oci-layout"), version).expect("write oci-layout");

    let documents: Vec<&[u8]> = split(data).take(NUMBERS.len()).collect();
    let mut known: Vec<Option<(Digest, usize)>> = vec![None; documents.len()];
    for (number, document) in documents.iter().enumerate().skip(1).rev() {
        let bytes = resolve(document, &known);
        let digest = Digest::of(&bytes);
        known[number] = Some((digest, bytes.len()));
        fs::write(blobs.join(digest.hex()), bytes).expect("write a blob");
    }
    fs::write(layout.join("index.json"), resolve(documents[0], &known)).expect("write the index");
    known.into_iter().flatten().map(|(digest, _)| digest).collect()
}

fn split(mut data: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut ended = false;
    std::iter::from_fn(move || {
        if ended {
            return None;
        }
        // Comparisons are costly here: each is watched.
        let mut places = data.windows(SEPARATOR.len());
        let at = places.position(|window| window[1] == b'%' && window == SEPARATOR);
        let document = &data[..at.unwrap_or(data.len())];
        ended = at.is_none();
        data = at.map_or(&[], |at| &data[at + SEPARATOR.len()..]);
        Some(document)
    })
}

fn resolve(document: &[u8], known: &[Option<(Digest, usize)>]) -> Vec<u8> {
    let of = |number: &u8| {
        let number = NUMBERS.iter().position(|known| known == number)?;
        *known.get(number)?
    };
    let text = document.first() == Some(&b'{');
    let mut resolved = Vec::with_capacity(document.len());
    let mut rest = document;
    while let Some((&first, behind)) = rest.split_first() {
        let mark = match first {
            b'@' | b'#' if text => 1,
            b't' if !text && rest.starts_with(DIGEST_OF) => DIGEST_OF.len(),
            _ => 0,
        };
        match rest.get(mark).filter(|_| mark > 0).and_then(of) {
            Some((digest, length)) => {
                match first {
                    b'@' => resolved.extend(digest.hex().bytes()),
                    b'#' => resolved.extend(length.to_string().bytes()),
                    _ => resolved.extend(digest.0),
                }
                rest = &rest[mark + 1..];
            }
            None => {
                resolved.push(first);
                rest = behind;
            }
        }
    }
    resolved
}
