//! Locks on open files and folders (`flock(2)`), tried again where a signal interrupts that.

use std::fs::{File, TryLockError};
use std::io::{self, ErrorKind};

/// Takes a lock unless somebody else holds one that excludes it; tells whether that was possible.
/// `how` is [`File::try_lock`] or its like.
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
