//! Images whose metadata is no Cap'n Proto message, or one that no writer would make.

use crate::check::{each, named, scratch};
use crate::forge::words::Element::{Byte, Composite, Pointer, Void};
use crate::forge::words::{
    MOST_ELEMENTS, To, add_data, add_list, add_struct, bytes, far_pointer, list_pointer, message,
    segment_table, struct_pointer, tag,
};
use crate::images::sample;
use crate::verbs::{ALL, refused_by};

// Where the words of `skeleton` are.
const ROOT: usize = 0;
pub const METADATAS: usize = 2;
pub const VECTORS: usize = 4;
pub const INODES: usize = 5;
const MODE: usize = 8;
pub const MTIME_SECONDS: usize = 10;
const MODE_POINTER: usize = 11;
const ADDITIONAL: usize = 12;
const ENTRIES: usize = 14;

pub const DIR: u64 = 3 | 0o755 << 16;
pub const FILE: u64 = 5 | 0o644 << 16;

/// A message whose only inode is an empty root directory.
pub fn skeleton() -> Vec<u64> {
    vec![
        struct_pointer(0, 1, 2),
        // Rootfs: version, metadatas, fsVerityData
        3,
        list_pointer(1, Composite, 1),
        0,
        // metadatas: one InodeVector
        tag(1, 0, 1),
        list_pointer(0, Composite, 6),
        // inodes: one
        tag(1, 4, 2),
        1,
        DIR,
        0,
        0,
        struct_pointer(1, 1, 1),
        0,
        // Dir: lookBelow, entries
        0,
        0,
    ]
}

/// A name, the rootfs blob, and what the Cap'n Proto library says about it.
type Row = (&'static str, fn() -> Vec<u8>, &'static str);

fn check(rows: &[Row]) {
    each(rows, |(name, rootfs, message)| {
        let scratch = scratch();
        let mut image = sample();
        image.rootfs = Some(rootfs());
        image.write(&scratch.path().join("out"), "v1");
        refused_by(scratch.path(), ALL, message).map_err(named(name))
    });
}

/// The skeleton with a change.
fn with(change: fn(&mut Vec<u64>)) -> Vec<u8> {
    let mut words = skeleton();
    change(&mut words);
    message(&[&words])
}

#[test]
fn segment_tables() {
    let rows: &[Row] = &[
        ("no byte", Vec::new, "empty slice"),
        ("one byte", || vec![0], "fill the whole buffer"),
        ("text", || b"This is not Cap'n Proto, and never was.".to_vec(), "segments"),
        ("zeros", || vec![0; 4096], "out-of-bounds"),
        ("ones", || vec![0xff; 4096], "segments"),
        ("2^32 segments", || segment_table(0, &[1]), "segments"),
        ("2^32 - 1 segments", || segment_table(u32::MAX, &[]), "segments"),
        ("many empty segments", || segment_table(100_000, &[0; 100_000]), "segments"),
        ("a segment of 32 GiB", || segment_table(1, &[u32::MAX]), "too large"),
        ("segments of 64 GiB together", || segment_table(2, &[u32::MAX; 2]), "too large"),
        (
            "the last word cut off",
            || {
                let mut b = message(&[&skeleton()]);
                b.truncate(b.len() - 8);
                b
            },
            "ends prematurely",
        ),
        (
            "the last byte cut off",
            || {
                let mut b = message(&[&skeleton()]);
                b.pop();
                b
            },
            "ends prematurely",
        ),
        ("no segment table", || bytes(&skeleton()), "too large"),
        (
            "compressed",
            || zstd::bulk::compress(&message(&[&skeleton()]), 3).expect("compress"),
            "segments",
        ),
    ];
    check(rows);
}

#[test]
fn pointers() {
    let rows: &[Row] = &[
        ("a root that is null", || with(|w| w[ROOT] = 0), "of version 0"),
        (
            "a root that is a list",
            || with(|w| w[ROOT] = list_pointer(0, Void, 1)),
            "non-struct pointer",
        ),
        ("a root that is a capability", || with(|w| w[ROOT] = 3), "non-struct pointer"),
        (
            "a root behind the end",
            || with(|w| w[ROOT] = struct_pointer(1 << 28, 1, 2)),
            "out-of-bounds",
        ),
        (
            "a root before the start",
            || with(|w| w[ROOT] = struct_pointer(-2, 1, 2)),
            "out-of-bounds",
        ),
        (
            "a root of 65,535 pointers",
            || with(|w| w[ROOT] = struct_pointer(0, u16::MAX, u16::MAX)),
            "out-of-bounds",
        ),
        (
            "a list where a struct should be",
            || with(|w| w[MODE_POINTER] = list_pointer(1, Void, 1)),
            "non-struct pointer",
        ),
        (
            "a struct where a list should be",
            || with(|w| w[INODES] = struct_pointer(0, 4, 2)),
            "non-list pointer",
        ),
        (
            "a list of bytes for entries",
            || {
                with(|w| {
                    w[ENTRIES] = list_pointer(0, Byte, 8);
                    w.push(0)
                })
            },
            "'' names inode 0",
        ),
        (
            "a list that contains its own pointer",
            || with(|w| w[METADATAS] = list_pointer(-1, Pointer, 1)),
            "root",
        ),
        (
            "a far pointer to no segment",
            || with(|w| w[METADATAS] = far_pointer(7, 0, false)),
            "segment id 7",
        ),
        (
            "a far pointer behind the end",
            || with(|w| w[METADATAS] = far_pointer(0, 1 << 28, false)),
            "out-of-bounds",
        ),
        (
            "a far pointer to itself",
            || with(|w| w[METADATAS] = far_pointer(0, METADATAS as u32, false)),
            "non-list pointer",
        ),
        (
            "a double far pointer to itself",
            || with(|w| w[METADATAS] = far_pointer(0, METADATAS as u32, true)),
            "non-list pointer",
        ),
        (
            "a landing pad cut off",
            || {
                with(|w| {
                    w[METADATAS] = far_pointer(0, w.len() as u32, true);
                    w.push(far_pointer(0, 4, false))
                })
            },
            "out-of-bounds",
        ),
        (
            "landing pads in each other",
            || {
                let mut first = skeleton();
                first[METADATAS] = far_pointer(1, 0, false);
                message(&[&first, &[far_pointer(0, METADATAS as u32, false)]])
            },
            "out-of-bounds",
        ),
    ];
    check(rows);
}

#[test]
fn lists_that_claim_too_much() {
    let rows: &[Row] = &[
        (
            "2^29 metadata layers of no size",
            || with(|w| w[METADATAS] = list_pointer(0, Void, MOST_ELEMENTS)),
            "Read limit",
        ),
        (
            "2^29 inodes of no size",
            || with(|w| w[INODES] = list_pointer(0, Void, MOST_ELEMENTS)),
            "Read limit",
        ),
        (
            "2^29 entries of no size",
            || with(|w| w[ENTRIES] = list_pointer(0, Void, MOST_ELEMENTS)),
            "Read limit",
        ),
        (
            "2^29 extents of no size",
            || {
                with(|w| {
                    w[MODE] = FILE;
                    w[MODE_POINTER] = list_pointer(0, Void, MOST_ELEMENTS);
                })
            },
            "Read limit",
        ),
        (
            "2^29 xattrs of no size",
            || {
                with(|w| {
                    w[ADDITIONAL] = struct_pointer(2, 0, 2);
                    w.extend([list_pointer(0, Void, MOST_ELEMENTS), 0]);
                })
            },
            "Read limit",
        ),
        (
            "2^29 inodes of no size behind a tag",
            || {
                with(|w| {
                    w[INODES] = list_pointer(9, Composite, 0);
                    w.push(tag(MOST_ELEMENTS, 0, 0));
                })
            },
            "Read limit",
        ),
        (
            "2^29 entries of no size behind a tag",
            || {
                with(|w| {
                    w[ENTRIES] = list_pointer(0, Composite, 0);
                    w.push(tag(MOST_ELEMENTS, 0, 0));
                })
            },
            "Read limit",
        ),
        (
            "a tag of -1 entries",
            || {
                with(|w| {
                    w[ENTRIES] = list_pointer(0, Composite, 2);
                    w.extend([tag(u32::MAX, 1, 1), 0, 0]);
                })
            },
            "overrun",
        ),
        (
            "a tag of more entries than the list has words for",
            || {
                with(|w| {
                    w[ENTRIES] = list_pointer(0, Composite, 2);
                    w.extend([tag(MOST_ELEMENTS, 1, 1), 0, 0]);
                })
            },
            "overrun",
        ),
        (
            "entries that reach behind the end",
            || {
                with(|w| {
                    w[ENTRIES] = list_pointer(0, Composite, MOST_ELEMENTS);
                    w.extend([tag(MOST_ELEMENTS / 2, 1, 1), 0, 0]);
                })
            },
            "out-of-bounds",
        ),
        (
            "a name that reaches behind the end",
            || {
                with(|w| {
                    w[ENTRIES] = list_pointer(0, Composite, 2);
                    w.extend([tag(1, 1, 1), 1, list_pointer(0, Byte, MOST_ELEMENTS)]);
                })
            },
            "out-of-bounds",
        ),
    ];
    check(rows);
}

// Each word of these is well-formed. But lists may be shared, and so they tell of far more than
// they hold: what a reader makes of them must not grow with that.

/// How many inodes share a list, and how long that list is.
const SHARED: u32 = 20_000;

/// Appends `SHARED` names, each fit for a file and for an xattr.
fn add_names(words: &mut Vec<u64>) -> Vec<To> {
    let name = |index| format!("user.{index:08}");
    (0..SHARED).map(|index| add_data(words, name(index).as_bytes())).collect()
}

/// Appends a Dir of `SHARED` entries.
fn add_dir(words: &mut Vec<u64>, ino: impl Fn(u64) -> u64) -> To {
    let names = add_names(words);
    let entries = add_list(words, SHARED, |index| ([ino(index)], [names[index as usize]]));
    add_struct(words, [0], [entries])
}

/// The number of the inode that is an empty file.
const LAST: u64 = SHARED as u64 + 2;

/// A root of `SHARED` inodes of this mode, which all have the same two pointers, and of one more
/// inode, an empty file.
fn sharing(mode: u64, shared: fn(&mut Vec<u64>) -> [To; 2]) -> Vec<u8> {
    let mut words = skeleton();
    let root = add_dir(&mut words, |index| index + 2);
    let pointers = shared(&mut words);
    let inodes = add_list(&mut words, SHARED + 2, |index| match index + 1 {
        1 => ([1, DIR, 0, 0], [root, To::Null]),
        LAST => ([LAST, FILE, 0, 0], [To::Null; 2]),
        ino => ([ino, mode, 0, 0], pointers),
    });
    words[INODES] = inodes.pointer(INODES);
    message(&[&words])
}

#[test]
fn lists_that_are_shared() {
    let rows: &[Row] = &[
        ("entries", || sharing(DIR, |w| [add_dir(w, |_| LAST), To::Null]), "Read limit"),
        (
            "extents",
            || {
                sharing(FILE, |w| {
                    let digest = add_data(w, &[0; 32]);
                    let blob = add_struct(w, [0, 1], [digest]);
                    [add_list(w, SHARED, |_| ([1], [blob])), To::Null]
                })
            },
            "Read limit",
        ),
        (
            "xattrs",
            || {
                sharing(FILE, |w| {
                    let names = add_names(w);
                    let xattrs =
                        add_list(w, SHARED, |index| ([], [names[index as usize], To::Null]));
                    [To::Null, add_struct(w, [], [xattrs, To::Null])]
                })
            },
            "Read limit",
        ),
        (
            "the value of an xattr",
            || {
                sharing(FILE, |w| {
                    let key = add_data(w, b"user.key");
                    let value = add_data(w, &[0; 64 << 10]);
                    let xattrs = add_list(w, 1, |_| ([], [key, value]));
                    [To::Null, add_struct(w, [], [xattrs, To::Null])]
                })
            },
            "Read limit",
        ),
    ];
    check(rows);
}
