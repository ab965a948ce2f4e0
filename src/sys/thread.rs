//! The threads of this library.

use std::thread::{Builder, JoinHandle, Scope, ScopedJoinHandle};

use crate::error::{Error, Result};

/// Their name, which tools show.
const NAME: &str = "puzzlefs";

/// How many threads do a piece of work: as many as were asked for, else as there are cores, up to
/// a number from which on the disk is the limit.
pub fn threads(asked: Option<usize>) -> Result<usize> {
    const MAX: usize = 256;
    const DEFAULT_MAX: usize = 16;
    match asked {
        None => Ok(std::thread::available_parallelism().map_or(1, |n| n.get().min(DEFAULT_MAX))),
        Some(threads @ 1..=MAX) => Ok(threads),
        Some(threads) => Err(Error::invalid(format!("{threads} threads: expected 1 to {MAX}"))),
    }
}

/// Starts a thread that ends within `scope`.
///
/// Fails if the system has none to give, as where a container may have only so many.
pub fn spawn<'scope, 'env, T: Send + 'scope>(
    scope: &'scope Scope<'scope, 'env>,
    work: impl FnOnce() -> T + Send + 'scope,
) -> Result<ScopedJoinHandle<'scope, T>> {
    let thread = Builder::new().name(NAME.to_owned()).spawn_scoped(scope, work);
    thread.map_err(|error| Error::system("start a thread", error))
}

/// Starts a thread that may outlive whoever starts it.
pub fn start(work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    let thread = Builder::new().name(NAME.to_owned()).spawn(work);
    thread.map_err(|error| Error::system("start a thread", error))
}

/// Whether this thread is one of the library's.
pub fn is_ours() -> bool {
    const FUSER: &str = "fuser-";
    let thread = std::thread::current();
    thread.name().is_some_and(|name| name == NAME || name.starts_with(FUSER))
}
