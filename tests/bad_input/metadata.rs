//! Images whose metadata is wrong, and those whose data is not where the metadata says.

use crate::check::{each, named, scratch};
use crate::forge::{Blob, Extent, FRAME, Image, Mode, SeekEntry, dir, frames, seek_table};
use crate::images::{D, F, L, R, RAW, ROOT, ZSTD, content_of_f, sample};
use crate::verbs::{ALL, DATA, Verb, refused_by};

/// A name, the change to the sample, and what is said about it.
type Row = (&'static str, fn(&mut Image), &'static str);

fn check(rows: &[Row], verbs: &[Verb]) {
    each(rows, |(name, change, message)| {
        let scratch = scratch();
        let mut image = sample();
        change(&mut image);
        image.write(&scratch.path().join("out"), "v1");
        refused_by(scratch.path(), verbs, message).map_err(named(name))
    });
}

fn name_in_root(image: &mut Image, name: &[u8]) {
    image.inode(ROOT).entries().push((name.to_vec(), R));
}

#[test]
fn directories() {
    let rows: &[Row] = &[
        (
            "an entry that leads back to the root",
            |i| i.inode(D).entries().push((b"up".into(), ROOT)),
            "'up'",
        ),
        ("a directory in itself", |i| i.inode(D).entries().push((b"self".into(), D)), "'self'"),
        (
            "a directory with two parents",
            |i| i.inode(ROOT).entries().push((b"twin".into(), D)),
            "'twin'",
        ),
        (
            "two directories in each other, out of the root's reach",
            |i| {
                i.metadatas[0].extend([dir(6, &[("b", 7)]), dir(7, &[("a", 6), ("f", 8)])]);
                i.inode(ROOT).entries().push((b"x".into(), 6));
            },
            "'a'",
        ),
        (
            "an entry to an inode that is not there",
            |i| i.inode(ROOT).entries().push((b"lost".into(), 99)),
            "'lost'",
        ),
        ("an entry to inode 0", |i| i.inode(ROOT).entries().push((b"zero".into(), 0)), "'zero'"),
        (
            "no root",
            |i| {
                i.metadatas[0].remove(0);
            },
            "root",
        ),
        ("no inode at all", |i| i.metadatas[0].clear(), "root"),
        ("no metadata layer", |i| i.metadatas.clear(), "root"),
        ("a root that is a file", |i| i.inode(ROOT).mode = Mode::File(vec![]), "root"),
        ("a root that is a whiteout", |i| i.inode(ROOT).mode = Mode::Wht, "root"),
        ("a name twice", |i| name_in_root(i, b"f"), "'f' occurs twice"),
        (
            "a name twice, of the same inode",
            |i| i.inode(ROOT).entries().push((b"f".into(), F)),
            "'f' occurs twice",
        ),
        ("the name .", |i| name_in_root(i, b"."), "'.'"),
        ("the name ..", |i| name_in_root(i, b".."), "'.'"),
        ("an empty name", |i| name_in_root(i, b""), "empty"),
        ("a name with a slash", |i| name_in_root(i, b"a/b"), "'a/b'"),
        ("an absolute name", |i| name_in_root(i, b"/outside"), "'/outside'"),
        ("a name that climbs", |i| name_in_root(i, b"../outside"), "'../outside'"),
        ("a name with a NUL", |i| name_in_root(i, b"a\0b"), r"a\x00b"),
        ("a name of 256 bytes", |i| name_in_root(i, &[b'n'; 256]), "255"),
        ("a name of a MiB", |i| name_in_root(i, &[b'n'; 1 << 20]), "255"),
    ];
    check(rows, ALL);
}

#[test]
fn inodes() {
    let rows: &[Row] = &[
        ("a mode that is 'unknown'", |i| i.inode(R).mode = Mode::Unknown, "'r'"),
        ("a mode that the schema lacks", |i| i.inode(R).mode = Mode::Other(9), "'r'"),
        ("a symlink without a target", |i| i.inode(L).target = None, "'l'"),
        ("a symlink with an empty target", |i| i.inode(L).target = Some(vec![]), "'l'"),
        ("a symlink with a NUL", |i| i.inode(L).target = Some(b"a\0b".into()), "'l'"),
        ("a symlink of 4,096 bytes", |i| i.inode(L).target = Some(vec![b't'; 4096]), "'l'"),
        ("nanoseconds that make a second", |i| i.inode(F).mtime = (0, 1_000_000_000), "'f'"),
        (
            "nanoseconds that mean 'now' to the system",
            |i| i.inode(F).mtime = (0, 0x3fff_ffff),
            "'f'",
        ),
        ("the owner that means 'leave it'", |i| i.inode(F).uid = u32::MAX, "'f'"),
        ("the group that means 'leave it'", |i| i.inode(F).gid = u32::MAX, "'f'"),
        ("permissions of more than 12 bits", |i| i.inode(F).permissions = 0o100644, "'f'"),
        (
            "a device number of more than 12 bits",
            |i| i.inode(R).mode = Mode::Chr(1 << 12, 0),
            "'r'",
        ),
        (
            "a device number of more than 20 bits",
            |i| i.inode(R).mode = Mode::Blk(0, 1 << 20),
            "'r'",
        ),
        ("a device number of 64 bits", |i| i.inode(R).mode = Mode::Chr(1 << 32 | 1, 3), "'r'"),
        ("an xattr without a name", |i| i.inode(F).xattrs = xattr(b"", 1), "'f'"),
        ("an xattr with a NUL in its name", |i| i.inode(F).xattrs = xattr(b"user.a\0b", 1), "'f'"),
        (
            "an xattr with a name of 256 bytes",
            |i| i.inode(F).xattrs = xattr(&[&b"user."[..], &[b'x'; 251]].concat(), 1),
            "'f'",
        ),
        (
            "an xattr of 65,537 bytes",
            |i| i.inode(F).xattrs = xattr(b"user.a", (64 << 10) + 1),
            "'f'",
        ),
        ("an xattr of 64 MiB", |i| i.inode(F).xattrs = xattr(b"user.a", 64 << 20), "'f'"),
        (
            "an xattr twice",
            |i| i.inode(F).xattrs = [xattr(b"user.a", 1), xattr(b"user.a", 2)].concat(),
            "'f'",
        ),
    ];
    check(rows, ALL);
}

/// What is odd, and may be.
#[test]
fn inodes_that_are_right() {
    let rows: &[Row] = &[
        ("the first time of all", |i| i.inode(F).mtime = (i64::MIN, 0), ""),
        ("the last time of all", |i| i.inode(F).mtime = (i64::MAX, 999_999_999), ""),
        ("the last owner of all", |i| i.inode(F).uid = u32::MAX - 1, ""),
        ("all permissions", |i| i.inode(F).permissions = 0o7777, ""),
        ("no permission", |i| i.inode(ROOT).permissions = 0, ""),
        ("a device", |i| i.inode(R).mode = Mode::Blk(8, 0), ""),
        ("a symlink out of the image", |i| i.inode(L).target = Some(b"../../etc".into()), ""),
        ("a symlink to itself", |i| i.inode(L).target = Some(b"l".into()), ""),
        (
            "a thousand names of a file",
            |i| {
                let names = (0..1000).map(|n| (format!("n{n}").into_bytes(), F));
                i.inode(D).entries().extend(names)
            },
            "",
        ),
    ];
    check(rows, &[]);
}

/// What is well-formed, but no file system takes it.
#[test]
fn inodes_that_no_target_can_hold() {
    let rows: &[Row] = &[
        (
            "an xattr without a namespace",
            |i| i.inode(F).xattrs = xattr(b"plain", 1),
            "'plain' of 'target/f'",
        ),
        (
            "more xattrs than the system lists",
            |i| i.inode(F).xattrs = many_xattrs(10_000),
            "of 'target/f'",
        ),
        ("a million xattrs", |i| i.inode(F).xattrs = many_xattrs(1_000_000), "of 'target/f'"),
    ];
    check(rows, &[Verb::Extract]);
}

fn xattr(key: &[u8], len: usize) -> Vec<(Vec<u8>, Vec<u8>)> {
    vec![(key.to_vec(), vec![b'v'; len])]
}

fn many_xattrs(count: u32) -> Vec<(Vec<u8>, Vec<u8>)> {
    (0..count).map(|n| (format!("user.{n:08}").into_bytes(), vec![])).collect()
}

fn only_extent(image: &mut Image, change: fn(&mut Extent)) {
    change(&mut image.inode(F).extents()[0]);
}

#[test]
fn extents_that_no_blob_can_have() {
    let rows: &[Row] = &[
        ("no digest", |i| only_extent(i, |e| e.digest.clear()), "'f'"),
        ("a digest of 31 bytes", |i| only_extent(i, |e| e.digest.truncate(31)), "'f'"),
        ("a digest of 33 bytes", |i| only_extent(i, |e| e.digest.push(0)), "'f'"),
        ("an extent that ends past 2^64", |i| only_extent(i, |e| e.offset = u64::MAX), "'f'"),
        (
            "an extent that ends past 2^63",
            |i| only_extent(i, |e| e.offset = i64::MAX as u64),
            "'f'",
        ),
        ("an extent of 2^64 - 1 bytes", |i| only_extent(i, |e| e.len = u64::MAX), "'f'"),
        ("a file of 2^63 bytes", |i| only_extent(i, |e| e.len = 1 << 63), "'f'"),
        (
            "lengths that sum up to 2^63",
            |i| {
                let extent = Extent { len: 1 << 62, ..i.blobs[ZSTD].extent(0, 0) };
                *i.inode(F).extents() = vec![extent.clone(), extent];
            },
            "'f'",
        ),
        (
            "lengths that sum up past 2^64",
            |i| {
                let extent = Extent { len: 1 << 62, ..i.blobs[ZSTD].extent(0, 0) };
                *i.inode(F).extents() = vec![extent; 5];
            },
            "'f'",
        ),
        (
            "a blob that the manifest does not list",
            |i| {
                let stranger = Blob::raw(b"not in the manifest");
                *i.inode(F).extents() = vec![stranger.extent(0, 4)];
            },
            "does not list the data blob",
        ),
    ];
    check(rows, ALL);
}

/// Makes `f` one extent, all of a blob that claims to have as many bytes as `f` has.
fn store_f_as(image: &mut Image, blob: Blob) {
    let len = content_of_f().len() as u64;
    *image.inode(F).extents() = vec![blob.extent(0, len)];
    image.blobs[ZSTD] = blob;
}

fn lie_about_frames(image: &mut Image, lie: fn(&mut Vec<SeekEntry>)) {
    store_f_as(image, Blob::lying_zstd(&content_of_f(), lie));
}

/// The frames of `f` and what `table` makes a seek table of.
fn with_table(image: &mut Image, table: fn(&[SeekEntry]) -> Vec<u8>) {
    let (mut stored, entries) = frames(&content_of_f(), FRAME);
    stored.extend(table(&entries));
    store_f_as(image, Blob::stored(stored));
}

#[test]
fn extents_beyond_their_blobs() {
    let rows: &[Row] = &[
        (
            "a byte more than the frames hold",
            |i| only_extent(i, |e| e.len += 1),
            "bytes of content",
        ),
        (
            "the last byte behind the frames",
            |i| only_extent(i, |e| e.offset = 1),
            "bytes of content",
        ),
        (
            "an offset behind the frames",
            |i| only_extent(i, |e| *e = Extent { offset: 1 << 40, len: 1, ..e.clone() }),
            "bytes of content",
        ),
        ("a terabyte of one blob", |i| only_extent(i, |e| e.len = 1 << 40), "bytes of content"),
        (
            "a byte more than a raw blob holds",
            |i| *i.inode(F).extents() = vec![i.blobs[RAW].extent(0, 17)],
            "bytes of content",
        ),
        (
            "an offset behind a raw blob",
            |i| *i.inode(F).extents() = vec![i.blobs[RAW].extent(1 << 40, 1)],
            "bytes of content",
        ),
    ];
    check(rows, DATA);
}

#[test]
fn packs_that_lie() {
    let rows: &[Row] = &[
        (
            "raw bytes that are said to be compressed",
            |i| store_f_as(i, Blob::stored(content_of_f())),
            "no seek table",
        ),
        (
            "an empty blob that is said to be compressed",
            |i| store_f_as(i, Blob::stored(vec![])),
            "no seek table",
        ),
        ("no seek table", |i| with_table(i, |_| vec![]), "no seek table"),
        (
            "a seek table of no frames",
            |i| with_table(i, |_| seek_table(&[], 0)),
            "0 bytes of content",
        ),
        (
            "a seek table that claims 2^32 - 1 frames",
            |i| with_table(i, |_| seek_table(&[], u32::MAX)),
            "frames, more than 262144",
        ),
        (
            "a seek table that claims 2^27 frames",
            |i| with_table(i, |_| seek_table(&[], 1 << 27)),
            "frames, more than 262144",
        ),
        (
            "a seek table without its last byte",
            |i| {
                with_table(i, |_| {
                    let mut t = seek_table(&[], 0);
                    t.pop();
                    t
                })
            },
            "no seek table",
        ),
        (
            "a seek table of checksums that are not there",
            |i| {
                with_table(i, |entries| {
                    const HAS_CHECKSUMS: u8 = 0x80;
                    let mut table = seek_table(entries, entries.len() as u32);
                    let descriptor = table.len() - 5;
                    table[descriptor] = HAS_CHECKSUMS;
                    table
                })
            },
            "no seek table",
        ),
        (
            "a frame that is larger than the table says",
            |i| {
                lie_about_frames(i, |frames| {
                    frames[0].decompressed -= 1000;
                    frames[1].decompressed += 1000;
                })
            },
            "frame 0",
        ),
        (
            "a frame that is smaller than the table says",
            |i| {
                lie_about_frames(i, |frames| {
                    frames[0].decompressed += 1000;
                    frames[1].decompressed -= 1000;
                })
            },
            "frame 0",
        ),
        (
            "a frame of 4 GiB, says the table",
            |i| lie_about_frames(i, |frames| frames[0].decompressed = u32::MAX),
            "frame 0 has 4294967295 bytes",
        ),
        (
            "all frames of 4 GiB, says the table",
            |i| {
                lie_about_frames(i, |frames| {
                    frames.iter_mut().for_each(|frame| frame.decompressed = u32::MAX);
                })
            },
            "frame 0 has 4294967295 bytes",
        ),
        (
            "a frame that reaches into the next one, says the table",
            |i| {
                lie_about_frames(i, |frames| {
                    frames[0].compressed += 5;
                    frames[1].compressed -= 5;
                })
            },
            "frame 0",
        ),
        (
            "a frame that reaches beyond the blob, says the table",
            |i| lie_about_frames(i, |frames| frames[0].compressed = u32::MAX),
            "frame 0 takes 4294967295 bytes for 131072",
        ),
        (
            "frames of no bytes, says the table",
            |i| {
                lie_about_frames(i, |frames| {
                    frames.iter_mut().for_each(|frame| frame.compressed = 0);
                })
            },
            "frame 0",
        ),
        (
            "a frame that inflates to a GiB, of which the table tells 128 KiB",
            |i| {
                let bomb = bomb();
                let entry = SeekEntry { compressed: bomb.len() as u32, decompressed: FRAME as u32 };
                let blob = Blob::stored([bomb, seek_table(&[entry], 1)].concat());
                *i.inode(F).extents() = vec![blob.extent(0, 100)];
                i.blobs[ZSTD] = blob;
            },
            "frame 0",
        ),
    ];
    check(rows, DATA);
}

/// A frame of a GiB of zeros.
fn bomb() -> Vec<u8> {
    let zeros = vec![0; 16 << 20];
    let mut encoder = zstd::stream::Encoder::new(Vec::new(), 1).expect("an encoder");
    for _ in 0..64 {
        std::io::Write::write_all(&mut encoder, &zeros).expect("compress");
    }
    encoder.finish().expect("finish the frame")
}
