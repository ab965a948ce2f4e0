//! Faults: system calls that fail, processes that are killed, machines that lose power, crowds.
//! None may cost a layout anything.
//!
//! Each test tries an evenly spread sample of what can happen; with `PUZZLEFS_FAULTS=all` in the
//! environment, all of it.

#[path = "../common/mod.rs"]
mod common;

mod crowd;
mod disk;
mod injection;
mod kills;
mod mounts;
mod power_loss;
mod record;
mod scene;
mod strace;

/// Whether all is tried.
fn all() -> bool {
    match std::env::var("PUZZLEFS_FAULTS") {
        Ok(value) if value == "all" => true,
        Ok(value) => panic!("PUZZLEFS_FAULTS is '{value}': expected 'all', or nothing"),
        Err(_) => false,
    }
}

/// At most `most` of the cases, evenly spread; or all.
fn sample<T>(cases: Vec<T>, most: usize) -> Vec<T> {
    let step = if all() { 1 } else { cases.len().div_ceil(most).max(1) };
    cases.into_iter().step_by(step).collect()
}
