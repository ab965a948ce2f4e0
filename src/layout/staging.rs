//! New blobs on their way into a layout.
//!
//! They are written in a folder of their own within the layout, and become part of it together:
//! first all are on the disk for good, then all get their names. So a blob is complete or absent,
//! whenever a builder or the machine dies.

use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use tempfile::TempDir;

use super::{Layout, sync_folder};
use crate::digest::Digest;
use crate::error::{Error, Result};

/// What the names of all temporary files and folders in a layout begin with.
pub(super) const PREFIX: &str = ".puzzlefs-";

/// The permissions of all files, less the umask.
pub(super) fn permissions() -> Permissions {
    Permissions::from_mode(0o666)
}

/// Blobs that are written, but no part of the layout yet; removed if they are never committed.
#[derive(Debug)]
pub struct Staging {
    layout: Layout,
    folder: TempDir,
    staged: Vec<(Digest, File)>,
    /// Held until a tag refers to the blobs, or they are given up.
    _lock: File,
}

/// A blob that a layout has, or is going to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StagedBlob {
    /// Whether the layout had it before.
    pub existed: bool,
}

impl Staging {
    /// Begins with no blobs.
    pub fn begin(layout: &Layout) -> Result<Self> {
        let lock = layout.lock_blobs()?;
        let folder = tempfile::Builder::new()
            .prefix(PREFIX)
            .tempdir_in(&layout.path)
            .map_err(|error| Error::io("make a folder in", &layout.path, error))?;
        Ok(Staging { layout: layout.clone(), folder, staged: Vec::new(), _lock: lock })
    }

    /// Adds a blob of these bytes, unless the layout has it already.
    pub fn put(&mut self, digest: Digest, size: u64, parts: &[impl AsRef<[u8]>]) -> Result<StagedBlob> {
        if self.layout.blob_size(&digest)? == Some(size) {
            return Ok(StagedBlob { existed: true });
        }
        let path = self.path(&digest);
        if self.staged.iter().any(|(staged, _)| *staged == digest) {
            return Ok(StagedBlob { existed: true });
        }
        let failed = |error| Error::io("write the blob", &path, error);
        let mut file = File::create_new(&path).map_err(failed)?;
        for part in parts {
            file.write_all(part.as_ref()).map_err(failed)?;
        }
        self.staged.push((digest, file));
        Ok(StagedBlob { existed: false })
    }

    /// Makes all blobs part of the layout, for good.
    pub fn commit(&mut self) -> Result<()> {
        for (digest, file) in &self.staged {
            file.sync_all().map_err(|error| Error::io("sync", self.path(digest), error))?;
        }
        for (digest, _) in std::mem::take(&mut self.staged) {
            let path = self.layout.blob_path(&digest);
            fs::rename(self.path(&digest), &path)
                .map_err(|error| Error::io("make the blob", path, error))?;
        }
        sync_folder(&self.layout.path.join(super::BLOBS))
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.folder.path().join(digest.hex())
    }
}
