//! Images that are small and tell of much, or of the same again and again: what a reader makes of
//! them must stay in proportion to what they are.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::check::{each, named, puzzlefs, scratch};
use crate::forge::words::{To, add_data, add_list, add_struct, message};
use crate::forge::{
    Blob, CONFIG_TYPE, Extent, FRAME, INDEX_TYPE, Image, MANIFEST_TYPE, SeekEntry, ZSTD_TYPE,
    add_to_index, descriptor, dir, file, frames, seek_table, store,
};
use crate::images::{CONTENT_OF_R, D, F, R, ROOT, ZSTD, content_of_f, sample};
use crate::messages::{DIR, FILE, METADATAS, skeleton};
use crate::verbs::{ALL, DATA, Verb, refused_by};

const MIB: usize = 1 << 20;

/// A name, how the layout is made, the verbs that refuse it, and what they say.
type Row = (&'static str, fn(&Path), &'static [Verb], &'static str);

fn check(rows: &[Row]) {
    each(rows, |(name, write, verbs, message)| {
        let scratch = scratch();
        write(&scratch.path().join("out"));
        refused_by(scratch.path(), verbs, message).map_err(named(name))
    });
}

/// The sample with another manifest, which is the sample's with a change.
fn with_manifest(out: &Path, change: impl FnOnce(String) -> String) {
    let stored = sample().write(out, "v1");
    let manifest = fs::read_to_string(stored.manifest).expect("read the manifest");
    fs::remove_file(out.join("index.json")).expect("remove the index");
    let mut descriptor = store(out, MANIFEST_TYPE, change(manifest).as_bytes());
    descriptor["annotations"] = json!({ "org.opencontainers.image.ref.name": "v1" });
    add_to_index(out, descriptor);
}

/// The document with another member in front.
fn with_member(document: &str, member: &str) -> String {
    format!("{{{member},{}", &document[1..])
}

/// Adds a member to a file of the layout.
fn add_member(path: &Path, member: &str) {
    let document = fs::read_to_string(path).expect("read");
    fs::write(path, with_member(&document, member)).expect("write");
}

/// A member that is a list of the same value, of so many bytes.
fn list_of(value: &str, bytes: usize) -> String {
    let list = format!("{value},").repeat(bytes / (value.len() + 1) - 10);
    format!("\"x\":[{list}{value}]")
}

fn with_config(out: &Path, member: &str) {
    let config = with_member("{\"os\":\"linux\"}", member);
    let config = store(out, CONFIG_TYPE, config.as_bytes());
    with_manifest(out, |manifest| {
        let mut manifest: Value = serde_json::from_str(&manifest).expect("JSON");
        manifest["config"] = config;
        manifest.to_string()
    });
}

#[test]
fn documents_of_many_values() {
    check(&[
        (
            "a config of two million numbers",
            |out| with_config(out, &list_of("0", 4 * MIB - 100)),
            ALL,
            "more than 50000 values",
        ),
        (
            "a config of as many objects as it may have",
            |out| with_config(out, &list_of(r#"{"":0}"#, 7 * 24_000)),
            &[],
            "",
        ),
        (
            "a config of one text",
            |out| with_config(out, &format!("\"x\":\"{}\"", "x".repeat(4 * MIB - 100))),
            &[],
            "",
        ),
        (
            "an index of two million numbers",
            |out| {
                sample().write(out, "v1");
                add_member(&out.join("index.json"), &list_of("0", 4 * MIB - 1000));
            },
            ALL,
            "more than 200000 values",
        ),
        (
            "an index of as many objects as it may have",
            |out| {
                sample().write(out, "v1");
                add_member(&out.join("index.json"), &list_of(r#"{"":0}"#, 7 * 99_000));
            },
            &[],
            "",
        ),
        (
            "an oci-layout of 8 million numbers",
            |out| {
                sample().write(out, "v1");
                add_member(&out.join("oci-layout"), &list_of("0", 16 * MIB));
            },
            &[],
            "",
        ),
        (
            "a manifest of 8 million numbers",
            |out| with_manifest(out, |m| with_member(&m, &list_of("0", 16 * MIB))),
            &[],
            "",
        ),
        (
            "a blob of 8 million numbers, of a type that nobody knows",
            |out| {
                sample().write(out, "v1");
                let document = format!("{{{}}}", list_of("0", 16 * MIB));
                add_to_index(out, store(out, "application/x", document.as_bytes()));
            },
            &[],
            "",
        ),
        (
            "a field twice",
            |out| with_manifest(out, |m| with_member(&m, "\"schemaVersion\":2")),
            ALL,
            "duplicate field `schemaVersion`",
        ),
    ]);
}

#[test]
fn documents_that_are_named_again_and_again() {
    check(&[
        (
            "ten thousand tags of a manifest of 8 MiB",
            |out| {
                let text = "x".repeat(8 * MIB);
                let annotations = format!("\"annotations\":{{\"x\":\"{text}\"}}");
                with_manifest(out, |m| with_member(&m, &annotations));
                again(out, 10_000, tag);
            },
            &[],
            "",
        ),
        (
            "a blob of 8 MiB under ten thousand types that nobody knows",
            |out| {
                sample().write(out, "v1");
                let document = format!("[\"{}\"]", "x".repeat(8 * MIB));
                add_to_index(out, store(out, "application/x", document.as_bytes()));
                again(out, 10_000, |entry, number| {
                    entry["mediaType"] = json!(format!("application/x{number}"));
                });
            },
            &[],
            "",
        ),
        (
            "a data blob that is listed twenty thousand times, each time with another size",
            |out| {
                with_manifest(out, |manifest| {
                    let mut manifest: Value = serde_json::from_str(&manifest).expect("JSON");
                    let layers = manifest["layers"].as_array_mut().expect("a list");
                    let layer = layers[1].clone();
                    layers.extend((0..20_000).map(|size| {
                        let mut layer = layer.clone();
                        layer["size"] = json!(size);
                        layer
                    }));
                    manifest.to_string()
                })
            },
            &[],
            "",
        ),
        (
            "fourteen thousand tags of a manifest of a hundred thousand layers that are not there",
            |out| {
                with_layers(out, |content| descriptor(ZSTD_TYPE, content));
                again(out, 14_000, tag);
            },
            &[Verb::Fsck],
            "lacks the blob",
        ),
        (
            "fourteen thousand tags of a manifest of a hundred thousand layers",
            |out| {
                with_layers(out, |content| store(out, ZSTD_TYPE, content));
                again(out, 14_000, tag);
            },
            &[],
            "",
        ),
        (
            "ten thousand indexes of a manifest of a hundred thousand layers that are not there",
            |out| {
                with_layers(out, |content| descriptor(ZSTD_TYPE, content));
                around(
                    out,
                    INDEX_TYPE,
                    10_000,
                    |manifest| json!({ "schemaVersion": 2, "manifests": [manifest] }),
                );
            },
            &[Verb::Fsck],
            "lacks the blob",
        ),
        (
            "twenty thousand manifests that are not there, of an index with a tag of a million bytes",
            |out| {
                sample().write(out, "v1");
                let missing = |n: u32| descriptor(MANIFEST_TYPE, &n.to_le_bytes());
                let missing: Vec<_> = (0..20_000).map(missing).collect();
                let index = json!({ "schemaVersion": 2, "manifests": missing });
                let mut index = store(out, INDEX_TYPE, index.to_string().as_bytes());
                let tag = "x".repeat(1_000_000);
                index["annotations"] = json!({ "org.opencontainers.image.ref.name": tag });
                add_to_index(out, index);
            },
            &[],
            "",
        ),
        (
            "three thousand manifests of one config of 4 MiB",
            |out| {
                with_config(out, &format!("\"x\":\"{}\"", "x".repeat(4 * MIB - 100)));
                let manifest = first_entry(out)["digest"].as_str().expect("a digest").to_owned();
                let path = out.join("blobs").join(manifest.replacen(':', "/", 1));
                let manifest = fs::read(path).expect("read the manifest");
                let manifest: Value = serde_json::from_slice(&manifest).expect("JSON");
                around(out, MANIFEST_TYPE, 3_000, |_| manifest.clone());
            },
            &[],
            "",
        ),
    ]);
}

/// The sample with a hundred thousand layers more.
fn with_layers(out: &Path, layer: impl Fn(&[u8]) -> Value) {
    with_manifest(out, |manifest| {
        let mut manifest: Value = serde_json::from_str(&manifest).expect("JSON");
        let layers = manifest["layers"].as_array_mut().expect("a list");
        layers.extend((0..100_000).map(|number| layer(number.to_string().as_bytes())));
        manifest.to_string()
    });
}

/// Adds documents that are made of the index's first entry, each with a tag and a member of its
/// own.
fn around(out: &Path, media_type: &str, count: usize, document: impl Fn(&Value) -> Value) {
    let entry = first_entry(out);
    again(out, count, |added, number| {
        let mut document = document(&entry);
        document["annotations"] = json!({ "number": number.to_string() });
        *added = store(out, media_type, document.to_string().as_bytes());
        tag(added, number);
    });
}

fn first_entry(out: &Path) -> Value {
    let index = fs::read(out.join("index.json")).expect("read the index");
    let index: Value = serde_json::from_slice(&index).expect("JSON");
    index["manifests"][0].clone()
}

fn tag(entry: &mut Value, number: usize) {
    entry["annotations"] = json!({ "org.opencontainers.image.ref.name": format!("t{number}") });
}

/// Adds copies of the index's last entry, each with a change.
fn again(out: &Path, count: usize, change: impl Fn(&mut Value, usize)) {
    let path = out.join("index.json");
    let index = fs::read(&path).expect("read the index");
    let mut index: Value = serde_json::from_slice(&index).expect("JSON");
    let entries = index["manifests"].as_array_mut().expect("a list");
    let last = entries.last().expect("an entry").clone();
    for number in 0..count {
        let mut entry = last.clone();
        change(&mut entry, number);
        entries.push(entry);
    }
    fs::write(path, index.to_string()).expect("write the index");
}

/// The sample with a change.
fn write(out: &Path, change: impl FnOnce(&mut Image)) {
    let mut image = sample();
    change(&mut image);
    image.write(out, "v1");
}

/// Makes `f` the first bytes of a blob.
fn store_f_in(image: &mut Image, blob: Blob) {
    *image.inode(F).extents() = vec![blob.extent(0, content_of_f().len() as u64)];
    image.blobs[ZSTD] = blob;
}

#[test]
fn metadata_of_many_parts() {
    /// More levels than a line of paths may have bytes.
    const LEVELS: u64 = 5_000;
    /// Their paths have 120 MB in all.
    const LONG_LEVELS: u64 = 700;
    check(&[
        (
            "a hundred and twenty thousand layers, and directories that are in the last",
            |out| {
                const LAYERS: u32 = 120_000;
                write(out, |image| image.rootfs = Some(many_layers(LAYERS)));
            },
            &[],
            "",
        ),
        (
            "directories in each other, each with a file that comes after",
            |out| {
                write(out, |image| {
                    image.inode(D).entries().push((b"x".into(), 10));
                    let level = |level| dir(10 + level, &[("d", 11 + level), ("e", R)]);
                    image.metadatas[0].extend((0..LEVELS).map(level));
                    image.metadatas[0].push(dir(10 + LEVELS, &[]));
                })
            },
            &[],
            "",
        ),
        (
            "directories in each other, whose names are as long as they may be",
            |out| {
                write(out, |image| {
                    let name = "d".repeat(255);
                    image.inode(D).entries().push((b"x".into(), 10));
                    let level = |level| dir(10 + level, &[(&name, 11 + level), ("e", R)]);
                    image.metadatas[0].extend((0..LONG_LEVELS).map(level));
                    image.metadatas[0].push(dir(10 + LONG_LEVELS, &[]));
                })
            },
            &[],
            "",
        ),
        (
            "eighty thousand fs-verity digests of nothing",
            |out| {
                write(out, |image| {
                    let digest = |number: u32| [&[7; 28], &number.to_be_bytes()[..]].concat();
                    image.verity = Some((0..80_000).map(|n| (digest(n), vec![1; 32])).collect());
                })
            },
            &[],
            "",
        ),
        (
            "two hundred thousand extents of a byte, which overlap",
            |out| {
                write(out, |image| {
                    let extent = |offset: u64| image.blobs[ZSTD].extent(offset % 1000, 1);
                    *image.inode(F).extents() = (0..200_000).map(extent).collect();
                })
            },
            &[],
            "",
        ),
    ]);
}

/// Layers that share one list of inodes, which does not matter, and below them a tree of many
/// directories and an empty file `f`.
fn many_layers(count: u32) -> Vec<u8> {
    const DIRECTORIES: u32 = 20_000;
    let mut words = skeleton();
    let last = u64::from(DIRECTORIES) - 1;
    let name = |index| if index == last { "f".into() } else { format!("{index:08}") };
    let names: Vec<To> =
        (0..DIRECTORIES.into()).map(|index| add_data(&mut words, name(index).as_bytes())).collect();
    let entries = add_list(&mut words, DIRECTORIES, |i| ([i + 2], [names[i as usize]]));
    let root = add_struct(&mut words, [0], [entries]);
    let inodes = add_list(&mut words, DIRECTORIES + 1, |index| match index {
        0 => ([1, DIR, 0, 0], [root, To::Null]),
        _ if index == last + 1 => ([index + 1, FILE, 0, 0], [To::Null; 2]),
        _ => ([index + 1, DIR, 0, 0], [To::Null; 2]),
    });
    let shadow = add_list(&mut words, 1, |_| ([u64::MAX, DIR, 0, 0], [To::Null; 2]));
    let layers = add_list(&mut words, count + 1, |index| match index == u64::from(count) {
        true => ([], [inodes]),
        false => ([], [shadow]),
    });
    words[METADATAS] = layers.pointer(METADATAS);
    message(&[&words])
}

#[test]
fn packs_that_inflate() {
    check(&[
        (
            "frames of 4 MiB that are a ten-thousandth of that stored",
            |out| {
                write(out, |image| {
                    let content = vec![0; 64 * MIB];
                    let (mut stored, entries) = frames(&content, 4 * MIB);
                    stored.extend(seek_table(&entries, entries.len() as u32));
                    let blob = Blob::stored(stored);
                    *image.inode(R).extents() = vec![blob.extent(0, content.len() as u64)];
                    store_f_in(image, blob);
                })
            },
            &[],
            "",
        ),
        (
            "frames as long as they may be, which are read by several threads",
            |out| {
                write(out, |image| {
                    let content: Vec<u8> = (0..128 * MIB).map(|at| (at >> 10) as u8).collect();
                    let (mut stored, entries) = frames(&content, 16 * MIB);
                    stored.extend(seek_table(&entries, entries.len() as u32));
                    let blob = Blob::stored(stored);
                    *image.inode(R).extents() = vec![blob.extent(0, content.len() as u64)];
                    store_f_in(image, blob);
                })
            },
            &[],
            "",
        ),
        (
            "more frames than a pack may have",
            |out| {
                write(out, |image| {
                    let (mut stored, mut entries) = frames(&content_of_f(), FRAME);
                    entries.resize(300_000, SeekEntry { compressed: 0, decompressed: 0 });
                    stored.extend(seek_table(&entries, entries.len() as u32));
                    store_f_in(image, Blob::stored(stored));
                })
            },
            DATA,
            "the seek table has 300000 frames, more than 262144",
        ),
        (
            "a frame of 100 MiB that are a byte",
            |out| {
                write(out, |image| {
                    let (mut stored, mut entries) = frames(&content_of_f(), FRAME);
                    stored.resize(stored.len() + 100 * MIB, 0);
                    let compressed = 100 * MIB as u32;
                    entries.push(SeekEntry { compressed, decompressed: 1 });
                    stored.extend(seek_table(&entries, entries.len() as u32));
                    store_f_in(image, Blob::stored(stored));
                })
            },
            DATA,
            "frame 3 takes 104857600 bytes for 1",
        ),
        (
            "more zeros than the pack of zeros has",
            |out| {
                write(out, |image| {
                    let zeros = hex::decode(ZEROS).expect("hex");
                    let extent =
                        Extent { digest: zeros, offset: 0, len: 1 << 40, compressed: true };
                    *image.inode(F).extents() = vec![extent];
                    image.manifest = |m| {
                        let mut zeros = m["layers"][1].clone();
                        zeros["digest"] = json!(format!("sha256:{ZEROS}"));
                        m["layers"].as_array_mut().expect("a list").push(zeros);
                    };
                })
            },
            // Its first bytes can be read in a mount.
            &[Verb::Cat, Verb::Extract, Verb::Export, Verb::Fsck, Verb::Canonicalize],
            "",
        ),
    ]);
}

/// The digest of the pack of zeros.
const ZEROS: &str = "e9308bb2280bb652407370b37b8b08a97e2173f6a6cc954d985fcb0ae7da0f40";

// A chunk index that lies

/// A raw pack of this content with an index that claims one chunk with the digest of `claimed`.
fn with_index(content: &[u8], claimed: &[u8]) -> Blob {
    const SKIPPABLE: u32 = 0x184D_2A5C;
    let index = [
        &(content.len() as u32).to_le_bytes()[..],
        &Blob::raw(claimed).digest(),
        &1_u32.to_le_bytes(),
        b"pzci",
    ]
    .concat();
    let header = [SKIPPABLE.to_le_bytes(), (index.len() as u32).to_le_bytes()].concat();
    Blob::raw(&[content, &header, &index].concat())
}

/// A delta finds in its base what the base's index claims to hold, and does not believe it.
#[test]
fn a_chunk_index_that_lies() {
    const CLAIMED: &[u8] = b"not what the packs hold\n";
    let rows: &[(&str, &[u8])] = &[
        ("another content", b"another content, alas..\n"),
        ("a shorter content", CONTENT_OF_R),
        ("the content", CLAIMED),
    ];
    each(rows, |(name, content)| {
        let scratch = scratch();
        let dir = scratch.path();
        let blob = with_index(content, CLAIMED);
        let extent = blob.extent(0, content.len() as u64);
        let inodes = vec![crate::forge::dir(ROOT, &[("r", R)]), file(R, &[extent])];
        Image::new(inodes, vec![blob]).write(&dir.join("out"), "v1");
        fs::create_dir(dir.join("upper")).expect("mkdir");
        fs::write(dir.join("upper/new"), CLAIMED).expect("write");
        puzzlefs(dir, &["delta", "--base", "out:v1", "upper", "out:v2"]).succeeded()?;
        for (file, content) in [("r", *content), ("new", CLAIMED)] {
            let cat = puzzlefs(dir, &["cat", "out:v2", file]);
            cat.succeeded()?;
            if cat.bytes() != content {
                return Err(format!("{cat}: of {file}")).map_err(named(name));
            }
        }
        Ok(())
    });
}
