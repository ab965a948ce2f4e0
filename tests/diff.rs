//! What distinguishes two images is told, and nothing else.

mod common;

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{chown, symlink};
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use common::command::{puzzlefs, reference, succeed};
use common::layout::{Layout, VARIANTS, Variant, array, text};
use common::temp_dir;
use common::tree::{self, KIB, lines, make_node, mkdir, random, set_mode, set_xattr};
use rustix::fs::{FileType, makedev};
use serde_json::{Value, json};

/// Where a file's content stands does not depend on that of others.
const INDEPENDENT: &Variant = &VARIANTS[2];

/// Every file is alone in its directory, or so large that its content stands alone.
fn base(root: &Path) {
    for dir in ["file", "dir/sub", "links", "pairs", "zeros", "nodes"] {
        fs::create_dir_all(root.join(dir)).unwrap();
    }
    fs::write(root.join("file/file"), lines(5000)).unwrap();
    fs::write(root.join("dir/sub/file"), "below").unwrap();
    symlink("target", root.join("nodes/symlink")).unwrap();
    make_node(&root.join("nodes/fifo"), FileType::Fifo, 0);
    make_node(&root.join("nodes/null"), FileType::CharacterDevice, makedev(1, 3));
    fs::write(root.join("links/1"), random(1, 100 * KIB)).unwrap();
    fs::hard_link(root.join("links/1"), root.join("links/2")).unwrap();
    for pair in ["a", "b"] {
        let first = root.join(format!("pairs/{pair}1"));
        fs::write(&first, "").unwrap();
        fs::hard_link(first, root.join(format!("pairs/{pair}2"))).unwrap();
    }
    tree::sparse(&root.join("zeros/file"), 400 * KIB, &[(300 * KIB, lines(70 * KIB))]);
}

/// Builds an image of the tree. All that is newer than 1970 is of 1970, so that times differ only
/// where they are to.
fn build(root: &Path, layouts: &Path) -> Layout {
    INDEPENDENT.build(root, layouts, "v1", &["--clamp-mtime=0", "--created=0"])
}

fn replace(path: &Path, content: impl AsRef<[u8]>) {
    fs::remove_file(path).unwrap();
    fs::write(path, content).unwrap();
}

#[test]
fn every_difference_is_told() {
    type Change = fn(&Path);
    let cases: &[(&str, Change, &[&str])] = &[
        ("nothing", |_| {}, &[]),
        (
            "content",
            |root| fs::write(root.join("file/file"), lines(5001)).unwrap(),
            &["~ /file/file (content)"],
        ),
        (
            "content of the same size",
            |root| fs::write(root.join("file/file"), random(1, 5000)).unwrap(),
            &["~ /file/file (content)"],
        ),
        (
            "a longer hole",
            |root| {
                File::options()
                    .write(true)
                    .open(root.join("zeros/file"))
                    .unwrap()
                    .set_len(1 << 20)
                    .unwrap()
            },
            &["~ /zeros/file (content)"],
        ),
        (
            "zeros instead of a hole",
            |root| {
                let mut content = fs::read(root.join("zeros/file")).unwrap();
                content.truncate(400 * KIB);
                replace(&root.join("zeros/file"), content);
            },
            &[],
        ),
        (
            "a file's mode",
            |root| set_mode(&root.join("file/file"), 0o4755),
            &["~ /file/file (mode)"],
        ),
        ("the root's mode", |root| set_mode(root, 0o700), &["~ / (mode)"]),
        ("user", |root| chown(root.join("dir"), Some(1), Some(0)).unwrap(), &["~ /dir (owner)"]),
        ("group", |root| chown(root.join("dir"), Some(0), Some(1)).unwrap(), &["~ /dir (owner)"]),
        (
            "time",
            |root| {
                let file = File::options().write(true).open(root.join("file/file")).unwrap();
                file.set_modified(UNIX_EPOCH - Duration::from_nanos(1)).unwrap();
            },
            &["~ /file/file (time)"],
        ),
        (
            "attributes",
            |root| {
                set_xattr(&root.join("file/file"), b"user.a", b"");
                set_xattr(&root.join("dir"), b"user.a", b"b");
            },
            &["~ /dir (xattr)", "~ /file/file (xattr)"],
        ),
        (
            "target and device",
            |root| {
                fs::remove_file(root.join("nodes/symlink")).unwrap();
                symlink("other", root.join("nodes/symlink")).unwrap();
                fs::remove_file(root.join("nodes/null")).unwrap();
                make_node(&root.join("nodes/null"), FileType::CharacterDevice, makedev(1, 5));
            },
            &["~ /nodes/null (device)", "~ /nodes/symlink (target)"],
        ),
        (
            "types",
            |root| {
                fs::remove_file(root.join("nodes/null")).unwrap();
                make_node(&root.join("nodes/null"), FileType::BlockDevice, makedev(1, 5));
                fs::remove_file(root.join("file/file")).unwrap();
                fs::create_dir_all(root.join("file/file/new")).unwrap();
                fs::remove_dir_all(root.join("dir")).unwrap();
                fs::write(root.join("dir"), "").unwrap();
            },
            &[
                "~ /dir (type, mode)",
                "- /dir/sub",
                "- /dir/sub/file",
                "~ /file/file (type, mode)",
                "+ /file/file/new",
                "~ /nodes/null (type)",
            ],
        ),
        (
            "another link",
            |root| {
                fs::remove_file(root.join("links/2")).unwrap();
                fs::hard_link(root.join("links/1"), root.join("links/3")).unwrap();
            },
            &["~ /links/1 (links)", "- /links/2", "+ /links/3"],
        ),
        (
            "a copy instead of a link",
            |root| replace(&root.join("links/2"), random(1, 100 * KIB)),
            &["~ /links/1 (links)", "~ /links/2 (links)"],
        ),
        (
            "other pairs",
            |root| {
                for (path, to) in [("a2", "b1"), ("b2", "a1")] {
                    fs::remove_file(root.join("pairs").join(path)).unwrap();
                    fs::hard_link(root.join("pairs").join(to), root.join("pairs").join(path))
                        .unwrap();
                }
            },
            &[
                "~ /pairs/a1 (links)",
                "~ /pairs/a2 (links)",
                "~ /pairs/b1 (links)",
                "~ /pairs/b2 (links)",
            ],
        ),
        (
            "another name",
            |root| fs::rename(root.join("dir/sub"), root.join("dir/bus")).unwrap(),
            &["+ /dir/bus", "+ /dir/bus/file", "- /dir/sub", "- /dir/sub/file"],
        ),
        (
            "the order of a walk",
            |root| {
                for dir in ["dir-", "dir.", "dir/-", "dir/sub/b"] {
                    mkdir(&root.join(dir));
                }
            },
            &["+ /dir/-", "+ /dir/sub/b", "+ /dir-", "+ /dir."],
        ),
        (
            "several of one",
            |root| {
                let file = root.join("file/file");
                fs::write(&file, "changed").unwrap();
                chown(&file, Some(7), Some(7)).unwrap();
                set_mode(&file, 0o600);
                set_xattr(&file, b"user.a", b"b");
                fs::hard_link(&file, root.join("file/z")).unwrap();
            },
            &["~ /file/file (content, mode, owner, xattr, links)", "+ /file/z"],
        ),
        (
            "names of all bytes",
            |root| {
                for name in
                    [b"new\nline".as_slice(), b"\xff\xfe", b"back\\slash", "\u{fc}".as_bytes()]
                {
                    mkdir(&root.join(OsStr::from_bytes(name)));
                }
            },
            &["+ /back\\\\slash", "+ /new\\nline", "+ /\u{fc}", "+ /\\xff\\xfe"],
        ),
    ];
    let dir = temp_dir();
    let before = mkdir(&dir.path().join("before"));
    base(&before);
    let old = build(&before, dir.path());
    for (what, change, expected) in cases {
        let after = temp_dir();
        let root = mkdir(&after.path().join("tree"));
        base(&root);
        change(&root);
        let new = build(&root, after.path());
        let told = succeed(puzzlefs().arg("diff").arg(old.image("v1")).arg(new.image("v1")));
        let (changes, adds) = told.text().rsplit_once('\n').unwrap_or(("", told.text()));
        assert_eq!(changes.lines().collect::<Vec<_>>(), *expected, "{what}");
        let (blobs, data, metadata) = added((&old, "v1"), (&new, "v1"));
        let expected = format!("adds {data} bytes in {blobs} data blobs, {metadata} of metadata");
        assert_eq!(adds, expected, "{what}");
    }
}

/// Data blobs and their bytes, and bytes of metadata, that only the second image has.
fn added(old: (&Layout, &str), new: (&Layout, &str)) -> (usize, usize, usize) {
    let [before, after] = [old, new].map(|(layout, tag)| layout.manifest(tag));
    let known: Vec<_> = array(&before["layers"]).iter().map(|layer| &layer["digest"]).collect();
    let only = |layer: &&Value| !known.contains(&&layer["digest"]);
    let size = |layer: &Value| new.0.blob(text(&layer["digest"])).len();
    let (rootfs, data) = array(&after["layers"]).split_first().unwrap();
    let data: Vec<_> = data.iter().filter(only).map(size).collect();
    let metadata = [rootfs].into_iter().filter(only).map(size).sum();
    (data.len(), data.iter().sum(), metadata)
}

#[test]
fn the_document_says_the_same() {
    let dir = temp_dir();
    let root = mkdir(&dir.path().join("tree"));
    base(&root);
    let layout = build(&root, dir.path());
    fs::write(root.join("file/file"), random(2, 5000)).unwrap();
    set_mode(&root.join("file/file"), 0o600);
    fs::remove_file(root.join("nodes/fifo")).unwrap();
    mkdir(&root.join(OsStr::from_bytes(b"\xff")));
    let options = ["--clamp-mtime=0", "--created=0"];
    INDEPENDENT.build(&root, dir.path(), "v2", &options);
    let images = [layout.image("v1"), layout.image("v2")];
    let told = succeed(puzzlefs().args(["diff", "--json"]).args(&images)).json();
    let (blobs, data, metadata) = added((&layout, "v1"), (&layout, "v2"));
    assert_eq!(blobs, 1);
    let expected = json!({
        "changes": [
            {"path": "/file/file", "change": "changed", "how": ["content", "mode"]},
            {"path": "/nodes/fifo", "change": "removed"},
            {"path": "/\\xff", "path_hex": "2fff", "change": "added"},
        ],
        "added": {
            "blobs": blobs, "data": data, "metadata": metadata, "bytes": data + metadata,
        },
    });
    assert_eq!(told, expected);
}

/// The same tree in two layouts, and in each form; an image of the reference with itself.
#[test]
fn an_image_does_not_differ_from_itself() {
    let dir = temp_dir();
    let root = mkdir(&dir.path().join("tree"));
    tree::everything(&root);
    let layouts = [mkdir(&dir.path().join("1")), mkdir(&dir.path().join("2"))];
    for variant in VARIANTS {
        let [first, second] = layouts.each_ref().map(|dir| variant.build(&root, dir, "v1", &[]));
        let images = [first.image("v1"), second.image("v1")];
        let told = succeed(puzzlefs().arg("diff").args(&images));
        let expected = "adds 0 bytes in 0 data blobs, 0 of metadata";
        assert_eq!(told.text(), expected, "{}", variant.name());
    }
    let theirs = Layout::new(dir.path().join("reference"));
    fs::remove_dir_all(root.join("deep")).unwrap();
    fs::remove_file(root.join("nodes/socket")).unwrap();
    succeed(reference().arg("build").arg(&root).arg(theirs.image("v1")));
    let told = succeed(puzzlefs().arg("diff").args([theirs.image("v1"), theirs.image("v1")]));
    assert_eq!(told.text(), "adds 0 bytes in 0 data blobs, 0 of metadata");
}
