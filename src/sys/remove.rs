//! Removing what is in a directory, however deep.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, RenameFlags, renameat_with, unlinkat};
use rustix::io::Errno;

use super::dirs::{DIRECTORY, chmod_at, open_at};

/// Removes everything in the directory `root`, but not itself. No link is followed, and two
/// directories at most are open at once: each one that is found is first moved up into `root`.
pub fn remove_content(root: BorrowedFd<'_>) -> io::Result<()> {
    let mut moved = 0;
    loop {
        let mut empty = true;
        for (name, is_directory) in list(root)? {
            empty = false;
            if !is_directory {
                unlinkat(root, &name, AtFlags::empty())?;
                continue;
            }
            let directory = open(root, &name)?;
            for (child, is_directory) in list(directory.as_fd())? {
                if is_directory {
                    open(directory.as_fd(), &child)?;
                    move_up(directory.as_fd(), &child, root, &mut moved)?;
                } else {
                    unlinkat(&directory, &child, AtFlags::empty())?;
                }
            }
            unlinkat(root, &name, AtFlags::REMOVEDIR)?;
        }
        if empty {
            return Ok(());
        }
    }
}

/// Opens a directory whose entries its owner may remove then.
fn open(parent: BorrowedFd<'_>, name: &CString) -> io::Result<OwnedFd> {
    let open = || open_at(parent, name, DIRECTORY, Mode::empty());
    let directory = open().or_else(|error| match error {
        Errno::ACCESS => chmod_at(parent, name, Mode::RWXU).and_then(|()| open()),
        error => Err(error),
    })?;
    rustix::fs::fchmod(&directory, Mode::RWXU)?;
    Ok(directory)
}

fn list(directory: BorrowedFd<'_>) -> io::Result<Vec<(CString, bool)>> {
    let mut entries = Vec::new();
    for entry in rustix::fs::Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let is_directory = match entry.file_type() {
            FileType::Unknown => {
                let stat = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
                FileType::from_raw_mode(stat.st_mode) == FileType::Directory
            }
            file_type => file_type == FileType::Directory,
        };
        entries.push((name.to_owned(), is_directory));
    }
    Ok(entries)
}

/// Moves a directory into `root`, under a name that nothing has there.
fn move_up(
    from: BorrowedFd<'_>,
    name: &CString,
    root: BorrowedFd<'_>,
    moved: &mut u64,
) -> io::Result<()> {
    loop {
        *moved += 1;
        let free = format!(".removed-{moved}");
        match renameat_with(from, name, root, free, RenameFlags::NOREPLACE) {
            Err(Errno::EXIST) => {}
            result => return Ok(result?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};

    #[test]
    fn what_is_deep_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let mut directory = rustix::fs::open(folder.path(), DIRECTORY, Mode::empty()).unwrap();
        for _ in 0..2000 {
            rustix::fs::mkdirat(&directory, "a-rather-long-name", Mode::RWXU).unwrap();
            directory =
                open_at(&directory, "a-rather-long-name", DIRECTORY, Mode::empty()).unwrap();
        }
        fs::write(folder.path().join("file"), "x").unwrap();
        fs::create_dir(folder.path().join(".removed-1")).unwrap();
        std::os::unix::fs::symlink("/", folder.path().join("link")).unwrap();
        remove_content(File::open(folder.path()).unwrap().as_fd()).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
