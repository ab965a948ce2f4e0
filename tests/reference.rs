//! The reference implementation reads our images, and we read its.

mod common;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, chown, symlink};
use std::path::Path;
use std::process::Command;

use common::command::{ORDINARY_USER, puzzlefs, reference, reference_as_ordinary_user, succeed};
use common::layout::{Layout, VARIANTS, Variant, array, data_digest, text};
use common::mount::Mount;
use common::snapshot::{Snapshot, assert_begin, assert_same};
use common::temp_dir;
use common::tree::{self, FRAME, KIB, lines, mkdir, random, set_mode, set_xattr};
use common::verity::fs_verity;

/// What the reference's mount says of no file: it answers with zeros.
const NOT_SHOWN: [&str; 3] = ["mtime", "nlink", "rdev"];

/// Mounts an image with the reference and reads all of it.
#[track_caller]
fn mounted(layout: &Layout, tag: &str) -> Snapshot {
    let mount = Mount::new(layout, tag);
    Snapshot::of(mount.path()).without(&NOT_SHOWN)
}

#[test]
fn its_mount_shows_our_images() {
    let dir = temp_dir();
    let tree = mkdir(&dir.path().join("tree"));
    tree::everything(&tree);
    let expected = Snapshot::of(&tree).without(&NOT_SHOWN);
    for variant in VARIANTS {
        let layout = variant.build(&tree, dir.path(), "ours", &[]);
        assert_same(&variant.name(), &expected, &mounted(&layout, "ours"));
    }
}

/// A pack's last frames are where readers have failed: those that do not fill a
/// frame, and those that are longer compressed than raw.
#[test]
fn its_mount_reads_packs_to_their_ends() {
    let lengths = [1, FRAME / 2, FRAME, 2 * FRAME, 3 * FRAME, 1024 * KIB]
        .into_iter()
        .flat_map(|length| [length - 1, length, length + 1]);
    let dir = temp_dir();
    for length in lengths {
        let tree = mkdir(&dir.path().join(format!("tree-{length}")));
        let layouts = mkdir(&dir.path().join(format!("layouts-{length}")));
        fs::write(tree.join("a"), lines(3 * FRAME / 2)).unwrap();
        fs::write(tree.join("z"), random(length as u64, length)).unwrap();
        let expected = Snapshot::of(&tree).without(&NOT_SHOWN);
        for variant in VARIANTS {
            let layout = variant.build(&tree, &layouts, "ours", &[]);
            let what = format!("{} with a tail of {length} bytes", variant.name());
            assert_same(&what, &expected, &mounted(&layout, "ours"));
        }
    }
}

/// A hole is many extents in one pack of zeros: here 2^14 of 64 MiB.
#[test]
fn its_mount_reads_a_terabyte() {
    const TIB: usize = 1 << 40;
    let dir = temp_dir();
    let tree = mkdir(&dir.path().join("tree"));
    let middle = TIB / 2 + 12345;
    let data = [(middle, lines(70 * KIB)), (TIB - 5000, random(15, 5000))];
    tree::sparse(&tree.join("sparse"), TIB, &data);
    for variant in VARIANTS {
        let what = variant.name();
        let layout = variant.build(&tree, dir.path(), "ours", &[]);
        let mount = Mount::new(&layout, "ours");
        let file = File::open(mount.path().join("sparse")).unwrap();
        assert_eq!(file.metadata().unwrap().len(), TIB as u64, "{what}");
        for (offset, bytes) in &data {
            // From within the hole before it, over the edge of a page.
            let mut expected = vec![0; 10_000];
            expected.extend(bytes);
            let mut found = vec![1; expected.len()];
            file.read_exact_at(&mut found, *offset as u64 - 10_000).unwrap();
            assert!(found == expected, "{what}: the bytes at {offset}");
        }
    }
}

#[test]
fn it_extracts_our_images() {
    let dir = temp_dir();
    let tree = mkdir(&dir.path().join("tree"));
    tree::ordinary(&tree);
    // It keeps no times, and an ordinary user owns what it extracts.
    let lost = ["mtime", "uid", "gid"];
    let expected = Snapshot::of(&tree).without(&lost);
    for variant in VARIANTS {
        let layout = variant.build(&tree, dir.path(), "ours", &[]);
        let target = mkdir(&dir.path().join(format!("extracted-{}", variant.name())));
        chown(&target, Some(ORDINARY_USER), Some(ORDINARY_USER)).unwrap();
        let image = layout.image("ours");
        succeed(
            reference_as_ordinary_user(dir.path())
                .arg("extract")
                .args([&image, target.as_os_str()]),
        );
        assert_same(&variant.name(), &expected, &Snapshot::of(&target).without(&lost));
    }
}

type Step = fn(&Path);

/// What happens to a tree before each build, every one a delta on the one
/// before.
struct History {
    name: &'static str,
    steps: &'static [Step],
    /// Where the images are not the trees that the reference built them of: how
    /// the differences begin that its own mount shows.
    lost: &'static [&'static str],
}

const HISTORIES: &[History] = &[
    History {
        name: "everything",
        steps: &[|root| {
            tree::everything(root);
            // The reference has no way to go there.
            fs::remove_dir_all(root.join("deep")).unwrap();
        }],
        lost: &[],
    },
    History { name: "nothing changed", steps: &[small, |_| ()], lost: &[] },
    History {
        name: "files added",
        steps: &[small, |root| {
            fs::write(root.join("new"), random(11, 300 * KIB)).unwrap();
            fs::write(root.join("dir/sub/new"), "").unwrap();
            fs::create_dir_all(root.join("new-dir/sub")).unwrap();
            fs::write(root.join("new-dir/sub/file"), lines(100 * KIB)).unwrap();
            symlink("new", root.join("new-link")).unwrap();
        }],
        lost: &[],
    },
    History {
        name: "files changed",
        steps: &[
            small,
            |root| {
                fs::write(root.join("file"), "").unwrap();
                fs::write(root.join("dir/one"), random(12, 200 * KIB)).unwrap();
                fs::remove_file(root.join("link")).unwrap();
                symlink("dir/two", root.join("link")).unwrap();
            },
            |root| {
                fs::write(root.join("file"), random(13, FRAME)).unwrap();
                set_mode(&root.join("dir"), 0o1711);
                set_mode(&root.join("dir/two"), 0o4755);
                chown(root.join("dir/one"), Some(1000), Some(2000)).unwrap();
                set_xattr(&root.join("dir/sub"), b"user.text", b"value");
                set_mode(root, 0o700);
            },
        ],
        lost: &[],
    },
    History {
        name: "files and directories removed",
        steps: &[
            small,
            |root| {
                fs::remove_file(root.join("file")).unwrap();
                fs::remove_file(root.join("dir/one")).unwrap();
                fs::remove_file(root.join("link")).unwrap();
            },
            |root| fs::remove_dir_all(root.join("dir/sub")).unwrap(),
            |root| fs::remove_dir_all(root.join("dir")).unwrap(),
        ],
        lost: &[],
    },
    History {
        name: "types changed",
        steps: &[
            small,
            |root| {
                fs::remove_dir_all(root.join("dir")).unwrap();
                fs::write(root.join("dir"), "no directory any more").unwrap();
                fs::remove_file(root.join("link")).unwrap();
                mkdir(&root.join("link"));
                fs::write(root.join("link/inside"), "no symlink any more").unwrap();
                fs::remove_file(root.join("file")).unwrap();
                symlink("link", root.join("file")).unwrap();
            },
            |root| {
                fs::remove_file(root.join("dir")).unwrap();
                mkdir(&root.join("dir"));
                fs::write(root.join("dir/another"), lines(50 * KIB)).unwrap();
            },
        ],
        lost: &[],
    },
    History {
        name: "hard links added",
        steps: &[linked, |root| {
            fs::hard_link(root.join("a"), root.join("c")).unwrap();
            fs::hard_link(root.join("alone"), root.join("dir/alone")).unwrap();
        }],
        lost: &[],
    },
    History {
        name: "hard links changed",
        steps: &[linked, |root| fs::write(root.join("a"), "through one name").unwrap()],
        lost: &[],
    },
    // Of a hard link that is removed or parted, the reference writes an inode
    // number twice, and shows the one that its search comes upon.
    History {
        name: "a hard link removed",
        steps: &[linked, |root| fs::remove_file(root.join("b")).unwrap()],
        lost: &["b: unexpected (RegularFile)"],
    },
    History {
        name: "a hard link of many removed",
        steps: &[linked_of_many, |root| fs::remove_file(root.join("b")).unwrap()],
        lost: &["a: missing (RegularFile)", "dir/d: missing (RegularFile)"],
    },
    History {
        name: "the first hard link removed",
        steps: &[linked, |root| fs::remove_file(root.join("a")).unwrap()],
        lost: &[
            "a: unexpected (RegularFile)",
            "b: same as: expected nothing, found a",
            "dir/d: same as: expected b, found a",
        ],
    },
    History {
        name: "hard links parted",
        steps: &[linked, |root| {
            fs::remove_file(root.join("b")).unwrap();
            fs::write(root.join("b"), "a file of its own").unwrap();
        }],
        lost: &[
            "a: sha256: ",
            "a: size: expected 13, found 17",
            "b: same as: expected nothing, found a",
            "dir/d: sha256: ",
            "dir/d: size: expected 13, found 17",
        ],
    },
];

fn small(root: &Path) {
    fs::write(root.join("file"), "content").unwrap();
    fs::create_dir_all(root.join("dir/sub/deeper")).unwrap();
    fs::write(root.join("dir/one"), lines(200 * KIB)).unwrap();
    fs::write(root.join("dir/two"), random(10, 200 * KIB)).unwrap();
    fs::write(root.join("dir/sub/three"), "three").unwrap();
    fs::write(root.join("dir/sub/deeper/four"), "four").unwrap();
    symlink("dir/one", root.join("link")).unwrap();
}

fn linked_of_many(root: &Path) {
    linked(root);
    for name in ["e", "f", "g"] {
        fs::write(root.join(name), name).unwrap();
    }
}

fn linked(root: &Path) {
    mkdir(&root.join("dir"));
    fs::write(root.join("a"), "the same file").unwrap();
    fs::hard_link(root.join("a"), root.join("b")).unwrap();
    fs::hard_link(root.join("a"), root.join("dir/d")).unwrap();
    fs::write(root.join("alone"), "alone").unwrap();
}

/// How the images of a history are built.
struct Builder {
    /// The first by us, or all by the reference?
    first: Option<&'static Variant>,
    options: &'static [&'static str],
}

const BUILDERS: [Builder; 4] = [
    Builder { first: None, options: &[] },
    Builder { first: None, options: &["-c"] },
    Builder { first: Some(&VARIANTS[0]), options: &["-c"] },
    Builder { first: Some(&VARIANTS[3]), options: &[] },
];

#[test]
fn we_extract_its_images() {
    for history in HISTORIES {
        for builder in &BUILDERS {
            check_history(history, builder);
        }
    }
}

#[track_caller]
fn check_history(history: &History, builder: &Builder) {
    let name = match builder.first {
        None => format!("{} {:?}", history.name, builder.options),
        Some(ours) => format!("{} {:?} on {}", history.name, builder.options, ours.name()),
    };
    let dir = temp_dir();
    let tree = mkdir(&dir.path().join("tree"));
    let layout = Layout::new(dir.path().join("layout"));
    let mut names = Snapshot::of(&tree);
    let mut lost = Vec::new();
    for (number, step) in history.steps.iter().enumerate() {
        let what = format!("{name}, step {number}");
        let tag = number.to_string();
        step(&tree);
        let base = number.checked_sub(1);
        let ours = builder.first.filter(|_| base.is_none());
        succeed(&mut match ours {
            Some(ours) => ours.command(&tree, &layout.image(&tag), &[]),
            None => reference_build(&tree, &layout.image(&tag), base, builder.options),
        });
        let source = Snapshot::of(&tree).without(&["mtime"]);
        names = names.names_of_both(source.clone());

        // Its mount cannot list a directory that something was removed from.
        let shown = {
            let mount = Mount::new(&layout, &tag);
            Snapshot::by_lookup(mount.path(), &names).without(&NOT_SHOWN)
        };
        let lost_now = source.clone().without(&NOT_SHOWN).differences(&shown);

        let target = dir.path().join(format!("extracted-{number}"));
        succeed(puzzlefs().arg("extract").arg(layout.image(&tag)).arg(&target));
        let found = Snapshot::of(&target);
        let times: BTreeSet<&str> = found.values("mtime").collect();
        let no_times = times == BTreeSet::from(["0 s + 0 ns"]);
        assert_eq!(no_times, ours.is_none(), "{what}: only our images have times");
        assert_same(&what, &shown, &found.clone().without(&NOT_SHOWN));
        if lost_now.is_empty() {
            assert_same(&what, &source, &found.without(&["mtime"]));
        }
        lost.extend(lost_now);
    }
    let what = format!("{name}: what the reference lost");
    assert_begin(&what, history.lost, &lost);
}

/// The reference's build, on the image with the number `base` if there is one.
fn reference_build(tree: &Path, image: &OsStr, base: Option<usize>, options: &[&str]) -> Command {
    let mut command = reference();
    command.arg("build").args(options);
    if let Some(base) = base {
        command.arg("-b").arg(base.to_string());
    }
    command.arg(tree).arg(image);
    command
}

/// A reader warns of what is wrong in the reference's images, and takes it: the
/// sizes of compressed blobs, the fs-verity digests of incompressible ones.
#[test]
fn its_mistakes_are_warnings() {
    let dir = temp_dir();
    let tree = mkdir(&dir.path().join("tree"));
    fs::write(tree.join("compressible"), lines(300 * KIB)).unwrap();
    fs::write(tree.join("incompressible"), random(14, 300 * KIB)).unwrap();
    let layout = Layout::new(dir.path().join("layout"));
    succeed(reference().args(["build", "-c"]).arg(&tree).arg(layout.image("v1")));
    let metadata = layout.metadata("v1");
    let manifest = layout.manifest("v1");
    let blob = |digest: &str| layout.blob(digest);
    let wrong_sizes = array(&manifest["layers"])
        .iter()
        .filter(|layer| layer["size"] != blob(text(&layer["digest"])).len())
        .map(|layer| ("its descriptor says", text(&layer["digest"]).to_owned()));
    let wrong_verity = array(&metadata["fsVerityData"])
        .iter()
        .map(|entry| (data_digest(&entry["digest"]), data_digest(&entry["verity"])))
        .filter(|(digest, verity)| *verity != format!("sha256:{}", fs_verity(&blob(digest))))
        .map(|(digest, _)| ("fs-verity", digest));
    let mistakes: BTreeSet<(&str, String)> = wrong_sizes.chain(wrong_verity).collect();
    let kinds: BTreeSet<&str> = mistakes.iter().map(|(kind, _)| *kind).collect();
    assert_eq!(kinds.len(), 2, "the reference makes both mistakes: {mistakes:?}");

    let told = succeed(puzzlefs().arg("fsck").arg(&layout.dir));
    let lines: Vec<&str> = told.text().lines().collect();
    assert_eq!(lines.len(), mistakes.len(), "{told}");
    for (kind, digest) in mistakes {
        let warns = |line: &&str| {
            line.starts_with("warning: ") && line.contains(kind) && line.contains(&digest)
        };
        assert!(lines.iter().any(warns), "no warning ({kind}) of {digest}\n{told}");
    }
}
