//! Who may do what to a layout at a time.
//!
//! Whoever can read a folder can lock it, and for as long as they like: all who wait for a lock ask
//! their monitor again and again whether to go on.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use super::{BLOBS, Layout, open_folder};
use crate::error::{Error, Result};
use crate::progress::{Monitor, Stage};
use crate::sys::lock::try_lock;

/// How long a newcomer lets somebody go first who waits to be alone.
const COURTESY: Duration = Duration::from_secs(1);
/// How long to wait at first before a lock is tried again.
const PAUSE: Duration = Duration::from_millis(1);
/// And at last.
const PAUSE_MAX: Duration = Duration::from_millis(50);

impl Layout {
    /// Keeps blobs that no tag refers to from being removed; released when dropped.
    pub(crate) fn lock_blobs(&self, monitor: &Monitor<'_>) -> Result<File> {
        // Builders that come one after the other without a gap would keep a collector from its
        // turn for ever. It holds the door; but a builder that waits may be the one that the
        // collector waits for, so nobody waits there for long.
        let _door = lock_within(COURTESY, &self.door(), File::try_lock_shared, monitor)?;
        lock(&self.path.join(BLOBS), File::try_lock_shared, monitor)
    }

    /// Waits until nobody relies on blobs that no tag refers to, and keeps others from doing so.
    pub(super) fn lock_blobs_alone(&self, monitor: &Monitor<'_>) -> Result<[File; 2]> {
        let door = lock(&self.door(), File::try_lock, monitor)?;
        let blobs = lock(&self.path.join(BLOBS), File::try_lock, monitor)?;
        Ok([blobs, door])
    }

    /// Keeps others from changing `index.json`; released when dropped.
    pub(super) fn lock(&self, monitor: &Monitor<'_>) -> Result<File> {
        lock(&self.path, File::try_lock, monitor)
    }

    fn door(&self) -> PathBuf {
        self.path.join("blobs")
    }
}

/// Waits until a folder can be locked; `how` is [`File::try_lock`] or its like.
pub(super) fn lock(
    folder: &Path,
    how: impl Fn(&File) -> std::result::Result<(), TryLockError>,
    monitor: &Monitor<'_>,
) -> Result<File> {
    lock_within(Duration::MAX, folder, how, monitor)
}

/// The same for that long; then the folder that is returned is not locked.
fn lock_within(
    patience: Duration,
    folder: &Path,
    how: impl Fn(&File) -> std::result::Result<(), TryLockError>,
    monitor: &Monitor<'_>,
) -> Result<File> {
    let failed = |error| Error::io("lock", folder, error);
    let file = open_folder(folder).map_err(failed)?;
    let begun = Instant::now();
    let mut pause = PAUSE;
    while !try_lock(&file, &how).map_err(failed)? && begun.elapsed() < patience {
        monitor.count(Stage::Wait, 0)?;
        thread::sleep(pause);
        pause = PAUSE_MAX.min(pause * 2);
    }
    Ok(file)
}
