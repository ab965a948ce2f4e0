//! Deleting what nothing refers to.

use std::collections::HashSet;
use std::fs::{self, Metadata};
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::references::Documents;
use super::{Layout, staging};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::fault;
use crate::progress::{Monitor, Progress, Stage};

/// What is deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GcOptions {
    /// How old a blob must be: other tools put blobs into a layout before they refer to them, and
    /// know no lock of ours. An hour by default.
    pub grace: Duration,
    /// Whether nothing is deleted, only told.
    pub dry_run: bool,
}

impl Default for GcOptions {
    fn default() -> Self {
        GcOptions { grace: Duration::from_secs(60 * 60), dry_run: false }
    }
}

/// What was deleted, or would have been.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GcReport {
    /// The blobs that were deleted.
    pub removed: Vec<Digest>,
    /// Bytes of these blobs.
    pub bytes: u64,
    /// Blobs that nothing refers to, but too young to be deleted.
    pub young: u64,
    /// Bytes of these blobs.
    pub young_bytes: u64,
    /// Files and folders of builders that were killed, which were deleted.
    pub leftovers: u64,
    /// Bytes of these.
    pub leftover_bytes: u64,
}

impl GcReport {
    /// The report as a JSON document.
    pub fn to_json(&self) -> Value {
        let removed: Vec<_> = self.removed.iter().map(Digest::to_string).collect();
        json!({
            "removed": removed,
            "bytes": self.bytes,
            "young": { "blobs": self.young, "bytes": self.young_bytes },
            "leftovers": { "count": self.leftovers, "bytes": self.leftover_bytes },
        })
    }
}

/// Deletes the blobs of the layout at `path` that no entry of its index refers to, directly or
/// not, and what builders left behind that were killed.
///
/// Waits until no builder of this library is at work in the layout. Deletes nothing if a document
/// cannot be read that may refer to blobs. Other tools know no lock: what they put into the layout
/// is spared as long as the options say, but not what they may just have found there, older than
/// that and referred to by nothing.
///
/// Fails if there is no layout, such a document is missing or damaged, a blob cannot be deleted,
/// or the caller cancels: what is deleted by then stays so.
pub fn gc(path: &Path, options: &GcOptions, monitor: &Monitor<'_>) -> Result<GcReport> {
    let layout = Layout::open(path)?;
    let _lock = layout.lock_blobs_alone(monitor)?;
    let kept = referenced(&layout, monitor).map_err(|error| {
        error.context("nothing is deleted, since it is not known what is still referred to")
    })?;
    let leftovers = layout.clear(options.dry_run, monitor)?;
    let mut report = GcReport {
        leftovers: leftovers.count,
        leftover_bytes: leftovers.bytes,
        ..GcReport::default()
    };
    // The index that was read refers to less than the one that a loss of power might bring back.
    layout.sync_index()?;
    let blobs = layout.blobs()?;
    let total = blobs.len() as u64;
    let now = SystemTime::now();
    for (done, digest) in (1..).zip(blobs) {
        if !kept.contains(&digest) {
            report.remove(&layout, digest, now, options)?;
        }
        monitor.report(Progress { stage: Stage::Delete, done, total })?;
    }
    Ok(report)
}

/// The digests of all blobs that the index refers to, directly or not.
fn referenced(layout: &Layout, monitor: &Monitor<'_>) -> Result<HashSet<Digest>> {
    let mut documents = Documents::new(layout);
    for (_, descriptor) in layout.index()?.entries() {
        documents.add(&descriptor?);
    }
    documents.read(&mut || monitor.count(Stage::Delete, 0))?;
    let kept = documents.digests().iter().copied().collect();
    documents.check().map(|()| kept)
}

impl GcReport {
    /// Removes a blob that nothing refers to, unless it is too young.
    fn remove(
        &mut self,
        layout: &Layout,
        digest: Digest,
        now: SystemTime,
        options: &GcOptions,
    ) -> Result<()> {
        let path = layout.blob_path(&digest);
        let metadata = match fs::symlink_metadata(&path) {
            Ok(metadata) => metadata,
            // Another tool deletes too.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(Error::io("look at the blob", path, error)),
        };
        // Nobody's blob.
        if metadata.is_dir() {
            return Ok(());
        }
        if age(&metadata, now) < options.grace {
            self.young += 1;
            self.young_bytes += metadata.len();
            return Ok(());
        }
        if !options.dry_run {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(Error::io("delete the blob", path, error));
                }
                _ => {}
            }
        }
        self.removed.push(digest);
        self.bytes += metadata.len();
        Ok(())
    }
}

/// How long ago the file, or what is known of it, was changed last. An mtime may be a made-up one,
/// such as that of a file that was copied with its times.
fn age(metadata: &Metadata, now: SystemTime) -> Duration {
    use std::os::unix::fs::MetadataExt;
    let seconds = u64::try_from(metadata.ctime()).unwrap_or(0);
    let changed = SystemTime::UNIX_EPOCH + Duration::new(seconds, metadata.ctime_nsec() as u32);
    let modified = metadata.modified().unwrap_or(changed);
    now.duration_since(changed.max(modified)).unwrap_or_default()
}

impl Layout {
    /// Removes what builders left behind that were killed.
    fn clear(&self, dry_run: bool, monitor: &Monitor<'_>) -> Result<staging::Leftovers> {
        let _lock = self.lock(monitor)?;
        fault::point!("gc");
        staging::clear(&self.path, dry_run)
    }
}
