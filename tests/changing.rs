//! A source that somebody changes while it is read, and a target while it is written: nothing
//! outside is read or written, and no file is torn unnoticed.
//!
//! `PUZZLEFS_ROUNDS` says how often each change meets each command.

mod common;

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;

use common::command::{Output, puzzlefs, run, succeed};
use common::snapshot::{Snapshot, assert_same};
use common::temp_dir;
use common::tree::{KIB, lines, make_node, mkdir, set_mode};
use puzzlefs::ErrorKind;
use puzzlefs::progress::Monitor;
use puzzlefs::source::directory::scan;
use puzzlefs::source::{Contents, ScanOptions, Source as _};
use puzzlefs::tree::Ino;
use rustix::fs::{CWD, FileType, RenameFlags, renameat_with};

const SECRET: u64 = u64::from_le_bytes(*b"SECRET! ");
/// How large files are.
const SIZE: usize = 1024 * KIB;
const FILES: u64 = 4;

fn rounds() -> usize {
    std::env::var("PUZZLEFS_ROUNDS").map_or(4, |count| count.parse().expect("a number"))
}

/// A version of a file: the same word again and again, as often as it is long.
fn version(word: u64, size: usize) -> Vec<u8> {
    word.to_le_bytes().repeat(size / 8)
}

/// Does `again` and again, turn by turn, while `action` runs.
fn meanwhile<T>(again: impl Fn(u64) + Sync, action: impl FnOnce() -> T) -> T {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let other = scope.spawn(|| (0..).take_while(|_| !done.load(Relaxed)).for_each(&again));
        let result = action();
        done.store(true, Relaxed);
        other.join().unwrap();
        result
    })
}

fn exchange(one: &Path, other: &Path) {
    renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).unwrap();
}

/// A file system in memory on which times go by ticks.
struct Ramfs(PathBuf);

impl Ramfs {
    fn mount(at: PathBuf) -> Ramfs {
        mkdir(&at);
        succeed(Command::new("mount").args(["-t", "ramfs", "ramfs"]).arg(&at));
        Ramfs(at)
    }
}

impl Drop for Ramfs {
    fn drop(&mut self) {
        let unmounted = run(Command::new("umount").arg("--lazy").arg(&self.0));
        assert!(unmounted.status.success() || thread::panicking(), "{unmounted}");
    }
}

/// A tree, and beside it what must not be read.
struct Source {
    tree: PathBuf,
    outside: PathBuf,
}

impl Source {
    fn new(dir: &Path) -> Source {
        let (tree, outside) = (mkdir(&dir.join("tree")), mkdir(&dir.join("outside")));
        let directories =
            [(&tree, "a", 1), (&tree, "b", 2), (&tree, "c", 3), (&outside, "b", SECRET)];
        for (parent, name, word) in directories {
            let directory = mkdir(&parent.join(name));
            for file in 0..FILES {
                fs::write(directory.join(format!("{file}")), version(word, SIZE)).unwrap();
            }
        }
        symlink(outside.join("b"), outside.join("link-to-directory")).unwrap();
        symlink(outside.join("b/1"), outside.join("link-to-file")).unwrap();
        Source { tree, outside }
    }

    fn file(&self, turn: u64) -> PathBuf {
        self.tree.join("b").join(format!("{}", turn % FILES))
    }
}

/// What somebody does, turn by turn.
type Change = fn(&Source, u64);

const CHANGES: &[(&str, Change)] = &[
    ("files grow and shrink", |source, turn| {
        let path = source.file(turn);
        let file = OpenOptions::new().append(true).open(path).unwrap();
        let (length, word) = (file.metadata().unwrap().len() as usize, version(2, SIZE / 2));
        if length > 2 * SIZE { file.set_len(8).unwrap() } else { (&file).write_all(&word).unwrap() }
    }),
    ("files are rewritten in place", |source, turn| {
        let file = OpenOptions::new().write(true).open(source.file(turn)).unwrap();
        file.write_all_at(&version(turn + 1, SIZE), 0).unwrap();
    }),
    ("files are replaced", |source, turn| {
        let new = source.outside.join("new");
        fs::write(&new, version(turn + 1, SIZE)).unwrap();
        fs::rename(new, source.file(turn)).unwrap();
    }),
    ("files become links", |source, turn| {
        exchange(&source.outside.join("link-to-file"), &source.file(turn / 2));
    }),
    ("a directory becomes a link", |source, _| {
        exchange(&source.outside.join("link-to-directory"), &source.tree.join("b"));
    }),
    ("a directory becomes another one", |source, _| {
        exchange(&source.tree.join("a"), &source.tree.join("b"));
    }),
    // What is in it while it is outside is none of the source's.
    ("a directory is moved out and in", |source, turn| {
        let (inside, outside) = (source.tree.join("b"), source.outside.join("moved"));
        fs::rename(&inside, &outside).unwrap();
        let secret = outside.join(format!("secret-{}", turn % 3));
        fs::write(&secret, version(SECRET, 4 * KIB)).unwrap();
        fs::remove_file(secret).unwrap();
        fs::rename(outside, inside).unwrap();
    }),
    ("a directory is moved within", |source, _| {
        let (one, other) = (source.tree.join("b"), source.tree.join("c/b"));
        fs::rename(&one, &other).unwrap();
        fs::rename(&other, &one).unwrap();
    }),
    ("names come and go", |source, turn| {
        let path = source.tree.join(format!("b/new-{}", turn % 100));
        fs::write(&path, version(1, 8)).unwrap();
        fs::remove_file(&path).unwrap();
    }),
];

/// Panics unless each file of the tree is one version, and none is from outside.
#[track_caller]
fn assert_whole(what: &str, directory: &Path) {
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            assert_whole(what, &entry.path());
        }
        if !entry.file_type().unwrap().is_file() {
            continue;
        }
        let (path, bytes) = (entry.path(), fs::read(entry.path()).unwrap());
        let words: Vec<_> =
            bytes.chunks(8).map(|word| u64::from_le_bytes(word.try_into().unwrap())).collect();
        assert!(!words.contains(&SECRET), "{what}: {} is from outside", path.display());
        let whole = words.windows(2).all(|pair| pair[0] == pair[1]);
        assert!(whole, "{what}: {} is torn", path.display());
    }
}

/// It did its work, or said which path of the tree changed.
#[track_caller]
fn succeeded_or_told(what: &str, tree: &Path, output: &Output) -> bool {
    if output.status.success() {
        return true;
    }
    let said = output.errors();
    let told =
        said.contains(&format!("'{}", tree.display())) && said.contains("' changed while it was ");
    assert!(told && said.lines().count() == 1, "{what}: {output}");
    false
}

fn check_source(what: &str, dir: &Path, change: Change) {
    let source = Source::new(dir);
    let image = |tag: &str| OsStr::new(dir).to_owned().into_string().unwrap() + "/layout:" + tag;
    let target = dir.join("target");
    let base = format!("--base={}", image("base"));
    let commands: [&[&str]; 3] = [&["build"], &["build", &base], &["delta", &base]];
    succeed(puzzlefs().args(["build", "--quiet"]).arg(&source.tree).arg(image("base")));
    let mut built = 0;
    for _ in 0..rounds() {
        for command in commands {
            let mut command = {
                let mut puzzlefs = puzzlefs();
                puzzlefs.args(command).arg("--quiet").arg(&source.tree).arg(image("v1"));
                puzzlefs
            };
            let output = meanwhile(|turn| change(&source, turn), || run(&mut command));
            if succeeded_or_told(what, &source.tree, &output) {
                built += 1;
                succeed(puzzlefs().args(["extract", "--quiet"]).arg(image("v1")).arg(&target));
                assert_whole(what, &target);
                fs::remove_dir_all(&target).unwrap();
            }
        }
    }
    eprintln!("{what}: {built} of {} saw no change", rounds() * commands.len());
}

#[test]
fn a_source_that_changes_is_read_whole_or_not_at_all() {
    for (what, change) in CHANGES {
        check_source(what, temp_dir().path(), *change);
    }
}

/// The file of a tree of one, as the library reads it: calls `work` when it is open.
fn with_open_file<T>(tree: &Path, work: impl FnOnce(&mut dyn Contents) -> T) -> T {
    let options = ScanOptions::default();
    let source = scan(tree, None, &options, None, &Monitor::silent()).unwrap();
    let file = source.tree().lookup(Ino::ROOT, b"file").unwrap();
    let mut opener = source.opener().unwrap();
    work(&mut *opener.open(file).unwrap())
}

/// On most file systems before Linux 6.13, and on some since, times go by ticks: a file that
/// changes twice within one looks as if it had changed once.
#[test]
fn a_change_within_a_tick_is_seen() {
    let dir = temp_dir();
    let memory = Ramfs::mount(dir.path().join("memory"));
    let tree = mkdir(&memory.0.join("tree"));
    let write = |word| {
        let file = File::options().write(true).create(true).truncate(false).open(tree.join("file"));
        file.unwrap().write_all_at(&version(word, 8 * KIB), 0).unwrap();
    };
    for turn in 0..20 {
        write(turn);
        let finished = with_open_file(&tree, |file| {
            write(turn + 100);
            file.finish()
        });
        assert_eq!(finished.unwrap_err().kind(), ErrorKind::Changed, "turn {turn}");
    }
}

/// The time of a change is that of its beginning.
#[test]
fn a_write_that_is_under_way_is_waited_for() {
    const LARGE: usize = 128 * 1024 * KIB;
    let dir = temp_dir();
    let tree = mkdir(&dir.path().join("tree"));
    let path = tree.join("file");
    fs::write(&path, version(0, LARGE)).unwrap();
    let file = File::options().read(true).write(true).open(&path).unwrap();
    let word_at = |offset: u64| {
        let mut word = [0; 8];
        file.read_exact_at(&mut word, offset).unwrap();
        u64::from_le_bytes(word)
    };
    for turn in 1..4 {
        let bytes = version(turn, LARGE);
        thread::scope(|scope| {
            scope.spawn(|| file.write_all_at(&bytes, 0).unwrap());
            while word_at(0) != turn {
                thread::yield_now();
            }
            with_open_file(&tree, |contents| {
                let mut last = [0; 8];
                contents.read_exact_at(&mut last, LARGE as u64 - 8).unwrap();
                contents.finish().unwrap();
                assert_eq!(u64::from_le_bytes(last), turn);
            });
        });
    }
}

/// Whoever may write into the target puts links to what is outside in the place of what was
/// extracted: nothing is written there, and no mode, owner or time is changed.
#[test]
fn what_is_outside_the_target_is_not_written_to() {
    const NAMES: u64 = 30;
    let dir = temp_dir();
    let tree = mkdir(&dir.path().join("tree"));
    for number in 0..NAMES {
        let directory = mkdir(&tree.join(format!("directory-{number}")));
        set_mode(&directory, 0o777);
        fs::write(directory.join("file"), lines(20 * KIB)).unwrap();
        make_node(&tree.join(format!("fifo-{number}")), FileType::Fifo, 0);
        set_mode(&tree.join(format!("fifo-{number}")), 0o666);
        symlink("file", directory.join("link")).unwrap();
    }
    let image = dir.path().join("layout:v1");
    succeed(puzzlefs().args(["build", "--quiet"]).arg(&tree).arg(&image));

    let outside = mkdir(&dir.path().join("outside"));
    let victim = mkdir(&outside.join("victim"));
    for path in [outside.join("file"), victim.join("kept")] {
        fs::write(&path, "kept").unwrap();
        set_mode(&path, 0o600);
    }
    set_mode(&victim, 0o700);
    let before = Snapshot::of(&outside);
    let (target, aside) = (dir.path().join("target"), dir.path().join("aside"));
    // What fails finds nothing there yet, or not any more.
    type Attack = fn(&Path, &Path, &Path, u64) -> std::io::Result<()>;
    let attacks: &[(&str, Attack)] = &[
        ("directories become links", |target, aside, outside, turn| {
            let directory = target.join(format!("directory-{}", turn % NAMES));
            fs::rename(&directory, aside.join(format!("{turn}")))?;
            symlink(outside.join("victim"), directory)
        }),
        ("directories become others", |target, aside, _, turn| {
            let directory = target.join(format!("directory-{}", turn % NAMES));
            fs::rename(&directory, aside.join(format!("{turn}")))?;
            fs::create_dir(directory)
        }),
        ("FIFOs become links", |target, aside, outside, turn| {
            let link = aside.join(format!("{}", turn % 100));
            if fs::symlink_metadata(&link).is_err() {
                symlink(outside.join("file"), &link)?;
            }
            let fifo = target.join(format!("fifo-{}", turn % NAMES));
            let exchanged = renameat_with(CWD, &link, CWD, fifo, RenameFlags::EXCHANGE);
            exchanged.map_err(Into::into)
        }),
        ("the target becomes a link", |target, aside, outside, turn| {
            fs::rename(target, aside.join(format!("{turn}")))?;
            symlink(outside.join("victim"), target)
        }),
    ];
    for (what, attack) in attacks {
        let mut extracted = 0;
        for _ in 0..3 * rounds() {
            mkdir(&aside);
            let mut extract = puzzlefs();
            extract.args(["extract", "--quiet"]).arg(&image).arg(&target);
            let again = |turn| drop(attack(&target, &aside, &outside, turn));
            let output = meanwhile(again, || run(&mut extract));
            assert!(matches!(output.status.code(), Some(0 | 1)), "{what}: {output}");
            extracted += u64::from(output.status.success());
            assert_same(what, &before, &Snapshot::of(&outside));
            if target.is_symlink() {
                fs::remove_file(&target).unwrap();
            } else if target.exists() {
                fs::remove_dir_all(&target).unwrap();
            }
            fs::remove_dir_all(&aside).unwrap();
        }
        eprintln!("{what}: {extracted} of {} were extracted", 3 * rounds());
    }
}
