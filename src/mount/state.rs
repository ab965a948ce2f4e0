//! Whether a mount is over.

use std::time::{Duration, Instant};

use crate::sync::{AtomicBool, Condvar, Mutex, PoisonError};

/// What the threads of a mount and who asked for it share.
#[derive(Default)]
pub struct State {
    over: Mutex<bool>,
    changed: Condvar,
    /// Who asked for the mount wants it no more.
    pub unwanted: AtomicBool,
}

impl State {
    /// It is over, of which all learn that wait.
    pub fn end(&self) {
        *self.over.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }

    /// Waits until it is over, at most for `timeout`; tells whether it is.
    pub fn wait(&self, timeout: Option<Duration>) -> bool {
        // A time that no clock reaches is as good as none.
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let mut over = self.over.lock().unwrap_or_else(PoisonError::into_inner);
        while !*over {
            over = match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))
            {
                None => self.changed.wait(over).unwrap_or_else(PoisonError::into_inner),
                Some(Duration::ZERO) => break,
                Some(rest) => {
                    self.changed.wait_timeout(over, rest).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        *over
    }
}
