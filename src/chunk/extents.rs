//! From the chunks of a stream back to files: what stands where in which pack.

use std::collections::VecDeque;

use super::Segment;
use crate::tree::Ino;

/// A run of a file's bytes that stand one after the other in a data blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Which blob, by its position in the list of blobs that goes with the tree.
    pub blob: u32,
    /// Where in the blob's uncompressed bytes.
    pub offset: u64,
    /// Bytes.
    pub length: u64,
}

/// The blob of zeros, and how many it holds: what a hole's extents refer to.
#[derive(Debug, Clone, Copy)]
pub struct Zeros {
    /// Which blob.
    pub blob: u32,
    /// Bytes.
    pub length: u64,
}

/// Takes segments and stored chunks in the order of the stream, and gives each file its extents.
#[derive(Debug, Default)]
pub struct ExtentMapper {
    pending: VecDeque<Segment>,
}

impl ExtentMapper {
    /// The next segment of the stream.
    pub fn segment(&mut self, segment: Segment) {
        self.pending.push_back(segment);
    }

    /// The next chunk of the stream stands at `extent`; `give` gets each file's next extent.
    pub fn chunk(&mut self, mut extent: Extent, zeros: Zeros, give: &mut dyn FnMut(Ino, Extent)) {
        while extent.length > 0 {
            self.holes(zeros, give);
            let Some(Segment::Data { ino, length }) = self.pending.front_mut() else {
                unreachable!("a stream's chunks are as long as its data");
            };
            let taken = extent.length.min(*length);
            give(*ino, Extent { length: taken, ..extent });
            extent.offset += taken;
            extent.length -= taken;
            *length -= taken;
            if *length == 0 {
                self.pending.pop_front();
            }
        }
    }

    /// The stream is at its end: only holes can be left.
    pub fn finish(&mut self, zeros: Zeros, give: &mut dyn FnMut(Ino, Extent)) {
        self.holes(zeros, give);
        assert!(self.pending.is_empty(), "a stream's chunks are as long as its data");
    }

    fn holes(&mut self, zeros: Zeros, give: &mut dyn FnMut(Ino, Extent)) {
        while let Some(&Segment::Hole { ino, length: mut rest }) = self.pending.front() {
            while rest > 0 {
                let taken = rest.min(zeros.length);
                give(ino, Extent { blob: zeros.blob, offset: 0, length: taken });
                rest -= taken;
            }
            self.pending.pop_front();
        }
    }
}

/// Adds an extent to a file's; one that goes on where the last ends makes that one longer.
pub fn append(extents: &mut Vec<Extent>, extent: Extent) {
    match extents.last_mut() {
        Some(last) if last.blob == extent.blob && last.offset + last.length == extent.offset => {
            last.length += extent.length;
        }
        _ => extents.push(extent),
    }
}
