//! Signals that ask the program to stop: the work in progress is cancelled and cleared away.

use std::sync::Arc;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use signal_hook::consts::TERM_SIGNALS;

/// The signal that came; 0 if none did.
static SIGNAL: LazyLock<Arc<AtomicUsize>> = LazyLock::new(Arc::default);

/// Catches the first signal; the second one ends the program as usual.
pub fn catch() {
    for &signal in TERM_SIGNALS {
        let again = Arc::new(AtomicBool::new(false));
        let registered =
            signal_hook::flag::register_conditional_default(signal, Arc::clone(&again))
                .and_then(|_| signal_hook::flag::register(signal, again))
                .and_then(|_| {
                    signal_hook::flag::register_usize(signal, Arc::clone(&SIGNAL), signal as usize)
                });
        if let Err(error) = registered {
            crate::output::warning(&format!("cannot catch signal {signal}: {error}"));
        }
    }
}

/// What a program that was stopped by a signal exits with, as shells have it; none if no signal
/// came.
pub fn exit_code() -> Option<u8> {
    match SIGNAL.load(Ordering::Relaxed) {
        0 => None,
        signal => Some(128 + signal as u8),
    }
}
