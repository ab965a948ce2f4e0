//! Data blobs as metadata claims them to be.

use std::collections::BTreeMap;

use super::Severity;
use crate::chunk::Chunk;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::format::{self, Rootfs};
use crate::layout::{BlobId, Layout};
use crate::pack::{FRAME_SIZE, PackReader};

/// What metadata needs of a data blob.
pub(super) struct Part {
    pub digest: Digest,
    compressed: bool,
    /// Where the content that it refers to ends.
    pub end: u64,
}

impl Part {
    /// All of them.
    pub fn all(rootfs: &Rootfs) -> Vec<Self> {
        let part = |blob: &format::Blob| {
            let (digest, compressed) = (blob.digest, blob.compressed);
            Part { digest, compressed, end: 0 }
        };
        let mut parts: Vec<_> = rootfs.blobs.iter().map(part).collect();
        for extent in rootfs.tree.inodes().iter().filter_map(|inode| inode.file()).flatten() {
            let end = &mut parts[extent.blob as usize].end;
            *end = (*end).max(extent.offset + extent.length);
        }
        parts
    }
}

/// The packs that metadata claims, each read once.
#[derive(Default)]
pub(super) struct Packs {
    /// By the blob, and whether it is said to be compressed.
    known: BTreeMap<(BlobId, bool), Pack>,
}

struct Pack {
    /// Of its content; `None` if it is no such pack.
    length: Option<u64>,
    fault: Option<Box<Fault>>,
}

/// What is wrong with a pack.
pub(super) struct Fault {
    pub severity: Severity,
    pub message: String,
    /// The metadata that claims the pack.
    pub claimed_by: Vec<BlobId>,
}

impl Packs {
    /// The length of the content of a pack that the metadata `rootfs` claims; `None` if it is
    /// none.
    pub fn length(
        &mut self,
        layout: &Layout,
        blob: BlobId,
        part: &Part,
        rootfs: BlobId,
    ) -> Option<u64> {
        let Part { digest, compressed, .. } = part;
        let pack = self.known.entry((blob, *compressed));
        let pack = pack.or_insert_with(|| Pack::check(layout, digest, *compressed));
        if let Some(fault) = &mut pack.fault {
            fault.claimed_by.push(rootfs);
        }
        pack.length
    }

    /// What is wrong with any of them.
    pub fn into_faults(self) -> impl Iterator<Item = Fault> {
        self.known.into_values().filter_map(|pack| pack.fault).map(|fault| *fault)
    }
}

impl Pack {
    /// Reads all of a data blob: its frames, and whether its chunk index tells the truth.
    fn check(layout: &Layout, digest: &Digest, compressed: bool) -> Self {
        let mut length = None;
        let mut wrong_chunks = || -> Result<u64> {
            let (file, size) = layout.open_blob(digest)?;
            let pack = PackReader::open(file, size, compressed)?;
            length = Some(pack.content_length());
            wrong_chunks(&pack)
        };
        let (severity, error) = match wrong_chunks() {
            Ok(0) => return Pack { length, fault: None },
            Ok(wrong) => {
                let message = format!("its index is wrong about {wrong} chunks");
                (Severity::Warning, Error::corrupt(message))
            }
            Err(error) => (Severity::Error, error),
        };
        let message = format!("the data blob {digest}: {error}");
        Pack { length, fault: Some(Box::new(Fault { severity, message, claimed_by: Vec::new() })) }
    }
}

/// Reads all frames; tells about how many chunks the index is wrong.
fn wrong_chunks(pack: &PackReader<std::fs::File>) -> Result<u64> {
    let chunks = pack.chunks()?.unwrap_or_default();
    let mut claims = Claims { chunks: chunks.iter(), buffer: Vec::new(), wrong: 0 };
    if let Some(frames) = pack.frame_count() {
        for frame in 0..frames {
            claims.content(&pack.read_frame(frame)?);
        }
    } else if !chunks.is_empty() {
        let length: u64 = chunks.iter().map(|chunk| u64::from(chunk.length)).sum();
        let mut window = vec![0; FRAME_SIZE];
        for offset in (0..length).step_by(FRAME_SIZE) {
            let part = &mut window[..FRAME_SIZE.min((length - offset) as usize)];
            pack.read_raw(part, offset)?;
            claims.content(part);
        }
    }
    Ok(claims.wrong)
}

/// The chunks that an index claims, compared with the content as it comes.
struct Claims<'a> {
    chunks: std::slice::Iter<'a, Chunk>,
    buffer: Vec<u8>,
    wrong: u64,
}

impl Claims<'_> {
    fn content(&mut self, bytes: &[u8]) {
        if self.chunks.as_slice().is_empty() {
            return;
        }
        self.buffer.extend_from_slice(bytes);
        let mut start = 0;
        while let Some(chunk) = self.chunks.as_slice().first()
            && start + chunk.length as usize <= self.buffer.len()
        {
            let end = start + chunk.length as usize;
            self.wrong += u64::from(Digest::of(&self.buffer[start..end]) != chunk.digest);
            start = end;
            self.chunks.next();
        }
        self.buffer.drain(..start);
    }
}
