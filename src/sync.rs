//! What threads share state by; the tests have it from loom, which tries all orders of what they do
//! (`tests/loom`).

pub use std::sync::atomic::AtomicBool;
pub use std::sync::{Condvar, Mutex, PoisonError};
