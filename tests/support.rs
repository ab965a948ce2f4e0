//! The tests' own tools: a comparison that misses a difference would let
//! everything pass.

mod common;

use std::fs;
use std::os::unix::fs::{lchown, symlink};
use std::path::Path;
use std::process::Command;

use common::command::succeed;
use common::snapshot::{Snapshot, assert_begin, assert_same};
use common::temp_dir;
use common::tree::{self, KIB, make_node, mkdir, random, set_mode, set_xattr, sparse};
use common::verity::fs_verity;
use rustix::fs::{FileType, makedev};

/// A small tree with one of each thing that the changes below are made to.
fn small_tree(root: &Path) {
    fs::write(root.join("file"), "content").unwrap();
    fs::write(root.join("other"), "content").unwrap();
    fs::hard_link(root.join("other"), root.join("again")).unwrap();
    mkdir(&root.join("dir"));
    fs::write(root.join("dir/inside"), "").unwrap();
    symlink("target", root.join("symlink")).unwrap();
    make_node(&root.join("device"), FileType::CharacterDevice, makedev(1, 3));
    sparse(&root.join("sparse"), 512 * KIB, &[(0, random(1, 4 * KIB))]);
    set_xattr(&root.join("file"), b"user.text", b"value");
}

/// What the changes below can alter; a change of anything alters times as well.
fn snapshot(root: &Path) -> Snapshot {
    Snapshot::with_holes(root).without(&["mtime"])
}

#[test]
fn snapshot_tells_every_kind_of_change() {
    type Change = fn(&Path);
    let changes: [(&str, Change, &[&str]); 14] = [
        ("nothing", |_| (), &[]),
        (
            "a byte of content",
            |root| fs::write(root.join("file"), "kontent").unwrap(),
            &["file: sha256: expected "],
        ),
        (
            "the length",
            |root| fs::write(root.join("dir/inside"), "x").unwrap(),
            &[
                "dir/inside: data: expected , found 0..1",
                "dir/inside: sha256: expected ",
                "dir/inside: size: expected 0, found 1",
            ],
        ),
        (
            "a mode",
            |root| set_mode(&root.join("dir"), 0o1755),
            &["dir: mode: expected 0755, found 1755"],
        ),
        ("the root's mode", |root| set_mode(root, 0o700), &[".: mode: expected 0755, found 0700"]),
        (
            "an owner",
            |root| lchown(root.join("symlink"), Some(1), Some(2)).unwrap(),
            &["symlink: gid: expected 0, found 2", "symlink: uid: expected 0, found 1"],
        ),
        (
            "a target",
            |root| {
                fs::remove_file(root.join("symlink")).unwrap();
                symlink("elsewhere", root.join("symlink")).unwrap();
            },
            &["symlink: target: expected target, found elsewhere"],
        ),
        (
            "a value",
            |root| set_xattr(&root.join("file"), b"user.text", b"\xff"),
            &[r"file: xattr user.text: expected value, found \xff"],
        ),
        (
            "a new attribute",
            |root| set_xattr(&root.join("symlink"), b"trusted.new", b""),
            &["symlink: xattr trusted.new: expected nothing, found "],
        ),
        (
            "a hard link that is a copy",
            |root| {
                fs::remove_file(root.join("other")).unwrap();
                fs::copy(root.join("again"), root.join("other")).unwrap();
            },
            &[
                "again: nlink: expected 2, found 1",
                "other: nlink: expected 2, found 1",
                "other: same as: expected again, found nothing",
            ],
        ),
        (
            "a device number",
            |root| {
                fs::remove_file(root.join("device")).unwrap();
                make_node(&root.join("device"), FileType::CharacterDevice, makedev(1, 5));
            },
            &["device: rdev: expected 1:3, found 1:5"],
        ),
        (
            "a hole that is zeros",
            |root| {
                let bytes = fs::read(root.join("sparse")).unwrap();
                fs::write(root.join("sparse"), bytes).unwrap();
            },
            &["sparse: data: expected 0..4096, found 0..524288"],
        ),
        (
            "a file of another type",
            |root| {
                fs::remove_file(root.join("file")).unwrap();
                mkdir(&root.join("file"));
            },
            &[
                "file: data: expected 0..7, found nothing",
                "file: mode: expected 0644, found 0755",
                "file: nlink: expected 1, found nothing",
                "file: sha256: expected ",
                "file: size: expected 7, found nothing",
                "file: type: expected RegularFile, found Directory",
                "file: xattr user.text: expected value, found nothing",
            ],
        ),
        (
            "a name",
            |root| fs::rename(root.join("dir/inside"), root.join("dir/new\nline")).unwrap(),
            &["dir/inside: missing (RegularFile)", r"dir/new\nline: unexpected (RegularFile)"],
        ),
    ];
    for (what, change, expected) in changes {
        let dir = temp_dir();
        small_tree(dir.path());
        let before = snapshot(dir.path());
        change(dir.path());
        let found = before.differences(&snapshot(dir.path()));
        assert_begin(what, expected, &found);
    }
}

#[test]
fn snapshot_tells_times_to_the_nanosecond() {
    let dir = temp_dir();
    small_tree(dir.path());
    let before = Snapshot::of(dir.path());
    succeed(
        Command::new("touch")
            .args(["-h", "-d", "1969-12-31T23:59:59.999999999Z"])
            .arg(dir.path().join("symlink")),
    );
    let found = before.differences(&Snapshot::of(dir.path()));
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(found[0].ends_with(", found -1 s + 999999999 ns"), "{}", found[0]);
}

#[test]
fn a_copy_of_everything_is_the_same_tree() {
    let dir = temp_dir();
    let (tree, copy) = (mkdir(&dir.path().join("tree")), dir.path().join("copy"));
    tree::everything(&tree);
    // cp cannot go there; the other tests do.
    fs::remove_dir_all(tree.join("deep")).unwrap();
    tree::set_times(&tree);
    succeed(Command::new("cp").arg("--archive").arg(&tree).arg(&copy));
    let (expected, found) = (Snapshot::with_holes(&tree), Snapshot::with_holes(&copy));
    assert_same("cp --archive", &expected, &found);
}

#[test]
fn snapshot_goes_deeper_than_a_path_can() {
    let dir = temp_dir();
    tree::everything(dir.path());
    let snapshot = Snapshot::of(dir.path());
    let longest = snapshot.paths().map(<[u8]>::len).max().unwrap();
    assert!(longest > 4096, "the longest path has {longest} bytes");
}

/// The digests are those that fsverity-utils prints.
#[test]
fn fs_verity_digests_are_the_kernels() {
    let digests = [
        (0, "3d248ca542a24fc62d1c43b916eae5016878e2533c88238480b26128a1f1af95"),
        (1, "dbbdfa9d606f7adeaa7f16dcfb0d49161c4cfb82d9d51cfb5cb43fa3dacb9e5b"),
        (4096, "3f128b8d5a052638172857f47f0110dc2fc2c234dc0c712c08a3bc6f6c540483"),
        (4097, "f54d7eca1ac49ae471f4abedb0d9309f0b84a51ec5c1733e3abb2aaf9f66c4ad"),
        (128 * 4096, "fcaf1ae16ac8b4ca5217ed37818cca018924841f0083e50267b7dc82bdf3adaa"),
        (128 * 4096 + 1, "7321b423e2b765c00796ae1e5b0be1dbba66e2e76f0e06e0d6ea4f14142d8783"),
    ];
    for (length, digest) in digests {
        assert_eq!(fs_verity(&vec![b'x'; length]), digest, "of {length} bytes");
    }
}
