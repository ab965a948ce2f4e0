//! New blobs on their way into a layout.
//!
//! They are written in a folder of their own within the layout, and become part of it together:
//! first all are on the disk for good, then all get their names. So a blob is complete or absent,
//! whenever a builder or the machine dies.

use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind, Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::lock::lock;
use super::{Index, Layout, sync_folder};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::fault;
use crate::progress::Monitor;
use crate::sys::lock::try_lock;

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
    staged: Vec<Digest>,
    /// Tell that this builder lives: the one keeps its folder from being cleared, the other all
    /// blobs from being collected, until a tag refers to them or they are given up.
    _locks: [File; 2],
}

/// A blob that a layout has, or is going to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StagedBlob {
    /// Whether the layout had it before.
    pub existed: bool,
}

/// What builders left behind that were killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Leftovers {
    /// Files and folders.
    pub count: u64,
    /// Bytes of all files.
    pub bytes: u64,
}

/// Removes temporary files and folders that nobody holds, or only tells of them. The layout is
/// locked.
pub(super) fn clear(layout: &Path, dry_run: bool) -> Result<Leftovers> {
    let mut leftovers = Leftovers::default();
    let failed = |path: &Path, error| Error::io("clear", path, error);
    for entry in fs::read_dir(layout).map_err(|error| failed(layout, error))? {
        let path = entry.map_err(|error| failed(layout, error))?.path();
        let name = path.file_name().unwrap_or_default().as_encoded_bytes();
        if !name.starts_with(PREFIX.as_bytes()) {
            continue;
        }
        match clear_one(&path, dry_run) {
            Ok(None) => {}
            Ok(Some(bytes)) => {
                leftovers.count += 1;
                leftovers.bytes += bytes;
            }
            // A builder that is done removes its folder without the layout's lock.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(failed(&path, error)),
        }
    }
    Ok(leftovers)
}

/// Removes a temporary file or folder unless somebody holds it; tells how many bytes it had.
fn clear_one(path: &Path, dry_run: bool) -> io::Result<Option<u64>> {
    let metadata = fs::symlink_metadata(path)?;
    if !metadata.is_dir() {
        let removed = if dry_run { Ok(()) } else { fs::remove_file(path) };
        return removed.map(|()| Some(metadata.len()));
    }
    let folder = File::open(path)?;
    if !try_lock(&folder, File::try_lock)? {
        return Ok(None);
    }
    let entries = fs::read_dir(path)?;
    let bytes: io::Result<u64> =
        entries.map(|entry| entry?.metadata().map(|metadata| metadata.len())).sum();
    if !dry_run {
        fs::remove_dir_all(path)?;
    }
    bytes.map(Some)
}

impl Staging {
    /// Begins with no blobs. Clears what builders left behind that were killed. Waits while others
    /// lock the layout, until `monitor` says to stop.
    pub fn begin(layout: &Layout, monitor: &Monitor<'_>) -> Result<Self> {
        let blobs_lock = layout.lock_blobs(monitor)?;
        // Nobody else makes a folder just now, which would not be locked yet.
        let _index_lock = layout.lock(monitor)?;
        clear(&layout.path, false)?;
        let folder = tempfile::Builder::new()
            .prefix(PREFIX)
            .tempdir_in(&layout.path)
            .map_err(|error| Error::io("make a folder in", &layout.path, error))?;
        let folder_lock = lock(folder.path(), File::try_lock, monitor)?;
        let _locks = [folder_lock, blobs_lock];
        Ok(Staging { layout: layout.clone(), folder, staged: Vec::new(), _locks })
    }

    /// Adds a blob of these bytes, unless the layout has it already.
    pub fn put(
        &mut self,
        digest: Digest,
        size: u64,
        parts: &[impl AsRef<[u8]>],
    ) -> Result<StagedBlob> {
        if self.layout.blob_size(&digest)? == Some(size) {
            return Ok(StagedBlob { existed: true });
        }
        let path = self.path(&digest);
        let failed = |error| Error::io("write the blob", &path, error);
        let mut file = match File::create_new(&path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                return Ok(StagedBlob { existed: true });
            }
            file => file.map_err(failed)?,
        };
        for part in parts {
            file.write_all(part.as_ref()).map_err(failed)?;
        }
        crate::sys::writeback::begin(&file);
        self.staged.push(digest);
        Ok(StagedBlob { existed: false })
    }

    /// Whether the layout has a blob of this size, or gets it.
    pub fn has(&self, digest: &Digest, size: u64) -> Result<bool> {
        Ok(self.layout.blob_size(digest)? == Some(size) || self.is_staged(digest))
    }

    /// Whether the blob is here and no part of the layout yet.
    pub fn is_staged(&self, digest: &Digest) -> bool {
        self.path(digest).exists()
    }

    /// Adds a blob that another layout has in `file`; shares the space with it where the file system
    /// can. What is checked is the copy, whatever becomes of the source meanwhile. Tells its fs-verity
    /// digest; `report` is told how many bytes are checked.
    pub fn take(
        &mut self,
        digest: Digest,
        source: &Layout,
        file: &File,
        report: &mut dyn FnMut(u64) -> Result<()>,
    ) -> Result<[u8; 32]> {
        let path = self.path(&digest);
        let copy = copy(file, &path).map_err(|error| Error::io("write the blob", &path, error))?;
        let verity = source.measure(&digest, &copy, report)?;
        self.staged.push(digest);
        Ok(verity)
    }

    /// The folder in which blobs are until they are part of the layout.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Gives up all blobs but those of which `wanted` says so.
    pub fn retain(&mut self, wanted: impl Fn(&Digest) -> bool) -> Result<()> {
        for digest in std::mem::take(&mut self.staged) {
            if wanted(&digest) {
                self.staged.push(digest);
                continue;
            }
            let path = self.path(&digest);
            fs::remove_file(&path).map_err(|error| Error::io("remove", path, error))?;
        }
        Ok(())
    }

    /// Makes all blobs part of the layout, for good.
    pub fn commit(&mut self) -> Result<()> {
        self.sync()?;
        self.move_in()
    }

    /// The same, and changes the layout's index, which refers to them from then on. Where `monitor`
    /// says not to wait for it, nothing is part of the layout.
    pub fn publish(mut self, monitor: &Monitor<'_>, change: impl FnOnce(&mut Index)) -> Result<()> {
        // Others need not wait for that.
        self.sync()?;
        let layout = self.layout.clone();
        layout.update_index(monitor, |index| {
            self.move_in()?;
            change(index);
            Ok(())
        })
    }

    fn sync(&self) -> Result<()> {
        fault::point!("commit");
        for digest in &self.staged {
            let path = self.path(digest);
            let sync = || File::open(&path)?.sync_all();
            sync().map_err(|error| Error::io("sync", &path, error))?;
        }
        // Who made the layout may have been killed before it was there for good.
        sync_folder(&self.layout.path)
    }

    fn move_in(&mut self) -> Result<()> {
        for digest in std::mem::take(&mut self.staged) {
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

/// Copies all of a file to a new one, which is at its beginning then.
fn copy(mut file: &File, path: &Path) -> io::Result<File> {
    let mut copy = File::options().read(true).write(true).create_new(true).open(path)?;
    if rustix::fs::ioctl_ficlone(&copy, file).is_err() {
        file.seek(SeekFrom::Start(0))?;
        // Where it is interrupted, both files' positions say how far it is.
        while let Err(error) = io::copy(&mut file, &mut copy) {
            if error.kind() != ErrorKind::Interrupted {
                return Err(error);
            }
        }
        copy.seek(SeekFrom::Start(0))?;
    }
    crate::sys::writeback::begin(&copy);
    Ok(copy)
}
