//! Which documents need a blob.

use crate::layout::{BlobId, DocumentId, Documents, Marks};

/// The documents that each blob is, and those that refer to it.
#[derive(Default)]
pub(super) struct Holders {
    all: Vec<DocumentId>,
    /// Where those of each blob end; those of the next blob begin there.
    ends: Vec<usize>,
}

impl Holders {
    /// Finds them, once all documents have been read.
    pub fn of(documents: &Documents<'_>) -> Self {
        let mut ends = vec![0; documents.digests().len() + 1];
        each_held(documents, |_, blob| ends[blob + 1] += 1);
        let mut sum = 0;
        for end in &mut ends {
            sum += *end;
            *end = sum;
        }
        let mut all = vec![0; sum];
        each_held(documents, |id, blob| {
            all[ends[blob]] = id;
            ends[blob] += 1;
        });
        Holders { all, ends }
    }

    /// Those of this blob.
    pub fn get(&self, blob: BlobId) -> &[DocumentId] {
        let start = blob.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.all[start..self.ends[blob]]
    }
}

/// Visits each document with each blob that it is or refers to, once.
fn each_held(documents: &Documents<'_>, mut visit: impl FnMut(DocumentId, BlobId)) {
    let mut seen = Marks::default();
    for (id, document) in (0..).zip(documents.all()) {
        seen.clear();
        document.blobs().filter(|&blob| seen.mark(blob)).for_each(|blob| visit(id, blob));
    }
}
