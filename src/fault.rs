//! Injected defects, by which the tests see what a panic in the midst of work leaves behind.
//!
//! Only a library that is built with `--cfg faults` has them. There, the point panics whose name
//! is the value of the environment variable `PUZZLEFS_FAULT`.

/// A point where the tests can make the library panic.
macro_rules! point {
    ($name:expr) => {
        #[cfg(faults)]
        $crate::fault::reach($name);
    };
}
pub(crate) use point;

#[cfg(faults)]
pub(crate) fn reach(name: &str) {
    if std::env::var_os("PUZZLEFS_FAULT").is_some_and(|fault| fault == name) {
        panic!("injected into '{name}'");
    }
}
