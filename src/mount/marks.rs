//! A mark for each inode.

use crate::sync::{AtomicU64, Ordering};
use crate::tree::Ino;

/// One bit an inode, which any thread may change.
pub struct Marks(Box<[AtomicU64]>);

impl Marks {
    /// No inode of `count` has the mark.
    pub fn new(count: usize) -> Self {
        Marks((0..count.div_ceil(64)).map(|_| AtomicU64::new(0)).collect())
    }

    /// Sets the mark, or takes it away; tells whether it was set.
    pub fn set(&self, ino: Ino, set: bool) -> bool {
        let (word, bit) = self.place(ino);
        // Most often nothing changes, and others may then keep the word in their caches.
        if (word.load(Ordering::Relaxed) & bit != 0) == set {
            return set;
        }
        let before = match set {
            true => word.fetch_or(bit, Ordering::Relaxed),
            false => word.fetch_and(!bit, Ordering::Relaxed),
        };
        before & bit != 0
    }

    /// Whether the mark is set.
    pub fn has(&self, ino: Ino) -> bool {
        let (word, bit) = self.place(ino);
        word.load(Ordering::Relaxed) & bit != 0
    }

    fn place(&self, ino: Ino) -> (&AtomicU64, u64) {
        (&self.0[ino.index() / 64], 1 << (ino.index() % 64))
    }
}
