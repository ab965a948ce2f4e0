//! Builds that cannot be: of sources, into layouts, with options.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;

use crate::check::{
    Random, Run, Verdict, each, named, nothing_written, puzzlefs, same, scratch, tags, wrapped,
};
use crate::images::sample;

/// A tree of three files.
fn make_tree(dir: &Path) {
    fs::create_dir_all(dir.join("tree/sub")).expect("mkdir");
    for (path, content) in [("a", "of a"), ("b", "of b"), ("sub/c", "of c")] {
        fs::write(dir.join("tree").join(path), content).expect("write");
    }
}

/// The same, and a layout that has an image already.
fn make_tree_and_layout(dir: &Path) {
    make_tree(dir);
    sample().write(&dir.join("out"), "v0");
}

fn chmod(path: PathBuf, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("chmod");
}

/// Root without the right to pass over permissions, as which it is bound by its own files' modes.
const WITHOUT_CAPABILITIES: &[&str] = &["setpriv", "--inh-caps=-all", "--bounding-set=-all"];

struct Row {
    name: &'static str,
    prepare: fn(&Path),
    wrapper: &'static [&'static str],
    args: &'static [&'static str],
    code: i32,
    message: &'static str,
}

const BUILD: Row = Row {
    name: "",
    prepare: make_tree,
    wrapper: &[],
    args: &["build", "tree", "out:v1"],
    code: 1,
    message: "",
};

fn check(rows: &[Row]) {
    each(rows, |row| {
        let scratch = scratch();
        let dir = scratch.path();
        (row.prepare)(dir);
        let refused = || wrapped(dir, row.wrapper, row.args).refused(row.code, row.message);
        nothing_written(dir, refused).map_err(named(&format!("{} {:?}", row.name, row.args)))
    });
}

#[test]
fn sources() {
    check(&[
        Row { name: "missing", args: &["build", "gone", "out:v1"], message: "'gone'", ..BUILD },
        Row { name: "a file", args: &["build", "tree/a", "out:v1"], message: "'tree/a'", ..BUILD },
        Row {
            name: "a dangling link",
            prepare: |dir| symlink("gone", dir.join("tree")).expect("symlink"),
            message: "'tree'",
            ..BUILD
        },
        Row {
            name: "an unreadable file",
            prepare: |dir| {
                make_tree_and_layout(dir);
                chmod(dir.join("tree/sub/c"), 0)
            },
            wrapper: WITHOUT_CAPABILITIES,
            message: "sub/c'",
            ..BUILD
        },
        Row {
            name: "an unreadable directory",
            prepare: |dir| {
                make_tree(dir);
                chmod(dir.join("tree/sub"), 0)
            },
            wrapper: WITHOUT_CAPABILITIES,
            message: "sub'",
            ..BUILD
        },
        Row {
            name: "unreadable itself",
            prepare: |dir| {
                make_tree(dir);
                chmod(dir.join("tree"), 0)
            },
            wrapper: WITHOUT_CAPABILITIES,
            message: "tree'",
            ..BUILD
        },
        Row {
            name: "with the layout in it",
            args: &["build", "tree", "tree/sub/out:v1"],
            message: "tree/sub/out",
            ..BUILD
        },
        Row {
            name: "with an old layout in it",
            prepare: |dir| {
                make_tree(dir);
                drop(sample().write(&dir.join("tree/out"), "v0"))
            },
            args: &["build", "tree", "tree/out:v1"],
            message: "tree/out",
            ..BUILD
        },
        Row {
            name: "with the layout in it, by another path",
            prepare: |dir| {
                make_tree(dir);
                symlink("tree/sub", dir.join("link")).expect("symlink")
            },
            args: &["build", "tree", "link/out:v1"],
            message: "out",
            ..BUILD
        },
        // They say 4,096 bytes: each looks like one that was cut while it was read.
        Row {
            name: "of files that are shorter than they say",
            prepare: make_tree_and_layout,
            args: &["build", "/sys/class/net/lo", "out:v1"],
            message: "changed while it was read",
            ..BUILD
        },
        Row {
            name: "the layout itself",
            args: &["build", "tree", "tree:v1"],
            message: "'tree'",
            ..BUILD
        },
    ]);
}

fn layout_of(version: &str, dir: &Path) {
    make_tree_and_layout(dir);
    fs::write(dir.join("out/oci-layout"), format!(r#"{{"imageLayoutVersion":"{version}"}}"#))
        .expect("write");
}

fn with_index(dir: &Path, content: &[u8]) {
    make_tree_and_layout(dir);
    fs::write(dir.join("out/index.json"), content).expect("write");
}

#[test]
fn layouts() {
    check(&[
        Row {
            name: "in a directory without write permission",
            prepare: |dir| {
                make_tree(dir);
                fs::create_dir(dir.join("ro")).expect("mkdir");
                chmod(dir.join("ro"), 0o555)
            },
            args: &["build", "tree", "ro/out:v1"],
            wrapper: WITHOUT_CAPABILITIES,
            message: "'ro/out'",
            ..BUILD
        },
        Row {
            name: "without write permission",
            prepare: |dir| {
                make_tree(dir);
                fs::create_dir(dir.join("out")).expect("mkdir");
                chmod(dir.join("out"), 0o555)
            },
            wrapper: WITHOUT_CAPABILITIES,
            message: "'out",
            ..BUILD
        },
        Row {
            name: "of which the blobs have no write permission",
            prepare: |dir| {
                make_tree(dir);
                sample().write(&dir.join("out"), "v0");
                chmod(dir.join("out/blobs/sha256"), 0o555)
            },
            wrapper: WITHOUT_CAPABILITIES,
            message: "'out",
            ..BUILD
        },
        Row {
            name: "below a file",
            args: &["build", "tree", "tree/a/out:v1"],
            message: "tree/a",
            ..BUILD
        },
        Row { name: "a file", args: &["build", "tree", "tree/a:v1"], message: "'tree/a'", ..BUILD },
        Row {
            name: "a directory that holds something else",
            prepare: |dir| {
                make_tree(dir);
                fs::create_dir(dir.join("out")).expect("mkdir");
                fs::write(dir.join("out/diary"), "dear").expect("write")
            },
            message: "'out'",
            ..BUILD
        },
        Row {
            name: "of a newer version",
            prepare: |dir| layout_of("1.1.0", dir),
            message: "1.1.0",
            ..BUILD
        },
        Row {
            name: "of a much newer version",
            prepare: |dir| layout_of("2.0.0", dir),
            message: "2.0.0",
            ..BUILD
        },
        Row {
            name: "of a version that is none",
            prepare: |dir| layout_of("", dir),
            message: "of version",
            ..BUILD
        },
        Row {
            name: "without index.json",
            prepare: |dir| {
                layout_of("1.0.0", dir);
                fs::remove_file(dir.join("out/index.json")).expect("remove")
            },
            message: "index.json",
            ..BUILD
        },
        Row {
            name: "with an empty index.json",
            prepare: |dir| with_index(dir, b""),
            message: "index.json",
            ..BUILD
        },
        Row {
            name: "with junk for index.json",
            prepare: |dir| with_index(dir, b"junk"),
            message: "index.json",
            ..BUILD
        },
        Row {
            name: "with a list for index.json",
            prepare: |dir| with_index(dir, b"[]"),
            message: "index.json",
            ..BUILD
        },
        Row {
            name: "with manifests that are no list",
            prepare: |dir| with_index(dir, br#"{"schemaVersion":2,"manifests":{}}"#),
            message: "index.json",
            ..BUILD
        },
        Row {
            name: "with a huge index.json",
            prepare: |dir| {
                with_index(dir, b"");
                File::create(dir.join("out/index.json"))
                    .and_then(|file| file.set_len(1 << 30))
                    .expect("extend")
            },
            message: "index.json",
            ..BUILD
        },
        Row {
            name: "with a directory for index.json",
            prepare: |dir| {
                with_index(dir, b"");
                fs::remove_file(dir.join("out/index.json"))
                    .and_then(|()| fs::create_dir(dir.join("out/index.json")))
                    .expect("mkdir")
            },
            message: "index.json",
            ..BUILD
        },
    ]);
}

#[test]
fn references() {
    let rows = [
        "out",
        "out:",
        ":v1",
        ":",
        "out:a/b c",
        "out:a b",
        "out:a\nb",
        "out:-v1",
        "out:v1/",
        "out:ä",
        "out@sha256:00",
        "out@sha256:",
        "@sha256:0000000000000000000000000000000000000000000000000000000000000000",
        "out@",
    ];
    each(rows, |reference| {
        let scratch = scratch();
        let dir = scratch.path();
        make_tree(dir);
        let verbs: [&[&str]; 5] = [
            &["build", "tree", reference],
            &["inspect", reference],
            &["ls", reference],
            &["cat", reference, "/f"],
            &["extract", reference, "target"],
        ];
        verbs.into_iter().try_for_each(|args| {
            let refused = || puzzlefs(dir, args).refused(2, &format!("'{reference}'"));
            nothing_written(dir, refused).map_err(named(reference))
        })
    });
}

/// A digest names what there is, so it can't be given to what a build makes.
#[test]
fn a_build_into_a_digest() {
    let digest = "out@sha256:0000000000000000000000000000000000000000000000000000000000000000";
    let scratch = scratch();
    make_tree(scratch.path());
    let refused = || puzzlefs(scratch.path(), &["build", "tree", digest]).refused(1, digest);
    nothing_written(scratch.path(), refused).unwrap();
}

/// What clap knows to be wrong is wrong usage, and the rest fails as the library says.
#[test]
fn options() {
    type Row = (i32, &'static [&'static str], &'static str);
    let rows: &[Row] = &[
        (2, &["--compression=lz4"], "lz4"),
        (2, &["--compression=zstd:99"], "99"),
        (2, &["--compression=zstd:"], "zstd:"),
        (2, &["--compression=zstd:x"], "x"),
        (2, &["--compression=none:3"], "none:3"),
        (2, &["--compression="], "compression"),
        (2, &["--layout", "pile"], "pile"),
        (1, &["--pack-size", "0"], "0 bytes"),
        (1, &["--pack-size", "3M"], "3145728 bytes"),
        (1, &["--pack-size", "512K"], "524288 bytes"),
        (1, &["--pack-size", "64M"], "67108864 bytes"),
        (2, &["--pack-size", "1X"], "1X"),
        (2, &["--pack-size=-1M"], "-1M"),
        (2, &["--pack-size", "99999999999999999999G"], "99999999999999999999G"),
        (2, &["--pack-size", "17179869184G"], "17179869184G"),
        (1, &["--pack-size", "1M", "--layout", "blob-per-chunk"], "a pack size"),
        (1, &["--exclude", "[a"], "'[a'"),
        (2, &["--owner", "root"], "root"),
        (2, &["--owner", "0"], "0"),
        (2, &["--owner", "0:"], "0:"),
        (2, &["--owner", "0:0:0"], "0:0:0"),
        (2, &["--owner=-1:0"], "-1:0"),
        (2, &["--owner", "4294967296:0"], "4294967296"),
        (1, &["--owner", "4294967295:0"], "2^32 - 1"),
        (2, &["--clamp-mtime=yesterday"], "yesterday"),
        (2, &["--clamp-mtime="], "clamp-mtime"),
        (2, &["--created", "yesterday"], "yesterday"),
        (2, &["--created", "2026-02-30T00:00:00Z"], "2026-02-30"),
        (2, &["--created", "99999999999999999999"], "99999999999999999999"),
        (2, &["--annotation", "key"], "key"),
        (2, &["--annotation", "=value"], "=value"),
        (1, &["--architecture", ""], "architecture"),
        (1, &["--os", ""], "operating system"),
        (1, &["--threads", "0"], "0 threads"),
        (1, &["--threads", "1000000"], "1000000 threads"),
        (2, &["--threads", "many"], "many"),
        (2, &["--unheard-of"], "--unheard-of"),
    ];
    each(rows, |(code, options, message)| {
        let scratch = scratch();
        let dir = scratch.path();
        make_tree(dir);
        let args = [&["build"], *options, &["tree", "out:v1"]].concat();
        let refused = || puzzlefs(dir, &args).refused(*code, message);
        nothing_written(dir, refused).map_err(named(&options.join(" ")))
    });
}

#[test]
fn config_files() {
    type Row = (&'static str, fn(&Path), &'static str);
    let rows: &[Row] = &[
        ("missing", |_| {}, "'config'"),
        ("a directory", |path| fs::create_dir(path).expect("mkdir"), "'config'"),
        ("junk", |path| fs::write(path, "junk").expect("write"), "the configuration"),
        ("a list", |path| fs::write(path, "[]").expect("write"), "the configuration"),
        (
            "of another shape",
            |path| fs::write(path, r#"{"config":{"Env":"PATH=/"}}"#).expect("write"),
            "the configuration",
        ),
        (
            "huge",
            |path| File::create(path).and_then(|file| file.set_len(1 << 30)).expect("extend"),
            "'config'",
        ),
        ("endless", |path| symlink("/dev/zero", path).expect("symlink"), "'config'"),
    ];
    each(rows, |(name, make, message)| {
        let scratch = scratch();
        let dir = scratch.path();
        make_tree(dir);
        make(&dir.join("config"));
        let refused = || {
            puzzlefs(dir, &["build", "--config", "config", "tree", "out:v1"]).refused(1, message)
        };
        nothing_written(dir, refused).map_err(named(name))
    });
}

#[test]
fn source_date_epoch() {
    each(["", "yesterday", "1.5", "99999999999999999999", "1700000000 "], |epoch| {
        let scratch = scratch();
        make_tree(scratch.path());
        let variable = format!("SOURCE_DATE_EPOCH={epoch}");
        let refused = || {
            wrapped(scratch.path(), &["env", &variable], BUILD.args).refused(1, "SOURCE_DATE_EPOCH")
        };
        nothing_written(scratch.path(), refused).map_err(named(epoch))
    });
}

/// A file system of its own, until it is dropped.
struct Tmpfs(PathBuf);

impl Tmpfs {
    fn mount(at: PathBuf, size: &str) -> Self {
        fs::create_dir(&at).expect("mkdir");
        let mount =
            Command::new("mount").args(["-t", "tmpfs", "-o", size, "tmpfs"]).arg(&at).status();
        assert!(mount.expect("run mount").success(), "mount a tmpfs");
        Tmpfs(at)
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let umount = Command::new("umount").arg(&self.0).status();
        assert!(
            umount.expect("run umount").success() || thread::panicking(),
            "umount {:?}",
            self.0
        );
    }
}

#[test]
fn a_full_disk() {
    let scratch = scratch();
    let dir = scratch.path();
    make_tree(dir);
    fs::create_dir(dir.join("large")).expect("mkdir");
    fs::write(dir.join("large/file"), Random::new(1).bytes(24 << 20)).expect("write");
    let disk = Tmpfs::mount(dir.join("disk"), "size=8m");
    let full = |args: &[&str]| puzzlefs(dir, args).refused(1, "No space left").unwrap();

    puzzlefs(dir, &["build", "tree", "disk/out:v1"]).succeeded().unwrap();
    full(&["build", "large", "disk/out:v2"]);
    assert_eq!(tags(&dir.join("disk/out")), ["v1"]);
    puzzlefs(dir, &["fsck", "disk/out"]).succeeded().unwrap();
    // What the failed build had written is not in the way of the next.
    fs::write(dir.join("tree/d"), Random::new(2).bytes(4 << 20)).expect("write");
    puzzlefs(dir, &["build", "tree", "disk/out:v3"]).succeeded().unwrap();
    assert_eq!(tags(&dir.join("disk/out")), ["v1", "v3"]);
    full(&["extract", "disk/out:v3", "disk/target"]);
    puzzlefs(dir, &["extract", "disk/out:v1", "target"]).succeeded().unwrap();
    drop(disk);
}

/// Few file descriptors are enough for a tree that is deep and wide.
#[test]
fn few_file_descriptors() {
    const LIMIT: &[&str] = &["prlimit", "--nofile=256"];
    let scratch = scratch();
    let dir = scratch.path();
    for wide in 0..200 {
        fs::create_dir_all(dir.join(format!("tree/{wide}"))).expect("mkdir");
        fs::write(dir.join(format!("tree/{wide}/file")), wide.to_string()).expect("write");
    }
    let deep = dir.join("tree").join("deep/".repeat(300));
    fs::create_dir_all(&deep).expect("mkdir");
    fs::write(deep.join("file"), "at the bottom").expect("write");
    wrapped(dir, LIMIT, &["build", "tree", "out:v1"]).succeeded().unwrap();
    wrapped(dir, LIMIT, &["extract", "out:v1", "target"]).succeeded().unwrap();
    same(&dir.join("tree"), &dir.join("target"));
}

/// What happens to a file again and again, turn by turn.
type Change = fn(file: &Path, turn: u64);

#[test]
fn files_that_change() {
    const SIZE: u64 = 8 << 20;
    let rows: &[(&str, Change)] = &[
        ("grows", |file, _| {
            OpenOptions::new()
                .append(true)
                .open(file)
                .and_then(|mut file| file.write_all(b"more"))
                .expect("append")
        }),
        ("shrinks and grows", |file, turn| {
            OpenOptions::new()
                .write(true)
                .open(file)
                .and_then(|file| file.set_len(SIZE >> (turn % 2)))
                .expect("truncate")
        }),
        ("is rewritten in place", |file, turn| {
            OpenOptions::new()
                .write(true)
                .open(file)
                .and_then(|file| file.write_all_at(&turn.to_le_bytes(), SIZE / 2))
                .expect("write")
        }),
        ("is replaced", |file, turn| {
            let other = file.with_file_name("../other");
            fs::write(&other, turn.to_le_bytes())
                .and_then(|()| fs::rename(other, file))
                .expect("replace");
        }),
    ];
    each(rows, |(name, change)| {
        let scratch = scratch();
        let dir = scratch.path();
        fs::create_dir(dir.join("tree")).expect("mkdir");
        fs::write(dir.join("tree/file"), Random::new(1).bytes(SIZE as usize)).expect("write");
        // A build that fails early makes no layout.
        sample().write(&dir.join("out"), "v0");
        let build =
            || meanwhile(|turn| change(&dir.join("tree/file"), turn), || puzzlefs(dir, BUILD.args));
        // The directory, if its names changed.
        refused_sooner_or_later(build, "' changed while it was read")
            .and_then(|()| puzzlefs(dir, &["fsck", "out"]).succeeded())
            .map_err(named(name))
    });
}

/// A build may be done between two changes; but one of many is not.
fn refused_sooner_or_later(build: impl Fn() -> Run, message: &str) -> Verdict {
    const TRIES: usize = 50;
    for _ in 0..TRIES {
        let run = build();
        match run.refused(1, message) {
            Ok(()) => return Ok(()),
            Err(problem) => run.succeeded().map_err(|_| problem)?,
        }
    }
    Err(format!("{TRIES} builds saw no change"))
}

/// Does `again` and again, turn by turn, while `action` runs.
fn meanwhile<T>(again: impl Fn(u64) + Sync, action: impl FnOnce() -> T) -> T {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| (0..).take_while(|_| !done.load(Relaxed)).for_each(&again));
        let result = action();
        done.store(true, Relaxed);
        result
    })
}
