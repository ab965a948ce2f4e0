//! The marks of overlayfs in an upperdir, which mean to a delta what they mean to the kernel.
//!
//! The first byte tells the namespace of the marks, the lines behind it make the upperdir: what
//! they make is their first byte, the path's names are the letters up to a space, the rest is what
//! belongs to it. A line that cannot be is passed over.
//!
//! ```text
//! d ab        a directory                    w ab        a whiteout
//! f ab text   a file                         l ab to     a symbolic link
//! h ab cd     a further name cd of it        p ab        a pipe
//! m ab 7      other permissions              c ab 3      a device
//! t ab k=v    trusted.k                      u ab k=v    user.k
//! T ab k=v    trusted.overlay.k              U ab k=v    user.overlay.k
//! ```
#![no_main]

use std::ffi::CStr;
use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use fuzz::sandbox;
use libfuzzer_sys::{Corpus, fuzz_target};
use puzzlefs::chunk::Extent;
use puzzlefs::progress::Monitor;
use puzzlefs::source::directory::{Lower, scan};
use puzzlefs::source::overlay::MarkNamespace;
use puzzlefs::source::{Content, ScanOptions, Source};
use puzzlefs::tree::{Tree, text};
use rustix::fs::{CWD, FileType, Mode, XattrFlags, lsetxattr, makedev, mknodat};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

const BASE: &str = "/dev/shm/base";
const UPPER: &str = "/dev/shm/upper";
const MERGED: &str = "/dev/shm/merged";
/// How many lines are followed.
const LINES: usize = 64;

/// What is below.
const BELOW: &[u8] = b"\
d a
d aa
f aaa one
f aab two
d ab
f aba three
f b four
h b c
h b ac
l d a
u a x=y
d e
w e
f fa six
t b k=v
p g
d h
f ha seven
f hb eight
";

static TREE: OnceLock<Tree<Box<[Extent]>>> = OnceLock::new();

fuzz_target!(init: make_base(), |data: &[u8]| -> Corpus {
    let Some((first, lines)) = data.split_first() else { return Corpus::Reject };
    sandbox::remove(&[UPPER]);
    make(Path::new(UPPER), lines);
    match first {
        b'U' => compare(MarkNamespace::User, c"lowerdir=/dev/shm/upper:/dev/shm/base,userxattr"),
        b'T' => compare(MarkNamespace::Trusted, c"lowerdir=/dev/shm/upper:/dev/shm/base"),
        _ => find_out(),
    }
    Corpus::Keep
});

fn make_base() {
    sandbox::enter();
    make(Path::new(BASE), BELOW);
    fs::create_dir(MERGED).expect("make a directory");
    let tree = seen(BASE, None).expect("read the base");
    let extents = |size| match size {
        0 => Box::default(),
        length => Box::from([Extent { blob: 0, offset: 0, length }]),
    };
    TREE.get_or_init(|| tree.map(|_, size| extents(size)));
}

fn base() -> &'static Tree<Box<[Extent]>> {
    TREE.get().expect("it was made")
}

/// A directory, or what is seen where it lies on the base, with the sizes of files.
fn seen(path: &str, marks: Option<MarkNamespace>) -> puzzlefs::Result<Tree<u64>> {
    let lower = marks.map(|marks| Lower { tree: base(), marks });
    let scanned = scan(Path::new(path), lower, &ScanOptions::default(), None, &Monitor::silent())?;
    let size = |content| match content {
        Content::New(size) => size,
        Content::Base(ino) => {
            base().inode(ino).file().expect("a file of the base").iter().map(|e| e.length).sum()
        }
    };
    Ok(scanned.into_tree().map(|_, content| size(content)))
}

fn text(tree: &Tree<u64>) -> String {
    let mut text = Vec::new();
    text::write(tree, &mut text, |size| vec![size.to_string()]).expect("write to memory");
    String::from_utf8(text).expect("it is text")
}

/// What is read is what the kernel shows, or refused.
///
/// The kernel has the upperdir as the higher of two lower directories: in those it knows whiteouts
/// that are files. It lists some names that it then cannot find: of whiteouts in a directory that
/// is not said to have any, of an attribute that is nothing but the escape.
fn compare(marks: MarkNamespace, options: &CStr) {
    let Ok(found) = seen(UPPER, Some(marks)) else { return };
    mount("overlay", MERGED, "overlay", MountFlags::RDONLY, options).expect("mount an overlay");
    let shown = seen(MERGED, None);
    unmount(MERGED, UnmountFlags::DETACH).expect("unmount the overlay");
    if let Ok(shown) = shown {
        assert_eq!(text(&found), text(&shown));
    }
}

/// A namespace that is found is one of the two.
fn find_out() {
    let Ok(found) = seen(UPPER, Some(MarkNamespace::Auto)) else { return };
    let both = [MarkNamespace::Trusted, MarkNamespace::User];
    let mut as_told = both.into_iter().filter_map(|marks| seen(UPPER, Some(marks)).ok());
    assert!(as_told.any(|told| told == found), "neither of the two namespaces");
}

fn make(root: &Path, lines: &[u8]) {
    fs::create_dir(root).expect("make a directory");
    for line in lines.split(|&byte| byte == b'\n').take(LINES) {
        let mut words = line.splitn(3, |&byte| byte == b' ');
        let (Some(&[what]), Some(names)) = (words.next(), words.next()) else { continue };
        if let Some(path) = path(root, names) {
            // Not every line can be followed: something may be there, or nothing.
            let _ = follow(root, what, &path, words.next().unwrap_or_default());
        }
    }
}

fn path(root: &Path, names: &[u8]) -> Option<PathBuf> {
    let mut path = root.to_owned();
    for name in names {
        path.push(str::from_utf8(&[*name]).ok().filter(|_| name.is_ascii_lowercase())?);
    }
    Some(path)
}

fn follow(root: &Path, what: u8, path: &Path, rest: &[u8]) -> std::io::Result<()> {
    let make_node =
        |kind, minor| Ok(mknodat(CWD, path, kind, Mode::from_raw_mode(0o644), makedev(0, minor))?);
    let number = rest.first().map_or(0, |&byte| u32::from(byte));
    match what {
        b'd' => fs::create_dir(path),
        // Not through a link, which may lead anywhere.
        b'f' if fs::symlink_metadata(path).is_err() => fs::write(path, rest),
        b'l' => symlink(std::ffi::OsStr::from_bytes(rest), path),
        b'h' => self::path(root, rest).map_or(Ok(()), |other| fs::hard_link(path, other)),
        b'w' => make_node(FileType::CharacterDevice, 0),
        b'c' => make_node(FileType::CharacterDevice, number),
        b'p' => make_node(FileType::Fifo, 0),
        b'm' if !path.is_symlink() => {
            fs::set_permissions(path, Permissions::from_mode(0o700 | (number & 7)))
        }
        b't' => set_xattr(path, b"trusted.", rest),
        b'u' => set_xattr(path, b"user.", rest),
        b'T' => set_xattr(path, b"trusted.overlay.", rest),
        b'U' => set_xattr(path, b"user.overlay.", rest),
        _ => Ok(()),
    }
}

fn set_xattr(path: &Path, namespace: &[u8], pair: &[u8]) -> std::io::Result<()> {
    let mut parts = pair.splitn(2, |&byte| byte == b'=');
    let key = [namespace, parts.next().unwrap_or_default()].concat();
    let value = parts.next().unwrap_or_default();
    Ok(lsetxattr(path, key, value, XattrFlags::empty())?)
}
