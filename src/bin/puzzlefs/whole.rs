//! Writing a file as a whole: if that fails, what was there stays.

use std::fs::{self, File, Metadata, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use puzzlefs::Error;
use rustix::fs::{PROC_SUPER_MAGIC, statfs};
use tempfile::NamedTempFile;

use crate::output::Failure;

/// Writes a file as a whole, where its name is all that tells it apart: a link stays one, and a file
/// keeps its owner and its mode. All else, as a pipe, is written to as it is.
pub fn write(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let failed = |error: io::Error| Error::io("write", path, error);
    match Replacement::of(path).map_err(failed)? {
        Some(mut new) => {
            write(new.file.as_file_mut())?;
            new.put().map_err(failed)?;
        }
        None => write(&mut in_place(path).map_err(failed)?)?,
    }
    Ok(())
}

/// Opens what is there to be written anew.
fn in_place(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    match options.write(true).truncate(true).open(path) {
        // Only then: of what is another user's, the system may not let one open what one would make.
        Err(error) if error.kind() == ErrorKind::NotFound => options.create(true).open(path),
        opened => opened,
    }
}

/// A file that is to get the name of what it replaces.
struct Replacement {
    file: NamedTempFile,
    name: PathBuf,
}

impl Replacement {
    /// For the regular file, or for the nothing, that a path leads to; `None` if it leads to something
    /// else, or if nothing can be put in its place.
    fn of(path: &Path) -> io::Result<Option<Self>> {
        let old = match fs::metadata(path) {
            Ok(old) if old.is_file() => Some(old),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            _ => return Ok(None),
        };
        let Some(name) = follow(path) else { return Ok(None) };
        let mode = if old.is_some() { 0o600 } else { 0o666 };
        let made = tempfile::Builder::new()
            .prefix(".puzzlefs-")
            .permissions(Permissions::from_mode(mode))
            .tempfile_in(folder(&name));
        let file = match made {
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem
                ) =>
            {
                return Ok(None);
            }
            made => made?,
        };
        let is_like = old.is_none_or(|old| take_after(file.as_file(), &old).is_ok());
        Ok(is_like.then_some(Replacement { file, name }))
    }

    /// Puts it in its place, for good.
    fn put(self) -> io::Result<()> {
        self.file.as_file().sync_all()?;
        match self.file.persist(&self.name) {
            // Something is mounted on the name, as containers do it: nothing can take its place.
            Err(failed) if failed.error.kind() == ErrorKind::ResourceBusy => {
                let mut file = in_place(&self.name)?;
                io::copy(&mut failed.file.reopen()?, &mut file)?;
                return file.sync_all();
            }
            put => put?,
        };
        match File::open(folder(&self.name)) {
            // Who may not list a folder can't sync it either.
            Err(error) if error.kind() == ErrorKind::PermissionDenied => Ok(()),
            folder => folder?.sync_all(),
        }
    }
}

/// Gives a new file the owner and the mode of an old one.
fn take_after(new: &File, old: &Metadata) -> io::Result<()> {
    let own = new.metadata()?;
    if (own.uid(), own.gid()) != (old.uid(), old.gid()) {
        fchown(new, Some(old.uid()), Some(old.gid()))?;
    }
    new.set_permissions(Permissions::from_mode(old.mode() & 0o777))
}

/// Where the links that a path ends with lead; `None` if /proc has the last: what that leads to may
/// have no name, or is written to by others who have it open.
fn follow(path: &Path) -> Option<PathBuf> {
    /// As many as the system follows.
    const MOST: usize = 40;
    let mut path = path.to_owned();
    for _ in 0..=MOST {
        let folder = folder(&path);
        if statfs(folder).is_ok_and(|system| system.f_type == PROC_SUPER_MAGIC) {
            return None;
        }
        match fs::read_link(&path) {
            Ok(target) => path = folder.join(target),
            Err(_) => return Some(path),
        }
    }
    None
}

fn folder(path: &Path) -> &Path {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    folder.unwrap_or(Path::new("."))
}
