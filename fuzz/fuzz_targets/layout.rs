//! The documents of a layout: index, manifests, configurations. See [`documents`] for the input.
#![no_main]

use std::path::Path;

use fuzz::{documents, sandbox};
use libfuzzer_sys::fuzz_target;
use puzzlefs::config::{ConfigChange, configure};
use puzzlefs::fsck::{FsckOptions, fsck};
use puzzlefs::graph::Graph;
use puzzlefs::image::{Image, OpenOptions};
use puzzlefs::inspect::inspect;
use puzzlefs::layout::{GcOptions, Layout, Manifest, Name, Platform, Reference, gc};
use puzzlefs::progress::Monitor;

const LAYOUT: &str = "/dev/shm/layout";
/// How many of the images are looked at.
const IMAGES: usize = 4;

fuzz_target!(init: sandbox::enter(), |data: &[u8]| {
    sandbox::remove(&[LAYOUT]);
    let blobs = documents::write(data, Path::new(LAYOUT));
    let layout = Layout::open(Path::new(LAYOUT)).expect("it says that it is a layout");
    let Ok(index) = layout.index() else { return };
    layout.update_index(&Monitor::silent(), |_| Ok(())).expect("the index can be written");
    assert_eq!(layout.index().expect("and read again"), index);

    let tags = index.tags().map(|tag| Name::Tag(tag.to_owned()));
    let names: Vec<Name> = tags.chain(blobs.into_iter().map(Name::Digest)).take(IMAGES).collect();
    names.into_iter().for_each(|name| look_at(&layout, name));

    // All of it, whatever is in it.
    let graph = Graph::of_layout(&layout);
    drop(graph.map(|graph| graph.to_svg("a layout")));
    drop(layout.tags().map(|tags| tags.iter().map(|tag| tag.to_json()).collect::<Vec<_>>()));
    fsck(Path::new(LAYOUT), None, &FsckOptions::default(), &Monitor::silent()).expect("what is wrong is in the report");
    let kept = GcOptions { dry_run: true, ..GcOptions::default() };
    let _ = gc(Path::new(LAYOUT), &kept, &Monitor::silent());
});

fn look_at(layout: &Layout, name: Name) {
    if layout.tag(&name, "again", &Monitor::silent()).is_ok() {
        layout.untag(&Name::Tag("again".to_owned()), &Monitor::silent()).expect("it was just made");
    }
    let platform =
        Platform { os: "linux".to_owned(), architecture: "arm64".to_owned(), variant: None };
    let _ = Manifest::find(layout, &name, Some(&platform));
    let _ = Graph::of_image(layout, &name, None);
    let _ = fsck(layout.path(), Some(&name), &FsckOptions::default(), &Monitor::silent());
    let reference = Reference { layout: layout.path().to_owned(), name };
    let Ok(image) = Image::open(&reference, &OpenOptions::default()) else { return };
    let _ = inspect(&image);
    let _ = image.check_blobs();
    change(&reference);
}

/// Whatever else a configuration and a manifest say, they still say it when something is changed.
fn change(reference: &Reference) {
    let change = ConfigChange { user: Some("fuzz".to_owned()), ..ConfigChange::default() };
    if configure(reference, None, Some("changed"), &change, &Monitor::silent()).is_err() {
        return;
    }
    let name = Name::Tag("changed".to_owned());
    let changed = Reference { layout: reference.layout.clone(), name };
    let changed = Image::open(&changed, &OpenOptions::default()).expect("it can be opened");
    let config = changed.config().expect("it has a configuration now");
    assert_eq!(config["config"]["User"], "fuzz");
}
