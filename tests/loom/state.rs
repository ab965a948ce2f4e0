//! State that threads share, in each order in which they can come.
//!
//! The library's own source is compiled here with loom's types in place of the standard library's.

#![allow(dead_code, reason = "not all of it is called here")]

#[path = "../../src/mount/state.rs"]
mod state;

mod sync {
    pub use loom::sync::atomic::{AtomicBool, Ordering};
    pub use loom::sync::{Condvar, Mutex};
    pub use std::sync::PoisonError;
}

use loom::sync::Arc;
use loom::thread;

use state::State;

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
