//! An image is an ordinary OCI image: the tools that know nothing of puzzlefs
//! list, check and move it, and every descriptor says what is there.

mod common;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::command::{fail, puzzlefs, succeed};
use common::layout::{Layout, REF_NAME, VARIANTS, array, data_digest, read_json, text};
use common::registry::Registry;
use common::snapshot::{Snapshot, assert_same};
use common::temp_dir;
use common::tree::{self, KIB, lines, mkdir, random};
use common::verity::fs_verity;
use serde_json::{Value, json};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const ROOTFS: &str = "application/vnd.puzzlefs.image.rootfs.v1";
const FILEDATA: &str = "application/vnd.puzzlefs.image.filedata.v1";
const FILEDATA_ZSTD: &str = "application/vnd.puzzlefs.image.filedata.v1+zstd";
const VERITY: &str = "io.puzzlefsoci.puzzlefs.puzzlefs_verity_root_hash";

/// Every zstd frame begins with it.
const ZSTD_MAGIC: [u8; 4] = 0xfd2f_b528_u32.to_le_bytes();

/// This machine's architecture, as OCI spells it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// The files that a build makes of a tree, for tests that need no more of them.
fn small_tree(dir: &Path) -> PathBuf {
    let tree = mkdir(&dir.join("tree"));
    fs::write(tree.join("file"), lines(300 * KIB)).unwrap();
    fs::write(tree.join("random"), random(1, 200 * KIB)).unwrap();
    tree
}

/// What `puzzlefs extract` makes of an image.
#[track_caller]
fn extracted(layout: &Layout, tag: &str) -> Snapshot {
    let dir = temp_dir();
    let target = dir.path().join("target");
    succeed(puzzlefs().arg("extract").arg(layout.image(tag)).arg(&target));
    Snapshot::of(&target)
}

#[test]
fn skopeo_inspects_and_copies_images() {
    let dir = temp_dir();
    let tree = mkdir(&dir.path().join("tree"));
    tree::everything(&tree);
    let expected = Snapshot::of(&tree);
    for variant in VARIANTS {
        let what = variant.name();
        let layout = variant.build(&tree, dir.path(), "v1", &["--created=86400"]);
        let manifest = layout.manifest("v1");
        let layers: Vec<&Value> =
            array(&manifest["layers"]).iter().map(|layer| &layer["digest"]).collect();

        let seen =
            succeed(Command::new("skopeo").arg("inspect").arg(layout.transport("v1"))).json();
        assert_eq!(seen["Digest"], layout.digest("v1"), "{what}");
        assert_eq!(seen["Architecture"], architecture(), "{what}");
        assert_eq!(seen["Os"], "linux", "{what}");
        assert_eq!(seen["Created"], "1970-01-02T00:00:00Z", "{what}");
        assert_eq!(seen["Layers"], json!(layers), "{what}");

        let copy = Layout::new(dir.path().join(format!("copy-{what}")));
        skopeo_copy(&layout.transport("v1"), &copy.transport("v2"));
        assert_eq!(copy.digest("v2"), layout.digest("v1"), "{what}");
        assert_same(&what, &expected, &extracted(&copy, "v2"));
    }
}

#[test]
fn images_come_back_from_a_registry() {
    let dir = temp_dir();
    let tree = mkdir(&dir.path().join("tree"));
    tree::everything(&tree);
    let expected = Snapshot::of(&tree);
    let registry = Registry::start();
    let address = &registry.address;
    for variant in VARIANTS {
        let what = variant.name();
        let layout = variant.build(&tree, dir.path(), "v1", &[]);
        let remote = OsString::from(format!("docker://{address}/test/{what}:latest"));
        skopeo_copy(&layout.transport("v1"), &remote);
        let copy = Layout::new(dir.path().join(format!("copy-{what}")));
        skopeo_copy(&remote, &copy.transport("v1"));
        assert_eq!(copy.digest("v1"), layout.digest("v1"), "{what}");
        assert_same(&what, &expected, &extracted(&copy, "v1"));
    }
}

#[track_caller]
fn skopeo_copy(from: &OsString, to: &OsString) {
    succeed(
        Command::new("skopeo")
            .args(["copy", "--quiet", "--src-tls-verify=false", "--dest-tls-verify=false"])
            .args([from, to]),
    );
}

#[test]
fn umoci_lists_and_tags_images() {
    let dir = temp_dir();
    let tree = small_tree(dir.path());
    let expected = Snapshot::of(&tree);
    for variant in VARIANTS {
        let what = variant.name();
        let text = ["--created=86400", "--created-by=the test"];
        let layout = variant.build(&tree, dir.path(), "v1", &text);
        succeed(Command::new("umoci").arg("tag").arg("--image").arg(layout.image("v1")).arg("v2"));
        succeed(Command::new("umoci").arg("gc").arg("--layout").arg(&layout.dir));

        let tags = succeed(Command::new("umoci").arg("ls").arg("--layout").arg(&layout.dir));
        let tags: BTreeSet<&str> = tags.text().lines().collect();
        assert_eq!(tags, BTreeSet::from(["v1", "v2"]), "{what}");

        let mut stat = Command::new("umoci");
        let stat = succeed(stat.args(["stat", "--json", "--image"]).arg(layout.image("v2"))).json();
        let history = array(&stat["history"]);
        assert_eq!(history.len(), 1, "{what}: {stat:#}");
        assert_eq!(history[0]["created"], "1970-01-02T00:00:00Z", "{what}");
        assert_eq!(history[0]["created_by"], "the test", "{what}");
        assert_eq!(history[0]["layer"], layout.manifest("v1")["layers"][0], "{what}");
        assert_same(&what, &expected, &extracted(&layout, "v2"));
    }
}

/// The checker of the image specification, compiled.
fn schema_checker(dir: &Path) -> PathBuf {
    let program = dir.join("oci-schema");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oci-schema");
    succeed(Command::new("go").args(["build", "-o"]).arg(&program).arg(".").current_dir(source));
    program
}

#[test]
fn documents_follow_the_schemas_of_oci() {
    let dir = temp_dir();
    let checker = schema_checker(dir.path());
    let tree = small_tree(dir.path());
    for variant in VARIANTS {
        let options = ["--annotation=a=b", "--author=me", "--comment=none"];
        let layout = variant.build(&tree, dir.path(), "v1", &options);
        let checked = succeed(Command::new(&checker).arg(&layout.dir));
        let blob = |digest: &str| format!("blobs/{}", digest.replace(':', "/"));
        let expected = [
            "oci-layout: application/vnd.oci.layout.header.v1+json".to_owned(),
            "index.json: application/vnd.oci.image.index.v1+json".to_owned(),
            format!("{}: {MANIFEST}", blob(&layout.digest("v1"))),
            format!("{}: {CONFIG}", blob(text(&layout.manifest("v1")["config"]["digest"]))),
        ];
        assert_eq!(checked.text().lines().collect::<Vec<_>>(), expected, "{}", variant.name());
    }
}

/// The checker is only worth what it finds.
#[test]
fn the_schemas_of_oci_refuse_wrong_documents() {
    let dir = temp_dir();
    let checker = schema_checker(dir.path());
    let tree = small_tree(dir.path());
    type Document = fn(&Layout) -> PathBuf;
    let index: Document = |layout| layout.dir.join("index.json");
    let manifest: Document = |layout| layout.blob_path(&layout.digest("v1"));
    let config: Document =
        |layout| layout.blob_path(text(&layout.manifest("v1")["config"]["digest"]));
    let wrong: [(Document, &str, Value); 5] = [
        (|layout| layout.dir.join("oci-layout"), "/imageLayoutVersion", json!("3.0.0")),
        (index, "/manifests/0/size", json!("12")),
        (manifest, "/layers", json!([])),
        (manifest, "/config", json!({})),
        (config, "/rootfs/type", json!("flat")),
    ];
    for (number, (document, pointer, value)) in wrong.into_iter().enumerate() {
        let layouts = mkdir(&dir.path().join(number.to_string()));
        let layout = VARIANTS[0].build(&tree, &layouts, "v1", &[]);
        let path = document(&layout);
        let mut content = read_json(&path);
        *content.pointer_mut(pointer).unwrap_or_else(|| panic!("no {pointer}")) = value;
        fs::write(&path, content.to_string()).unwrap();
        let refused = fail(1, Command::new(&checker).arg(&layout.dir));
        let key = pointer.rsplit('/').next().expect("a pointer has a slash");
        assert!(refused.errors().contains(key), "{pointer}\n{refused}");
    }
}

/// The blobs that files lie in, in the order of their first use, and whether
/// the metadata calls them compressed.
fn blobs_in_use(inodes: &[Value]) -> Vec<(String, bool)> {
    let mut blobs: Vec<(String, bool)> = Vec::new();
    let files = inodes.iter().filter_map(|inode| inode["mode"].get("file"));
    for extent in files.flat_map(array) {
        let name = data_digest(&extent["blob"]["digest"]);
        let compressed = extent["blob"]["compressed"].as_bool().unwrap();
        match blobs.iter().find(|(known, _)| *known == name) {
            Some((_, known)) => assert_eq!(*known, compressed, "{name} is both"),
            None => blobs.push((name, compressed)),
        }
    }
    blobs
}

#[test]
fn the_manifest_describes_the_image() {
    let dir = temp_dir();
    let tree = mkdir(&dir.path().join("tree"));
    tree::everything(&tree);
    for variant in VARIANTS {
        let what = variant.name();
        let layout = variant.build(&tree, dir.path(), "v1", &[]);
        let manifest_digest = layout.digest("v1");
        let manifest = layout.manifest("v1");
        let config = layout.config("v1");

        let bytes = layout.blob(&manifest_digest);
        let expected = json!({
            "mediaType": MANIFEST,
            "digest": manifest_digest,
            "size": bytes.len(),
            "annotations": {REF_NAME: "v1"},
        });
        assert_eq!(layout.tagged("v1"), [expected], "{what}");
        assert_eq!(manifest["schemaVersion"], 2, "{what}");
        assert_eq!(manifest["mediaType"], MANIFEST, "{what}");
        assert_eq!(manifest["config"]["mediaType"], CONFIG, "{what}");

        // Every descriptor is true, and there is nothing that none describes.
        let layers = array(&manifest["layers"]);
        let mut described = BTreeSet::from([manifest_digest]);
        for descriptor in layers.iter().chain([&manifest["config"]]) {
            let digest = text(&descriptor["digest"]);
            assert_eq!(descriptor["size"], layout.blob(digest).len(), "{what}: {digest}");
            assert!(described.insert(digest.to_owned()), "{what}: {digest} is there twice");
        }
        assert_eq!(layout.blobs(), described, "{what}: the blobs in the layout");

        // The rootfs comes first, then the data in the order of its first use.
        let (rootfs, data) = layers.split_first().unwrap();
        assert_eq!(rootfs["mediaType"], ROOTFS, "{what}");
        let content = layout.blob(text(&rootfs["digest"]));
        assert_eq!(rootfs["annotations"], json!({VERITY: fs_verity(&content)}), "{what}");
        let metadata = layout.metadata("v1");
        let [layer] = array(&metadata["metadatas"]) else {
            panic!("{what}: several layers of metadata");
        };
        let inodes = array(&layer["inodes"]);
        let blobs = blobs_in_use(inodes);
        assert!(blobs.len() > 3, "{what}: too few blobs for an order: {blobs:?}");
        let described: Vec<&str> = data.iter().map(|layer| text(&layer["digest"])).collect();
        let used: Vec<&str> = blobs.iter().map(|(digest, _)| digest.as_str()).collect();
        assert_eq!(described, used, "{what}: the order of the data");
        for (layer, (digest, compressed)) in data.iter().zip(&blobs) {
            let media_type = if *compressed { FILEDATA_ZSTD } else { FILEDATA };
            assert_eq!(layer["mediaType"], media_type, "{what}: {digest}");
            let is_zstd = layout.blob(digest).starts_with(&ZSTD_MAGIC);
            assert_eq!(is_zstd, *compressed, "{what}: {digest}");
        }
        // Where nothing is to be compressed, the one pack of zeros is.
        let compressed = blobs.iter().filter(|(_, compressed)| *compressed).count();
        assert_eq!(compressed > 1, variant.compression == "zstd", "{what}: {compressed}");

        // The metadata says the same of the blobs.
        assert_eq!(metadata["manifestVersion"], "3", "{what}");
        let numbers: Vec<String> =
            inodes.iter().map(|inode| text(&inode["ino"]).to_owned()).collect();
        let expected: Vec<String> = (1..=inodes.len()).map(|ino| ino.to_string()).collect();
        assert_eq!(numbers, expected, "{what}: the numbers of the inodes");
        let verity: Vec<(String, String)> = array(&metadata["fsVerityData"])
            .iter()
            .map(|entry| (data_digest(&entry["digest"]), data_digest(&entry["verity"])))
            .collect();
        let mut expected: Vec<(String, String)> = used
            .iter()
            .map(|name| ((*name).to_owned(), format!("sha256:{}", fs_verity(&layout.blob(name)))))
            .collect();
        expected.sort();
        assert_eq!(verity, expected, "{what}: fsVerityData");

        // So does the config.
        assert_eq!(config["architecture"], architecture(), "{what}");
        assert_eq!(config["os"], "linux", "{what}");
        let digests: Vec<&Value> = layers.iter().map(|layer| &layer["digest"]).collect();
        assert_eq!(config["rootfs"], json!({"type": "layers", "diff_ids": digests}), "{what}");
        let [history] = array(&config["history"]) else {
            panic!("{what}: one entry of history a build: {config:#}");
        };
        assert_eq!(history["created"], config["created"], "{what}");
        assert!(history["created"].is_string(), "{what}: {history}");
        assert_ne!(history.get("empty_layer"), Some(&json!(true)), "{what}");
    }
}

#[test]
fn build_tells_what_it_made() {
    let dir = temp_dir();
    let tree = mkdir(&dir.path().join("tree"));
    tree::everything(&tree);
    let inodes = Snapshot::of(&tree).without_links();
    let files = inodes.values("type").filter(|kind| *kind == "RegularFile").count();
    let sizes: u64 = inodes.values("size").map(|size| size.parse::<u64>().unwrap()).sum();
    for variant in VARIANTS {
        let what = variant.name();
        let layout = Layout::new(dir.path().join(&what));
        let mut build = variant.command(&tree, &layout.image("v1"), &["--json"]);
        let told = succeed(&mut build).json();
        let manifest = layout.blob(&layout.digest("v1"));
        let mut descriptor = layout.tagged("v1").remove(0);
        descriptor.as_object_mut().unwrap().remove("annotations");
        let layers = layout.manifest("v1")["layers"].clone();
        assert_eq!(told["descriptor"], descriptor, "{what}");
        assert_eq!(told["verity"], fs_verity(&manifest), "{what}");
        assert_eq!(told["inodes"], inodes.paths().count(), "{what}");
        assert_eq!(told["files"], files, "{what}");
        assert_eq!(told["layers"], array(&layers).len(), "{what}");
        assert_eq!(told["bytes"]["tree"], sizes, "{what}");
        assert_eq!(told["bytes"]["metadata"], layers[0]["size"], "{what}");
        let stored: usize = layout.blobs().iter().map(|digest| layout.blob(digest).len()).sum();
        assert_eq!(told["bytes"]["stored"], stored, "{what}");
        assert_eq!(told["bytes"]["shared"], 0, "{what}");

        let again = succeed(&mut build).json();
        assert_eq!(again["descriptor"], descriptor, "{what}: the same image again");
        assert_eq!(again["bytes"]["stored"], 0, "{what}: all of it was there");
    }
}

/// An index is everybody's: of what others wrote into it, a build changes
/// nothing.
#[test]
fn what_others_wrote_stays() {
    let dir = temp_dir();
    let tree = small_tree(dir.path());
    let layout = VARIANTS[0].build(&tree, dir.path(), "ours", &[]);
    succeed(Command::new("umoci").arg("new").arg("--image").arg(layout.image("umoci")));

    let marker = layout.dir.join("oci-layout");
    fs::write(&marker, "{ \"imageLayoutVersion\": \"1.0.0\", \"org.example\": 1 }\n").unwrap();
    let marked = fs::read(&marker).unwrap();
    let mut index = layout.index();
    index["annotations"] = json!({"org.example.key": "value"});
    index["org.example.unknown"] = json!({"list": [1, 2.5, null, "\u{e4}"], "flag": false});
    let foreign = json!({
        "mediaType": "application/vnd.example.unknown+json",
        "digest": "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
        "size": 2,
        "data": "e30=",
        "artifactType": "application/vnd.example",
        "urls": ["https://example.org/"],
        "platform": {"architecture": "arm64", "os": "linux", "org.example": true},
        "org.example.unknown": [],
    });
    let manifests = index["manifests"].as_array_mut().unwrap();
    manifests.insert(0, foreign);
    manifests[2]["org.example.unknown"] = json!(9_007_199_254_740_993_u64);
    assert_eq!(manifests[2]["annotations"][REF_NAME], "umoci");
    fs::write(layout.dir.join("index.json"), index.to_string()).unwrap();

    // A tag that is there is moved, one that is not is added.
    fs::write(tree.join("file"), "changed").unwrap();
    for tag in ["ours", "new"] {
        VARIANTS[0].build(&tree, dir.path(), tag, &[]);
    }
    let mut expected = index;
    let manifests = expected["manifests"].as_array_mut().unwrap();
    assert_ne!(manifests[1], layout.tagged("ours")[0], "the tag still refers to the old image");
    manifests[1] = layout.tagged("ours").remove(0);
    manifests.push(layout.tagged("new").remove(0));
    assert_eq!(layout.index(), expected);
    assert_eq!(fs::read(&marker).unwrap(), marked);
    assert_same("the new image", &Snapshot::of(&tree), &extracted(&layout, "new"));
}
