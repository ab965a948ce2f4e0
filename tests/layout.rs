//! Tags, configuration and history, and what a layout loses to a collector:
//! nothing that anything refers to, whatever made it.

mod common;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use common::command::{Output, fail, puzzlefs, reference, succeed};
use common::layout::{Layout, REF_NAME, VARIANTS, array, read_json, sha256, text};
use common::snapshot::{Snapshot, assert_same};
use common::temp_dir;
use common::tree::{KIB, lines, mkdir, random, set_times};
use puzzlefs::ErrorKind;
use puzzlefs::build::{BuildOptions, build};
use puzzlefs::layout::Reference;
use puzzlefs::progress::{Monitor, Progress, Stage};
use rustix::process::{Pid, Signal};
use serde_json::{Value, json};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const UNKNOWN: &str = "application/vnd.example.unknown+json";
const PACK_SIZE: &str = "io.puzzlefsoci.libpuzzlefs.pack_size";

/// A layout with an image `v1` of a few files, made at the beginning of 1970.
fn small_layout(dir: &Path) -> Layout {
    let tree = mkdir(&dir.join("tree"));
    fs::write(tree.join("file"), lines(100 * KIB)).unwrap();
    set_times(&tree);
    VARIANTS[0].build(&tree, dir, "v1", &["--created=0"])
}

/// The layout is as it was, but for the times of its folders, in which temporary files may have been.
#[track_caller]
fn assert_unchanged(layout: &Layout, before: Snapshot) {
    let changed = ["mtime"];
    assert_same(
        "the layout",
        &before.without(&changed),
        &Snapshot::of(&layout.dir).without(&changed),
    );
}

/// Runs a command of puzzlefs on an image of the layout.
#[track_caller]
fn on_image(layout: &Layout, command: &str, tag: &str, options: &[&str]) -> Output {
    succeed(puzzlefs().arg(command).arg(layout.image(tag)).args(options))
}

/// Runs a command of puzzlefs on the layout.
#[track_caller]
fn on_layout(layout: &Layout, command: &str, options: &[&str]) -> Output {
    succeed(puzzlefs().arg(command).arg(&layout.dir).args(options))
}

#[track_caller]
fn extracted(layout: &Layout, tag: &str) -> Snapshot {
    let dir = temp_dir();
    let target = dir.path().join("target");
    succeed(puzzlefs().arg("extract").arg(layout.image(tag)).arg(&target));
    Snapshot::of(&target)
}

/// Puts a blob into the layout, and describes it.
fn put(layout: &Layout, media_type: &str, bytes: &[u8]) -> Value {
    let digest = sha256(bytes);
    fs::write(layout.blob_path(&digest), bytes).unwrap();
    json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
}

fn put_json(layout: &Layout, media_type: &str, document: &Value) -> Value {
    put(layout, media_type, document.to_string().as_bytes())
}

fn change_index(layout: &Layout, change: impl FnOnce(&mut Vec<Value>)) {
    let mut index = layout.index();
    change(index["manifests"].as_array_mut().unwrap());
    fs::write(layout.dir.join("index.json"), index.to_string()).unwrap();
}

/// Adds an entry to the index.
fn enter(layout: &Layout, mut descriptor: Value, tag: Option<&str>) {
    if let Some(tag) = tag {
        descriptor["annotations"][REF_NAME] = json!(tag);
    }
    change_index(layout, |manifests| manifests.push(descriptor));
}

// Configuration and history

#[test]
fn config_changes_what_it_is_told() {
    let dir = temp_dir();
    let layout = small_layout(dir.path());
    let base = json!({
        "Env": ["PATH=/bin", "A=1", "AB=2", "A=3"],
        "Labels": {"a": "1"},
        "Entrypoint": ["/old"],
        "Cmd": ["old"],
        "User": "0",
        "WorkingDir": "/old",
        "StopSignal": "SIGHUP",
        "Volumes": {"/old": {}},
        "ExposedPorts": {"1/tcp": {}},
        "ArgsEscaped": true,
    });
    let file = dir.path().join("config.json");
    fs::write(&file, json!({"config": base, "variant": "v9"}).to_string()).unwrap();
    let start = format!("--config={}", file.display());
    on_image(&layout, "config", "v1", &["--tag=base", &start]);
    // The options, and what is another thing then: a pointer into the configuration, and what is
    // there.
    type Case<'a> = (&'a [&'a str], &'a [(&'a str, Value)]);
    let cases: &[Case] = &[
        (
            &["--entrypoint=/a", "--entrypoint", "-b"],
            &[("/config/Entrypoint", json!(["/a", "-b"]))],
        ),
        (&["--cmd=", "--cmd", "--c"], &[("/config/Cmd", json!(["", "--c"]))]),
        (
            &["--env=A=x=y", "--env=N="],
            &[("/config/Env", json!(["PATH=/bin", "A=x=y", "AB=2", "N="]))],
        ),
        (&["--label=a=", "--label=b=c=d"], &[("/config/Labels", json!({"a": "", "b": "c=d"}))]),
        (&["--user=1000:users"], &[("/config/User", json!("1000:users"))]),
        (&["--workdir=/new"], &[("/config/WorkingDir", json!("/new"))]),
        (&["--stop-signal=SIGINT"], &[("/config/StopSignal", json!("SIGINT"))]),
        (&["--volume=/new"], &[("/config/Volumes", json!({"/old": {}, "/new": {}}))]),
        (
            &["--expose=80", "--port=53/udp"],
            &[("/config/ExposedPorts", json!({"1/tcp": {}, "80": {}, "53/udp": {}}))],
        ),
        (
            &["--architecture=arm64", "--os=plan9"],
            &[("/architecture", json!("arm64")), ("/os", json!("plan9"))],
        ),
        (&["--author=Ada"], &[("/author", json!("Ada"))]),
        (&["--created=1"], &[("/created", json!("1970-01-01T00:00:01Z"))]),
        (&["--clear=config.env", "--env=A=b"], &[("/config/Env", json!(["A=b"]))]),
        (&["--clear=config.cmd"], &[("/config/Cmd", Value::Null)]),
        (&["--clear=config.entrypoint"], &[("/config/Entrypoint", Value::Null)]),
        (&["--clear=config.labels"], &[("/config/Labels", Value::Null)]),
        (&["--clear=config.volume"], &[("/config/Volumes", Value::Null)]),
        (&["--clear=config.exposedports"], &[("/config/ExposedPorts", Value::Null)]),
        (&["--clear=config.user"], &[("/config/User", Value::Null)]),
        (&["--clear=config.workingdir"], &[("/config/WorkingDir", Value::Null)]),
        (&["--clear=config.stopsignal"], &[("/config/StopSignal", Value::Null)]),
        (&["--comment=nothing else"], &[]),
    ];
    for (options, changes) in cases {
        let printed = on_image(&layout, "config", "base", &[&["--tag=new"], *options].concat());
        assert_eq!(printed.text(), layout.digest("new"), "{options:?}");
        let mut expected = layout.config("base");
        for (pointer, value) in *changes {
            let (parent, key) = pointer.rsplit_once('/').unwrap();
            let parent = expected.pointer_mut(parent).unwrap().as_object_mut().unwrap();
            match value {
                Value::Null => parent.remove(key),
                value => parent.insert(key.to_owned(), value.clone()),
            };
        }
        let config = layout.config("new");
        let (last, before) = array(&config["history"]).split_last().unwrap();
        assert_eq!(before, array(&expected["history"]), "{options:?}");
        assert_eq!(last["created"], config["created"], "{options:?}");
        assert_eq!(last["created_by"], "puzzlefs config", "{options:?}");
        assert_eq!(last["empty_layer"], true, "{options:?}");
        expected["history"] = config["history"].clone();
        assert_eq!(config, expected, "{options:?}");
        // Of the manifest nothing but the configuration.
        let (mut before, after) = (layout.manifest("base"), layout.manifest("new"));
        before["config"] = after["config"].clone();
        assert_eq!(after, before, "{options:?}");
    }
    on_layout(&layout, "fsck", &[]);
}

#[test]
fn the_manifests_annotations_can_be_changed() {
    let dir = temp_dir();
    let layout = small_layout(dir.path());
    let cases: &[(&[&str], Value)] = &[
        (&["--annotation=a=b=c", "--annotation=d="], json!({"a": "b=c", "d": ""})),
        (&["--annotation=a=e"], json!({"a": "e", "d": ""})),
        (&["--clear=manifest.annotations", "--annotation=f=g"], json!({"f": "g"})),
        (&["--clear=manifest.annotations"], json!({})),
    ];
    for (options, expected) in cases {
        on_image(&layout, "config", "v1", options);
        let mut annotations = layout.manifest("v1")["annotations"].clone();
        // Ours, which the next step of a build wants to know.
        let pack_size = annotations.as_object_mut().unwrap().remove(PACK_SIZE);
        assert!(pack_size.is_some(), "{options:?}: {annotations}");
        assert_eq!(annotations, *expected, "{options:?}");
    }
}

/// Whatever documents hold that nobody here knows, goes through unharmed.
#[test]
fn config_keeps_what_it_does_not_know() {
    let dir = temp_dir();
    let layout = small_layout(dir.path());
    let unknown = r#"{"list":[1,2.50,1e400,12345678901234567890123,null,"\u00e4"],"flag":false}"#;
    let unknown: Value = serde_json::from_str(unknown).unwrap();
    let mut config = layout.config("v1");
    config["org.example"] = unknown.clone();
    config["os.version"] = json!("10.0");
    config["config"] = json!({"Healthcheck": {"Test": ["NONE"]}, "Volumes": null, "Env": null});
    config["history"][0]["org.example"] = unknown.clone();
    let mut manifest = layout.manifest("v1");
    manifest["config"] = put_json(&layout, CONFIG, &config);
    manifest["config"]["annotations"] = json!({"of": "the config"});
    manifest["config"]["org.example"] = unknown.clone();
    manifest["config"]["data"] = json!("e30=");
    manifest["layers"][1]["annotations"] = json!({"of": "the pack"});
    manifest["layers"][1]["urls"] = json!(["https://example.org/"]);
    manifest["artifactType"] = json!("application/vnd.example");
    manifest["subject"] = json!({
        "mediaType": MANIFEST, "digest": format!("sha256:{}", "0".repeat(64)), "size": 3,
    });
    manifest["org.example"] = unknown.clone();
    let mut entry = put_json(&layout, MANIFEST, &manifest);
    entry["platform"] = json!({"architecture": "amd64", "os": "linux", "variant": "v3"});
    entry["artifactType"] = json!("application/vnd.example");
    entry["org.example"] = unknown;
    entry["annotations"] = json!({"of": "the entry"});
    enter(&layout, entry.clone(), Some("odd"));

    on_image(&layout, "config", "odd", &["--tag=new", "--env=A=b", "--architecture=amd64"]);
    let after = layout.config("new");
    config["architecture"] = json!("amd64");
    config["config"]["Env"] = json!(["A=b"]);
    let added = after["history"][1].clone();
    config["history"].as_array_mut().unwrap().push(added);
    assert_eq!(after.to_string(), config.to_string());

    let after = layout.manifest("new");
    let descriptor = manifest["config"].as_object_mut().unwrap();
    descriptor.remove("data");
    for key in ["digest", "size"] {
        descriptor[key] = after["config"][key].clone();
    }
    assert_eq!(after.to_string(), manifest.to_string());

    let after = layout.tagged("new").remove(0);
    for key in ["digest", "size"] {
        entry[key] = after[key].clone();
    }
    entry["annotations"][REF_NAME] = json!("new");
    assert_eq!(after.to_string(), entry.to_string());

    // What is said of a platform is not said of another one.
    on_image(&layout, "config", "new", &["--architecture=arm64"]);
    let platform = &layout.tagged("new")[0]["platform"];
    assert_eq!(*platform, json!({"architecture": "arm64", "os": "linux"}));
}

#[test]
fn umoci_and_skopeo_see_the_history() {
    let dir = temp_dir();
    let layout = small_layout(dir.path());
    let expected = extracted(&layout, "v1");
    let steps: [&[&str]; 3] = [
        &["--created=86400", "--created-by=first", "--author=Ada", "--comment=why"],
        &["--created=2000-01-01T00:00:00+01:00", "--env=A=b", "--label=c=d"],
        &["--cmd=true"],
    ];
    for options in steps {
        on_image(&layout, "config", "v1", options);
    }
    let mut stat = Command::new("umoci");
    let stat = succeed(stat.args(["stat", "--json", "--image"]).arg(layout.image("v1"))).json();
    let seen: Vec<_> = array(&stat["history"])
        .iter()
        .map(|entry| {
            ["created", "created_by", "author", "comment"]
                .map(|key| entry[key].as_str().unwrap_or("-"))
        })
        .collect();
    assert_eq!(
        seen,
        [
            ["1970-01-01T00:00:00Z", "puzzlefs build", "-", "-"],
            ["1970-01-02T00:00:00Z", "first", "Ada", "why"],
            ["1999-12-31T23:00:00Z", "puzzlefs config", "-", "-"],
            ["1999-12-31T23:00:00Z", "puzzlefs config", "-", "-"],
        ]
    );
    assert_eq!(stat["history"][0]["layer"], layout.manifest("v1")["layers"][0]);
    assert_eq!(stat["history"][1]["layer"], Value::Null);

    let inspect = |options: &[&str]| {
        let mut skopeo = Command::new("skopeo");
        succeed(skopeo.arg("inspect").args(options).arg(layout.transport("v1"))).json()
    };
    let seen = inspect(&[]);
    assert_eq!(seen["Created"], "1999-12-31T23:00:00Z");
    assert_eq!(seen["Labels"], json!({"c": "d"}));
    assert_eq!(inspect(&["--config"])["config"]["Cmd"], json!(["true"]));
    assert_same("the file system", &expected, &extracted(&layout, "v1"));
}

/// An image as other tools leave it may have a history that they themselves cannot read.
#[test]
fn umoci_reads_a_history_that_was_mended() {
    let dir = temp_dir();
    let layout = small_layout(dir.path());
    let histories = [
        Value::Null,
        json!([]),
        json!([{}]),
        json!([{"created": null}, {"comment": "b"}, {"empty_layer": true}, {}, {}]),
    ];
    let base = layout.config("v1");
    for history in histories {
        let (mut config, mut manifest) = (base.clone(), layout.manifest("v1"));
        config["history"] = history.clone();
        manifest["config"] = put_json(&layout, CONFIG, &config);
        change_index(&layout, |manifests| {
            manifests.retain(|entry| entry["annotations"][REF_NAME] == "v1")
        });
        enter(&layout, put_json(&layout, MANIFEST, &manifest), Some("odd"));
        on_image(&layout, "config", "odd", &["--env=A=b"]);
        let mut stat = Command::new("umoci");
        let stat =
            succeed(stat.args(["stat", "--json", "--image"]).arg(layout.image("odd"))).json();
        let expected = history.as_array().map_or(0, Vec::len) + 1;
        assert_eq!(array(&stat["history"]).len(), expected, "{history}");
    }
}

#[test]
fn images_of_the_reference_get_a_configuration() {
    let dir = temp_dir();
    let tree = mkdir(&dir.path().join("tree"));
    fs::write(tree.join("file"), lines(100 * KIB)).unwrap();
    let layout = Layout::new(dir.path().join("layout"));
    succeed(reference().arg("build").arg(&tree).arg(layout.image("v1")));
    let before = layout.manifest("v1");
    on_image(&layout, "config", "v1", &["--tag=v2", "--entrypoint=/bin/sh"]);
    let after = layout.manifest("v2");
    let config = layout.config("v2");
    assert_eq!(after["layers"], before["layers"]);
    assert_eq!(after["config"]["mediaType"], CONFIG);
    assert_eq!(config["config"], json!({"Entrypoint": ["/bin/sh"]}));
    assert_eq!(config["os"], "linux");
    assert_eq!(config["created"], "1970-01-01T00:00:00Z");
    let digests: Vec<_> = array(&after["layers"]).iter().map(|layer| &layer["digest"]).collect();
    assert_eq!(config["rootfs"], json!({"type": "layers", "diff_ids": digests}));
    succeed(Command::new("umoci").args(["stat", "--image"]).arg(layout.image("v2")));
    assert_same("the file system", &extracted(&layout, "v1"), &extracted(&layout, "v2"));
}

#[test]
fn the_same_steps_give_the_same_digests() {
    let dir = temp_dir();
    let run = |name: &str, epoch: &str| {
        let layout = small_layout(&mkdir(&dir.path().join(name)));
        let mut config = puzzlefs();
        config.env("SOURCE_DATE_EPOCH", epoch).arg("config").arg(layout.image("v1"));
        succeed(config.args(["--env=A=b", "--label=c=d", "--volume=/v"]));
        assert_eq!(layout.config("v1")["created"], format!("1970-01-01T00:00:0{epoch}Z"));
        layout.digest("v1")
    };
    let first = run("first", "5");
    assert_eq!(run("second", "5"), first);
    assert_ne!(run("third", "6"), first);
}

// Tags

#[test]
fn tags_come_and_go() {
    let dir = temp_dir();
    let layout = small_layout(dir.path());
    succeed(Command::new("umoci").arg("new").arg("--image").arg(layout.image("umoci")));
    let nested = json!({"schemaVersion": 2, "manifests": layout.tagged("v1")});
    let mut nested = put_json(&layout, INDEX, &nested);
    nested["annotations"] = json!({"org.example": "kept"});
    enter(&layout, nested.clone(), Some("all"));
    enter(&layout, put(&layout, UNKNOWN, b"{}"), None);
    let missing =
        json!({"mediaType": MANIFEST, "size": 1, "digest": format!("sha256:{}", "7".repeat(64))});
    enter(&layout, missing, Some("lost"));
    let odd =
        json!({"mediaType": MANIFEST, "size": 1, "digest": format!("sha512:{}", "7".repeat(128))});
    enter(&layout, odd, Some("odd/name:x"));

    on_image(&layout, "tag", "v1", &["v2"]);
    on_image(&layout, "tag", "umoci", &["umoci2"]);
    on_image(&layout, "tag", "all", &["all2"]);
    nested["annotations"][REF_NAME] = json!("all2");
    assert_eq!(layout.tagged("all2"), [nested]);
    // One that is there is moved, and one that is the same stays.
    on_image(&layout, "tag", "umoci", &["v2"]);
    on_image(&layout, "tag", "v1", &["v1"]);
    // By its digest, also one that the index does not have.
    let digest = layout.digest("v1");
    on_image(&layout, "untag", "v1", &[]);
    let named = format!("{}@{digest}", layout.dir.display());
    succeed(puzzlefs().args(["tag", &named, "back"]));
    assert_eq!(layout.tagged("back")[0]["mediaType"], MANIFEST);
    let named = format!("{}@{}", layout.dir.display(), sha256(b"{}"));
    succeed(puzzlefs().args(["untag", &named]));

    let kinds = [
        ("umoci", "image"),
        ("all", "index"),
        ("lost", "unreadable"),
        ("odd/name:x", "unreadable"),
        ("v2", "image"),
        ("umoci2", "image"),
        ("all2", "index"),
        ("back", "puzzlefs"),
    ];
    let listed = on_layout(&layout, "tags", &["--json"]).json();
    let seen: Vec<_> =
        array(&listed).iter().map(|entry| (text(&entry["tag"]), text(&entry["kind"]))).collect();
    assert_eq!(seen, kinds);
    let back = array(&listed).last().unwrap();
    let manifest = layout.manifest("back");
    let layers = array(&manifest["layers"]).iter();
    let blobs = layers.chain([&manifest["config"]]).map(|blob| text(&blob["digest"]));
    let bytes: usize = blobs.chain([digest.as_str()]).map(|blob| layout.blob(blob).len()).sum();
    let size = layout.blob(&digest).len();
    let expected = json!({
        "tag": "back", "digest": digest, "media_type": MANIFEST, "size": size,
        "kind": "puzzlefs", "bytes": bytes,
    });
    assert_eq!(*back, expected);
    let listed = on_layout(&layout, "tags", &[]);
    let words: Vec<Vec<_>> =
        listed.text().lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(words[2][0], "lost");
    assert_eq!(words[2][2..], ["-", "unreadable"]);
    assert_eq!(words[7], ["back", &digest, &bytes.to_string(), "puzzlefs"]);
}

// What is deleted

/// The layout's blobs before and after `gc`, which deletes exactly these.
#[track_caller]
fn collect(layout: &Layout, garbage: &[&Value]) {
    let before = layout.blobs();
    let fsck = run_fsck(layout);
    assert_eq!(fsck["unreferenced"], garbage.len(), "{fsck:#}");
    let told = on_layout(layout, "gc", &["--grace=0", "--dry-run"]);
    assert_eq!(layout.blobs(), before, "a dry run deletes nothing");
    let deleted = on_layout(layout, "gc", &["--grace=0"]);
    assert_eq!(deleted.text(), told.text());
    let garbage: BTreeSet<String> =
        garbage.iter().map(|blob| text(&blob["digest"]).to_owned()).collect();
    let deleted: BTreeSet<String> = deleted.text().lines().map(str::to_owned).collect();
    assert_eq!(deleted, garbage);
    assert_eq!(layout.blobs(), &before - &garbage);
    assert_eq!(run_fsck(layout)["unreferenced"], 0);
}

/// What fsck says as JSON, whether it finds anything or not.
#[track_caller]
fn run_fsck(layout: &Layout) -> Value {
    common::command::run(puzzlefs().args(["fsck", "--json"]).arg(&layout.dir)).json()
}

#[test]
fn images_of_other_tools_stay_whole() {
    let dir = temp_dir();
    let layout = small_layout(dir.path());
    let tree = dir.path().join("tree");
    let umoci = |arguments: &[&str]| {
        let image = layout.image("umoci");
        succeed(Command::new("umoci").args(arguments).arg("--image").arg(image));
    };
    umoci(&["new"]);
    let mut insert = Command::new("umoci");
    succeed(insert.args(["insert", "--image"]).arg(layout.image("umoci")).arg(&tree).arg("/opt"));
    umoci(&["config", "--config.env=A=b"]);
    // What umoci's steps left behind.
    on_layout(&layout, "gc", &["--grace=0"]);
    let elsewhere = Layout::new(dir.path().join("elsewhere"));
    let mut skopeo = Command::new("skopeo");
    skopeo.args(["copy", "--quiet"]);
    succeed(skopeo.arg(layout.transport("umoci")).arg(elsewhere.transport("copy")));
    let mut skopeo = Command::new("skopeo");
    skopeo.args(["copy", "--quiet", "--dest-compress-format=zstd", "--dest-compress"]);
    succeed(skopeo.arg(elsewhere.transport("copy")).arg(layout.transport("skopeo")));
    let garbage = put(&layout, UNKNOWN, b"garbage");
    collect(&layout, &[&garbage]);
    for tag in ["umoci", "skopeo"] {
        let bundle = dir.path().join(tag);
        let mut unpack = Command::new("umoci");
        succeed(unpack.args(["unpack", "--image"]).arg(layout.image(tag)).arg(&bundle));
        let unpacked = fs::read(bundle.join("rootfs/opt/file")).unwrap();
        assert_eq!(unpacked, fs::read(tree.join("file")).unwrap(), "{tag}");
    }
}

#[test]
fn all_that_documents_refer_to_stays() {
    let dir = temp_dir();
    let layout = small_layout(dir.path());
    let blob = |text: &str| put(&layout, "application/octet-stream", text.as_bytes());
    let image = |kind: &str, name: &str| {
        let config = blob(&format!("{name} config"));
        let layers = [blob(&format!("{name} 1")), blob(&format!("{name} 2"))];
        json!({"schemaVersion": 2, "mediaType": kind, "config": config, "layers": layers})
    };
    let index = |kind: &str, manifests: &[Value]| {
        let document = json!({"schemaVersion": 2, "mediaType": kind, "manifests": manifests});
        put_json(&layout, kind, &document)
    };
    let mut entries = Vec::new();
    for kind in [MANIFEST, DOCKER_MANIFEST] {
        entries.push(put_json(&layout, kind, &image(kind, kind)));
    }
    // Indexes in indexes, as deep as is read.
    for kind in [INDEX, DOCKER_LIST] {
        let inner = put_json(&layout, MANIFEST, &image(MANIFEST, &format!("in {kind}")));
        entries.push(index(kind, &[index(kind, &[index(kind, &[inner])])]));
    }
    entries.push(index(INDEX, &[]));
    // A signature of an artifact of an image that no tag has.
    let subject = put_json(&layout, MANIFEST, &image(MANIFEST, "subject"));
    let mut artifact = image(MANIFEST, "artifact");
    artifact["subject"] = subject;
    let mut signature = image(MANIFEST, "signature");
    signature["subject"] = put_json(&layout, MANIFEST, &artifact);
    signature["layers"] = Value::Null;
    let lost = [blob("signature 1"), blob("signature 2")];
    entries.push(put_json(&layout, MANIFEST, &signature));
    // A subject may be missing.
    let mut orphan = image(MANIFEST, "orphan");
    orphan["subject"] =
        json!({"mediaType": MANIFEST, "size": 9, "digest": format!("sha256:{}", "9".repeat(64))});
    entries.push(put_json(&layout, MANIFEST, &orphan));
    // A document that nobody here knows.
    let inner = put_json(&layout, MANIFEST, &image(MANIFEST, "in something unknown"));
    let unknown = json!({"blobs": [blob("unknown")], "x": {"y": inner}, "z": blob("z")["digest"]});
    entries.push(put_json(&layout, UNKNOWN, &unknown));
    entries.push(blob("a file"));
    for (number, entry) in entries.into_iter().enumerate() {
        // Also those without a tag.
        let tag = format!("t{number}");
        enter(&layout, entry, (number % 2 == 0).then_some(tag.as_str()));
    }
    let garbage = [
        blob("garbage"),
        put_json(&layout, MANIFEST, &json!({"config": blob("garbage 2"), "layers": []})),
        blob("garbage 2"),
        lost[0].clone(),
        lost[1].clone(),
    ];
    collect(&layout, &garbage.each_ref());
}

#[test]
fn what_is_no_blob_stays_and_leftovers_go() {
    let dir = temp_dir();
    let layout = small_layout(dir.path());
    let blobs = layout.dir.join("blobs/sha256");
    let others = ["README", ".hidden", &"A".repeat(64), &"a".repeat(63)];
    for name in others {
        fs::write(blobs.join(name), "mine").unwrap();
    }
    mkdir(&blobs.join("b".repeat(64)));
    mkdir(&layout.dir.join("blobs/sha512"));
    fs::write(layout.dir.join("blobs/sha512").join("c".repeat(128)), "mine").unwrap();
    fs::write(layout.dir.join("notes"), "mine").unwrap();
    // A builder lives that holds its folder.
    let alive = mkdir(&layout.dir.join(".puzzlefs-alive"));
    let alive = fs::File::open(alive).unwrap();
    alive.lock().unwrap();
    let before = Snapshot::of(&layout.dir);
    let left = mkdir(&layout.dir.join(".puzzlefs-folder"));
    fs::write(left.join("pack"), "12345").unwrap();
    fs::write(layout.dir.join(".puzzlefs-file"), "678").unwrap();

    for options in [&["--dry-run"][..], &[]] {
        let told = on_layout(&layout, "gc", &[options, &["--json", "--grace=0"]].concat()).json();
        let leftovers = json!({"count": 2, "bytes": 8});
        let expected = json!({
            "removed": [], "bytes": 0, "young": {"blobs": 0, "bytes": 0}, "leftovers": leftovers,
        });
        assert_eq!(told, expected, "{options:?}");
    }
    assert_unchanged(&layout, before);
}

#[test]
fn what_is_young_stays() {
    let dir = temp_dir();
    let layout = small_layout(dir.path());
    let garbage = put(&layout, UNKNOWN, b"garbage");
    let path = layout.blob_path(text(&garbage["digest"]));
    let run = |grace: &str| on_layout(&layout, "gc", &["--json", grace]).json();
    let young = json!({"blobs": 1, "bytes": 7});
    // Its mtime may be anything: a tool that copies may keep it.
    let old = fs::File::options().write(true).open(&path).unwrap();
    old.set_modified(UNIX_EPOCH).unwrap();
    for grace in ["--grace=1h", "--grace=90d", "--grace=7200"] {
        assert_eq!(run(grace)["young"], young, "{grace}");
    }
    assert_eq!(on_layout(&layout, "gc", &["--json"]).json()["young"], young);
    // Nor is what comes from a clock that is ahead older than anything.
    old.set_modified(SystemTime::now() + Duration::from_secs(86400)).unwrap();
    assert_eq!(run("--grace=1s")["young"], young);
    assert!(path.exists());
    assert_eq!(run("--grace=0")["removed"], json!([garbage["digest"]]));
}

/// A builder that is at work holds the blobs' lock: a collector waits for it, and those who come
/// after do not wait for the collector.
#[test]
fn a_collector_waits_for_builders() {
    let dir = temp_dir();
    let layout = small_layout(dir.path());
    let garbage = put(&layout, UNKNOWN, b"garbage");
    let blobs = fs::File::open(layout.dir.join("blobs/sha256")).unwrap();
    let door = fs::File::open(layout.dir.join("blobs")).unwrap();
    for ended_by_signal in [true, false] {
        blobs.lock_shared().unwrap();
        let mut gc = puzzlefs();
        gc.args(["gc", "--grace=0"]).arg(&layout.dir).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut gc = gc.spawn().unwrap();
        // It holds the door once it waits.
        while door.try_lock_shared().is_ok() {
            door.unlock().unwrap();
            assert!(gc.try_wait().unwrap().is_none(), "it did not wait");
            thread::sleep(Duration::from_millis(5));
        }
        on_image(&layout, "config", "v1", &["--comment=meanwhile"]);
        assert!(layout.blobs().contains(text(&garbage["digest"])));
        if ended_by_signal {
            rustix::process::kill_process(Pid::from_child(&gc), Signal::TERM).unwrap();
            let ended = gc.wait_with_output().unwrap();
            assert_eq!(ended.status.code(), Some(128 + Signal::TERM.as_raw()));
            assert!(layout.blobs().contains(text(&garbage["digest"])));
        } else {
            blobs.unlock().unwrap();
            let ended = gc.wait_with_output().unwrap();
            assert!(ended.status.success());
            assert!(!layout.blobs().contains(text(&garbage["digest"])));
        }
    }
    on_layout(&layout, "fsck", &[]);
}

/// Whoever can read a layout can hold its locks.
#[test]
fn who_waits_for_a_lock_can_be_cancelled() {
    let dir = temp_dir();
    let layout = small_layout(dir.path());
    let tree = dir.path().join("tree").into_os_string();
    let (image, new) = (layout.image("v1"), layout.image("new"));
    let commands: &[(&str, &[&OsStr])] = &[
        ("build", &[&tree, &new]),
        ("canonicalize", &[&image, &new]),
        ("config", &["--comment=x".as_ref(), &image]),
        ("gc", &[layout.dir.as_os_str()]),
        ("tag", &[&image, "new".as_ref()]),
    ];
    let before = Snapshot::of(&layout.dir);
    for folder in ["", "blobs/sha256"] {
        let folder = layout.dir.join(folder).canonicalize().unwrap();
        let held = fs::File::open(&folder).unwrap();
        held.lock().unwrap();
        for (command, arguments) in commands {
            let mut waits = puzzlefs();
            waits.arg(command).args(*arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
            let mut waits = waits.spawn().unwrap();
            // It has it open to lock it.
            while !has_open(waits.id(), &folder) {
                assert!(waits.try_wait().unwrap().is_none(), "{command} did not wait");
                thread::sleep(Duration::from_millis(5));
            }
            rustix::process::kill_process(Pid::from_child(&waits), Signal::TERM).unwrap();
            let ended = waits.wait_with_output().unwrap();
            assert_eq!(ended.status.code(), Some(128 + Signal::TERM.as_raw()), "{command}");
            let told = String::from_utf8_lossy(&ended.stderr);
            assert_eq!(told, "puzzlefs: cancelled\n", "{command}");
        }
    }
    assert_unchanged(&layout, before);
}

/// Nothing of a build stays that is cancelled at its very end, when all but its tag is there.
#[test]
fn a_build_cancelled_at_its_end_leaves_nothing() {
    let dir = temp_dir();
    let layout = small_layout(dir.path());
    let before = layout.blobs();
    let tree = dir.path().join("tree");
    fs::write(tree.join("new"), "what the layout does not have").unwrap();
    let folder = fs::File::open(&layout.dir).unwrap();
    let report = |progress: Progress| match progress.stage {
        Stage::Wait => ControlFlow::Break(()),
        Stage::Store => {
            folder.lock().unwrap();
            ControlFlow::Continue(())
        }
        _ => ControlFlow::Continue(()),
    };
    let image = Reference::parse(Path::new(&layout.image("new"))).unwrap();
    let ended = build(&tree, &image, &BuildOptions::default(), &Monitor::new(&report));
    assert_eq!(ended.unwrap_err().kind(), ErrorKind::Cancelled);
    assert_eq!(layout.blobs(), before);
    assert!(
        !layout.dir.read_dir().unwrap().any(|entry| {
            entry.unwrap().file_name().to_string_lossy().starts_with(".puzzlefs-")
        })
    );
}

/// Whether the process has the file open.
fn has_open(process: u32, path: &Path) -> bool {
    let files = fs::read_dir(format!("/proc/{process}/fd")).into_iter().flatten();
    // One that was just closed has no target.
    files.flatten().any(|file| fs::read_link(file.path()).is_ok_and(|target| target == path))
}

/// What cannot be read may refer to anything.
#[test]
fn nothing_is_deleted_while_something_cannot_be_read() {
    type Break = fn(&Layout);
    let cases: &[(&str, Break, &str)] = &[
        ("missing", |layout| fs::remove_file(manifest_path(layout)).unwrap(), "lacks the blob"),
        ("damaged", |layout| fs::write(manifest_path(layout), damaged(layout)).unwrap(), "damaged"),
        ("short", |layout| fs::write(manifest_path(layout), "{}").unwrap(), "2 bytes instead of"),
        (
            "no manifest",
            |layout| enter(layout, put(layout, MANIFEST, b"{\"layers\":3}"), None),
            "is not valid",
        ),
        (
            "a nested one missing",
            |layout| {
                let gone = format!("sha256:{}", "5".repeat(64));
                let gone = json!({"mediaType": MANIFEST, "digest": gone, "size": 7});
                let index = json!({"schemaVersion": 2, "manifests": [gone]});
                enter(layout, put_json(layout, INDEX, &index), Some("x"));
            },
            "lacks the blob",
        ),
        (
            "an unknown one missing",
            |layout| {
                let gone = format!("sha256:{}", "5".repeat(64));
                enter(layout, json!({"mediaType": UNKNOWN, "digest": gone, "size": 7}), None);
            },
            "lacks the blob",
        ),
        (
            "too deep",
            |layout| {
                let mut inner = layout.tagged("v1").remove(0);
                for _ in 0..5 {
                    let index = json!({"schemaVersion": 2, "manifests": [inner]});
                    inner = put_json(layout, INDEX, &index);
                }
                enter(layout, inner, Some("deep"));
            },
            "nested deeper than",
        ),
        (
            "another digest",
            |layout| {
                let digest = format!("sha512:{}", "5".repeat(128));
                enter(layout, json!({"mediaType": MANIFEST, "digest": digest, "size": 7}), None);
            },
            "is not a SHA-256",
        ),
        ("no index", |layout| fs::write(layout.dir.join("index.json"), "{").unwrap(), "index.json"),
    ];
    for (what, damage, message) in cases {
        let dir = temp_dir();
        let layout = small_layout(dir.path());
        put(&layout, UNKNOWN, b"garbage");
        damage(&layout);
        let before = layout.blobs();
        let failed = fail(1, puzzlefs().args(["gc", "--grace=0"]).arg(&layout.dir));
        assert!(failed.errors().contains(message), "{what}: {failed}");
        assert!(failed.errors().contains("nothing is deleted"), "{what}: {failed}");
        assert_eq!(failed.errors().lines().count(), 1, "{what}: {failed}");
        assert_eq!(layout.blobs(), before, "{what}");
    }
}

fn manifest_path(layout: &Layout) -> std::path::PathBuf {
    layout.blob_path(&layout.digest("v1"))
}

fn damaged(layout: &Layout) -> Vec<u8> {
    let mut bytes = fs::read(manifest_path(layout)).unwrap();
    bytes[10] ^= 1;
    bytes
}

/// Each builder finds blobs in the layout that no tag refers to just then, and the collector is
/// after them.
#[test]
fn sixteen_builders_and_a_collector_lose_nothing() {
    const BUILDERS: usize = 16;
    const ROUNDS: usize = 4;
    let dir = temp_dir();
    let trees: Vec<_> = (0..3)
        .map(|number| {
            let tree = mkdir(&dir.path().join(format!("tree-{number}")));
            fs::write(tree.join("own"), random(number, 300 * KIB)).unwrap();
            fs::write(tree.join("shared"), random(9, 2000 * KIB)).unwrap();
            tree
        })
        .collect();
    let layout = Layout::new(dir.path().join("layout"));
    on_layout_begin(&layout, &trees[0]);
    let at_work = AtomicBool::new(true);
    let builder = |number: usize| {
        let (tag, moved) = (format!("b{number}"), format!("m{number}"));
        for round in 0..ROUNDS {
            let tree = &trees[(number + round) % trees.len()];
            succeed(puzzlefs().args(["build", "--quiet"]).arg(tree).arg(layout.image(&tag)));
            on_image(&layout, "config", &tag, &["--env=A=b"]);
            on_image(&layout, "tag", &tag, &[&moved]);
            on_image(&layout, "untag", &tag, &[]);
            on_image(&layout, "fsck", &moved, &["--quiet"]);
            if round + 1 < ROUNDS {
                on_image(&layout, "untag", &moved, &[]);
            }
        }
    };
    thread::scope(|scope| {
        let collector = scope.spawn(|| {
            while at_work.load(Ordering::Relaxed) {
                on_layout(&layout, "gc", &["--grace=0", "--quiet"]);
            }
        });
        let builders: Vec<_> =
            (0..BUILDERS).map(|number| scope.spawn(move || builder(number))).collect();
        let ended: Vec<_> = builders.into_iter().map(|builder| builder.join()).collect();
        at_work.store(false, Ordering::Relaxed);
        collector.join().unwrap();
        assert!(ended.iter().all(Result::is_ok), "a builder failed");
    });
    on_layout(&layout, "gc", &["--grace=0"]);
    let found = run_fsck(&layout);
    assert_eq!(found["findings"], json!([]));
    assert_eq!(found["unreferenced"], 0);
    assert_eq!(array(&layout.index()["manifests"]).len(), BUILDERS);
    let expected: Vec<_> = trees.iter().map(|tree| Snapshot::of(tree)).collect();
    for number in 0..BUILDERS {
        let tree = (number + ROUNDS - 1) % trees.len();
        let tag = format!("m{number}");
        assert_same(&tag, &expected[tree], &extracted(&layout, &tag));
    }
    let left = fs::read_dir(&layout.dir).unwrap().count();
    assert_eq!(left, 3, "blobs, index.json and oci-layout");
}

/// Makes a layout without an image.
fn on_layout_begin(layout: &Layout, tree: &Path) {
    succeed(puzzlefs().args(["build", "--quiet"]).arg(tree).arg(layout.image("first")));
    on_image(layout, "untag", "first", &[]);
}

// Messages

#[test]
fn what_is_wrong_is_said() {
    let dir = temp_dir();
    let layout = small_layout(dir.path());
    succeed(Command::new("umoci").arg("new").arg("--image").arg(layout.image("umoci")));
    let nested = json!({"schemaVersion": 2, "manifests": layout.tagged("v1")});
    enter(&layout, put_json(&layout, INDEX, &nested), Some("all"));
    let path = layout.dir.display().to_string();
    let (v1, none) = (format!("{path}:v1"), format!("{path}:none"));
    let (all, umoci) = (format!("{path}:all"), format!("{path}:umoci"));
    let missing = format!("{path}@sha256:{}", "0".repeat(64));
    let config = layout.manifest("v1")["config"]["digest"].clone();
    let pack = text(&layout.manifest("v1")["layers"][1]["digest"]).to_owned();
    let (config, pack) = (format!("{path}@{}", text(&config)), format!("{path}@{pack}"));
    let broken = dir.path().join("broken.json");
    fs::write(&broken, "{\"config\": {\"Env\": 3}}").unwrap();
    let broken = format!("--config={}", broken.display());
    let cases: &[(&[&str], i32, &str)] = &[
        (&["tag", &none, "x"], 1, "no image tagged 'none'"),
        (&["tag", &missing, "x"], 1, "no image with the digest"),
        (&["tag", &config, "x"], 1, "neither a manifest nor an index"),
        (&["tag", &pack, "x"], 1, "neither a manifest nor an index"),
        (&["tag", &v1, "a/b"], 1, "'a/b' is no tag"),
        (&["tag", &v1, ""], 1, "'' is no tag"),
        (&["tag", "/does/not/exist:v1", "x"], 1, "there is no layout"),
        (&["untag", &none], 1, "no image tagged 'none'"),
        (&["untag", &missing], 1, "no image with the digest"),
        (&["untag", &path], 2, "names no image"),
        (&["tags", "/does/not/exist"], 1, "there is no layout"),
        (&["tags", "/etc"], 1, "is not an OCI image layout"),
        (&["gc", "/does/not/exist"], 1, "there is no layout"),
        (&["gc", &path, "--grace=1w"], 2, "expected a number of seconds"),
        (&["config", &none, "--user=1"], 1, "no image tagged 'none'"),
        (&["config", &umoci, "--user=1"], 1, "has no layers"),
        (&["config", &all, "--user=1"], 1, "give it a tag of its own"),
        (&["config", &missing, "--tag=x", "--user=1"], 1, "no image with the digest"),
        (&["config", &missing, "--user=1"], 1, "expected LAYOUT:TAG"),
        (&["config", &v1, "--tag=a/b", "--user=1"], 1, "'a/b' is no tag"),
        (&["config", &v1, "--clear=config.onbuild"], 2, "expected one of config.cmd"),
        (&["config", &v1, "--env=A"], 2, "expected KEY=VALUE"),
        (&["config", &v1, "--expose=http"], 1, "'http' is no port"),
        (&["config", &v1, "--volume="], 1, "a volume without a path"),
        (&["config", &v1, "--os="], 1, "an empty operating system"),
        (&["config", &v1, "--created=now"], 2, "is no time"),
        (&["config", &v1, "--config=/does/not/exist"], 1, "cannot read"),
        (&["config", &v1, &broken], 1, "to start from is not valid"),
        (&["config", &v1, &broken, "--env=A=b"], 1, "'Env' that is no list"),
        (&["diff", &v1, &none], 1, "no image tagged 'none'"),
        (&["diff", &umoci, &v1], 1, "it is no puzzlefs image"),
    ];
    let before = Snapshot::of(&layout.dir).without(&["mtime"]);
    for (arguments, code, message) in cases {
        let failed = fail(*code, puzzlefs().args(*arguments));
        assert!(failed.errors().contains(message), "{failed}");
        assert!(*code == 2 || failed.errors().lines().count() == 1, "{failed}");
    }
    let after = Snapshot::of(&layout.dir).without(&["mtime"]);
    assert_same("the layout", &before, &after);
    // One image of an index, under a tag of its own.
    succeed(puzzlefs().args(["config", &all, "--tag=one", "--env=A=b"]));
    assert_eq!(layout.config("one")["config"]["Env"], json!(["A=b"]));
    assert_eq!(read_json(&layout.blob_path(&layout.digest("all"))), nested);
}
