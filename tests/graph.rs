//! The picture of what the images of a layout share: every one is valid, and tells what is stored.

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;

use common::command::{fail, puzzlefs, succeed};
use common::layout::{Layout, REF_NAME, VARIANTS, array, sha256, text};
use common::temp_dir;
use common::tree::{KIB, mkdir, random};
use serde_json::{Value, json};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// A layout with `v1` and `v2`, which has the data of the former and some more.
fn two_images(dir: &Path) -> Layout {
    let tree = mkdir(&dir.join("tree"));
    fs::write(tree.join("old"), random(1, 3000 * KIB)).unwrap();
    let layout = VARIANTS[0].build(&tree, dir, "v1", &[]);
    fs::write(tree.join("new"), random(2, 1000 * KIB)).unwrap();
    let base = layout.image("v1").into_string().unwrap();
    VARIANTS[0].build(&tree, dir, "v2", &["--base", &base]);
    layout
}

/// A picture, as a valid document in a file.
struct Picture {
    _dir: tempfile::TempDir,
    file: std::path::PathBuf,
}

impl Picture {
    #[track_caller]
    fn of(what: impl AsRef<std::ffi::OsStr>) -> Self {
        let drawn = succeed(puzzlefs().args(["inspect", "--graph"]).arg(&what));
        let again = succeed(puzzlefs().args(["inspect", "--graph"]).arg(what));
        assert!(drawn.stdout == again.stdout, "the same picture");
        let dir = temp_dir();
        let file = dir.path().join("picture.svg");
        fs::write(&file, &drawn.stdout).unwrap();
        Picture { _dir: dir, file }
    }

    /// What xmllint says to an XPath expression.
    #[track_caller]
    fn query(&self, expression: &str) -> String {
        let mut xmllint = Command::new("xmllint");
        succeed(xmllint.arg("--nonet").arg("--xpath").arg(expression).arg(&self.file))
            .text()
            .to_owned()
    }

    /// The text at the document's top.
    #[track_caller]
    fn title(&self) -> String {
        self.query("string(/*[local-name()='svg']/*[local-name()='title'])")
    }

    /// How many elements have this text, or end in it.
    #[track_caller]
    fn count(&self, text: &str) -> usize {
        let length = text.chars().count();
        let ends = format!("substring(., string-length(.) - {length} + 1) = '{text}' and not(*)");
        self.query(&format!("count(//*[{ends}])")).parse().unwrap()
    }
}

/// Bytes as the picture has them.
fn megabytes(bytes: u64) -> String {
    format!("{:.2} MB", bytes as f64 / 1e6)
}

/// The bytes of blobs as they are on disk.
fn stored<'a>(layout: &Layout, digests: impl Iterator<Item = &'a str>) -> u64 {
    digests.map(|digest| fs::metadata(layout.blob_path(digest)).unwrap().len()).sum()
}

fn layers(layout: &Layout, tag: &str) -> Vec<String> {
    let manifest = layout.manifest(tag);
    array(&manifest["layers"]).iter().map(|layer| text(&layer["digest"]).to_owned()).collect()
}

fn put(layout: &Layout, media_type: &str, bytes: &[u8]) -> Value {
    let digest = sha256(bytes);
    fs::write(layout.blob_path(&digest), bytes).unwrap();
    json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
}

fn enter(layout: &Layout, mut descriptor: Value, tag: &str) {
    descriptor["annotations"] = json!({ REF_NAME: tag });
    let mut index = layout.index();
    index["manifests"].as_array_mut().unwrap().push(descriptor);
    fs::write(layout.dir.join("index.json"), index.to_string()).unwrap();
}

#[test]
fn a_layout_with_what_its_images_share() {
    let dir = temp_dir();
    let layout = two_images(dir.path());
    let (v1, v2) = (layers(&layout, "v1"), layers(&layout, "v2"));
    let both: std::collections::BTreeSet<_> = v1.iter().chain(&v2).map(String::as_str).collect();
    let sizes = [&v1, &v2].map(|layers| stored(&layout, layers.iter().map(String::as_str)));
    let distinct = stored(&layout, both.iter().copied());
    let packs = both.len() - 2;

    let picture = Picture::of(&layout.dir);
    let shown = layout.dir.display();
    assert_eq!(picture.title(), format!("{shown}: 2 images, {packs} packs"));
    // The sum; what is stored, at the top and in the row of all; what each image adds.
    assert_eq!(picture.count(&megabytes(sizes[0] + sizes[1])), 1);
    assert_eq!(picture.count(&megabytes(distinct)), 2);
    assert_eq!(picture.count(&megabytes(distinct - sizes[0])), 1);
    let share = 100.0 * (1.0 - distinct as f64 / (sizes[0] + sizes[1]) as f64);
    assert_eq!(picture.count(&format!("{share:.0} %")), 1);
    // A box for each blob says by whom it is shared.
    let shared = v1.iter().filter(|digest| v2.contains(digest)).count();
    assert!(shared > 0, "nothing is shared");
    assert_eq!(picture.count("in 2 of 2 images"), shared);
    assert_eq!(picture.count("in 1 of 2 images"), both.len() - shared);

    let picture = Picture::of(layout.image("v2"));
    assert_eq!(picture.title(), format!("{shown}:v2: 1 image, {} packs", v2.len() - 1));
    assert_eq!(picture.count(&megabytes(sizes[1])), 2);
}

#[test]
fn entries_of_every_kind() {
    let dir = temp_dir();
    let layout = two_images(dir.path());
    let v1 = layout.tagged("v1").remove(0);
    // An index of several platforms, of which one stands under a tag of its own as well.
    let mut inner = [v1.clone(), layout.tagged("v2").remove(0)];
    for (entry, architecture) in inner.iter_mut().zip(["amd64", "arm64"]) {
        entry["platform"] = json!({"os": "linux", "architecture": architecture});
    }
    let index = json!({"schemaVersion": 2, "manifests": inner}).to_string();
    enter(&layout, put(&layout, INDEX, index.as_bytes()), "multi");
    // A tag that no tool of ours would make, an ordinary image, and what is broken.
    enter(&layout, v1.clone(), "<b>&\u{7}\"'");
    let ordinary = json!({"schemaVersion": 2, "config": v1, "layers": []}).to_string();
    enter(&layout, put(&layout, MANIFEST, ordinary.as_bytes()), "ordinary");
    enter(&layout, put(&layout, "text/plain", b"no image"), "text");
    enter(&layout, put(&layout, MANIFEST, b"{"), "broken");

    let picture = Picture::of(&layout.dir);
    assert!(picture.title().contains(": 2 images, "), "{}", picture.title());
    let row = |number: usize| {
        picture.query(&format!("string((//*[local-name()='g'])[{number}]/*[local-name()='title'])"))
    };
    let rows =
        ["v1, multi (linux/amd64), <b>&\u{fffd}\"' (sha256:", "v2, multi (linux/arm64) (sha256:"];
    for (number, expected) in rows.into_iter().enumerate() {
        let row = row(number + 1);
        assert!(row.starts_with(expected), "{row}");
    }
    let note = "Beside these: 2 entries of other kinds, 1 entry that cannot be read.";
    assert_eq!(picture.count(note), 1);

    // Which image of an index is meant is told as everywhere.
    let mut inspect = puzzlefs();
    inspect.args(["inspect", "--graph", "--platform=linux/s390x"]).arg(layout.image("multi"));
    assert!(fail(1, &mut inspect).errors().contains("no image for linux/s390x"));
}

#[test]
fn what_is_no_image() {
    let dir = temp_dir();
    let layout = two_images(dir.path());
    fs::write(layout.dir.join("index.json"), r#"{"schemaVersion":2,"manifests":[]}"#).unwrap();
    assert_eq!(Picture::of(&layout.dir).count("There is no puzzlefs image here."), 1);

    let cases: [(&[&str], i32, &str); 4] = [
        (&["--graph", "nowhere"], 1, "there is no layout 'nowhere'"),
        (&["--graph", "packs-zstd:v9"], 1, "no image tagged 'v9'"),
        (&["--graph", "--json", "packs-zstd"], 2, "cannot be used with"),
        (&["packs-zstd"], 2, "`puzzlefs tags packs-zstd` lists its tags"),
    ];
    for (args, code, expected) in cases {
        let mut inspect = puzzlefs();
        let failed = fail(code, inspect.current_dir(&dir).arg("inspect").args(args));
        assert!(failed.errors().contains(expected), "{failed}");
    }
}
