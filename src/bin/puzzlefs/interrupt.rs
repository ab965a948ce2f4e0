//! Signals that ask the program to stop: the work in progress is cancelled and cleared away.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use signal_hook::consts::{SIGHUP, TERM_SIGNALS};

/// The signal that came; 0 if none did.
static SIGNAL: LazyLock<Arc<AtomicUsize>> = LazyLock::new(Arc::default);

/// Catches the first signal; the second one ends the program as usual.
pub fn catch() {
    for signal in signals() {
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

/// The signals that ask to stop. That of a closed terminal is none where it is ignored, as
/// nohup(1) has it.
pub fn signals() -> impl Iterator<Item = i32> {
    let hangup = (!is_ignored(SIGHUP)).then_some(SIGHUP);
    TERM_SIGNALS.iter().copied().chain(hangup)
}

/// Whether who started the program wants the signal to be ignored.
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

/// What a program that was stopped by a signal exits with, as shells have it; none if no signal
/// came.
pub fn exit_code() -> Option<u8> {
    match SIGNAL.load(Ordering::Relaxed) {
        0 => None,
        signal => Some(128 + signal as u8),
    }
}

/// Whether work goes on: not after a signal.
pub fn flow() -> ControlFlow<()> {
    match exit_code() {
        Some(_) => ControlFlow::Break(()),
        None => ControlFlow::Continue(()),
    }
}
