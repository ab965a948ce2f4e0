//! What a directory tree is, as facts that can be compared.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::fmt::Write;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, SeekFrom, Stat};
use rustix::io::Errno;
use sha2::{Digest, Sha256};

use super::tree::{KIB, children, open_dir, path_in};

/// How many differences a failure shows.
const SHOWN: usize = 10;

/// A tree, as facts by path. The root is `.`.
///
/// The facts of a file: `type`, `mode`, `uid`, `gid`, `mtime`; but for
/// directories `nlink`; for those with several names `same as`, the first of
/// them; `size` and `sha256` of regular files, `target` of symlinks, `rdev` of
/// devices; each extended attribute as `xattr NAME`; and where it was asked
/// for, `data`: where a regular file has data rather than holes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot(BTreeMap<Vec<u8>, Facts>);

type Facts = BTreeMap<String, String>;

impl Snapshot {
    pub fn of(dir: &Path) -> Snapshot {
        Walk::default().start(dir)
    }

    /// Also says where regular files have data.
    pub fn with_holes(dir: &Path) -> Snapshot {
        Walk { holes: true, ..Walk::default() }.start(dir)
    }

    /// Asks for each of these names, where `of` asks directories for theirs.
    pub fn by_lookup(dir: &Path, names: &Snapshot) -> Snapshot {
        Walk { names: Some(names), ..Walk::default() }.start(dir)
    }

    /// The same tree without these facts.
    pub fn without(mut self, facts: &[&str]) -> Snapshot {
        for found in self.0.values_mut() {
            found.retain(|fact, _| !facts.contains(&fact.as_str()));
        }
        self
    }

    /// The names of both; what they are is of no use.
    pub fn names_of_both(mut self, mut other: Snapshot) -> Snapshot {
        self.0.append(&mut other.0);
        self
    }

    /// What this fact is of each file that has it.
    pub fn values<'a>(&'a self, fact: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.values().filter_map(move |facts| facts.get(fact)).map(String::as_str)
    }

    /// Each file under its first name alone.
    pub fn without_links(mut self) -> Snapshot {
        self.0.retain(|_, facts| !facts.contains_key("same as"));
        self
    }

    /// All paths, the root's among them.
    pub fn paths(&self) -> impl Iterator<Item = &[u8]> {
        self.0.keys().map(Vec::as_slice)
    }

    /// A line for each difference.
    pub fn differences(&self, found: &Snapshot) -> Vec<String> {
        let mut lines = Vec::new();
        for path in merged(&self.0, &found.0) {
            match (self.0.get(path), found.0.get(path)) {
                (Some(expected), Some(found)) => {
                    for fact in merged(expected, found) {
                        let show = |facts: &Facts| {
                            facts.get(fact).map_or("nothing".to_owned(), |value| value.clone())
                        };
                        let (expected, found) = (show(expected), show(found));
                        if expected != found {
                            let path = path.escape_ascii();
                            lines.push(format!(
                                "{path}: {fact}: expected {expected}, found {found}"
                            ));
                        }
                    }
                }
                (Some(expected), None) => {
                    lines.push(format!("{}: missing ({})", path.escape_ascii(), expected["type"]));
                }
                (None, found) => {
                    let kind = &found.expect("it is in one of the two")["type"];
                    lines.push(format!("{}: unexpected ({kind})", path.escape_ascii()));
                }
            }
        }
        lines
    }
}

/// Panics unless both trees are the same; shows where they first differ.
#[track_caller]
pub fn assert_same(what: &str, expected: &Snapshot, found: &Snapshot) {
    let differences = expected.differences(found);
    if differences.is_empty() {
        return;
    }
    let mut message = format!("{what}: the trees differ in {} places:", differences.len());
    for line in differences.iter().take(SHOWN) {
        write!(message, "\n  {line}").unwrap();
    }
    if differences.len() > SHOWN {
        write!(message, "\n  and so on").unwrap();
    }
    panic!("{message}");
}

/// Panics unless these are the differences, each given by how it begins.
#[track_caller]
pub fn assert_begin(what: &str, beginnings: &[&str], differences: &[String]) {
    let pairs = beginnings.iter().zip(differences);
    let all_begin = pairs.into_iter().all(|(beginning, line)| line.starts_with(beginning));
    assert!(
        all_begin && beginnings.len() == differences.len(),
        "{what}: expected {beginnings:#?}, found {differences:#?}"
    );
}

/// The keys of both, each once, sorted.
fn merged<'a, K: Ord, V>(one: &'a BTreeMap<K, V>, other: &'a BTreeMap<K, V>) -> Vec<&'a K> {
    let mut keys: Vec<&K> = one.keys().chain(other.keys()).collect();
    keys.sort();
    keys.dedup();
    keys
}

#[derive(Default)]
struct Walk<'a> {
    holes: bool,
    names: Option<&'a Snapshot>,
    found: BTreeMap<Vec<u8>, Facts>,
    /// By device and inode, the paths that lead there.
    paths: HashMap<(u64, u64), Vec<Vec<u8>>>,
}

impl Walk<'_> {
    fn start(mut self, dir: &Path) -> Snapshot {
        let root = open_dir(CWD, dir.as_os_str());
        self.visit(root.as_fd(), b".", b".");
        for mut paths in self.paths.into_values() {
            paths.sort();
            let (first, rest) = paths.split_first().expect("no list is empty");
            for path in rest {
                let facts = self.found.get_mut(path).expect("it was visited");
                facts.insert("same as".to_owned(), first.escape_ascii().to_string());
            }
        }
        Snapshot(self.found)
    }

    fn visit(&mut self, parent: BorrowedFd, name: &[u8], path: &[u8]) {
        let os_name = OsStr::from_bytes(name);
        let stat = match rustix::fs::statat(parent, os_name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) if self.names.is_some() => return,
            Err(e) => panic!("{}: {e}", path.escape_ascii()),
        };
        let mut facts = facts(&stat);
        for (name, value) in xattrs(&path_in(parent, os_name)) {
            let value = value.escape_ascii().to_string();
            facts.insert(format!("xattr {}", name.escape_ascii()), value);
        }
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let dir = open_dir(parent, os_name);
                for child in self.children(&dir, path) {
                    let child_path = match path {
                        b"." => child.clone(),
                        _ => [path, b"/", &child].concat(),
                    };
                    self.visit(dir.as_fd(), &child, &child_path);
                }
            }
            FileType::RegularFile => {
                let mut file = open_file(parent, os_name);
                if self.holes {
                    facts.insert("data".to_owned(), data_map(&file));
                }
                facts.insert("sha256".to_owned(), checksum(&mut file, path));
            }
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(parent, os_name, Vec::new()).unwrap();
                let target = target.as_bytes().escape_ascii().to_string();
                facts.insert("target".to_owned(), target);
            }
            _ => {}
        }
        self.paths.entry((stat.st_dev, stat.st_ino)).or_default().push(path.to_owned());
        self.found.insert(path.to_owned(), facts);
    }

    fn children(&self, dir: &OwnedFd, path: &[u8]) -> Vec<Vec<u8>> {
        let Some(names) = self.names else {
            return children(dir);
        };
        let prefix = match path {
            b"." => Vec::new(),
            _ => [path, b"/"].concat(),
        };
        let names = names.0.keys().filter_map(|path| path.strip_prefix(prefix.as_slice()));
        names.filter(|name| *name != b"." && !name.contains(&b'/')).map(<[u8]>::to_vec).collect()
    }
}

/// What lstat alone says.
fn facts(stat: &Stat) -> Facts {
    let kind = FileType::from_raw_mode(stat.st_mode);
    let mut facts = Facts::new();
    let mut add = |fact: &str, value: String| facts.insert(fact.to_owned(), value);
    add("type", format!("{kind:?}"));
    add("mode", format!("{:04o}", stat.st_mode & 0o7777));
    add("uid", stat.st_uid.to_string());
    add("gid", stat.st_gid.to_string());
    add("mtime", format!("{} s + {} ns", stat.st_mtime, stat.st_mtime_nsec));
    if kind != FileType::Directory {
        add("nlink", stat.st_nlink.to_string());
    }
    if kind == FileType::RegularFile {
        add("size", stat.st_size.to_string());
    }
    if matches!(kind, FileType::CharacterDevice | FileType::BlockDevice) {
        let (major, minor) = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
        add("rdev", format!("{major}:{minor}"));
    }
    facts
}

fn xattrs(path: &Path) -> Vec<(Vec<u8>, Vec<u8>)> {
    // The kernel's own limits for a list and for a value (XATTR_LIST_MAX,
    // XATTR_SIZE_MAX).
    let mut list = vec![0; 64 * KIB];
    let length = rustix::fs::llistxattr(path, &mut list[..]).unwrap();
    let mut value = vec![0; 64 * KIB];
    let names = list[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty());
    names
        .map(|name| {
            let length = rustix::fs::lgetxattr(path, name, &mut value[..]).unwrap();
            (name.to_vec(), value[..length].to_vec())
        })
        .collect()
}

fn open_file(parent: BorrowedFd, name: &OsStr) -> File {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    File::from(rustix::fs::openat(parent, name, flags, Mode::empty()).unwrap())
}

fn checksum(file: &mut File, path: &[u8]) -> String {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 128 * KIB];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return hex::encode(hash.finalize()),
            Ok(count) => hash.update(&buffer[..count]),
            Err(e) => panic!("{}: {e}", path.escape_ascii()),
        }
    }
}

/// `START..END` of each stretch of data.
fn data_map(file: &File) -> String {
    let mut stretches = Vec::new();
    let mut offset = 0;
    loop {
        let start = match rustix::fs::seek(file, SeekFrom::Data(offset)) {
            Ok(start) => start,
            Err(Errno::NXIO) => break,
            Err(e) => panic!("SEEK_DATA: {e}"),
        };
        offset = rustix::fs::seek(file, SeekFrom::Hole(start)).unwrap();
        stretches.push(format!("{start}..{offset}"));
    }
    rustix::fs::seek(file, SeekFrom::Start(0)).unwrap();
    stretches.join(" ")
}
