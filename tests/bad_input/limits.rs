//! Images that are right, and larger or deeper than any that a reader may count on.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::check::{PUZZLEFS, Run, each, named, nothing_written, puzzlefs, scratch, wrapped};
use crate::forge::words::Element::Composite;
use crate::forge::words::{To, add_data, add_list, add_struct, message};
use crate::forge::{Blob, Image, RAW_TYPE, dir, file, store};
use crate::images::sample;
use crate::messages::{DIR, FILE, INODES, skeleton};

/// More levels than a process may have open files, and paths that no system call takes.
const DEPTH: u64 = 2_000;
const OPEN_FILES: &[&str] = &["prlimit", "--nofile=1024"];

/// A tree of `DEPTH` directories in each other, with a file at the bottom.
fn deep() -> Image {
    let blob = Blob::raw(b"at the bottom");
    let mut inodes: Vec<_> = (1..=DEPTH).map(|ino| dir(ino, &[("dir", ino + 1)])).collect();
    inodes.push(file(DEPTH + 1, &[blob.extent(0, blob.bytes.len() as u64)]));
    Image::new(inodes, vec![blob])
}

fn remove(dir: &Path) {
    let rm = Command::new("rm").arg("-rf").arg(dir).status();
    assert!(rm.expect("run rm").success(), "remove {dir:?}");
}

#[test]
fn a_deep_tree() {
    let scratch = scratch();
    let dir = scratch.path();
    deep().write(&dir.join("out"), "v1");
    let path = "/dir".repeat(DEPTH as usize);
    let run = |args: &[&str]| {
        let run = wrapped(dir, OPEN_FILES, args);
        run.succeeded().unwrap();
        run
    };
    assert_eq!(run(&["cat", "out:v1", &path]).bytes(), b"at the bottom");
    assert_eq!(run(&["ls", "-R", "out:v1"]).stdout().lines().count(), DEPTH as usize);
    run(&["inspect", "--dump", "out:v1"]);
    run(&["fsck", "out:v1"]);
    run(&["extract", "out:v1", "target"]);
    // And back again: no path is needed on this way either.
    let built = run(&["build", "target", "out:v2"]);
    assert!(built.stdout().starts_with("sha256:"));
    remove(&dir.join("target"));
    assert_eq!(run(&["cat", "out:v2", &path]).bytes(), b"at the bottom");
}

/// What was extracted before the damage was met is removed, however deep it is.
#[test]
fn a_deep_tree_with_damaged_data() {
    let scratch = scratch();
    let dir = scratch.path();
    let stored = deep().write(&dir.join("out"), "v1");
    fs::write(&stored.blobs[0], b"at the Bottom").expect("damage the blob");
    let extract =
        || wrapped(dir, OPEN_FILES, &["extract", "out:v1", "target"]).refused(1, "damaged");
    let verdict = nothing_written(dir, extract);
    remove(&dir.join("target"));
    verdict.unwrap();
}

/// A target that was there is left as it was.
#[test]
fn damaged_data_and_a_target_that_is_there() {
    let scratch = scratch();
    let dir = scratch.path();
    let stored = sample().write(&dir.join("out"), "v1");
    fs::write(&stored.blobs[1], b"STORED AS IT IS\n").expect("damage the blob");
    let target = dir.join("target");
    fs::create_dir(&target).expect("mkdir");
    fs::set_permissions(&target, fs::Permissions::from_mode(0o700)).expect("chmod");
    let extract = || puzzlefs(dir, &["extract", "out:v1", "target"]).refused(1, "damaged");
    nothing_written(dir, extract).unwrap();
}

/// How many descriptors of one blob there are: as many as a manifest may have, or an index.
const CLAIMS: usize = 200_000;
const ENTRIES: usize = 25_000;

/// An image whose manifest says of a blob that it has any of `CLAIMS` sizes.
fn many_sizes(dir: &Path) {
    let mut image = sample();
    image.manifest = |manifest| {
        let layers = manifest["layers"].as_array_mut().expect("layers");
        let digest = layers[1]["digest"].clone();
        let claim = |size| json!({ "mediaType": RAW_TYPE, "digest": digest, "size": size });
        let claims: Vec<_> = (0..CLAIMS).map(claim).collect();
        layers.extend(claims);
    };
    image.write(&dir.join("out"), "v1");
}

/// An index that says of a document, which is not small, that it is of any of `ENTRIES` types.
fn many_types(dir: &Path) {
    let out = dir.join("out");
    sample().write(&out, "v1");
    let document = json!({ "numbers": vec![0; 100_000] }).to_string();
    let mut entry = store(&out, "", document.as_bytes());
    let path = out.join("index.json");
    let mut index: serde_json::Value =
        serde_json::from_slice(&fs::read(&path).expect("read index.json")).expect("parse it");
    let entries = index["manifests"].as_array_mut().expect("manifests");
    for number in 0..ENTRIES {
        entry["mediaType"] = json!(format!("a/{number}"));
        entries.push(entry.clone());
    }
    fs::write(&path, index.to_string()).expect("write index.json");
}

/// What is said many times of a blob is not as many times work.
#[test]
fn much_is_said_of_a_blob() {
    /// A name, what makes the layout `out`, and what is run in its folder.
    type Row = (&'static str, fn(&Path), &'static [&'static str]);
    let rows: [Row; 2] = [
        ("many sizes", many_sizes, &["fsck", "out"]),
        ("many types", many_types, &["gc", "--grace", "0s", "out"]),
    ];
    each(&rows, |(name, make, args)| {
        let scratch = scratch();
        make(scratch.path());
        puzzlefs(scratch.path(), args).succeeded().map_err(named(name))
    });
}

const DIRECTORIES: u32 = 3_200;
const FILES: u32 = 3_125;

/// The metadata of `DIRECTORIES` directories of `FILES` files, each with an extent of its own.
///
/// Written word by word, since it is more than a gigabyte.
fn many_inodes(blob: &Blob) -> Vec<u8> {
    let files = u64::from(FILES);
    let ino_of_dir = |dir: u64| 2 + dir * (files + 1);
    let mut words = skeleton();
    let names: Vec<To> = (0..DIRECTORIES.max(FILES))
        .map(|index| add_data(&mut words, format!("{index:08}").as_bytes()))
        .collect();
    let name = |index: u64| names[index as usize];
    let root = add_list(&mut words, DIRECTORIES, |dir| ([ino_of_dir(dir)], [name(dir)]));
    let root = add_struct(&mut words, [0], [root]);
    let dirs: Vec<To> = (0..DIRECTORIES.into())
        .map(|dir| {
            let ino = |file| ino_of_dir(dir) + 1 + file;
            let entries = add_list(&mut words, FILES, |file| ([ino(file)], [name(file)]));
            add_struct(&mut words, [0], [entries])
        })
        .collect();
    let digest = add_data(&mut words, &blob.digest());
    let first_extent = words.len();
    for file in 0..u64::from(DIRECTORIES) * files {
        let offset = file % blob.bytes.len() as u64;
        let blob = add_struct(&mut words, [offset, 0], [digest]);
        add_list(&mut words, 1, |_| ([1], [blob]));
    }
    let extent = |file: u64| {
        const BLOB_REF: usize = 3;
        const FILE_CHUNK: usize = 2;
        let at = first_extent + (BLOB_REF + 1 + FILE_CHUNK) * file as usize + BLOB_REF;
        To::List(at, Composite, FILE_CHUNK as u32)
    };
    let inodes = add_list(&mut words, 1 + DIRECTORIES * (1 + FILES), |index| {
        let below_root = index.checked_sub(1);
        let place = below_root.map(|index| (index / (files + 1), index % (files + 1)));
        let (mode, to) = match place {
            None => (DIR, root),
            Some((dir, 0)) => (DIR, dirs[dir as usize]),
            Some((dir, file)) => (FILE, extent(dir * files + file - 1)),
        };
        ([index + 1, mode, 0, 0], [to, To::Null])
    });
    words[INODES] = inodes.pointer(INODES);
    message(&[&words])
}

#[test]
fn ten_million_inodes() {
    const ADDRESS_SPACE: &str = "--as=5368709120";
    let scratch = scratch();
    let blob = Blob::raw(b"0123456789");
    let mut image = Image::new(vec![], vec![blob.clone()]);
    image.rootfs = Some(many_inodes(&blob));
    image.write(&scratch.path().join("out"), "v1");
    drop(image);
    let mut limited = Command::new("prlimit");
    limited.args([ADDRESS_SPACE, PUZZLEFS]).current_dir(scratch.path());
    let last = format!("/{:08}", DIRECTORIES - 1);
    let ls = Run::of(&mut limited, &["ls", "out:v1", &last]);
    ls.succeeded().unwrap();
    let names: Vec<String> = (0..FILES).map(|file| format!("{file:08}")).collect();
    assert!(ls.stdout().lines().eq(&names), "{ls}");
}
