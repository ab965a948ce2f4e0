//! What a mount has to say while it runs.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use crate::tree::Ino;

/// A function that is told, in one line, what goes wrong in a mount. It may be called from any
/// thread, from several at once.
pub type LogFn = dyn Fn(&str) + Send + Sync;

/// Where it is told.
#[derive(Default)]
pub struct Log {
    function: RwLock<Option<Arc<LogFn>>>,
    /// The files that could not be read when that was last tried.
    failing: Mutex<HashSet<Ino>>,
    any: AtomicBool,
}

impl Log {
    pub fn new(function: Option<Arc<LogFn>>) -> Self {
        Log { function: RwLock::new(function), ..Log::default() }
    }

    pub fn write(&self, line: &str) {
        self.with_function(|function| tell(function, line));
    }

    /// A file could not be read: told once, until it can be read again.
    pub fn failed(&self, ino: Ino, line: impl FnOnce() -> String) {
        // Held from before the file is noted: who finds it noted and goes on may end the mount,
        // and the line shall be told before that.
        self.with_function(|function| {
            let new = self.failing.lock().unwrap_or_else(PoisonError::into_inner).insert(ino);
            self.any.store(true, Ordering::Relaxed);
            if new {
                tell(function, &line());
            }
        });
    }

    /// Held as long as the function runs, so that nobody is in it once it is forgotten.
    fn with_function(&self, work: impl FnOnce(Option<&LogFn>)) {
        let function = self.function.read().unwrap_or_else(PoisonError::into_inner);
        work(function.as_deref());
    }

    pub fn recovered(&self, ino: Ino) {
        if self.any.load(Ordering::Relaxed) {
            let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
            failing.remove(&ino);
            self.any.store(!failing.is_empty(), Ordering::Relaxed);
        }
    }

    /// Calls the function no more, from when this has returned.
    pub fn forget(&self) {
        *self.function.write().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

fn tell(function: Option<&LogFn>, line: &str) {
    tracing::error!("{line}");
    if let Some(function) = function {
        function(line);
    }
}
