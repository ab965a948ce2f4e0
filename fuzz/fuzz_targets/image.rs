//! An image from end to end: it is opened, listed, read, and extracted beside what it must not
//! touch. See [`documents`] for the input.
#![no_main]

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

use fuzz::{documents, metadata, sandbox};
use libfuzzer_sys::fuzz_target;
use puzzlefs::chunk::Extent;
use puzzlefs::export::export;
use puzzlefs::extract::{ExtractOptions, extract};
use puzzlefs::format::file_size;
use puzzlefs::fsck::{FsckOptions, fsck};
use puzzlefs::image::{Image, OpenOptions};
use puzzlefs::layout::{Layout, Name, Reference};
use puzzlefs::pack::zeros;
use puzzlefs::progress::Monitor;
use puzzlefs::source::directory::scan;
use puzzlefs::source::{Content, ScanOptions, Source};
use puzzlefs::tree::{Ino, Inode, Kind, Tree};

const LAYOUT: &str = "/dev/shm/layout";
const INSIDE: &str = "/dev/shm/inside";
const OUTSIDE: &str = "/dev/shm/outside";
/// How many of the images are looked at.
const IMAGES: usize = 2;
/// How many bytes are read of a file at once.
const PART: usize = 64 * 1024;
/// The largest image that is read whole: a few bytes of metadata may refer to many of data.
const SIZE_MAX: u64 = 32 << 20;

fuzz_target!(
    init: {
        sandbox::enter();
        make_outside();
    },
    |data: &[u8]| {
        sandbox::remove(&[LAYOUT, INSIDE]);
        let blobs = documents::write(data, Path::new(LAYOUT));
        let layout = Layout::open(Path::new(LAYOUT)).expect("it says that it is a layout");
        let Ok(index) = layout.index() else { return };
        for tag in index.tags().take(IMAGES) {
            let name = Name::Tag(tag.to_owned());
            let reference = Reference { layout: LAYOUT.into(), name };
            let options = OpenOptions { platform: None, verify: data.len() % 2 == 1 };
            if let Ok(image) = Image::open(&reference, &options) {
                look_at(&image);
            }
        }
        // To check all zeros that holes are made of takes long.
        if !blobs.contains(&zeros::PACK.digest) {
            let _ = fsck(Path::new(LAYOUT), None, &FsckOptions::default(), &Monitor::silent());
        }
    }
);

fn look_at(image: &Image) {
    metadata::walk(image.rootfs());
    let locations = image.tree().locations();
    let mut readable = true;
    for (ino, inode) in image.tree().iter() {
        let path = image.tree().path(&locations, ino);
        assert_eq!(image.lookup(&path).expect("its own path leads there"), ino);
        match &inode.kind {
            // It may lead anywhere, but not out of the image.
            Kind::Symlink(_) => drop(image.resolve(&path)),
            Kind::Regular(_) => readable &= read(image, ino),
            _ => {}
        }
    }
    if size(image) > SIZE_MAX {
        return;
    }
    export_and_read(image, readable);
    extract_beside_others(image, readable);
}

fn size(image: &Image) -> u64 {
    let sizes = image.tree().iter().map(|(ino, _)| image.size(ino));
    sizes.fold(0, u64::saturating_add)
}

/// Reads the begin and the end of a file, in several ways that must agree; tells whether that works.
fn read(image: &Image, ino: Ino) -> bool {
    let size = image.size(ino);
    let mut all = vec![0; PART];
    let mut readable = true;
    for offset in [0, size.saturating_sub(PART as u64)] {
        let Ok(length) = image.read_at(ino, &mut all, offset) else {
            readable = false;
            continue;
        };
        assert_eq!(length as u64, (size - offset).min(PART as u64));
        let mounted = puzzlefs::fuzz::read_as_mounted(image, ino, offset, length);
        assert!(mounted.expect("it could be read") == all[..length]);
        let mut part = [0; 1000];
        let skip = length / 3;
        let length = image.read_at(ino, &mut part, offset + skip as u64).expect("it could be read");
        assert!(part[..length] == all[skip..skip + length]);
    }
    readable
}

/// What is exported is what the image says.
fn export_and_read(image: &Image, readable: bool) {
    let mut archive = Vec::new();
    let exported = export(image, &mut archive, &Monitor::silent());
    assert!(readable || exported.is_err(), "what cannot be read cannot be exported");
    let Ok(exported) = exported else { return };
    if exported.sockets.is_empty() && image.tree().inodes().iter().all(fits_an_archive) {
        let compare = |source: &dyn Source| assert_same(source.tree(), &of_sizes(image));
        let read = puzzlefs::fuzz::lay_archives(&archive, Path::new(sandbox::ROOT), compare);
        read.expect("what was exported can be read");
    }
}

/// Whether an archive, as the layer of an image, can say all of an inode: no whiteouts' names, no
/// attributes that would be an overlay's, or that Linux has not there.
fn fits_an_archive(inode: &Inode<Box<[Extent]>>) -> bool {
    const NAMESPACES: [&[u8]; 3] = [b"security.", b"system.posix_acl_", b"trusted."];
    let may_be_users = matches!(inode.kind, Kind::Directory(_) | Kind::Regular(_));
    let fits = |key: &[u8]| {
        key != b"trusted.overlay.opaque"
            && (NAMESPACES.iter().any(|namespace| key.starts_with(namespace))
                || may_be_users && key.starts_with(b"user."))
    };
    let mut entries = inode.entries().unwrap_or_default().iter();
    entries.all(|entry| !entry.name.starts_with(b".wh."))
        && inode.metadata.xattrs.iter().all(|xattr| fits(&xattr.key))
}

fn of_sizes(image: &Image) -> Tree<Content> {
    image.tree().clone().map(|_, extents| Content::New(file_size(&extents)))
}

fn assert_same(found: &Tree<Content>, expected: &Tree<Content>) {
    for (found, expected) in found.inodes().iter().zip(expected.inodes()) {
        let mut expected = expected.clone();
        // Linux has no other permissions of links.
        if matches!(expected.kind, Kind::Symlink(_)) && found.metadata.permissions == 0o777 {
            expected.metadata.permissions = 0o777;
        }
        assert_eq!(*found, expected);
    }
    assert_eq!(found.inodes().len(), expected.inodes().len());
}

fn extract_beside_others(image: &Image, readable: bool) {
    // It may be there, if it is empty.
    let was_there = image.tree().inodes().len().is_multiple_of(2);
    if was_there {
        fs::create_dir(INSIDE).expect("make a directory");
    }
    let before = outside();
    let options = ExtractOptions { same_owner: true, threads: Some(1) };
    let extracted = extract(image, Path::new(INSIDE), &options, &Monitor::silent());
    assert_eq!(outside(), before, "something outside was touched");
    match extracted {
        Ok(report) => {
            assert!(readable && report.lost.is_empty(), "{report:?}");
            check_extracted(image);
        }
        Err(error) => {
            let left = fs::read_dir(INSIDE).map(Iterator::count).ok();
            assert_eq!(left, was_there.then_some(0), "{error}");
        }
    }
    sandbox::remove(&[INSIDE]);
}

/// What was extracted is what the image says.
fn check_extracted(image: &Image) {
    // The kernel has its own mind about ACLs and capabilities.
    let kernels = |key: &[u8]| key.starts_with(b"system.") || key.starts_with(b"security.");
    let mut xattrs = image.tree().inodes().iter().flat_map(|inode| &inode.metadata.xattrs);
    if xattrs.any(|xattr| kernels(&xattr.key)) {
        return;
    }
    let scanned = scan(Path::new(INSIDE), None, &ScanOptions::default(), None, &Monitor::silent());
    let scanned = scanned.expect("what was extracted can be read").into_tree();
    assert_same(&scanned, &of_sizes(image));
}

/// A tree that the links of an image may lead to.
fn make_outside() {
    fs::create_dir_all("/dev/shm/outside/dir").expect("make a directory");
    fs::write("/dev/shm/outside/file", "as it was").expect("write a file");
    fs::write("/dev/shm/outside/dir/file", "as it was, too").expect("write a file");
    symlink("file", "/dev/shm/outside/link").expect("make a link");
}

/// All that can be changed of it, and of the directory that it is in.
fn outside() -> Vec<String> {
    let mut found = Vec::new();
    let mut pending = vec![Path::new(OUTSIDE).to_owned()];
    while let Some(path) = pending.pop() {
        let state = fs::symlink_metadata(&path).expect("it is there");
        let (changed, nanoseconds) = (state.ctime(), state.ctime_nsec());
        found.push(format!("{path:?} {:o} {changed}.{nanoseconds}", state.mode()));
        if state.is_dir() {
            let entries = fs::read_dir(&path).expect("list a directory");
            pending.extend(entries.map(|entry| entry.expect("an entry").path()));
            pending.sort();
        }
    }
    let beside = fs::read_dir(sandbox::ROOT).expect("list the directory").map(|entry| {
        let name = entry.expect("an entry").file_name();
        name.into_string().expect("a name of ours")
    });
    found.extend(beside.filter(|name| name != "inside"));
    found.sort();
    found
}
