//! Trees to make images of.
//!
//! `ordinary` holds what an ordinary user may make, `everything` what a
//! filesystem can hold at all. Both are the same at each call.

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, Dev, FileType, Mode, OFlags, Timespec, Timestamps, XattrFlags, makedev,
};

pub const KIB: usize = 1024;

/// From this length on, a run of zeros is stored as a hole.
pub const ZERO_RUN: usize = 64 * KIB;
/// What a frame of a pack holds.
pub const FRAME: usize = 256 * KIB;

const LONGEST_NAME: usize = 255;
const LONGEST_TARGET: usize = 4095;
const MANY: usize = 3000;
/// So many of the longest names make a path longer than the 4,096 bytes that a
/// system call takes.
const DEEP: usize = 17;

const ACL_ACCESS: &str = "system.posix_acl_access";
const ACL_DEFAULT: &str = "system.posix_acl_default";

/// Bytes without a pattern, the same for the same seed (SplitMix64).
pub fn random(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = state;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bytes.extend((word ^ (word >> 31)).to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// Bytes that compress well and yet never repeat themselves as a whole.
pub fn lines(len: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(len + 64);
    let mut number = 0;
    while bytes.len() < len {
        bytes.extend(format!("line {number} of a text that compresses well\n").bytes());
        number += 1;
    }
    bytes.truncate(len);
    bytes
}

/// A file of `len` bytes whose data is at the given offsets; the rest is holes.
pub fn sparse(path: &Path, len: usize, data: &[(usize, Vec<u8>)]) {
    let file = File::create(path).unwrap();
    file.set_len(len as u64).unwrap();
    for (offset, bytes) in data {
        file.write_all_at(bytes, *offset as u64).unwrap();
    }
}

/// Fills the empty directory `root` with what an ordinary user may make. An
/// ordinary user can extract it, too: what is not writable holds nothing.
pub fn ordinary(root: &Path) {
    contents(&mkdir(&root.join("contents")));
    names(&mkdir(&root.join("names")));
    modes(&mkdir(&root.join("modes")));
    symlinks(&mkdir(&root.join("symlinks")));
    attributes(&mkdir(&root.join("attributes")));
    hard_links(root);
    many(&mkdir(&root.join("many")));
    mkdir(&root.join("empty"));
    make_node(&root.join("fifo"), FileType::Fifo, 0);
    set_mode(root, 0o751);
    set_times(root);
}

/// Fills the empty directory `root` with everything that a filesystem can hold.
pub fn everything(root: &Path) {
    ordinary(root);
    nodes(&mkdir(&root.join("nodes")));
    privileged_attributes(&mkdir(&root.join("privileged-attributes")));
    owners(&mkdir(&root.join("owners")));
    inherited(&mkdir(&root.join("inherited")));
    deep(&mkdir(&root.join("deep")));
    let closed = mkdir(&root.join("closed"));
    fs::write(closed.join("inside"), "only root sees this").unwrap();
    set_mode(&closed, 0);
    set_xattr(root, b"user.on-the-root", b"yes");
    lchown(root, Some(1), Some(2)).unwrap();
    set_mode(root, 0o751);
    set_times(root);
}

fn contents(dir: &Path) {
    let zeros = |len| vec![0; len];
    let with_zeros_inside = |len| [random(1, 100 * KIB), zeros(len), random(2, 10 * KIB)].concat();
    let files = [
        ("empty", vec![]),
        ("one-byte", b"x".to_vec()),
        ("text", lines(3000)),
        ("lines-1M", lines(1024 * KIB)),
        ("random-below-frame", random(3, FRAME - 1)),
        ("random-frame", random(4, FRAME)),
        ("random-above-frame", random(5, FRAME + 1)),
        ("random-1M", random(6, 1024 * KIB)),
        // The same bytes again, and shifted: chunks are found again.
        ("random-1M-again", random(6, 1024 * KIB)),
        ("random-1M-shifted", [lines(5000), random(6, 1024 * KIB)].concat()),
        ("zeros-below-run", zeros(ZERO_RUN - 1)),
        ("zeros-run", zeros(ZERO_RUN)),
        ("zeros-above-run", zeros(ZERO_RUN + 1)),
        ("zeros-1M", zeros(1024 * KIB)),
        ("zeros-below-run-inside", with_zeros_inside(ZERO_RUN - 1)),
        ("zeros-run-inside", with_zeros_inside(ZERO_RUN)),
        ("zeros-run-at-start", [zeros(ZERO_RUN), random(7, 5000)].concat()),
        ("zeros-run-at-end", [random(8, 5000), zeros(ZERO_RUN)].concat()),
    ];
    for (name, bytes) in files {
        fs::write(dir.join(name), bytes).unwrap();
    }
    let data = || random(9, 4 * KIB);
    let sparse_files = [
        ("hole-only", 1024 * KIB, vec![]),
        ("hole-of-one-block", 4 * KIB, vec![]),
        ("hole-odd-length", 300 * KIB + 1, vec![]),
        ("hole-at-start", 512 * KIB, vec![(508 * KIB, data())]),
        ("hole-in-the-middle", 512 * KIB, vec![(0, data()), (508 * KIB, data())]),
        ("hole-at-end", 512 * KIB, vec![(0, data())]),
        ("holes-everywhere", 2048 * KIB, vec![(700 * KIB, data()), (1000 * KIB, lines(200 * KIB))]),
    ];
    for (name, len, data) in sparse_files {
        sparse(&dir.join(name), len, &data);
    }
}

fn names(dir: &Path) {
    let longest = [b'n'; LONGEST_NAME];
    let names: [&[u8]; 14] = [
        b"not UTF-8: \xff\xfe",
        &longest,
        b"new\nline",
        b" space ",
        b"tab\t",
        b"-rf",
        b"back\\slash",
        b"quo'te\"",
        b"...",
        b"*",
        b"colon:name@sha256:0",
        b".wh.name",
        b".wh..wh..opq",
        "\u{fc}nicode".as_bytes(),
    ];
    for name in names {
        fs::write(dir.join(OsStr::from_bytes(name)), name).unwrap();
    }
}

fn modes(dir: &Path) {
    for mode in [0, 0o444, 0o644, 0o777, 0o1644, 0o2755, 0o4755, 0o6711] {
        let file = dir.join(format!("file-{mode:04o}"));
        fs::write(&file, "content").unwrap();
        set_mode(&file, mode);
    }
    for mode in [0, 0o555, 0o700, 0o1777, 0o2775] {
        set_mode(&mkdir(&dir.join(format!("dir-{mode:04o}"))), mode);
    }
}

fn symlinks(dir: &Path) {
    let longest = [b't'; LONGEST_TARGET];
    let links: [(&str, &[u8]); 7] = [
        ("to-file", b"../contents/text"),
        ("to-dir", b".."),
        ("absolute", b"/etc/passwd"),
        ("dangling", b"no/such/file"),
        ("to-itself", b"to-itself"),
        ("not-utf8", b"\xff\x80"),
        ("longest", &longest),
    ];
    for (name, target) in links {
        symlink(OsStr::from_bytes(target), dir.join(name)).unwrap();
    }
}

fn attributes(dir: &Path) {
    let file = dir.join("file");
    fs::write(&file, "content").unwrap();
    let longest = [b"user.".as_slice(), &[b'x'; LONGEST_NAME - 5]].concat();
    for path in [file, mkdir(&dir.join("dir"))] {
        set_xattr(&path, b"user.text", b"a value");
        set_xattr(&path, b"user.empty", b"");
        set_xattr(&path, b"user.binary", b"\0\x01\xff\n");
        set_xattr(&path, b"user.large", &random(10, 2 * KIB));
        set_xattr(&path, b"user.\xff", b"a name that is not UTF-8");
        set_xattr(&path, &longest, b"the longest name");
    }
}

fn hard_links(root: &Path) {
    let here = mkdir(&root.join("links"));
    let there = mkdir(&root.join("links-elsewhere"));
    fs::write(here.join("file"), lines(10_000)).unwrap();
    symlink("file", here.join("symlink")).unwrap();
    make_node(&here.join("fifo"), FileType::Fifo, 0);
    for name in ["file", "symlink", "fifo"] {
        let path = here.join(name);
        fs::hard_link(&path, here.join(format!("{name}-again"))).unwrap();
        fs::hard_link(&path, there.join(name)).unwrap();
    }
}

fn many(dir: &Path) {
    for number in 0..MANY {
        fs::write(dir.join(format!("{number}")), format!("{number}").repeat(number % 50)).unwrap();
    }
}

fn nodes(dir: &Path) {
    make_node(&dir.join("socket"), FileType::Socket, 0);
    make_node(&dir.join("null"), FileType::CharacterDevice, makedev(1, 3));
    make_node(&dir.join("loop0"), FileType::BlockDevice, makedev(7, 0));
    // The largest numbers that the kernel has.
    let largest = makedev(0xfff, 0xf_ffff);
    make_node(&dir.join("largest"), FileType::CharacterDevice, largest);
    for name in ["socket", "null", "loop0"] {
        fs::hard_link(dir.join(name), dir.join(format!("{name}-again"))).unwrap();
    }
}

/// CAP_NET_BIND_SERVICE, permitted and effective (VFS_CAP_REVISION_2).
pub fn capability() -> Vec<u8> {
    [0x0200_0001_u32, 1 << 10, 0, 0, 0].map(u32::to_le_bytes).concat()
}

fn privileged_attributes(dir: &Path) {
    let file = dir.join("file");
    fs::write(&file, "content").unwrap();
    set_xattr(&file, b"security.capability", &capability());
    set_xattr(&file, ACL_ACCESS.as_bytes(), &acl());
    let with_acl = mkdir(&dir.join("dir"));
    fs::write(with_acl.join("made-before"), "inherits nothing").unwrap();
    set_xattr(&with_acl, ACL_ACCESS.as_bytes(), &acl());
    set_xattr(&with_acl, ACL_DEFAULT.as_bytes(), &acl());
    symlink("file", dir.join("symlink")).unwrap();
    make_node(&dir.join("fifo"), FileType::Fifo, 0);
    make_node(&dir.join("socket"), FileType::Socket, 0);
    make_node(&dir.join("null"), FileType::CharacterDevice, makedev(1, 3));
    for name in ["file", "dir", "symlink", "fifo", "socket", "null"] {
        set_xattr(&dir.join(name), b"trusted.text", name.as_bytes());
    }
}

/// `u::rw-,u:1000:r--,g::r--,m::rw-,o::---`, as the kernel stores it.
fn acl() -> Vec<u8> {
    const VERSION: u32 = 2;
    const NOBODY: u32 = u32::MAX;
    let (user_obj, user, group_obj, mask, other) = (0x01_u16, 0x02, 0x04, 0x10, 0x20);
    let entries: [(u16, u16, u32); 5] = [
        (user_obj, 0o6, NOBODY),
        (user, 0o4, 1000),
        (group_obj, 0o4, NOBODY),
        (mask, 0o6, NOBODY),
        (other, 0o0, NOBODY),
    ];
    let mut bytes = VERSION.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(permissions.to_le_bytes());
        bytes.extend(id.to_le_bytes());
    }
    bytes
}

fn owners(dir: &Path) {
    // The largest id is 2^32 - 2: one more means "leave it".
    let largest = u32::MAX - 1;
    for (uid, gid) in
        [(1000, 1000), (0, 5), (65534, 0), (1 << 31, 3_000_000_000), (largest, largest)]
    {
        let file = dir.join(format!("file-{uid}-{gid}"));
        fs::write(&file, "content").unwrap();
        let link = dir.join(format!("symlink-{uid}-{gid}"));
        symlink("target", &link).unwrap();
        let own_dir = mkdir(&dir.join(format!("dir-{uid}-{gid}")));
        for path in [&file, &link, &own_dir] {
            lchown(path, Some(uid), Some(gid)).unwrap();
        }
        // After the owner: a change of owner takes these bits away.
        set_mode(&file, 0o6755);
    }
}

/// Directories whose nature a child takes on when it is made in them.
fn inherited(dir: &Path) {
    let set_gid = mkdir(&dir.join("set-gid"));
    fs::write(set_gid.join("file"), "not of the directory's group").unwrap();
    mkdir(&set_gid.join("dir"));
    lchown(&set_gid, Some(0), Some(7)).unwrap();
    set_mode(&set_gid, 0o2755);
}

/// A path that no single system call can take.
fn deep(dir: &Path) {
    let mut parent = open_dir(CWD, dir.as_os_str());
    for level in 0..DEEP {
        let name = format!("{level:0>LONGEST_NAME$}");
        rustix::fs::mkdirat(&parent, &name, Mode::from_raw_mode(0o755)).unwrap();
        parent = open_dir(&parent, OsStr::new(&name));
    }
    let mode = Mode::from_raw_mode(0o644);
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY;
    let file = rustix::fs::openat(&parent, "at the bottom", flags, mode).unwrap();
    File::from(file).write_all_at(b"deep down", 0).unwrap();
}

pub fn mkdir(path: &Path) -> PathBuf {
    fs::create_dir(path).unwrap();
    path.to_owned()
}

pub fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

pub fn set_xattr(path: &Path, name: &[u8], value: &[u8]) {
    rustix::fs::lsetxattr(path, name, value, XattrFlags::empty())
        .unwrap_or_else(|e| panic!("{}: {}: {e}", path.display(), name.escape_ascii()));
}

pub fn make_node(path: &Path, kind: FileType, device: Dev) {
    rustix::fs::mknodat(CWD, path, kind, Mode::from_raw_mode(0o640), device).unwrap();
}

/// Gives everything in `root`, and `root`, a modification time of its own:
/// before 1970, at its very beginning, past 2038 and past 2106, with all digits
/// of the nanoseconds.
pub fn set_times(root: &Path) {
    const SECONDS: [i64; 6] = [1_700_000_000, -86_400, -1, 0, 2_200_000_000, 5_000_000_000];
    fn visit(parent: BorrowedFd, name: &OsStr, count: &mut usize) {
        let stat = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).unwrap();
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            let dir = open_dir(parent, name);
            for child in children(&dir) {
                visit(dir.as_fd(), OsStr::from_bytes(&child), count);
            }
        }
        let time = Timespec {
            tv_sec: SECONDS[*count % SECONDS.len()] + *count as i64,
            tv_nsec: (*count as i64 * 123_456_789 + 1) % 1_000_000_000,
        };
        let times = Timestamps { last_access: time, last_modification: time };
        rustix::fs::utimensat(parent, name, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
        *count += 1;
    }
    visit(CWD, root.as_os_str(), &mut 0);
}

pub fn open_dir(parent: impl AsFd, name: &OsStr) -> OwnedFd {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::empty())
        .unwrap_or_else(|e| panic!("cannot open the directory {}: {e}", name.display()))
}

/// The names in a directory, sorted.
pub fn children(dir: &OwnedFd) -> Vec<Vec<u8>> {
    let mut names: Vec<Vec<u8>> = rustix::fs::Dir::read_from(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_bytes().to_vec())
        .filter(|name| name != b"." && name != b"..")
        .collect();
    names.sort();
    names
}

/// A path to `name` in an open directory, for system calls that take no such
/// directory.
pub fn path_in(dir: BorrowedFd, name: &OsStr) -> PathBuf {
    Path::new("/proc/self/fd").join(dir.as_raw_fd().to_string()).join(name)
}
