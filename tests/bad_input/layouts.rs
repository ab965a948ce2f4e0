//! Layouts of which a part is missing or altered, and manifests and indexes that are wrong.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::{Value, json};

use crate::check::{Random, each, named, nothing_written, puzzlefs, same, scratch, tags};
use crate::forge::{
    self, Blob, INDEX_TYPE, Image, MANIFEST_TYPE, ROOTFS_TYPE, Stored, add_to_index, descriptor,
    file, store,
};
use crate::images::{F, R, ROOT, content_of_f, sample};
use crate::verbs::{ALL, ALL_DATA, DATA, Verb, refused_by};

/// What may happen to a file of the layout.
type Damage = (&'static str, fn(&Path));

const DAMAGES: &[Damage] = &[
    ("missing", |path| fs::remove_file(path).expect("remove")),
    ("empty", |path| fs::write(path, []).expect("write")),
    ("without its last byte", |path| edit(path, |bytes| bytes.truncate(bytes.len() - 1))),
    ("with a byte more", |path| edit(path, |bytes| bytes.push(b'\n'))),
    ("with a bit flipped", |path| {
        edit(path, |bytes| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1
        })
    }),
    // More than there is address space.
    ("sparse, of a GiB", |path| {
        File::create(path).and_then(|f| f.set_len(1 << 30)).expect("extend")
    }),
    ("a directory", |path| replace(path, |path| fs::create_dir(path).expect("mkdir"))),
    ("a fifo", |path| {
        replace(path, |path| mknodat(CWD, path, FileType::Fifo, Mode::RUSR, 0).expect("mkfifo"))
    }),
    ("a link to /dev/zero", |path| {
        replace(path, |path| symlink("/dev/zero", path).expect("symlink"))
    }),
    ("a link to itself", |path| replace(path, |path| symlink(path, path).expect("symlink"))),
];

fn edit(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).expect("read");
    change(&mut bytes);
    fs::write(path, bytes).expect("write");
}

fn replace(path: &Path, make: impl FnOnce(&Path)) {
    fs::remove_file(path).expect("remove");
    make(path);
}

#[test]
fn damaged_blobs() {
    /// A name, the blob, and the verbs that need it.
    type Part = (&'static str, fn(Stored) -> std::path::PathBuf, &'static [Verb]);
    let parts: &[Part] = &[
        ("the manifest", |stored| stored.manifest, ALL),
        ("the config", |stored| stored.config, ALL),
        ("the rootfs", |stored| stored.rootfs, ALL),
        ("a zstd pack", |stored| stored.blobs[0].clone(), DATA),
        ("a raw pack", |stored| stored.blobs[1].clone(), ALL_DATA),
    ];
    let rows = parts.iter().flat_map(|part| DAMAGES.iter().map(move |damage| (part, damage)));
    each(rows, |((part, path, verbs), (damage, apply))| {
        let scratch = scratch();
        let path = path(sample().write(&scratch.path().join("out"), "v1"));
        apply(&path);
        let digest = path.file_name().and_then(|name| name.to_str()).expect("a digest");
        refused_by(scratch.path(), verbs, digest).map_err(named(&format!("{part} {damage}")))
    });
}

#[test]
fn damaged_layout_files() {
    // JSON may end with a newline, and not every bit of a text matters.
    let harmless = ["with a byte more", "with a bit flipped"];
    let damages = DAMAGES.iter().filter(|(damage, _)| !harmless.contains(damage));
    let rows = damages.flat_map(|damage| ["index.json", "oci-layout"].map(|file| (file, damage)));
    each(rows, |(file, (damage, apply))| {
        let scratch = scratch();
        sample().write(&scratch.path().join("out"), "v1");
        apply(&scratch.path().join("out").join(file));
        refused_by(scratch.path(), ALL, file).map_err(named(&format!("{file} {damage}")))
    });
}

/// Each is locked, by some verbs.
#[test]
fn folders_that_are_none() {
    let folders = ["blobs", "blobs/sha256"];
    let rows = folders.iter().flat_map(|folder| DAMAGES[6..].iter().map(move |d| (folder, d)));
    each(rows, |(folder, (damage, apply))| {
        let scratch = scratch();
        sample().write(&scratch.path().join("out"), "v1");
        let path = scratch.path().join("out").join(folder);
        fs::rename(&path, scratch.path().join("away")).expect("rename");
        File::create(&path).expect("put something in its place");
        apply(&path);
        refused_by(scratch.path(), ALL, "").map_err(named(&format!("{folder} {damage}")))
    });
}

#[test]
fn layout_files_of_other_content() {
    type Row = (&'static str, &'static str, fn() -> Vec<u8>, &'static str);
    let rows: &[Row] = &[
        ("oci-layout", "junk", || b"junk".into(), "oci-layout"),
        ("oci-layout", "no version", || b"{}".into(), "oci-layout"),
        ("oci-layout", "a newer version", || br#"{"imageLayoutVersion":"2.0.0"}"#.into(), "2.0.0"),
        ("index.json", "junk", || b"junk".into(), "index.json"),
        ("index.json", "another shape", || b"[]".into(), "index.json"),
        (
            "index.json",
            "manifests of another shape",
            || br#"{"schemaVersion":2,"manifests":{}}"#.into(),
            "index.json",
        ),
        (
            "index.json",
            "not UTF-8",
            || b"{\"schemaVersion\":2,\"manifests\":[],\"a\":\"\xff\"}".into(),
            "index.json",
        ),
        (
            "index.json",
            "another schema",
            || br#"{"schemaVersion":3,"manifests":[]}"#.into(),
            "index.json",
        ),
        ("index.json", "no manifests", || br#"{"schemaVersion":2}"#.into(), "index.json"),
        ("index.json", "a million brackets", || vec![b'['; 1 << 20], "index.json"),
        ("index.json", "a GiB of spaces", || vec![b' '; 1 << 30], "index.json"),
    ];
    each(rows, |(file, name, content, message)| {
        let scratch = scratch();
        sample().write(&scratch.path().join("out"), "v1");
        fs::write(scratch.path().join("out").join(file), content()).expect("write");
        refused_by(scratch.path(), ALL, message).map_err(named(&format!("{file}: {name}")))
    });
}

const OUTSIDE: &str = "sha256:../../../../../../../../etc/passwd";
const ABSENT: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";
const ABSENT_IMAGE: &str =
    "out@sha256:0000000000000000000000000000000000000000000000000000000000000000";

/// A name, the change to the sample's document, and what is said about it.
type Row = (&'static str, fn(&mut Value), &'static str);

#[test]
fn manifests() {
    let rows: &[Row] = &[
        ("layers that are no list", |m| m["layers"] = json!({}), "expected a sequence"),
        (
            "layers missing",
            |m| {
                m.as_object_mut().expect("an object").remove("layers");
            },
            "layers",
        ),
        ("the rootfs last", |m| m["layers"].as_array_mut().expect("a list").reverse(), "rootfs"),
        (
            "no rootfs",
            |m| {
                m["layers"].as_array_mut().expect("a list").remove(0);
            },
            "first layer is of type 'application/vnd.puzzlefs.image.filedata.v1+zstd'",
        ),
        ("two of them", |m| m["layers"][1] = m["layers"][0].clone(), "rootfs"),
        (
            "an image of tar layers",
            |m| {
                m["layers"][0]["mediaType"] = json!("application/vnd.oci.image.layer.v1.tar+gzip");
            },
            "application/vnd.oci.image.layer.v1.tar+gzip",
        ),
        (
            "a type that would be a command to a terminal",
            |m| m["layers"][0]["mediaType"] = json!("a\n\u{1b}[2Jpuzzlefs: all is well"),
            r"type 'a\n\u{1b}[2Jpuzzlefs: all is well'",
        ),
        (
            "a type of a MiB",
            |m| m["layers"][0]["mediaType"] = json!("x".repeat(1 << 20)),
            "first layer is of type 'xxx",
        ),
        ("a manifest", |m| m["layers"][1]["mediaType"] = json!(MANIFEST_TYPE), MANIFEST_TYPE),
        (
            "a rootfs of a later version",
            |m| {
                m["layers"][0]["mediaType"] = json!("application/vnd.puzzlefs.image.rootfs.v2");
            },
            "application/vnd.puzzlefs.image.rootfs.v2",
        ),
        (
            "data of an unknown type",
            |m| {
                m["layers"][1]["mediaType"] = json!("application/vnd.puzzlefs.image.filedata.v9");
            },
            "application/vnd.puzzlefs.image.filedata.v9",
        ),
        ("a layer that is no descriptor", |m| m["layers"][0] = json!("layer"), "Descriptor"),
        (
            "a layer without a digest",
            |m| m["layers"][0]["digest"] = Value::Null,
            "expected a string",
        ),
        ("a digest that is a path", |m| m["layers"][0]["digest"] = json!(OUTSIDE), "/etc/passwd"),
        (
            "a digest of data that is a path",
            |m| m["layers"][1]["digest"] = json!(OUTSIDE),
            "/etc/passwd",
        ),
        (
            "a config's digest that is a path",
            |m| m["config"]["digest"] = json!(OUTSIDE),
            "/etc/passwd",
        ),
        (
            "a digest that is short",
            |m| m["layers"][0]["digest"] = json!("sha256:00"),
            "digest length 2",
        ),
        (
            "a digest in capitals",
            |m| {
                let digest = m["layers"][0]["digest"].as_str().expect("a digest").to_uppercase();
                m["layers"][0]["digest"] = json!(digest.replace("SHA256", "sha256"));
            },
            "digest",
        ),
        (
            "an unknown algorithm",
            |m| m["layers"][0]["digest"] = json!("md5:00000000000000000000000000000000"),
            "md5",
        ),
        (
            "a SHA-512",
            |m| m["layers"][0]["digest"] = json!(format!("sha512:{}", "0".repeat(128))),
            "is not a SHA-256",
        ),
        ("a size below 0", |m| m["layers"][0]["size"] = json!(-1), "-1"),
        ("a size that is a text", |m| m["layers"][0]["size"] = json!("1"), "expected u64"),
        (
            "a size of the rootfs that is wrong",
            |m| m["layers"][0]["size"] = json!(1),
            "has 808 bytes",
        ),
        (
            "a size of the rootfs of 2^63 bytes",
            |m| m["layers"][0]["size"] = json!(1_u64 << 63),
            "has 808 bytes",
        ),
        ("no config", |m| m["config"] = Value::Null, "Descriptor"),
        ("schemaVersion 1", |m| m["schemaVersion"] = json!(1), "schemaVersion"),
    ];
    each(rows, |(name, change, message)| {
        let scratch = scratch();
        let image = Image { manifest: *change, ..sample() };
        image.write(&scratch.path().join("out"), "v1");
        refused_by(scratch.path(), ALL, message).map_err(named(name))
    });
}

/// It may be built upon.
#[test]
fn a_manifest_without_layers() {
    let scratch = scratch();
    let image = Image { manifest: |m| m["layers"] = json!([]), ..sample() };
    image.write(&scratch.path().join("out"), "v1");
    let verbs: Vec<Verb> = ALL.iter().copied().filter(|&verb| verb != Verb::Delta).collect();
    refused_by(scratch.path(), &verbs, "has no layers").unwrap();
}

#[test]
fn descriptors_in_the_index() {
    let rows: &[Row] = &[
        ("no digest", |d| d["digest"] = Value::Null, "index.json"),
        ("a digest that is a path", |d| d["digest"] = json!(OUTSIDE), "/etc/passwd"),
        ("a digest of nothing", |d| d["digest"] = json!(ABSENT), ABSENT),
        ("a wrong size", |d| d["size"] = json!(1), "bytes instead of 1"),
        ("a size of 2^62", |d| d["size"] = json!(1_u64 << 62), "has 4611686018427387904 bytes"),
        (
            "an index, it says, of what is a manifest",
            |d| d["mediaType"] = json!(INDEX_TYPE),
            "manifests",
        ),
    ];
    each(rows, |(name, change, message)| {
        let scratch = scratch();
        let image = Image { descriptor: *change, ..sample() };
        image.write(&scratch.path().join("out"), "v1");
        refused_by(scratch.path(), ALL, message).map_err(named(name))
    });
}

#[test]
fn manifests_that_are_none() {
    type Row = (&'static str, fn() -> (&'static str, Vec<u8>), &'static str);
    let rows: &[Row] = &[
        ("no byte", || (MANIFEST_TYPE, vec![]), "manifest"),
        ("junk", || (MANIFEST_TYPE, b"junk".into()), "manifest"),
        ("a list", || (MANIFEST_TYPE, b"[]".into()), "manifest"),
        ("a million brackets", || (MANIFEST_TYPE, vec![b'['; 1 << 20]), "manifest"),
        ("128 MiB of spaces", || (MANIFEST_TYPE, vec![b' '; 128 << 20]), "has 134217728 bytes"),
        ("an index of 128 MiB", || (INDEX_TYPE, vec![b' '; 128 << 20]), "has 134217728 bytes"),
        ("a rootfs", || (ROOTFS_TYPE, sample().encode()), "manifest"),
    ];
    each(rows, |(name, content, message)| {
        let scratch = scratch();
        let out = scratch.path().join("out");
        let (media_type, bytes) = content();
        add_to_index(&out, tagged(store(&out, media_type, &bytes)));
        refused_by(scratch.path(), ALL, message).map_err(named(name))
    });
}

fn tagged(mut descriptor: Value) -> Value {
    descriptor["annotations"] = json!({ "org.opencontainers.image.ref.name": "v1" });
    descriptor
}

/// An index in an index, to a depth at which nobody can mean it.
#[test]
fn indexes_in_each_other() {
    let scratch = scratch();
    let out = scratch.path().join("out");
    let mut descriptor = store(&out, MANIFEST_TYPE, b"never read");
    for _ in 0..10_000 {
        let index =
            json!({ "schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [descriptor] });
        descriptor = store(&out, INDEX_TYPE, index.to_string().as_bytes());
    }
    add_to_index(&out, tagged(descriptor));
    refused_by(scratch.path(), ALL, "index").unwrap();
}

#[test]
fn what_is_asked_for_is_not_there() {
    type Row = (&'static [&'static str], &'static str);
    let rows: &[Row] = &[
        (&["inspect", "out:v2"], "no image tagged 'v2' in layout 'out' (it has: v1, v3)"),
        (&["ls", "out:v2"], "no image tagged 'v2' in layout 'out' (it has: v1, v3)"),
        (&["cat", "out:v2", "/f"], "no image tagged 'v2' in layout 'out' (it has: v1, v3)"),
        (&["extract", "out:v2", "target"], "no image tagged 'v2' in layout 'out' (it has: v1, v3)"),
        (&["fsck", "out:v2"], "no image tagged 'v2' in layout 'out' (it has: v1, v3)"),
        (&["inspect", "empty:v1"], "no image tagged 'v1' in layout 'empty'"),
        (&["inspect", "nowhere:v1"], "'nowhere'"),
        (&["fsck", "nowhere"], "'nowhere'"),
        (&["inspect", "plain:v1"], "'plain'"),
        (&["inspect", "file:v1"], "'file"),
        (&["extract", "nowhere:v1", "target"], "'nowhere'"),
        (&["inspect", ABSENT_IMAGE], ABSENT),
        (&["ls", "out:v1", "/lost"], "'/lost'"),
        (&["ls", "out:v1", "/f/below"], "'/f/below'"),
        (&["cat", "out:v1", "/lost"], "'/lost'"),
        (&["cat", "out:v1", "/d"], "'/d'"),
        (&["cat", "out:v1", "/"], "'/'"),
        (&["cat", "out:v1", "/d/../../outside"], "'/d/../../outside'"),
        (&["extract", "out:v1", "plain"], "'plain'"),
        (&["extract", "out:v1", "file"], "'file'"),
        (&["extract", "out:v1", "lost/target"], "'lost/target'"),
        (&["extract", "out:v1", "file/target"], "'file/target'"),
        (&["extract", "out:v1", "out"], "'out'"),
    ];
    let scratch = scratch();
    let dir = scratch.path();
    for tag in ["v1", "v3"] {
        sample().write(&dir.join("out"), tag);
    }
    fs::create_dir(dir.join("plain"))
        .and_then(|()| fs::write(dir.join("plain/kept"), "kept"))
        .expect("write");
    fs::write(dir.join("file"), "kept").expect("write");
    fs::create_dir(dir.join("empty")).expect("mkdir");
    fs::write(dir.join("empty/oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).expect("write");
    fs::write(dir.join("empty/index.json"), r#"{"schemaVersion":2,"manifests":[]}"#)
        .expect("write");
    each(rows, |(args, message)| {
        nothing_written(dir, || puzzlefs(dir, args).refused(1, message))
            .map_err(named(&args.join(" ")))
    });
}

/// What is wrong with one image is no matter to the others.
#[test]
fn a_broken_image_leaves_the_others_alone() {
    let scratch = scratch();
    let dir = scratch.path();
    let out = dir.join("out");
    let mut broken = sample();
    broken.inode(R).permissions = 0o600;
    fs::remove_file(broken.write(&out, "broken").manifest).expect("remove the manifest");
    broken.inode(R).permissions = 0o400;
    fs::remove_file(broken.write(&out, "hollow").rootfs).expect("remove the rootfs");
    sample().write(&out, "v1");
    refused_by(dir, &[], "").unwrap();

    fs::create_dir(dir.join("tree")).expect("mkdir");
    puzzlefs(dir, &["build", "tree", "out:v2"]).succeeded().unwrap();
    assert_eq!(tags(&out), ["broken", "hollow", "v1", "v2"]);
    let fsck = puzzlefs(dir, &["fsck", "out"]);
    fsck.found(1, "(hurts: broken)").unwrap();
    fsck.found(1, "(hurts: hollow)").unwrap();
    assert!(!fsck.stdout().contains("v1") && !fsck.stdout().contains("v2"), "{fsck}");
}

/// What an image claims of blobs that it shares with other images hurts none of these.
#[test]
fn a_lying_image_leaves_the_others_alone() {
    type Row = (&'static str, fn(&mut Image), &'static str);
    let rows: &[Row] = &[
        (
            "more than a pack holds",
            |i| i.inode(F).extents()[0].len *= 4,
            "327680 bytes of content, and files refer to 1310720 of it (hurts: lying)",
        ),
        (
            "more than two packs hold",
            |i| [F, R].into_iter().for_each(|ino| i.inode(ino).extents()[0].len *= 4),
            "; of 1 others they do, too (hurts: lying)",
        ),
        (
            "a raw pack that is said to be compressed",
            |i| i.inode(R).extents()[0].compressed = true,
            "no seek table at its end (hurts: lying)",
        ),
        (
            "a compressed pack that is said to be raw",
            |i| i.inode(F).extents()[0].compressed = false,
            " bytes of content, and files refer to 327680 of it (hurts: lying)",
        ),
        (
            "a wrong size of the configuration",
            |i| i.manifest = |m| m["config"]["size"] = json!(1),
            "and its descriptor says 1 (hurts: lying)",
        ),
    ];
    each(rows, |(name, lie, message)| {
        let scratch = scratch();
        let dir = scratch.path();
        let out = dir.join("out");
        let mut lying = sample();
        lie(&mut lying);
        lying.write(&out, "lying");
        sample().write(&out, "v1");
        let mut other = sample();
        other.inode(R).permissions = 0o600;
        other.write(&out, "v2");
        let fsck = puzzlefs(dir, &["fsck", "out"]);
        fsck.found(1, message).map_err(named(name))?;
        match fsck.stdout().matches("(hurts: ").count() {
            1 => Ok(()),
            _ => Err(format!("{fsck}: should find that alone")).map_err(named(name)),
        }
    });
}

/// What is wrong with a pack hurts all that refer to it, whatever one of them claims.
#[test]
fn a_lying_image_hides_nothing() {
    let scratch = scratch();
    let dir = scratch.path();
    let out = dir.join("out");
    let pack = Blob::lying_zstd(&content_of_f(), |entries| entries[1].decompressed += 1);
    let image = |len| {
        let extent = pack.extent(0, len);
        Image::new(vec![forge::dir(ROOT, &[("f", F)]), file(F, &[extent])], vec![pack.clone()])
    };
    image(1 << 40).write(&out, "lying");
    image(content_of_f().len() as u64).write(&out, "v1");
    let fsck = puzzlefs(dir, &["fsck", "out"]);
    fsck.found(1, "of it (hurts: lying)").unwrap();
    fsck.found(1, "that zstd compressed (hurts: lying, v1)").unwrap();
}

/// An image that much is wrong with is named as often, by its tag if that is one that OCI allows.
#[test]
fn a_long_tag_is_told_once() {
    const MISSING: usize = 1000;
    let rows = [
        (
            "a tag of a million bytes",
            1_000_000,
            "index.json has a tag of 1000000 bytes, more than 128: 'xxx",
        ),
        ("a tag by a byte too long", 129, "index.json has a tag of 129 bytes"),
        ("the longest tag", 128, ""),
    ];
    each(rows, |&(name, length, message)| {
        let scratch = scratch();
        let dir = scratch.path();
        let out = dir.join("out");
        let missing = |number: usize| descriptor(MANIFEST_TYPE, number.to_string().as_bytes());
        let missing: Vec<_> = (0..MISSING).map(missing).collect();
        let index = json!({ "schemaVersion": 2, "manifests": missing });
        let mut index = store(&out, INDEX_TYPE, index.to_string().as_bytes());
        let tag = "x".repeat(length);
        index["annotations"] = json!({ "org.opencontainers.image.ref.name": tag });
        let digest = index["digest"].as_str().expect("a digest").to_owned();
        add_to_index(&out, index);
        let label = if message.is_empty() { tag } else { digest };
        let text = puzzlefs(dir, &["fsck", "out"]);
        text.found(1, &format!("(hurts: {label})")).map_err(named(name))?;
        let json = puzzlefs(dir, &["fsck", "--json", "out"]);
        for (run, longest) in [(&text, 400), (&json, 600)] {
            if !run.stdout().contains(message) || run.bytes().len() > MISSING * longest {
                return Err(format!("{run}: {} bytes", run.bytes().len())).map_err(named(name));
            }
        }
        Ok(())
    });
}

/// A blob that is shorter than it has to be is no blob that need not be written.
#[test]
fn a_build_mends_what_was_cut() {
    let scratch = scratch();
    let dir = scratch.path();
    fs::create_dir(dir.join("tree")).expect("mkdir");
    fs::write(dir.join("tree/file"), Random::new(1).bytes(100_000)).expect("write");
    puzzlefs(dir, &["build", "tree", "out:v1"]).succeeded().unwrap();
    for blob in fs::read_dir(dir.join("out/blobs/sha256")).expect("list the blobs") {
        edit(&blob.expect("list the blobs").path(), |bytes| bytes.truncate(bytes.len() / 2));
    }
    assert!(puzzlefs(dir, &["fsck", "out"]).succeeded().is_err());
    puzzlefs(dir, &["build", "tree", "out:v1"]).succeeded().unwrap();
    puzzlefs(dir, &["fsck", "out"]).succeeded().unwrap();
    puzzlefs(dir, &["extract", "out:v1", "target"]).succeeded().unwrap();
    same(&dir.join("tree"), &dir.join("target"));
}
