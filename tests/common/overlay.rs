//! Real overlays, whose upperdirs are what deltas are made of.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::command::{run, succeed};
use super::tree::{mkdir, set_xattr};

/// The namespaces of overlayfs's own attributes.
pub const NAMESPACES: [&str; 2] = ["trusted", "user"];

/// A writable overlay on a directory, mounted until the value goes.
pub struct Overlay {
    pub upper: PathBuf,
    merged: PathBuf,
}

impl Overlay {
    /// Makes the overlay's directories in `dir`, and mounts it on `lower`.
    #[track_caller]
    pub fn new(dir: &Path, lower: &Path, namespace: &str) -> Overlay {
        let [upper, work, merged] = ["upper", "work", "merged"].map(|name| mkdir(&dir.join(name)));
        // With `userxattr` the kernel makes no redirects and metacopies, and lets nobody say so.
        let own = match namespace {
            "user" => "userxattr",
            _ => "redirect_dir=off,metacopy=off",
        };
        let options = format!(
            "lowerdir={},upperdir={},workdir={},index=off,xino=off,{own}",
            lower.display(),
            upper.display(),
            work.display()
        );
        mount(&options, &merged);
        Overlay { upper, merged }
    }

    /// Mounts several lower directories, the highest first, to be read only.
    #[track_caller]
    pub fn read_only(dir: &Path, lowers: &[&Path], namespace: &str) -> Overlay {
        let merged = mkdir(&dir.join("merged-read-only"));
        let lowers: Vec<_> = lowers.iter().map(|lower| lower.display().to_string()).collect();
        let userxattr = if namespace == "user" { ",userxattr" } else { "" };
        mount(&format!("lowerdir={}{userxattr}", lowers.join(":")), &merged);
        Overlay { upper: PathBuf::new(), merged }
    }

    /// What the overlay shows.
    pub fn path(&self) -> &Path {
        &self.merged
    }
}

fn mount(options: &str, point: &Path) {
    succeed(Command::new("mount").args(["-t", "overlay", "overlay", "-o", options]).arg(point));
}

impl Drop for Overlay {
    fn drop(&mut self) {
        let ended = run(Command::new("umount").arg("--lazy").arg(&self.merged));
        if !std::thread::panicking() {
            assert!(ended.status.success(), "{ended}");
        }
    }
}

/// Replaces the devices that stand for whiteouts in an upperdir by the other form that the kernel
/// knows: empty files with an attribute, in a directory that says that it has some.
pub fn whiteouts_to_files(dir: &Path, namespace: &str) {
    let opaque = format!("{namespace}.overlay.opaque");
    let is_opaque = xattr(dir, &opaque).as_deref() == Some(b"y");
    let times = fs::metadata(dir).unwrap();
    let mut changed = false;
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let metadata = fs::symlink_metadata(&path).unwrap();
        if metadata.is_dir() {
            whiteouts_to_files(&path, namespace);
        } else if metadata.file_type().is_char_device() && metadata.rdev() == 0 {
            fs::remove_file(&path).unwrap();
            changed = true;
            if !is_opaque {
                fs::write(&path, "").unwrap();
                set_xattr(&path, format!("{namespace}.overlay.whiteout").as_bytes(), b"");
                set_xattr(dir, opaque.as_bytes(), b"x");
            }
        }
    }
    if changed {
        let time = fs::FileTimes::new().set_modified(times.modified().unwrap());
        fs::File::open(dir).unwrap().set_times(time).unwrap();
    }
}

fn xattr(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut value = vec![0; 16];
    match rustix::fs::lgetxattr(path, name, &mut value) {
        Ok(length) => {
            value.truncate(length);
            Some(value)
        }
        Err(rustix::io::Errno::NODATA) => None,
        Err(error) => panic!("{}: {name}: {error}", path.display()),
    }
}
