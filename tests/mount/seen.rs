//! What is seen in a mount is what is in the tree.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::mem::MaybeUninit;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, symlink};
use std::path::Path;
use std::process::Command;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RawDir, SeekFrom, makedev};
use rustix::io::Errno;

use super::common::command::{ORDINARY_USER, run, succeed};
use super::common::layout::VARIANTS;
use super::common::snapshot::{Snapshot, assert_same};
use super::common::temp_dir;
use super::common::tree::{KIB, everything, make_node, mkdir, random, set_mode, set_xattr, sparse};
use super::support::{Mounted, Stage, debian};

const NO_OPTIONS: [&str; 0] = [];

#[test]
fn everything_is_seen() {
    let dir = temp_dir();
    let tree = mkdir(&dir.path().join("tree"));
    everything(&tree);
    let expected = Snapshot::of(&tree);
    for variant in VARIANTS {
        let layout = variant.build(&tree, dir.path(), "v1", &[]);
        let point = Mounted(mkdir(&dir.path().join(format!("mnt-{}", variant.name()))));
        succeed(
            super::common::command::puzzlefs().arg("mount").arg(layout.image("v1")).arg(&*point),
        );
        assert_same(&variant.name(), &expected, &Snapshot::of(&point));
        assert_same("by name", &expected, &Snapshot::by_lookup(&point, &expected));
        point.unmount();
    }
}

/// As programs see it: each of them, on the tree and on its mount.
#[test]
fn a_root_file_system_is_seen_by_programs() {
    let root = debian();
    let stage = Stage::of(&root);
    let mounted = stage.mount(&NO_OPTIONS);
    assert_same("Debian", &Snapshot::of(&root), &Snapshot::of(&mounted));

    let scripts = [
        r"find . ! -type d -printf '%p %y %m %U %G %s %n %T@ %l\n' | sort",
        r"find . -type d -printf '%p %m %U %G %n %T@\n' | sort",
        // But for the sizes of directories, and the sums of blocks.
        "ls -lRn --time-style=full-iso | grep -v '^total ' | tr -s ' ' |
            sed -E 's/^(d([^ ]* ){4})[0-9]+/\\1/'",
        "tar --sort=name --numeric-owner --xattrs --xattrs-include='*' --acls --format=posix \
            --pax-option=exthdr.name=%d/%f,delete=atime,delete=ctime -cf - . | sha256sum",
        "find . ! -type d -print0 | sort -z | du --apparent-size -b --files0-from=- | sha256sum",
    ];
    for script in scripts {
        let run = |dir: &Path| {
            let mut shell = Command::new("bash");
            succeed(shell.args(["-euo", "pipefail", "-c", script]).current_dir(dir)).stdout
        };
        let (expected, found) = (run(&root), run(&mounted));
        assert!(expected.len() > 40 && expected == found, "{script}");
    }
    let mut rsync = Command::new("rsync");
    rsync.args(["-aHAXcni", "--delete", "--numeric-ids"]);
    let differences = succeed(rsync.arg(root.join("")).arg(mounted.join("")));
    assert_eq!(differences.text(), "");
    let copy = stage.path("copy");
    succeed(Command::new("cp").arg("--archive").arg(&*mounted).arg(&copy));
    assert_same("cp --archive", &Snapshot::of(&root), &Snapshot::of(&copy));
}

#[test]
fn programs_run_from_it() {
    let stage = Stage::of(&debian());
    let mounted = stage.mount(&NO_OPTIONS);
    let mut chroot = Command::new("chroot");
    chroot.arg(&*mounted).args(["sh", "-c", "perl -e 'print 6 * 7' && dpkg --version | head -n 1"]);
    assert!(succeed(&mut chroot).text().starts_with("42Debian"));
    mounted.unmount();

    let mounted = stage.mount(&["-o", "noexec"]);
    let refused = run(Command::new("chroot").arg(&*mounted).args(["sh", "-c", "true"]));
    assert!(refused.errors().contains("Permission denied"), "{refused}");
}

#[test]
fn all_ways_of_reading_give_the_same() {
    let stage = Stage::new(|tree| {
        fs::write(tree.join("file"), random(1, 3 * 1024 * KIB + 77)).unwrap();
    });
    let expected = fs::read(stage.tree.join("file")).unwrap();
    let mounted = stage.mount(&NO_OPTIONS);
    let path = mounted.join("file");

    // Eight at once, before anything is cached.
    let readers: Vec<_> = (0..8)
        .map(|_| Command::new("cmp").arg(&path).arg(stage.tree.join("file")).spawn().unwrap())
        .collect();
    for mut reader in readers {
        assert!(reader.wait().unwrap().success());
    }

    let direct = OpenOptions::new().read(true).custom_flags(libc::O_DIRECT).open(&path).unwrap();
    let mut bytes: Vec<u8> = Vec::new();
    let mut buffer = vec![0; 64 * KIB];
    loop {
        let length = direct.read_at(&mut buffer, bytes.len() as u64).unwrap();
        if length == 0 {
            break;
        }
        bytes.extend(&buffer[..length]);
    }
    assert!(bytes == expected, "O_DIRECT");

    let program = "import mmap, sys
with open(sys.argv[1], 'rb') as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
    sys.stdout.buffer.write(mapped[:])";
    let mapped = succeed(Command::new("python3").args(["-c", program]).arg(&path));
    assert!(mapped.stdout == expected, "mmap");

    let copy = File::create(stage.path("copy")).unwrap();
    let file = File::open(&path).unwrap();
    let mut rest = expected.len();
    while rest > 0 {
        let sent = rustix::fs::sendfile(&copy, &file, None, rest).unwrap();
        assert!(sent > 0, "sendfile");
        rest -= sent;
    }
    assert!(fs::read(stage.path("copy")).unwrap() == expected, "sendfile");
}

#[test]
fn a_file_of_more_than_4_gib() {
    const GIB: usize = 1024 * 1024 * KIB;
    let data = [(0, random(1, 4 * KIB)), (5 * GIB, random(2, 256 * KIB)), (6 * GIB, vec![7])];
    let stage = Stage::new(|tree| sparse(&tree.join("big"), 6 * GIB + 1, &data));
    let mounted = stage.mount(&NO_OPTIONS);
    let file = File::open(mounted.join("big")).unwrap();
    assert_eq!(file.metadata().unwrap().len(), 6 * GIB as u64 + 1);
    for (offset, bytes) in &data {
        let mut found = vec![0; bytes.len()];
        file.read_exact_at(&mut found, *offset as u64).unwrap();
        assert!(found == *bytes, "at {offset}");
    }
    let mut zeros = vec![1; 100 * KIB];
    file.read_exact_at(&mut zeros, 4 * GIB as u64 - 50 * KIB as u64).unwrap();
    assert!(zeros.iter().all(|&byte| byte == 0));
    assert_eq!(file.read_at(&mut zeros, 6 * GIB as u64 + 1).unwrap(), 0);
    // Holes are found, and take no blocks.
    let seek = |from| rustix::fs::seek(&file, from);
    assert_eq!(seek(SeekFrom::Data(GIB as u64)), Ok(5 * GIB as u64));
    assert_eq!(seek(SeekFrom::Hole(0)), Ok(4 * KIB as u64));
    assert_eq!(seek(SeekFrom::Hole(6 * GIB as u64)), Ok(6 * GIB as u64 + 1));
    assert_eq!(seek(SeekFrom::Data(6 * GIB as u64 + 1)), Err(Errno::NXIO));
    assert!(file.metadata().unwrap().blocks() * 512 < 1024 * KIB as u64);
}

/// What a directory says from where it stands on: name and where the next one is.
fn list(dir: &File) -> Vec<(Vec<u8>, u64)> {
    let mut buffer = [MaybeUninit::uninit(); 32 * KIB];
    let mut entries = Vec::new();
    let mut directory = RawDir::new(dir, &mut buffer);
    while let Some(entry) = directory.next() {
        let entry = entry.unwrap();
        entries.push((entry.file_name().to_bytes().to_vec(), entry.next_entry_cookie()));
    }
    entries
}

#[test]
fn a_directory_of_100_000_entries() {
    const COUNT: usize = 100_000;
    let stage = Stage::new(|tree| {
        let first = tree.join("0");
        for number in 0..COUNT {
            let path = tree.join(number.to_string());
            // A file has 65,000 names at most.
            match number % 50_000 {
                0 => drop(File::create(path).unwrap()),
                _ if number < 50_000 => fs::hard_link(&first, path).unwrap(),
                _ => fs::hard_link(tree.join("50000"), path).unwrap(),
            }
        }
    });
    let mounted = stage.mount(&NO_OPTIONS);
    let dir = File::open(&*mounted).unwrap();
    // Once as the kernel asks for it, once as it remembers it.
    for round in ["first", "again"] {
        rustix::fs::seek(&dir, SeekFrom::Start(0)).unwrap();
        let entries = list(&dir);
        let names: BTreeSet<_> = entries.iter().map(|(name, _)| name.clone()).collect();
        assert_eq!((entries.len(), names.len()), (COUNT + 2, COUNT + 2), "{round}");
        for place in [0, 1, 2, 3, 777, COUNT / 2, COUNT, COUNT + 1] {
            rustix::fs::seek(&dir, SeekFrom::Start(entries[place].1)).unwrap();
            let rest = list(&dir);
            assert!(rest == entries[place + 1..], "{round}: after entry {place}");
        }
    }
    assert_eq!(fs::metadata(mounted.join("77")).unwrap().nlink(), 50_000);
}

#[test]
fn devices_work_unless_they_must_not() {
    let stage = Stage::new(|tree| {
        make_node(&tree.join("zero"), FileType::CharacterDevice, makedev(1, 5));
        make_node(&tree.join("null"), FileType::CharacterDevice, makedev(1, 3));
    });
    let mounted = stage.mount(&NO_OPTIONS);
    let mut bytes = [1; 10];
    File::open(mounted.join("zero")).unwrap().read_exact(&mut bytes).unwrap();
    assert_eq!(bytes, [0; 10]);
    fs::write(mounted.join("null"), "gone").unwrap();
    mounted.unmount();

    let mounted = stage.mount(&["-o", "nodev"]);
    let error = File::open(mounted.join("zero")).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
    assert_eq!(fs::metadata(mounted.join("zero")).unwrap().rdev(), makedev(1, 5));
}

#[test]
fn nothing_can_be_written() {
    let stage = Stage::new(|tree| {
        fs::write(tree.join("file"), "content").unwrap();
        mkdir(&tree.join("dir"));
        symlink("file", tree.join("link")).unwrap();
    });
    let mounted = stage.mount(&NO_OPTIONS);
    let (file, dir, new) = (mounted.join("file"), mounted.join("dir"), mounted.join("new"));
    let mode = Mode::from_raw_mode(0o600);
    let flags = rustix::fs::XattrFlags::empty();
    let changes: [(&str, rustix::io::Result<()>); 14] = [
        ("open", rustix::fs::open(&file, OFlags::WRONLY, mode).map(drop)),
        ("append", rustix::fs::open(&file, OFlags::RDWR | OFlags::APPEND, mode).map(drop)),
        ("create", rustix::fs::open(&new, OFlags::CREATE | OFlags::WRONLY, mode).map(drop)),
        ("truncate", rustix::fs::open(&file, OFlags::WRONLY | OFlags::TRUNC, mode).map(drop)),
        ("mkdir", rustix::fs::mkdir(&new, mode)),
        ("mknod", rustix::fs::mknodat(CWD, &new, FileType::Fifo, mode, 0)),
        ("symlink", rustix::fs::symlink("x", &new)),
        ("link", rustix::fs::link(&file, &new)),
        ("unlink", rustix::fs::unlink(&file)),
        ("rmdir", rustix::fs::rmdir(&dir)),
        ("rename", rustix::fs::rename(&file, &new)),
        ("chmod", rustix::fs::chmod(&file, mode)),
        ("chown", rustix::fs::chown(&file, None, None)),
        ("setxattr", rustix::fs::setxattr(&file, "user.x", b"", flags)),
    ];
    for (what, result) in changes {
        assert_eq!(result, Err(Errno::ROFS), "{what}");
    }
    let access = rustix::fs::accessat(CWD, &file, rustix::fs::Access::WRITE_OK, AtFlags::empty());
    assert_eq!(access, Err(Errno::ROFS));
}

#[test]
fn permissions_and_acls_count() {
    let stage = Stage::new(|tree| {
        for (name, mode) in [("open", 0o644), ("closed", 0o600), ("by-acl", 0o640)] {
            fs::write(tree.join(name), name).unwrap();
            set_mode(&tree.join(name), mode);
        }
        let acl = format!("u:{ORDINARY_USER}:r");
        succeed(Command::new("setfacl").args(["-m", &acl]).arg(tree.join("by-acl")));
        set_xattr(&tree.join("open"), b"user.text", b"value");
    });
    let mounted = stage.mount(&NO_OPTIONS);
    for (name, readable) in [("open", true), ("closed", false), ("by-acl", true)] {
        let mut user = Command::new("setpriv");
        user.arg(format!("--reuid={ORDINARY_USER}")).args([
            "--regid=65533",
            "--clear-groups",
            "cat",
        ]);
        let output = run(user.arg(mounted.join(name)));
        assert_eq!(output.status.success(), readable, "{output}");
    }
    let getfacl = |path: &Path| succeed(Command::new("getfacl").args(["-cn"]).arg(path)).stdout;
    assert_eq!(getfacl(&mounted.join("by-acl")), getfacl(&stage.tree.join("by-acl")));
    let mut none = [0; 16];
    let missing = rustix::fs::getxattr(mounted.join("open"), "user.none", &mut none[..]);
    assert_eq!(missing, Err(Errno::NODATA));
    let too_small = rustix::fs::getxattr(mounted.join("open"), "user.text", &mut none[..2]);
    assert_eq!(too_small, Err(Errno::RANGE));
}

#[test]
fn the_file_system_says_what_it_is() {
    let stage = Stage::new(|tree| fs::write(tree.join("file"), random(1, 100 * KIB)).unwrap());
    let mounted = stage.mount(&NO_OPTIONS);
    let found = rustix::fs::statvfs(&*mounted).unwrap();
    assert_eq!((found.f_bsize, found.f_blocks, found.f_bfree, found.f_bavail), (4096, 25, 0, 0));
    assert_eq!((found.f_files, found.f_ffree, found.f_namemax), (2, 0, 255));
    let line = mounted.line();
    let image = stage.layout.image("v1").into_string().unwrap();
    assert!(line.contains(&format!(" - fuse.puzzlefs {image} ro,")), "{line}");
}
