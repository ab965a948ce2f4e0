//! Which images are hurt by what is wrong with a blob.

use std::collections::HashMap;
use std::sync::Arc;

use super::Tags;
use crate::error::{Error, ErrorKind, Result};
use crate::layout::{DocumentId, Documents, Marks};

/// What the images are called, and the lists of them that findings have. Blobs that the same
/// documents refer to hurt the same images, and share a list.
pub(super) struct Labels {
    /// Each once, in their order.
    labels: Vec<Arc<str>>,
    of_document: HashMap<DocumentId, Vec<usize>>,
    known: HashMap<Box<[DocumentId]>, Tags>,
    seen: Marks,
    left: usize,
}

impl Labels {
    /// How many images all lists may name, and documents that are passed on the way to them, in
    /// all. The lists of three thousand deltas that all have lost all of their data have room.
    const STEPS_MAX: usize = 1 << 24;

    /// Labels, and the documents that they name.
    pub fn new(named: &[(Arc<str>, DocumentId)]) -> Self {
        let mut labels: Vec<_> = named.iter().map(|(label, _)| label.clone()).collect();
        labels.sort();
        labels.dedup();
        let mut of_document: HashMap<_, Vec<usize>> = HashMap::new();
        for (label, document) in named {
            let number = labels.binary_search(label).expect("it is one of them");
            of_document.entry(*document).or_default().push(number);
        }
        let (known, seen) = Default::default();
        Labels { labels, of_document, known, seen, left: Self::STEPS_MAX }
    }

    /// What the images are called from which a way leads to one of these documents.
    ///
    /// Fails if all lists together become too long.
    pub fn above(&mut self, documents: &Documents<'_>, from: &[DocumentId]) -> Result<Tags> {
        if let Some(known) = self.known.get(from) {
            return Ok(known.clone());
        }
        let mut found: Vec<usize> = Vec::new();
        let steps = documents.climb(from.iter().copied(), &mut self.seen, |document| {
            found.extend(self.of_document.get(&document).into_iter().flatten());
        });
        self.left = self.left.checked_sub(steps + found.len()).ok_or_else(too_many)?;
        found.sort_unstable();
        found.dedup();
        let tags: Tags = found.into_iter().map(|number| self.labels[number].clone()).collect();
        self.known.insert(from.into(), tags.clone());
        Ok(tags)
    }
}

fn too_many() -> Error {
    let message = "so much is wrong that it cannot be told which images all of it hurts";
    Error::new(ErrorKind::Unsupported, message).advice("an image can be checked by its name")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;
    use crate::layout::{Descriptor, Layout, media_type};
    use crate::progress::Monitor;

    #[test]
    fn lists_are_shared_and_do_not_grow_without_end() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::open_or_create(dir.path(), &Monitor::silent()).unwrap();
        let mut documents = Documents::new(&layout);
        let mut add = |size| {
            let media_type = media_type::MANIFEST.into();
            documents.add(&Descriptor { media_type, digest: Digest::of(b""), size }).document
        };
        let (one, other) = (add(1), add(2));
        let named = [("b", one), ("a", one), ("c", other), ("a", other), ("a", one)];
        let named = named.map(|(label, document)| (label.into(), document));
        let mut labels = Labels::new(&named);
        let rows: [(&[DocumentId], &[&str]); 4] = [
            (&[], &[]),
            (&[one], &["a", "b"]),
            (&[other], &["a", "c"]),
            (&[one, other], &["a", "b", "c"]),
        ];
        for (from, expected) in rows {
            let found = labels.above(&documents, from).unwrap();
            let texts: Vec<_> = found.iter().map(|label| &**label).collect();
            assert_eq!(texts, expected);
            labels.left = 0;
            let again = labels.above(&documents, from).unwrap();
            assert!(Arc::ptr_eq(&found, &again));
            labels.left = 100;
        }
        labels.left = 3;
        let error = labels.above(&documents, &[other, one]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
    }
}
