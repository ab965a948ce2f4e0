//! State that threads share, in each order in which they can come.
//!
//! The library's own source is compiled here with loom's types in place of the standard library's.

#![allow(dead_code, reason = "not all of it is called here")]

#[path = "../../src/mount/marks.rs"]
mod marks;
#[path = "../../src/mount/state.rs"]
mod state;

mod sync {
    pub use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    pub use loom::sync::{Condvar, Mutex};
    pub use std::sync::PoisonError;
}

mod tree {
    #[derive(Clone, Copy)]
    pub struct Ino(pub usize);

    impl Ino {
        pub fn index(self) -> usize {
            self.0
        }
    }
}

use loom::sync::Arc;
use loom::thread;

use marks::Marks;
use state::State;
use tree::Ino;

/// Marks that share a word are not lost to each other, and of two that set one, one is the first.
#[test]
fn marks() {
    loom::model(|| {
        let marks = Arc::new(Marks::new(3));
        marks.set(Ino(2), true);
        let others = marks.clone();
        let thread = thread::spawn(move || {
            others.set(Ino(0), true);
            let removed = others.set(Ino(2), false);
            assert!(removed);
            others.set(Ino(1), true)
        });
        let was_set = marks.set(Ino(1), true);
        let other_was_set = thread.join().unwrap();
        assert!(was_set != other_was_set);
        assert!(marks.has(Ino(0)) && marks.has(Ino(1)) && !marks.has(Ino(2)));
    });
}

/// Whoever waits for the end of a mount learns of it, whenever it comes, and sees what was done
/// before.
#[test]
fn waiting_for_the_end() {
    loom::model(|| {
        let state = Arc::new(State::default());
        let waiting: Vec<_> = (0..2)
            .map(|_| {
                let state = state.clone();
                thread::spawn(move || {
                    assert!(state.wait(None));
                    assert!(state.unwanted.load(sync::Ordering::Relaxed));
                })
            })
            .collect();
        state.unwanted.store(true, sync::Ordering::Relaxed);
        state.end();
        for thread in waiting {
            thread.join().unwrap();
        }
        assert!(state.wait(None));
    });
}
