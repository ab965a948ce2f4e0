//! Deltas: the same image however a change is learnt, at the cost of the change.

mod common;

use std::ffi::OsStr;
use std::fs::{self, File, FileTimes};
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use common::command::{fail, puzzlefs, reference, succeed};
use common::layout::{Layout, VARIANTS, array, sha256, text};
use common::overlay::{NAMESPACES, Overlay, whiteouts_to_files};
use common::snapshot::{Snapshot, assert_same};
use common::temp_dir;
use common::tree::{
    self, FRAME, KIB, lines, make_node, mkdir, random, set_mode, set_xattr, sparse,
};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use rustix::fs::FileType;
use serde_json::{Value, json};

/// Runs a command that makes an image and prints what it made.
#[track_caller]
fn make(command: &str, options: &[&str], paths: &[&OsStr]) -> Value {
    succeed(puzzlefs().arg(command).arg("--json").args(options).args(paths)).json()
}

#[track_caller]
fn build(tree: &Path, layout: &Layout, tag: &str, options: &[&str]) -> Value {
    make("build", options, &[tree.as_os_str(), &layout.image(tag)])
}

#[track_caller]
fn build_on(base: &OsStr, tree: &Path, layout: &Layout, tag: &str, options: &[&str]) -> Value {
    let paths = [OsStr::new("--base"), base, tree.as_os_str(), &layout.image(tag)];
    make("build", options, &paths)
}

#[track_caller]
fn delta(base: &OsStr, upper: &Path, layout: &Layout, tag: &str, options: &[&str]) -> Value {
    let paths = [OsStr::new("--base"), base, upper.as_os_str(), &layout.image(tag)];
    make("delta", options, &paths)
}

/// The rootfs and the data of an image.
#[track_caller]
fn layers(layout: &Layout, tag: &str) -> Value {
    layout.manifest(tag)["layers"].clone()
}

#[track_caller]
fn assert_clean(layout: &Layout) {
    assert_eq!(succeed(puzzlefs().arg("fsck").arg(&layout.dir)).text(), "");
}

/// A change of a tree, by numbers that choose among what is there.
#[derive(Debug, Clone)]
struct Change {
    action: usize,
    path: usize,
    other: usize,
    size: usize,
    seed: u64,
}

const SIZES: [usize; 7] = [0, 1, 3000, 40 * KIB, 70 * KIB, 300 * KIB, 5000];

fn content(change: &Change) -> Vec<u8> {
    let size = SIZES[change.size % SIZES.len()];
    if change.seed.is_multiple_of(2) { random(change.seed, size) } else { lines(size) }
}

/// All paths in `dir`, itself first; but for those that are too deep to have one.
fn paths(dir: &Path) -> Vec<PathBuf> {
    let mut found = vec![dir.to_owned()];
    let mut next = 0;
    while let Some(path) = found.get(next).cloned() {
        next += 1;
        if fs::symlink_metadata(&path).unwrap().is_dir() && !path.ends_with("deep") {
            let mut below: Vec<_> =
                fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()).collect();
            below.sort();
            found.extend(below);
        }
    }
    found
}

fn remove(path: &Path) {
    let metadata = fs::symlink_metadata(path).unwrap();
    if metadata.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }.unwrap();
}

/// Makes a change in `root`; one that has nothing to apply to makes a new file.
fn apply(root: &Path, change: &Change) {
    let all = paths(root);
    let is_file = |path: &&PathBuf| fs::symlink_metadata(path).unwrap().is_file();
    let is_dir = |path: &&PathBuf| fs::symlink_metadata(path).unwrap().is_dir();
    let pick = |from: &[&PathBuf], number: usize| -> Option<PathBuf> {
        (!from.is_empty()).then(|| from[number % from.len()].clone())
    };
    let files: Vec<_> = all.iter().filter(is_file).collect();
    let dirs: Vec<_> = all.iter().filter(is_dir).collect();
    let below: Vec<_> = all.iter().skip(1).collect();
    let dir = pick(&dirs, change.other).unwrap();
    let new = dir.join(format!("new-{}-{}", change.seed % 5, change.path % 7));
    if fs::symlink_metadata(&new).is_ok() {
        remove(&new);
    }
    let (file, any) = (
        pick(&files, change.path).filter(|file| file.exists()),
        pick(&below, change.path).filter(|path| fs::symlink_metadata(path).is_ok()),
    );
    match (change.action, file, any) {
        (0, Some(file), _) => fs::write(file, content(change)).unwrap(),
        (1, Some(file), _) => {
            let file = File::options().write(true).open(file).unwrap();
            file.write_all_at(&content(change), file.metadata().unwrap().len() / 2).unwrap();
        }
        (2, Some(file), _) => {
            // The same bytes again, which copies the file up.
            let bytes = fs::read(&file).unwrap();
            fs::write(&file, bytes).unwrap();
        }
        (3, Some(file), _) => fs::hard_link(file, new).unwrap(),
        (4, _, Some(path)) => remove(&path),
        (5, _, Some(path)) if !new.starts_with(&path) => {
            // A directory of the lower layer cannot be renamed without a redirect.
            if fs::rename(&path, &new).is_err() {
                remove(&path);
            }
        }
        (6, _, Some(path)) => {
            remove(&path);
            mkdir(&path);
            fs::write(path.join("within"), content(change)).unwrap();
        }
        (7, _, Some(path)) => {
            remove(&path);
            fs::write(path, content(change)).unwrap();
        }
        (8, _, Some(path)) if !path.is_symlink() => {
            set_mode(&path, 0o600 + (change.seed % 0o200) as u32);
        }
        (9, _, Some(path)) if path.is_file() || path.is_dir() => {
            set_xattr(&path, b"user.changed", &change.seed.to_le_bytes());
        }
        (10, ..) => symlink(format!("target-{}", change.seed), new).unwrap(),
        (11, ..) => make_node(&new, FileType::Fifo, 0),
        (12, ..) => {
            mkdir(&new);
            fs::write(new.join(".wh.file"), content(change)).unwrap();
        }
        (13, ..) => sparse(&new, 400 * KIB, &[(200 * KIB, content(change))]),
        (14, Some(file), _) => {
            File::options().write(true).open(file).unwrap().set_len(change.size as u64).unwrap();
        }
        _ => fs::write(new, content(change)).unwrap(),
    }
}

fn changes(count: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Change>> {
    let change = (0..16_usize, any::<usize>(), any::<usize>(), 0..1000_usize, any::<u64>());
    let change = change.prop_map(|(action, path, other, size, seed)| Change {
        action,
        path,
        other,
        size,
        seed,
    });
    prop::collection::vec(change, count)
}

/// The same image is made of an upperdir, of the merged tree on the base, and, when its history
/// is left out, of the merged tree alone.
fn assert_one_image(before: &[Change], after: &[Change], namespace: &str) {
    let dir = temp_dir();
    let lower = mkdir(&dir.path().join("lower"));
    for change in before {
        apply(&lower, change);
    }
    let layout = Layout::new(dir.path().join("layout"));
    build(&lower, &layout, "base", &[]);
    let base = layout.image("base");
    let overlay = Overlay::new(dir.path(), &lower, namespace);
    for change in after {
        apply(overlay.path(), change);
    }
    delta(&base, &overlay.upper, &layout, "delta", &[]);
    build_on(&base, overlay.path(), &layout, "merged", &[]);
    assert_eq!(layers(&layout, "delta"), layers(&layout, "merged"), "delta and build --base");

    build(overlay.path(), &layout, "apart", &[]);
    make("canonicalize", &[], &[&layout.image("delta"), &layout.image("canonical")]);
    assert_eq!(layers(&layout, "canonical"), layers(&layout, "apart"), "canonicalize and build");

    whiteouts_to_files(&overlay.upper, namespace);
    delta(&base, &overlay.upper, &layout, "files", &[]);
    assert_eq!(layers(&layout, "files"), layers(&layout, "delta"), "whiteouts as files");
    assert_clean(&layout);
}

#[test]
fn one_image_however_the_change_is_learnt() {
    for namespace in NAMESPACES {
        let config = ProptestConfig { cases: 24, failure_persistence: None, ..Default::default() };
        TestRunner::new(config)
            .run(&(changes(5..40), changes(1..25)), |(before, after)| {
                assert_one_image(&before, &after, namespace);
                Ok(())
            })
            .unwrap_or_else(|error| panic!("{namespace}: {error}"));
    }
}

/// With all that a file system holds, and in each form of an image.
#[test]
fn everything_on_everything() {
    let dir = temp_dir();
    let lower = mkdir(&dir.path().join("lower"));
    tree::everything(&lower);
    tree::set_times(&lower);
    let overlay = Overlay::new(dir.path(), &lower, "trusted");
    let new = mkdir(&overlay.path().join("new"));
    tree::everything(&new);
    let (kept, removed) = (paths(&lower), paths(&lower).len() / 2);
    for path in kept.iter().skip(removed).filter(|path| path.as_os_str().len() < 200) {
        let path = overlay.path().join(path.strip_prefix(&lower).unwrap());
        if fs::symlink_metadata(&path).is_ok_and(|metadata| !metadata.is_dir()) {
            fs::remove_file(path).unwrap();
        }
    }
    for variant in VARIANTS {
        let layout = variant.build(&lower, dir.path(), "base", &[]);
        let base = layout.image("base");
        let form = ["--layout", variant.layout, "--compression", variant.compression];
        let form = [form[0], form[1], &format!("{}={}", form[2], form[3])].map(str::to_owned);
        let form: Vec<_> = form.iter().map(String::as_str).collect();
        delta(&base, &overlay.upper, &layout, "delta", &form);
        build_on(&base, overlay.path(), &layout, "merged", &form);
        assert_eq!(layers(&layout, "delta"), layers(&layout, "merged"), "{}", variant.name());
        let target = dir.path().join(format!("{}-extracted", variant.name()));
        succeed(puzzlefs().arg("extract").arg(layout.image("delta")).arg(&target));
        let shown = Snapshot::of(overlay.path());
        assert_same(&variant.name(), &shown, &Snapshot::of(&target));
        assert_clean(&layout);
    }
}

#[test]
fn marks_of_overlays_within_the_overlay_stay() {
    for namespace in NAMESPACES {
        let dir = temp_dir();
        let lower = mkdir(&dir.path().join("lower"));
        mkdir(&lower.join("dir"));
        fs::write(lower.join("dir/below"), "below").unwrap();
        let layout = Layout::new(dir.path().join("layout"));
        build(&lower, &layout, "base", &[]);
        let overlay = Overlay::new(dir.path(), &lower, namespace);
        // What overlayfs stores as `overlay.overlay.opaque`, of which this overlay takes no notice.
        let key = format!("{namespace}.overlay.opaque");
        set_xattr(&overlay.path().join("dir"), key.as_bytes(), b"y");
        let upper = paths(&overlay.upper);
        delta(&layout.image("base"), &overlay.upper, &layout, "delta", &[]);
        build_on(&layout.image("base"), overlay.path(), &layout, "merged", &[]);
        assert_eq!(layers(&layout, "delta"), layers(&layout, "merged"), "{upper:?}");
        let dump = succeed(puzzlefs().args(["inspect", "--dump"]).arg(layout.image("delta")));
        assert!(dump.text().contains(&format!("xattr {key}=y")), "{dump}");
        assert!(dump.text().contains("/dir/below "), "{dump}");
    }
}

/// A kernel lays lower directories with file whiteouts on others as we do.
#[test]
fn whiteouts_as_files_are_what_the_kernel_makes_of_them() {
    for namespace in NAMESPACES {
        let dir = temp_dir();
        let [lower, upper] = ["lower", "upper"].map(|name| mkdir(&dir.path().join(name)));
        for tree in [&lower, &upper] {
            for path in ["a", "x", "opaque"] {
                mkdir(&tree.join(path));
            }
        }
        for path in ["a/kept", "x/gone", "x/kept", "opaque/gone", "empty"] {
            fs::write(lower.join(path), path).unwrap();
        }
        let mark = |path: &str, name: &str, value: &[u8]| {
            set_xattr(&upper.join(path), format!("{namespace}.overlay.{name}").as_bytes(), value);
        };
        fs::write(upper.join("x/gone"), "").unwrap();
        mark("x/gone", "whiteout", b"");
        mark("x", "opaque", b"x");
        mark("opaque", "opaque", b"y");
        fs::write(upper.join("opaque/new"), "new").unwrap();

        let layout = Layout::new(dir.path().join("layout"));
        build(&lower, &layout, "base", &[]);
        let made = delta(&layout.image("base"), &upper, &layout, "delta", &[]);
        assert_eq!(made["files"], 4, "{namespace}");
        let overlay = Overlay::read_only(dir.path(), &[&upper, &lower], namespace);
        build_on(&layout.image("base"), overlay.path(), &layout, "merged", &[]);
        assert_eq!(layers(&layout, "delta"), layers(&layout, "merged"), "{namespace}");
    }
}

#[test]
fn options_apply_to_all_of_the_result() {
    let dir = temp_dir();
    let lower = mkdir(&dir.path().join("lower"));
    for path in ["kept", "skipped", "dir/skipped", "dir/kept"] {
        let path = lower.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, lines(30 * KIB)).unwrap();
        set_xattr(&path, b"security.selinux", b"label");
    }
    let layout = Layout::new(dir.path().join("layout"));
    build(&lower, &layout, "base", &["--selinux"]);
    let overlay = Overlay::new(dir.path(), &lower, "trusted");
    fs::write(overlay.path().join("new"), "new").unwrap();
    let cases: [&[&str]; 6] = [
        &[],
        &["--selinux"],
        &["--owner=7:8"],
        &["--exclude=skipped"],
        &["--exclude=dir/skipped", "--clamp-mtime=1000"],
        &["--compression=none", "--pack-size=2M", "--threads=3"],
    ];
    for options in cases {
        delta(&layout.image("base"), &overlay.upper, &layout, "delta", options);
        build_on(&layout.image("base"), overlay.path(), &layout, "merged", options);
        assert_eq!(layers(&layout, "delta"), layers(&layout, "merged"), "{options:?}");
        make("canonicalize", options, &[&layout.image("delta"), &layout.image("canonical")]);
        build(overlay.path(), &layout, "apart", options);
        assert_eq!(layers(&layout, "canonical"), layers(&layout, "apart"), "{options:?}");
    }
}

/// What of an upperdir cannot be told is refused, and nothing is tagged.
#[test]
fn bad_upperdirs_and_bases() {
    let dir = temp_dir();
    let lower = mkdir(&dir.path().join("lower"));
    fs::write(lower.join("file"), random(1, 100 * KIB)).unwrap();
    let layout = Layout::new(dir.path().join("layout"));
    build(&lower, &layout, "base", &[]);
    let upper = |name: &str, xattr: &str, value: &[u8]| {
        let upper = mkdir(&dir.path().join(name));
        mkdir(&upper.join("dir"));
        set_xattr(&upper.join("dir"), xattr.as_bytes(), value);
        upper
    };
    let redirect = upper("redirect", "trusted.overlay.redirect", b"/file");
    let metacopy = upper("metacopy", "user.overlay.metacopy", b"");
    let nlink = upper("nlink", "trusted.overlay.nlink", b"U+1");
    let both = upper("both", "trusted.overlay.opaque", b"y");
    set_xattr(&both.join("dir"), b"user.overlay.opaque", b"y");
    let plain = upper("plain", "user.a", b"b");
    let cases: [(&Path, &str, &[&str], &str); 7] = [
        (&redirect, "base", &[], "has the overlay mark 'redirect'"),
        (&metacopy, "base", &[], "has the overlay mark 'metacopy'"),
        (&nlink, "base", &[], "mount the overlay with index=off"),
        (&both, "base", &[], "say which of them are the overlay's marks"),
        (&plain, "none", &[], "no image tagged 'none' in layout"),
        (&plain.join("missing"), "base", &[], "cannot open the directory"),
        (&plain, "base", &["--base-platform=linux/x"], ""),
    ];
    for (upper, base, options, message) in cases {
        let mut command = puzzlefs();
        command.arg("delta").args(options).arg("--base").arg(layout.image(base));
        command.arg(upper).arg(layout.image("new"));
        if message.is_empty() {
            // A tag that is no index has one image, whatever its platform.
            succeed(&mut command);
            continue;
        }
        let failed = fail(1, &mut command);
        assert!(failed.errors().contains(message), "{failed}");
        assert!(layout.tagged("new").is_empty(), "{failed}");
    }
    for (upper, marks) in [(&redirect, "user"), (&metacopy, "trusted"), (&both, "user")] {
        delta(&layout.image("base"), upper, &layout, "told", &["--marks", marks]);
    }
}

#[test]
fn a_damaged_base_is_found_first() {
    type Damage = fn(&Path);
    let cases: [(&str, Damage, &[&str], &str); 4] = [
        ("missing", |pack| fs::remove_file(pack).unwrap(), &[], "lacks the blob"),
        ("short", |pack| shorten(pack), &[], "the data blob"),
        ("altered", |pack| alter(pack), &["--verify-base"], "it is damaged"),
        (
            "a folder",
            |pack| {
                fs::remove_file(pack).unwrap();
                mkdir(pack);
            },
            &[],
            "is not a file",
        ),
    ];
    for (what, damage, options, message) in cases {
        let dir = temp_dir();
        let lower = mkdir(&dir.path().join("lower"));
        fs::write(lower.join("file"), random(1, 300 * KIB)).unwrap();
        let layout = Layout::new(dir.path().join("layout"));
        build(&lower, &layout, "base", &[]);
        let pack = text(&array(&layers(&layout, "base"))[1]["digest"]).to_owned();
        damage(&layout.blob_path(&pack));
        let before = layout.blobs();
        let upper = mkdir(&dir.path().join("upper"));
        let mut command = puzzlefs();
        command.arg("delta").args(options).arg("--base").arg(layout.image("base"));
        let failed = fail(1, command.arg(&upper).arg(layout.image("new")));
        assert!(failed.errors().contains(message), "{what}: {failed}");
        assert_eq!(layout.blobs(), before, "{what}");
        assert!(layout.tagged("new").is_empty(), "{what}");
    }
}

fn shorten(path: &Path) {
    let file = File::options().write(true).open(path).unwrap();
    file.set_len(file.metadata().unwrap().len() - 100_000).unwrap();
}

fn alter(path: &Path) {
    let file = File::options().write(true).open(path).unwrap();
    file.write_all_at(b"altered", 1000).unwrap();
}

/// A chunk of a changed file is taken from the base's packs, and costs nothing.
#[test]
fn chunks_of_the_base_are_shared() {
    let dir = temp_dir();
    let lower = mkdir(&dir.path().join("lower"));
    let bytes = random(1, 2048 * KIB);
    fs::write(lower.join("file"), &bytes).unwrap();
    let layout = Layout::new(dir.path().join("layout"));
    build(&lower, &layout, "base", &[]);
    let upper = mkdir(&dir.path().join("upper"));
    fs::write(upper.join("moved"), [b"in front", &bytes[..]].concat()).unwrap();
    make_node(&upper.join("file"), FileType::CharacterDevice, 0);
    let made = delta(&layout.image("base"), &upper, &layout, "delta", &[]);
    let new = made["bytes"]["new"].as_u64().unwrap();
    assert!((1..=128 * 1024).contains(&new), "{made:#}");
    assert_eq!(made["unchanged_files"], 0);
    let target = dir.path().join("target");
    succeed(puzzlefs().arg("extract").arg(layout.image("delta")).arg(&target));
    assert!(fs::read(target.join("moved")).unwrap() == [b"in front", &bytes[..]].concat());
}

/// A base says that it has a chunk, and has other bytes there.
#[test]
fn a_lying_chunk_index_gets_no_bytes_in() {
    let dir = temp_dir();
    let layout = Layout::new(dir.path().join("layout"));
    let [lower, honest] = ["lower", "honest"].map(|name| mkdir(&dir.path().join(name)));
    // One chunk each, of the same length.
    let (lie, truth) = (random(1, 3000), random(2, 3000));
    fs::write(lower.join("file"), &lie).unwrap();
    fs::write(honest.join("file"), &truth).unwrap();
    let options = ["--compression=none"];
    build(&lower, &layout, "base", &options);
    let digest = |tag: &str| text(&array(&layers(&layout, tag))[1]["digest"]).to_owned();
    let (old, pack) = (digest("base"), layout.blob(&digest("base")));
    // The pack claims that its chunk is that of the other file.
    let claimed = hex::decode(&sha256(&truth)["sha256:".len()..]).unwrap();
    let real = hex::decode(&sha256(&lie)["sha256:".len()..]).unwrap();
    let at = pack.windows(32).position(|window| window == real).unwrap();
    let mut forged = pack.clone();
    forged[at..at + 32].copy_from_slice(&claimed);
    replace_blob(&layout, "base", &old, &forged);
    assert_eq!(digest("base"), sha256(&forged));

    let upper = mkdir(&dir.path().join("upper"));
    fs::write(upper.join("other"), &truth).unwrap();
    let made = delta(&layout.image("base"), &upper, &layout, "delta", &options);
    assert_eq!(made["bytes"]["new"], 3000);
    let cat = succeed(puzzlefs().arg("cat").arg(layout.image("delta")).arg("other"));
    assert!(cat.stdout == truth);
}

/// Puts other bytes in the place of an image's data blob, with all that refers to it.
fn replace_blob(layout: &Layout, tag: &str, old: &str, bytes: &[u8]) {
    let swap = |document: &[u8], from: &str, to: &str| {
        let (from, to) = (&from["sha256:".len()..], &to["sha256:".len()..]);
        let text = document.to_vec();
        let raw = |hex: &str| hex::decode(hex).unwrap();
        replace(&replace(&text, from.as_bytes(), to.as_bytes()), &raw(from), &raw(to))
    };
    let put = |bytes: &[u8]| {
        fs::write(layout.blob_path(&sha256(bytes)), bytes).unwrap();
        sha256(bytes)
    };
    let manifest = layout.digest(tag);
    let document = layout.manifest(tag);
    let rootfs = text(&array(&document["layers"])[0]["digest"]).to_owned();
    let config = text(&document["config"]["digest"]).to_owned();
    let new = put(bytes);
    let new_rootfs = put(&swap(&layout.blob(&rootfs), old, &new));
    let step = swap(&layout.blob(&config), old, &new);
    let new_config = put(&swap(&step, &rootfs, &new_rootfs));
    let mut step = layout.blob(&manifest);
    for (from, to) in [(old, &new), (&rootfs, &new_rootfs), (&config, &new_config)] {
        step = swap(&step, from, to);
    }
    let new_manifest = put(&step);
    let index = layout.dir.join("index.json");
    let document = fs::read(&index).unwrap();
    fs::write(&index, swap(&document, &manifest, &new_manifest)).unwrap();
}

fn replace(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut bytes = bytes.to_vec();
    let mut at = 0;
    while at + from.len() <= bytes.len() {
        if &bytes[at..at + from.len()] == from {
            bytes[at..at + from.len()].copy_from_slice(to);
        }
        at += 1;
    }
    bytes
}

/// What is still used of a pack of which little is, goes into a new one.
#[test]
fn packs_of_which_little_is_used_are_left_behind() {
    let dir = temp_dir();
    let lower = mkdir(&dir.path().join("lower"));
    for number in 0..10 {
        fs::write(lower.join(format!("file-{number}")), random(number, 3 * FRAME / 4)).unwrap();
    }
    for variant in VARIANTS.iter().filter(|variant| variant.layout == "packs") {
        let layout = variant.build(&lower, dir.path(), "base", &["--pack-size=32M"]);
        let old = text(&array(&layers(&layout, "base"))[1]["digest"]).to_owned();
        let upper = mkdir(&dir.path().join(format!("{}-upper", variant.name())));
        for number in 2..10 {
            let path = upper.join(format!("file-{number}"));
            make_node(&path, FileType::CharacterDevice, 0);
        }
        let how = format!("--compression={}", variant.compression);
        let made = delta(&layout.image("base"), &upper, &layout, "delta", &[&how]);
        let used: Vec<_> = array(&layers(&layout, "delta"))[1..]
            .iter()
            .map(|layer| text(&layer["digest"]).to_owned())
            .collect();
        assert_eq!(used.len(), 1, "{made:#}");
        assert_ne!(used[0], old);
        let moved = made["bytes"]["moved"].as_u64().unwrap();
        let live = (2 * 3 * FRAME / 4) as u64;
        assert!((live..=live + 128 * 1024).contains(&moved), "{made:#}");
        for number in 0..2 {
            let name = format!("file-{number}");
            let cat = succeed(puzzlefs().arg("cat").arg(layout.image("delta")).arg(&name));
            assert!(cat.stdout == fs::read(lower.join(&name)).unwrap(), "{name}");
        }
        assert_clean(&layout);
    }
}

/// A pack is not left behind for its chunk index, which may be longer than what it holds.
#[test]
fn the_smallest_packs_stay() {
    let dir = temp_dir();
    let [lower, upper] = ["lower", "upper"].map(|name| mkdir(&dir.path().join(name)));
    fs::write(lower.join("file"), "4 by").unwrap();
    for variant in VARIANTS {
        let layout = variant.build(&lower, dir.path(), "base", &[]);
        let made = delta(&layout.image("base"), &upper, &layout, "delta", &[]);
        assert_eq!(made["bytes"]["moved"], 0, "{}", variant.name());
        assert_eq!(array(&layers(&layout, "delta"))[1..], array(&layers(&layout, "base"))[1..]);
    }
}

/// Steps upon steps do not make ever more layers.
#[test]
fn a_thousand_chunks_in_few_layers() {
    let dir = temp_dir();
    let tree = mkdir(&dir.path().join("tree"));
    for number in 0..600 {
        fs::write(tree.join(format!("{number}")), random(number, 3000)).unwrap();
    }
    let layout = Layout::new(dir.path().join("layout"));
    // A directory's small files are one stream: each file by itself is one chunk.
    for number in 0..600 {
        let sub = mkdir(&tree.join(format!("dir-{number}")));
        fs::rename(tree.join(format!("{number}")), sub.join("file")).unwrap();
    }
    build(&tree, &layout, "base", &["--layout=blob-per-chunk"]);
    assert!(array(&layers(&layout, "base")).len() > 600);
    let upper = mkdir(&dir.path().join("upper"));
    fs::write(upper.join("new"), "new").unwrap();
    let made = delta(&layout.image("base"), &upper, &layout, "delta", &[]);
    let count = made["layers"].as_u64().unwrap();
    assert!((400..=448).contains(&count), "{made:#}");
    make("canonicalize", &[], &[&layout.image("delta"), &layout.image("canonical")]);
    fs::write(tree.join("new"), "new").unwrap();
    let times = Command::new("touch").arg("-r").arg(&upper).arg(&tree).status().unwrap();
    assert!(times.success());
    assert_clean(&layout);
}

#[test]
fn a_base_in_another_layout() {
    let dir = temp_dir();
    let lower = mkdir(&dir.path().join("lower"));
    fs::write(lower.join("kept"), hex::encode(random(1, 150 * KIB))).unwrap();
    sparse(&lower.join("sparse"), 1024 * KIB, &[(0, b"x".to_vec())]);
    let [here, there] = ["here", "there"].map(|name| Layout::new(dir.path().join(name)));
    for (layout, options) in [(&here, ["--compression=zstd"]), (&there, ["--compression=none"])] {
        build(&lower, layout, "base", &options);
    }
    let upper = mkdir(&dir.path().join("upper"));
    fs::write(upper.join("new"), "new").unwrap();
    let near = delta(&here.image("base"), &upper, &here, "delta", &[]);
    assert_eq!(near["bytes"]["copied"], 0);
    let far = delta(&here.image("base"), &upper, &there, "delta", &[]);
    assert_eq!(layers(&here, "delta"), layers(&there, "delta"));
    let kept = array(&layers(&there, "delta"))[1..]
        .iter()
        .map(|layer| layer["size"].as_u64().unwrap())
        .sum::<u64>();
    let copied = far["bytes"]["copied"].as_u64().unwrap();
    assert!(copied > 100_000 && copied < kept, "{far:#}");
    assert_clean(&there);

    // Damaged data is not passed on under its old name.
    let pack = array(&layers(&here, "base"))[1..]
        .iter()
        .map(|layer| here.blob_path(text(&layer["digest"])))
        .find(|path| fs::metadata(path).unwrap().len() > 100_000)
        .unwrap();
    alter(&pack);
    let elsewhere = Layout::new(dir.path().join("elsewhere"));
    let mut command = puzzlefs();
    command.arg("delta").arg("--base").arg(here.image("base"));
    let failed = fail(1, command.arg(&upper).arg(elsewhere.image("delta")));
    assert!(failed.errors().contains("it is damaged"), "{failed}");
    assert!(elsewhere.tagged("delta").is_empty());
}

/// An image that umoci has just made has no layers: it is an empty base.
#[test]
fn an_image_without_layers_is_an_empty_base() {
    let dir = temp_dir();
    let layout = Layout::new(dir.path().join("layout"));
    succeed(Command::new("umoci").arg("init").arg("--layout").arg(&layout.dir));
    succeed(Command::new("umoci").args(["new", "--image"]).arg(layout.image("empty")));
    succeed(
        Command::new("umoci")
            .args(["config", "--config.user=me", "--config.env=A=b", "--image"])
            .arg(layout.image("empty")),
    );
    let upper = mkdir(&dir.path().join("upper"));
    fs::write(upper.join("file"), "content").unwrap();
    delta(&layout.image("empty"), &upper, &layout, "delta", &["--created=5"]);
    build_on(&layout.image("empty"), &upper, &layout, "built", &["--created=5"]);
    build(&upper, &layout, "apart", &[]);
    assert_eq!(layers(&layout, "delta"), layers(&layout, "apart"));
    assert_eq!(layers(&layout, "built"), layers(&layout, "apart"));
    let config = layout.config("delta");
    assert_eq!(config["config"], json!({ "User": "me", "Env": ["A=b"] }));
    let stat = succeed(
        Command::new("umoci").args(["stat", "--json", "--image"]).arg(layout.image("delta")),
    );
    let history = array(&stat.json()["history"]).len();
    assert_eq!(history, array(&config["history"]).len());
}

/// The same steps at another time, in another place.
#[test]
fn the_same_steps_give_the_same_image() {
    let dir = temp_dir();
    let digests: Vec<_> = ["one", "two"]
        .iter()
        .map(|name| {
            let dir = mkdir(&dir.path().join(name));
            let [lower, upper] = ["lower", "upper"].map(|name| mkdir(&dir.join(name)));
            fs::write(lower.join("file"), lines(100 * KIB)).unwrap();
            fs::write(upper.join("new"), "new").unwrap();
            let layout = Layout::new(dir.join("layout"));
            let step = |arguments: &[&OsStr]| {
                let mut command = puzzlefs();
                command.env("SOURCE_DATE_EPOCH", "1700000000").args(arguments);
                succeed(&mut command);
            };
            let [build, delta, config] = ["build", "delta", "config"].map(OsStr::new);
            let [clamp, base, env] = ["--clamp-mtime", "--base", "--env=A=b"].map(OsStr::new);
            let [v1, v2] = ["v1", "v2"].map(|tag| layout.image(tag));
            step(&[build, clamp, lower.as_os_str(), &v1]);
            step(&[delta, clamp, base, &v1, upper.as_os_str(), &v2]);
            step(&[config, &v2, env]);
            layout.digest("v2")
        })
        .collect();
    assert_eq!(digests[0], digests[1]);
}

/// Each step adds to the history, and carries the configuration on.
#[test]
fn history_and_configuration_are_carried_on() {
    let dir = temp_dir();
    let layout = Layout::new(dir.path().join("layout"));
    let [lower, upper] = ["lower", "upper"].map(|name| mkdir(&dir.path().join(name)));
    let config = dir.path().join("config.json");
    fs::write(&config, r#"{"config":{"Cmd":["a"],"x.y":12345678901234567890123},"z":1.50}"#)
        .unwrap();
    let file = format!("--config={}", config.display());
    let first = [&file, "--created=1", "--author=one", "--annotation=a=b", "--annotation=c=d"];
    build(&lower, &layout, "v1", &first);
    fs::write(upper.join("file"), "content").unwrap();
    let second = ["--created=2", "--created-by=step two", "--comment=why", "--annotation=c=e"];
    delta(&layout.image("v1"), &upper, &layout, "v2", &second);
    let empty = mkdir(&dir.path().join("empty"));
    let times = Command::new("touch").arg("-r").arg(&upper).arg(&empty).status().unwrap();
    assert!(times.success());
    delta(&layout.image("v2"), &empty, &layout, "v3", &["--created=3"]);

    let document = layout.config("v3");
    let expected = json!([
        {"created": "1970-01-01T00:00:01Z", "created_by": "puzzlefs build", "author": "one"},
        {"created": "1970-01-01T00:00:02Z", "created_by": "step two", "comment": "why"},
        {"created": "1970-01-01T00:00:03Z", "created_by": "puzzlefs delta", "empty_layer": true},
    ]);
    assert_eq!(document["history"], expected);
    assert_eq!(document["config"]["Cmd"], json!(["a"]));
    let raw =
        String::from_utf8(layout.blob(text(&layout.manifest("v3")["config"]["digest"]))).unwrap();
    assert!(raw.contains("12345678901234567890123") && raw.contains("1.50"), "{raw}");
    let annotations = &layout.manifest("v3")["annotations"];
    assert_eq!((&annotations["a"], &annotations["c"]), (&json!("b"), &json!("e")));
    let ids = array(&document["rootfs"]["diff_ids"]).to_vec();
    let digests: Vec<_> =
        array(&layers(&layout, "v3")).iter().map(|layer| layer["digest"].clone()).collect();
    assert_eq!(ids, digests);
    assert_eq!(layers(&layout, "v3"), layers(&layout, "v2"));
    succeed(Command::new("umoci").args(["stat", "--image"]).arg(layout.image("v3")));
}

#[test]
fn times_are_trusted_where_they_tell_something() {
    let dir = temp_dir();
    let tree = mkdir(&dir.path().join("tree"));
    for name in ["same", "changed"] {
        fs::write(tree.join(name), lines(100 * KIB)).unwrap();
    }
    tree::set_times(&tree);
    let layout = Layout::new(dir.path().join("layout"));
    build(&tree, &layout, "base", &[]);
    build(&tree, &layout, "clamped", &["--clamp-mtime=-100000000"]);
    // A change that the time does not tell is what is overlooked on purpose.
    let path = tree.join("changed");
    let time = fs::metadata(&path).unwrap().modified().unwrap();
    let file = File::options().write(true).open(&path).unwrap();
    file.write_all_at(b"changed", 50_000).unwrap();
    file.set_times(FileTimes::new().set_modified(time)).unwrap();
    drop(file);
    let base = layout.image("base");
    let trusting = build_on(&base, &tree, &layout, "trusting", &["--trust-mtime"]);
    assert_eq!((&trusting["unchanged_files"], &trusting["bytes"]["read"]), (&json!(2), &json!(0)));
    let reading = build_on(&base, &tree, &layout, "reading", &[]);
    assert_eq!(reading["unchanged_files"], 1);
    set_mode(&tree.join("same"), 0o600);
    let changed = build_on(&base, &tree, &layout, "mode", &["--trust-mtime"]);
    assert_eq!(changed["unchanged_files"], 2, "what is not trusted is compared");

    let image = |tag: &str| layout.image(tag);
    let cases: [(&OsStr, &[&str], &str); 2] = [
        (&image("clamped"), &["--trust-mtime"], "all times in the base are the same"),
        (&base, &["--trust-mtime", "--clamp-mtime=5"], "times to be trusted that are clamped"),
    ];
    for (base, options, message) in cases {
        let mut command = puzzlefs();
        command.args(["build", "--base"]).arg(base).args(options).arg(&tree).arg(image("no"));
        let failed = fail(1, &mut command);
        assert!(failed.errors().contains(message), "{failed}");
    }
}

/// A base that the reference made: a blob a chunk, no chunk index, no times.
#[test]
fn a_base_of_the_reference() {
    let dir = temp_dir();
    let lower = mkdir(&dir.path().join("lower"));
    tree::ordinary(&lower);
    fs::write(lower.join("large"), random(3, 700 * KIB)).unwrap();
    // The reference keeps no times.
    succeed(Command::new("find").arg(&lower).args(["-exec", "touch", "-h", "-d", "@0", "{}", "+"]));
    for options in [&["build"][..], &["build", "-c"]] {
        let layout = Layout::new(dir.path().join(options.join("")));
        succeed(reference().args(options).arg(&lower).arg(layout.image("base")));
        let own = mkdir(&dir.path().join(format!("overlay-{}", options.len())));
        let overlay = Overlay::new(&own, &lower, "trusted");
        let large = File::options().write(true).open(overlay.path().join("large")).unwrap();
        large.write_all_at(b"changed", 300_000).unwrap();
        fs::write(overlay.path().join("new"), "new").unwrap();
        delta(&layout.image("base"), &overlay.upper, &layout, "delta", &[]);
        build_on(&layout.image("base"), overlay.path(), &layout, "merged", &[]);
        assert_eq!(layers(&layout, "delta"), layers(&layout, "merged"));
        let target = own.join("target");
        succeed(puzzlefs().arg("extract").arg(layout.image("delta")).arg(&target));
        assert_same("the reference's base", &Snapshot::of(overlay.path()), &Snapshot::of(&target));
        make("canonicalize", &[], &[&layout.image("delta"), &layout.image("canonical")]);
        build(overlay.path(), &layout, "apart", &[]);
        assert_eq!(layers(&layout, "canonical"), layers(&layout, "apart"));
    }
}

/// A hole of a terabyte costs nothing when it is compared either.
#[test]
fn sparse_files_are_compared_by_their_data() {
    let dir = temp_dir();
    let tree = mkdir(&dir.path().join("tree"));
    sparse(&tree.join("big"), 1 << 40, &[(1 << 39, random(1, 100 * KIB))]);
    let layout = Layout::new(dir.path().join("layout"));
    build(&tree, &layout, "base", &[]);
    let made = build_on(&layout.image("base"), &tree, &layout, "again", &[]);
    assert_eq!((&made["unchanged_files"], &made["bytes"]["read"]), (&json!(1), &json!(0)));
    assert_eq!(layers(&layout, "again"), layers(&layout, "base"));
}
