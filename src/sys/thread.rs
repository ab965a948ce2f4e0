//! The threads of this library.

use std::thread::{Builder, Scope, ScopedJoinHandle};

use crate::error::{Error, Result};

/// Their name, which tools show.
const NAME: &str = "puzzlefs";

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

/// Whether this thread is one of the library's.
pub fn is_ours() -> bool {
    std::thread::current().name() == Some(NAME)
}
