//! Panics: caught at every entry (see `ret`), and not printed.
//!
//! Rust tells of a panic by a hook of the process, which prints to standard error. A library has
//! no business there. Before the first call, ours is put ahead of the one that is there: it keeps
//! quiet about panics of this library, on whatever thread, and passes on all others. The shared
//! library and the static archive carry a copy of Rust's standard library with a hook that is
//! theirs alone, so that it is seen nowhere else; where it is shared with other Rust code, that
//! code's panics are told as ever.

use std::any::Any;
use std::cell::Cell;
use std::panic::PanicHookInfo;
use std::sync::{Mutex, Once, PoisonError};

use crate::sys::thread;

thread_local! {
    /// How many calls of C functions this thread is in.
    static CALLS: Cell<usize> = const { Cell::new(0) };
}

/// What the last panic said, and where it was: a thread that joins another learns only that it
/// panicked. Should two calls meet a defect at once, one may tell the other's.
static LAST: Mutex<Option<String>> = Mutex::new(None);

/// While it lives, panics of this thread are not printed.
pub struct Silence(());

/// Keeps panics of this thread, and of the library's own, from being printed.
pub fn silence() -> Silence {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if CALLS.get() > 0 || thread::is_ours() {
                note(info);
            } else {
                previous(info);
            }
        }));
    });
    CALLS.set(CALLS.get() + 1);
    Silence(())
}

impl Drop for Silence {
    fn drop(&mut self) {
        CALLS.set(CALLS.get() - 1);
    }
}

fn note(info: &PanicHookInfo<'_>) {
    let what = text(info.payload());
    let text = match info.location() {
        Some(location) => format!("{what} ({}:{})", location.file(), location.line()),
        None => what.to_owned(),
    };
    // The first is the cause: the next is likely of a thread that waited for it.
    LAST.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(text);
}

/// What the last panic said, once.
pub fn last() -> Option<String> {
    LAST.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// The text of a panic.
pub fn text(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("a panic")
}
