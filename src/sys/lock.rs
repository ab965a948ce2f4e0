//! Locks on open files and folders (`flock(2)`), tried again where a signal interrupts that.

use std::fs::{File, TryLockError};
use std::io::{self, ErrorKind};

/// Waits for a lock: `how` is [`File::lock`] or its like.
pub fn lock(file: &File, how: impl Fn(&File) -> io::Result<()>) -> io::Result<()> {
    loop {
        match how(file) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Takes a lock unless somebody else holds one that excludes it; tells whether that was possible.
pub fn try_lock(file: &File, how: impl Fn(&File) -> Result<(), TryLockError>) -> io::Result<bool> {
    loop {
        match how(file) {
            Ok(()) => return Ok(true),
            Err(TryLockError::WouldBlock) => return Ok(false),
            Err(TryLockError::Error(error)) if error.kind() == ErrorKind::Interrupted => {}
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
}
