//! Images that look odd and are right. Most are as the reference implementation writes them.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::check::{Verdict, each, named, puzzlefs, scratch};
use crate::forge::words::{Element::Composite, far_pointer, list_pointer, message, tag};
use crate::forge::{
    Blob, EMPTY_TYPE, FRAME, INDEX_TYPE, Image, MANIFEST_TYPE, Mode, SeekEntry, ZSTD_TYPE,
    add_to_index, dir, file, frames, seek_table, special, store, verity,
};
use crate::images::{CONTENT_OF_R, D, F, L, R, RAW, ROOT, ZSTD, content_of_f, sample};
use crate::messages::{INODES, METADATAS, MTIME_SECONDS, VECTORS, skeleton};
use crate::verbs::refused_by;

/// What is extracted from the sample: path, type, links and size, and the target of a symlink.
const SAMPLE: &[&str] = &["d d", "d/r f 1 16", "f f 1 327680", "l l 1 1 f"];

/// What is below `dir`, a line each.
fn tree(dir: &Path) -> Vec<String> {
    let directories = ["-type", "d", "-printf", "%P d\\n"];
    let symlinks = ["-type", "l", "-printf", "%P l %n %s %l\\n"];
    let others = ["-printf", "%P %y %n %s\\n"];
    let formats = [&directories[..], &["-o"], &symlinks, &["-o"], &others].concat();
    let find = Command::new("find").arg(dir).args(["-mindepth", "1"]).args(formats).output();
    let find = find.expect("run find");
    assert!(find.status.success(), "find: {}", String::from_utf8_lossy(&find.stderr));
    let text = String::from_utf8_lossy(&find.stdout).into_owned();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort_unstable();
    lines
}

/// `out:v1` in `dir` can be read in every way, is `expected`, and its `/f`, if it has one, holds
/// `content`.
fn readable(dir: &Path, expected: &[&str], content: &[u8]) -> Verdict {
    for args in [
        &["inspect", "out:v1"][..],
        &["ls", "-R", "out:v1"],
        &["fsck", "out:v1"],
        &["extract", "out:v1", "target"],
    ] {
        puzzlefs(dir, args).succeeded()?;
    }
    let target = dir.join("target");
    let tree = tree(&target);
    if tree != expected {
        return Err(format!("extracted {tree:?} for {expected:?}"));
    }
    if !target.join("f").exists() {
        return Ok(());
    }
    let cat = puzzlefs(dir, &["cat", "out:v1", "/f"]);
    cat.succeeded()?;
    for (how, bytes) in
        [("cat", cat.bytes()), ("extract", &fs::read(target.join("f")).expect("read f"))]
    {
        if bytes != content {
            return Err(format!("{how} gives other bytes, {} for {}", bytes.len(), content.len()));
        }
    }
    Ok(())
}

struct Row {
    name: &'static str,
    change: fn(&mut Image),
    tree: &'static [&'static str],
    content: fn() -> Vec<u8>,
}

const fn row(name: &'static str, change: fn(&mut Image)) -> Row {
    Row { name, change, tree: SAMPLE, content: content_of_f }
}

fn check(rows: &[Row]) {
    each(rows, |row| {
        let scratch = scratch();
        let mut image = sample();
        (row.change)(&mut image);
        image.write(&scratch.path().join("out"), "v1");
        let right = || {
            readable(scratch.path(), row.tree, &(row.content)())?;
            fs::remove_dir_all(scratch.path().join("target")).expect("remove what was extracted");
            refused_by(scratch.path(), &[], "")
        };
        right().map_err(named(row.name))
    });
}

#[test]
fn metadata() {
    check(&[
        row("as it is", |_| {}),
        row("entries in another order", |i| i.inode(ROOT).entries().reverse()),
        row("xattrs in another order", |i| {
            i.inode(F).xattrs =
                vec![(b"user.b".into(), b"2".into()), (b"user.a".into(), b"1".into())]
        }),
        row("inodes that nothing refers to", |i| {
            i.metadatas[0].extend([file(6, &[]), dir(7, &[("f", F)])])
        }),
        row("an inode twice", |i| {
            let again = i.inode(L).clone();
            i.metadatas[0].insert(3, again)
        }),
        row("a directory that says to look below", |i| {
            let Mode::Dir { look_below, .. } = &mut i.inode(D).mode else { panic!("a directory") };
            *look_below = true;
        }),
        row("a whiteout in a directory", |i| {
            i.inode(ROOT).entries().insert(0, (b"gone".into(), 6));
            i.metadatas[0].push(special(6, Mode::Wht));
        }),
        Row {
            tree: &["d d", "d/r f 1 16", "f f 2 327680", "hard f 2 327680", "l l 1 1 f"],
            ..row("two names of a file", |i| i.inode(ROOT).entries().push((b"hard".into(), F)))
        },
        Row {
            tree: &[
                "b b 1 0",
                "c c 1 0",
                "d d",
                "d/r f 1 16",
                "f f 1 327680",
                "l l 1 1 f",
                "p p 1 0",
                "s s 1 0",
            ],
            ..row("every other type", |i| {
                let modes = [
                    ("b", Mode::Blk(4095, 1_048_575)),
                    ("c", Mode::Chr(1, 3)),
                    ("p", Mode::Fifo),
                    ("s", Mode::Sock),
                ];
                for (ino, (name, mode)) in (6..).zip(modes) {
                    i.inode(ROOT).entries().push((name.into(), ino));
                    i.metadatas[0].push(special(ino, mode));
                }
            })
        },
        Row {
            tree: &["d d", "d/r f 1 16", "f f 1 327680", "l l 1 1 f", "n f 1 0"],
            ..row("the last inode number", |i| {
                i.inode(ROOT).entries().push((b"n".into(), u64::MAX));
                i.metadatas[0].push(file(u64::MAX, &[]));
            })
        },
        Row {
            tree: &["d d", "d/r f 1 16", "f f 1 4", "g d", "g/new f 1 0"],
            content: || b"raw!".into(),
            ..row("a layer on another", |i| {
                let blob = Blob::raw(b"raw!");
                let upper = vec![
                    dir(ROOT, &[("l", L), ("d", D), ("f", F), ("g", 6)]),
                    file(F, &[blob.extent(0, 4)]),
                    special(L, Mode::Wht),
                    dir(6, &[("new", 7)]),
                    file(7, &[]),
                ];
                i.blobs.push(blob);
                i.metadatas.insert(0, upper);
            })
        },
        Row {
            content: || b"raw!".into(),
            tree: &["d d", "d/r f 1 16", "f f 1 4", "l l 1 1 f"],
            ..row("a blob of a shadowed inode that the manifest omits", |i| {
                let blob = Blob::raw(b"raw!");
                let upper = vec![file(F, &[blob.extent(0, 4)])];
                i.blobs[ZSTD] = blob;
                i.metadatas.insert(0, upper);
            })
        },
        Row {
            tree: &["d d", "f f 1 16", "l l 1 1 f"],
            content: || CONTENT_OF_R.into(),
            ..row("a file that took a deleted one's place", |i| {
                let upper = vec![
                    dir(ROOT, &[("d", D), ("f", R), ("l", L)]),
                    dir(D, &[("r", F)]),
                    special(F, Mode::Wht),
                ];
                i.metadatas.insert(0, upper);
            })
        },
    ]);
}

#[test]
fn data() {
    check(&[
        Row {
            tree: &["d d", "d/r f 1 16", "f f 1 0", "l l 1 1 f"],
            content: Vec::new,
            ..row("no extents", |i| i.inode(F).extents().clear())
        },
        Row {
            tree: &["d d", "d/r f 1 16", "f f 1 409600000", "l l 1 1 f"],
            content: || content_of_f()[..4096].repeat(100_000),
            ..row("100,000 extents to one page", |i| {
                *i.inode(F).extents() = vec![i.blobs[ZSTD].extent(0, 4096); 100_000];
            })
        },
        row("extents of a byte, and of none", |i| {
            let len = content_of_f().len() as u64;
            let cuts = [0, 0, 1, 2, FRAME as u64, FRAME as u64 + 1, len, len];
            *i.inode(F).extents() =
                cuts.windows(2).map(|cut| i.blobs[ZSTD].extent(cut[0], cut[1] - cut[0])).collect();
        }),
        Row {
            content: || {
                let mut content = content_of_f();
                content.rotate_left(FRAME + 7);
                content
            },
            ..row("extents that go backwards", |i| {
                let (len, cut) = (content_of_f().len() as u64, FRAME as u64 + 7);
                *i.inode(F).extents() =
                    vec![i.blobs[ZSTD].extent(cut, len - cut), i.blobs[ZSTD].extent(0, cut)];
            })
        },
        row("frames of 4 KiB", |i| reframe(i, 4096)),
        row("one frame", |i| reframe(i, 1 << 30)),
        row("a skippable frame before the seek table", |i| {
            restore(i, |blob| {
                let (mut stored, mut entries) = frames(blob, FRAME);
                stored.extend(SKIPPABLE_FRAME);
                entries
                    .push(SeekEntry { compressed: SKIPPABLE_FRAME.len() as u32, decompressed: 0 });
                [stored, seek_table(&entries, entries.len() as u32)].concat()
            })
        }),
        row("a skippable frame that the seek table does not know", |i| {
            restore(i, |blob| {
                let (stored, entries) = frames(blob, FRAME);
                [stored, SKIPPABLE_FRAME.into(), seek_table(&entries, entries.len() as u32)]
                    .concat()
            })
        }),
        row("raw bytes of the compressed type", |i| i.blobs[RAW].media_type = ZSTD_TYPE),
        row("wrong fs-verity digests of raw blobs of the compressed type", |i| {
            i.blobs[RAW].media_type = ZSTD_TYPE;
            let [zstd, raw] = [&i.blobs[ZSTD], &i.blobs[RAW]].map(|blob| blob.digest().to_vec());
            let mut data = vec![(zstd, verity(&i.blobs[ZSTD].bytes).to_vec()), (raw, vec![7; 32])];
            data.sort();
            i.verity = Some(data);
        }),
    ]);
}

/// A frame of four bytes that decoders pass over.
const SKIPPABLE_FRAME: [u8; 12] = [0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 1, 2, 3, 4];

/// Stores the content of `f` anew, as `store` does.
fn restore(image: &mut Image, store: impl Fn(&[u8]) -> Vec<u8>) {
    let content = content_of_f();
    let blob = Blob::stored(store(&content));
    *image.inode(F).extents() = vec![blob.extent(0, content.len() as u64)];
    image.blobs[ZSTD] = blob;
}

/// Stores the content of `f` in frames of this size.
fn reframe(image: &mut Image, size: usize) {
    restore(image, |content| {
        let (stored, entries) = frames(content, size);
        [stored, seek_table(&entries, entries.len() as u32)].concat()
    });
}

fn layers(manifest: &mut Value) -> &mut Vec<Value> {
    manifest["layers"].as_array_mut().expect("a list of layers")
}

#[test]
fn manifests() {
    check(&[
        row("blobs listed twice", |i| {
            i.manifest = |m| {
                let again = layers(m)[1..].to_vec();
                layers(m).extend(again)
            }
        }),
        row("blobs in another order", |i| i.manifest = |m| layers(m)[1..].reverse()),
        row("the empty config", |i| {
            i.config_type = EMPTY_TYPE;
            i.config = |config| *config = json!({});
        }),
        row("the empty config with its content", |i| {
            i.config_type = EMPTY_TYPE;
            i.config = |config| *config = json!({});
            i.manifest = |m| m["config"]["data"] = json!("e30=");
        }),
        row("the sizes of compressed blobs as they are uncompressed", |i| {
            i.manifest = |m| m["layers"][1]["size"] = json!(content_of_f().len());
        }),
        row("no mediaType", |i| {
            i.manifest = |m| {
                m.as_object_mut().expect("an object").remove("mediaType");
            }
        }),
        row("no annotations", |i| {
            i.manifest = |m| {
                layers(m)[0].as_object_mut().expect("an object").remove("annotations");
            }
        }),
        row("unknown fields", |i| {
            i.config = |config| config["x.later"] = json!({ "a": [1] });
            i.manifest = |m| {
                m["x.later"] = json!([null]);
                m["layers"][0]["x.later"] = json!(true)
            };
            i.descriptor = |d| d["x.later"] = json!("text");
        }),
    ]);
}

#[test]
fn messages() {
    type Row = (&'static str, fn() -> Vec<u8>);
    let rows: &[Row] = &[
        ("as it is", || message(&[&skeleton()])),
        ("inodes without mtime, which the reference does not have", || {
            let mut words = skeleton();
            words[INODES] = list_pointer(0, Composite, 5);
            words[INODES + 1] = tag(1, 3, 2);
            words.remove(MTIME_SECONDS);
            message(&[&words])
        }),
        ("a far pointer", || {
            let mut words = skeleton();
            let content = words.split_off(VECTORS);
            words[METADATAS] = far_pointer(1, 0, false);
            let landing_pad = list_pointer(0, Composite, 1);
            message(&[&words, &[&[landing_pad], &content[..]].concat()])
        }),
        ("a double far pointer", || {
            let mut words = skeleton();
            let content = words.split_off(VECTORS);
            words[METADATAS] = far_pointer(2, 0, true);
            let landing_pad = [far_pointer(1, 0, false), list_pointer(0, Composite, 1)];
            message(&[&words, &content, &landing_pad])
        }),
        ("an empty segment", || message(&[&skeleton(), &[]])),
    ];
    each(rows, |(name, rootfs)| {
        let scratch = scratch();
        let image = Image { rootfs: Some(rootfs()), ..sample() };
        image.write(&scratch.path().join("out"), "v1");
        readable(scratch.path(), &[], &[]).map_err(named(name))
    });
}

/// A tag may stand for an index that has an image for each platform.
#[test]
fn an_index_of_platforms() {
    let scratch = scratch();
    let out = scratch.path().join("out");
    let manifest_for = |architecture: &str, image: &Image| {
        let stored = image.write(&out, architecture);
        let bytes = fs::read(stored.manifest).expect("read the manifest");
        let mut descriptor = store(&out, MANIFEST_TYPE, &bytes);
        descriptor["platform"] = json!({ "os": "linux", "architecture": architecture });
        descriptor
    };
    let mut other = sample();
    other.inode(ROOT).entries().clear();
    let manifests = [manifest_for("amd64", &sample()), manifest_for("riscv64", &other)];
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": manifests });
    let mut descriptor = store(&out, INDEX_TYPE, index.to_string().as_bytes());
    descriptor["annotations"] = json!({ "org.opencontainers.image.ref.name": "both" });
    add_to_index(&out, descriptor);

    let dump = |args: &[&str]| {
        let run = puzzlefs(scratch.path(), &[&["inspect", "--dump"], args].concat());
        run.succeeded().unwrap();
        run.stdout()
    };
    let [amd64, riscv64] = [dump(&["out:amd64"]), dump(&["out:riscv64"])];
    assert_ne!(amd64, riscv64);
    assert_eq!(dump(&["--platform", "linux/amd64", "out:both"]), amd64);
    assert_eq!(dump(&["--platform", "linux/riscv64", "out:both"]), riscv64);
}
