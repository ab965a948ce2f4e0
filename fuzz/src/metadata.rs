//! What holds for all metadata, whoever made it.

use puzzlefs::format::{Rootfs, decode, encode, file_size};
use puzzlefs::inspect::{dump, parse_dump};
use puzzlefs::tree::Ino;

/// Decodes metadata; what comes of it is walked, written and read again.
pub fn check(bytes: &[u8]) {
    let Ok(rootfs) = decode(bytes) else { return };
    walk(&rootfs);
    let at_odd_address = [&[0], bytes].concat();
    assert_eq!(decode(&at_odd_address[1..]).as_ref().ok(), Some(&rootfs));

    let encoded = encode(&rootfs).expect("what was decoded can be encoded");
    assert_eq!(decode(&encoded).expect("and decoded again"), rootfs);

    let mut text = Vec::new();
    dump(&rootfs, &mut text).expect("write to memory");
    let text = String::from_utf8(text).expect("a dump is text");
    let parsed = parse_dump(&text).expect("a dump can be read");
    assert_eq!((&parsed.tree, &parsed.blobs), (&rootfs.tree, &rootfs.blobs));
}

/// Goes everywhere and looks at everything, as `ls -R` and a mount do.
pub fn walk(rootfs: &Rootfs) {
    let tree = &rootfs.tree;
    let locations = tree.locations();
    let mut names = vec![0; tree.inodes().len()];
    for (ino, inode) in tree.iter() {
        assert_eq!(tree.get(ino.get().into()), Some(ino));
        for (index, entry) in inode.entries().unwrap_or_default().iter().enumerate() {
            assert_eq!(tree.lookup(ino, &entry.name), Some(entry.ino));
            if locations.is_first(entry.ino, ino, index) {
                assert_eq!(locations.parent(entry.ino), ino);
                assert_eq!(tree.name(&locations, entry.ino), &*entry.name);
            }
            names[entry.ino.index()] += 1;
        }
        assert_eq!(tree.path(&locations, ino).as_os_str().is_empty(), ino == Ino::ROOT);
        let extents = inode.file().map_or(&[][..], |extents| extents);
        assert!(file_size(extents) <= i64::MAX as u64);
        for extent in extents {
            assert!((extent.blob as usize) < rootfs.blobs.len());
            assert!(extent.length > 0 && extent.offset + extent.length <= i64::MAX as u64);
        }
    }
    for (ino, inode) in tree.iter().filter(|(_, inode)| inode.entries().is_none()) {
        assert_eq!(inode.nlink, names[ino.index()], "{ino:?} is {inode:?}");
    }
}
