//! Ordinary images, made by other tools and by hand, become puzzlefs images: of what
//! `umoci unpack` makes of them.

mod common;

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::command::{fail, puzzlefs, run, succeed};
use common::layout::{Layout, array, sha256, text};
use common::snapshot::{Snapshot, assert_same};
use common::temp_dir;
use common::tree::{self, KIB, lines, make_node, mkdir, random, set_mode, set_xattr, sparse};
use rustix::fs::{FileType, makedev};
use serde_json::{Value, json};

const TAR: &str = "application/vnd.oci.image.layer.v1.tar";

fn umoci() -> Command {
    Command::new("umoci")
}

#[track_caller]
fn unpack(layout: &Layout, tag: &str, bundle: &Path) -> PathBuf {
    succeed(umoci().args(["unpack", "--image"]).arg(layout.image(tag)).arg(bundle));
    bundle.join("rootfs")
}

#[track_caller]
fn convert(layout: &Layout, tag: &str, new: &str, options: &[&str]) -> Value {
    let mut command = puzzlefs();
    command.args(["convert", "--json"]).args(options);
    succeed(command.arg(layout.image(tag)).arg(layout.image(new))).json()
}

#[track_caller]
fn extract(layout: &Layout, tag: &str, target: &Path) {
    succeed(puzzlefs().arg("extract").arg(layout.image(tag)).arg(target));
}

#[track_caller]
fn layers(layout: &Layout, tag: &str) -> Value {
    layout.manifest(tag)["layers"].clone()
}

/// A layer's archive of `tree`, by GNU tar.
#[track_caller]
fn tar(tree: &Path, options: &[&str]) -> Vec<u8> {
    let mut command = Command::new("tar");
    command.args(["--create", "--numeric-owner", "--sort=name"]).args(options);
    succeed(command.arg("-C").arg(tree).arg(".")).stdout
}

#[track_caller]
fn filter(command: &str, bytes: &[u8]) -> Vec<u8> {
    let mut child = Command::new("sh")
        .args(["-c", command])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let bytes = bytes.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&bytes));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success(), "{command}");
    output.stdout
}

/// A layout in which images are put together by hand.
struct Maker {
    layout: Layout,
}

impl Maker {
    fn new(dir: PathBuf) -> Maker {
        fs::create_dir_all(dir.join("blobs/sha256")).unwrap();
        fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        fs::write(dir.join("index.json"), r#"{"schemaVersion":2,"manifests":[]}"#).unwrap();
        Maker { layout: Layout::new(dir) }
    }

    fn put(&self, media_type: &str, bytes: &[u8]) -> Value {
        let digest = sha256(bytes);
        fs::write(self.layout.blob_path(&digest), bytes).unwrap();
        json!({ "mediaType": media_type, "digest": digest, "size": bytes.len() })
    }

    /// An image of these layers: media type, archive, and how the archive is compressed.
    fn image(&self, tag: &str, layers: &[(&str, Vec<u8>, &str)]) {
        let history = |number: usize| {
            let created = format!("2020-01-02T03:04:{number:02}Z");
            json!({ "created": created, "created_by": format!("step {number}") })
        };
        let mut document = json!({
            "architecture": "amd64", "os": "linux", "created": "2020-01-02T03:04:05Z",
            "config": { "Env": ["A=b"], "x.unknown": 1.50 },
            "rootfs": { "type": "layers", "diff_ids": [] },
            "history": (0..layers.len()).map(history).collect::<Vec<_>>(),
        });
        document["rootfs"]["diff_ids"] =
            layers.iter().map(|(_, archive, _)| json!(sha256(archive))).collect();
        let layers: Vec<_> = layers
            .iter()
            .map(|(media_type, archive, how)| self.put(media_type, &filter(how, archive)))
            .collect();
        self.manifest(tag, &document, &layers);
    }

    fn manifest(&self, tag: &str, config: &Value, layers: &[Value]) {
        let config = serde_json::to_vec(config).unwrap();
        let config = self.put("application/vnd.oci.image.config.v1+json", &config);
        let media_type = "application/vnd.oci.image.manifest.v1+json";
        let manifest = json!({
            "schemaVersion": 2, "mediaType": media_type, "config": config, "layers": layers,
            "annotations": { "a": "b" },
        });
        self.tag(tag, self.put(media_type, &serde_json::to_vec(&manifest).unwrap()));
    }

    fn tag(&self, tag: &str, mut entry: Value) {
        entry["annotations"] = json!({ "org.opencontainers.image.ref.name": tag });
        let mut index = self.layout.index();
        index["manifests"].as_array_mut().unwrap().push(entry);
        fs::write(self.layout.dir.join("index.json"), index.to_string()).unwrap();
    }
}

/// Converts an image in both ways, and compares with what umoci unpacks of it.
#[track_caller]
fn assert_converted(dir: &Path, layout: &Layout, tag: &str) {
    let what = format!("{tag}-converted");
    let unpacked = unpack(layout, tag, &dir.join(format!("{tag}-bundle")));
    let expected = Snapshot::of(&unpacked);
    for (new, options) in
        [(format!("{tag}-steps"), vec![]), (format!("{tag}-one"), vec!["--squash"])]
    {
        convert(layout, tag, &new, &options);
        let target = dir.join(&new);
        extract(layout, &new, &target);
        assert_same(&format!("{what} {options:?}"), &expected, &Snapshot::of(&target));
        succeed(umoci().args(["stat", "--image"]).arg(layout.image(&new)));
    }
    let one = format!("{tag}-one");
    let built = format!("{tag}-built");
    succeed(puzzlefs().arg("build").arg(&unpacked).arg(layout.image(&built)));
    assert_eq!(layers(layout, &one), layers(layout, &built), "{what}: as a build");
    let canonical = format!("{tag}-canonical");
    let from = layout.image(&format!("{tag}-steps"));
    succeed(puzzlefs().arg("canonicalize").arg(from).arg(layout.image(&canonical)));
    assert_eq!(layers(layout, &canonical), layers(layout, &built), "{what}: canonical");
    assert_eq!(succeed(puzzlefs().arg("fsck").arg(&layout.dir)).text(), "");
}

/// Three layers that umoci makes: all that a file system holds, changed and removed.
#[test]
fn images_of_umoci() {
    let dir = temp_dir();
    let layout = Layout::new(dir.path().join("layout"));
    succeed(umoci().arg("init").arg("--layout").arg(&layout.dir));
    succeed(umoci().args(["new", "--image"]).arg(layout.image("v")));
    let bundle = dir.path().join("bundle");
    let rootfs = unpack(&layout, "v", &bundle);
    let repack = || {
        succeed(
            umoci()
                .args(["repack", "--refresh-bundle", "--image"])
                .arg(layout.image("v"))
                .arg(&bundle),
        );
    };
    tree::ordinary(&rootfs);
    // umoci refuses names that begin as whiteouts, and leaves empty attributes out.
    fs::remove_dir_all(rootfs.join("names")).unwrap();
    let script =
        "find . -exec setfattr --no-dereference --remove=user.empty {} + 2>/dev/null; true";
    succeed(Command::new("sh").args(["-c", script]).current_dir(&rootfs));
    mkdir(&rootfs.join("removed"));
    fs::write(rootfs.join("removed/file"), "x").unwrap();
    make_node(&rootfs.join("null"), FileType::CharacterDevice, makedev(1, 3));
    make_node(&rootfs.join("pipe"), FileType::Fifo, 0);
    chown(rootfs.join("pipe"), Some(3_000_000), Some(7)).unwrap();
    tree::set_times(&rootfs);
    repack();
    fs::remove_dir_all(rootfs.join("removed")).unwrap();
    fs::remove_dir_all(rootfs.join("modes")).unwrap();
    fs::write(rootfs.join("modes"), "a file now").unwrap();
    mkdir(&rootfs.join("new"));
    fs::write(rootfs.join("new/large"), random(1, 500 * KIB)).unwrap();
    fs::hard_link(rootfs.join("new/large"), rootfs.join("new/again")).unwrap();
    set_xattr(&rootfs.join("new/large"), b"user.a", b"\0b\n");
    repack();
    fs::remove_file(rootfs.join("modes")).unwrap();
    mkdir(&rootfs.join("modes"));
    set_mode(&rootfs.join("new"), 0o1777);
    symlink("new/large", rootfs.join("link")).unwrap();
    repack();
    succeed(umoci().args(["config", "--config.user=1000:1000", "--image"]).arg(layout.image("v")));
    // An archive that ends with its only file's data.
    let inserted = dir.path().join("inserted");
    fs::write(&inserted, "odd").unwrap();
    let mut insert = umoci();
    succeed(insert.args(["insert", "--image"]).arg(layout.image("v")).arg(&inserted).arg("/odd"));
    assert_eq!(array(&layers(&layout, "v")).len(), 4);
    assert_converted(dir.path(), &layout, "v");

    let (old, new) = (layout.config("v"), layout.config("v-steps"));
    assert_eq!(new["config"], old["config"]);
    let (old, new) = (array(&old["history"]).to_vec(), array(&new["history"]).to_vec());
    assert_eq!(new.len(), old.len() + 1);
    let text_of = |entry: &Value| (entry["created"].clone(), entry["created_by"].clone());
    for (old, new) in old.iter().zip(&new) {
        assert_eq!(text_of(old), text_of(new));
    }
    let last = &new[old.len()];
    assert_eq!(
        (&last["created_by"], &last["empty_layer"]),
        (&json!("puzzlefs convert"), &json!(true))
    );
}

/// What buildah commits, moved by skopeo, in each form that layers have.
#[test]
fn images_of_buildah() {
    let dir = temp_dir();
    let buildah = |arguments: &[&OsStr]| {
        let mut command = Command::new("buildah");
        command.args(["--storage-driver", "vfs", "--root"]).arg(dir.path().join("root"));
        command.arg("--runroot").arg(dir.path().join("run")).args(arguments);
        succeed(&mut command).text().to_owned()
    };
    let tree = mkdir(&dir.path().join("tree"));
    fs::write(tree.join("file"), lines(200 * KIB)).unwrap();
    mkdir(&tree.join("dir"));
    fs::write(tree.join("dir/removed"), "x").unwrap();
    let container = buildah(&["from".as_ref(), "scratch".as_ref()]);
    let container = OsStr::new(&container);
    buildah(&["copy".as_ref(), container, tree.as_os_str(), "/".as_ref()]);
    let layout = Layout::new(dir.path().join("layout"));
    let target = layout.transport("gzip");
    buildah(&["commit".as_ref(), "--format=oci".as_ref(), container, target.as_os_str()]);
    for (tag, options) in [
        ("zstd", &["--dest-compress-format=zstd", "--dest-compress"][..]),
        ("plain", &["--dest-decompress"]),
    ] {
        // skopeo decompresses into a folder of its own form only.
        let mut command = Command::new("skopeo");
        command.args(["copy", "--quiet"]).args(options).arg(layout.transport("gzip"));
        if tag == "plain" {
            let mut folder = std::ffi::OsString::from("dir:");
            folder.push(dir.path().join("plain"));
            succeed(command.arg(&folder));
            let mut back = Command::new("skopeo");
            succeed(back.args(["copy", "--quiet"]).arg(&folder).arg(layout.transport(tag)));
        } else {
            succeed(command.arg(layout.transport(tag)));
        }
    }
    let digests: Vec<_> = ["gzip", "zstd", "plain"]
        .iter()
        .map(|tag| {
            convert(&layout, tag, "new", &["--created=1"]);
            layers(&layout, "new")
        })
        .collect();
    assert!(digests.windows(2).all(|pair| pair[0] == pair[1]), "however they are compressed");
    assert_converted(dir.path(), &layout, "gzip");
}

/// GNU tar's formats, and layers made by hand.
#[test]
fn archives_of_all_formats() {
    let dir = temp_dir();
    let maker = Maker::new(dir.path().join("layout"));
    let tree = mkdir(&dir.path().join("tree"));
    let long = tree.join("d".repeat(200)).join("e".repeat(200));
    fs::create_dir_all(&long).unwrap();
    fs::write(long.join("f".repeat(200)), "long name").unwrap();
    fs::hard_link(long.join("f".repeat(200)), tree.join("link")).unwrap();
    symlink("x".repeat(300), tree.join("long-target")).unwrap();
    fs::write(tree.join("plain"), random(1, 100 * KIB)).unwrap();
    chown(tree.join("plain"), Some(4_000_000_000), Some(3_000_000)).unwrap();
    sparse(
        &tree.join("sparse"),
        3000 * KIB,
        &[(KIB * 1000, lines(5000)), (KIB * 2000, lines(70 * KIB))],
    );
    sparse(&tree.join("hole"), 600 * KIB, &[]);
    make_node(&tree.join("null"), FileType::CharacterDevice, makedev(1, 3));
    set_xattr(&tree.join("plain"), b"user.a", b"b\0c");
    tree::set_times(&tree);
    let xattrs: &[&str] = &["--xattrs", "--xattrs-include=*"];
    let cases: [(&str, Vec<&str>); 6] = [
        ("gnu", vec!["--format=gnu"]),
        ("gnu-sparse", vec!["--format=gnu", "--sparse"]),
        ("posix", [&["--format=posix"], xattrs].concat()),
        ("posix-00", [&["--format=posix", "--sparse", "--sparse-version=0.0"], xattrs].concat()),
        ("posix-01", [&["--format=posix", "--sparse", "--sparse-version=0.1"], xattrs].concat()),
        ("posix-10", [&["--format=posix", "--sparse", "--sparse-version=1.0"], xattrs].concat()),
    ];
    for (tag, options) in cases {
        let archive = tar(&tree, &options);
        maker.image(tag, &[(TAR, archive, "gzip")]);
        convert(&maker.layout, tag, "new", &[]);
        let target = dir.path().join(tag);
        extract(&maker.layout, "new", &target);
        let lost: &[&str] = if tag.starts_with("gnu") { &["xattr user.a", "mtime"] } else { &[] };
        let (expected, found) = (Snapshot::of(&tree), Snapshot::of(&target));
        assert_same(tag, &expected.without(lost), &found.without(lost));
        let size = fs::metadata(target.join("hole")).unwrap();
        assert_eq!(size.len(), 600 * 1024);
    }
}

/// An archive of entries `TYPE PATH [-> TARGET | CONTENT]`.
fn archive(entries: &[impl AsRef<str>]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for entry in entries {
        let entry = entry.as_ref();
        let (kind, rest) = entry.split_once(' ').unwrap();
        let (path, content) = rest.split_once(' ').unwrap_or((rest, ""));
        let target = content.strip_prefix("-> ");
        let mut header = tar::Header::new_ustar();
        header.set_mode(if kind == "dir" { 0o755 } else { 0o644 });
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_000_000_000);
        header.set_entry_type(match kind {
            "dir" => tar::EntryType::Directory,
            "file" => tar::EntryType::Regular,
            "symlink" => tar::EntryType::Symlink,
            "link" => tar::EntryType::Link,
            "fifo" => tar::EntryType::Fifo,
            other => panic!("no type of entry: {other}"),
        });
        // As they are: the crate's own functions clean paths up.
        let fields = header.as_old_mut();
        fields.name[..path.len()].copy_from_slice(path.as_bytes());
        if let Some(target) = target {
            fields.linkname[..target.len()].copy_from_slice(target.as_bytes());
        }
        let content = if target.is_some() { "" } else { content };
        header.set_size(content.len() as u64);
        header.set_cksum();
        builder.append(&header, content.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

/// An archive of one entry with these extended headers.
fn extended(records: &[(&str, &str)], entry: &str) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let records = records.iter().map(|(key, value)| (*key, value.as_bytes()));
    builder.append_pax_extensions(records).unwrap();
    let before = builder.get_ref().clone();
    [before, archive(&[entry])].concat()
}

/// An archive of one device.
fn device(major: u32, minor: u32) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_path("device").unwrap();
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(0);
    header.set_entry_type(tar::EntryType::Char);
    header.set_device_major(major).unwrap();
    header.set_device_minor(minor).unwrap();
    header.set_cksum();
    builder.append(&header, &b""[..]).unwrap();
    builder.into_inner().unwrap()
}

/// Layers laid one on the other: what umoci makes of the same.
#[test]
fn layers_on_layers() {
    let base: &[&str] = &[
        "dir ./",
        "dir a/",
        "dir a/b/",
        "file a/b/c one",
        "file a/d two",
        "file e three",
        "symlink l -> a/b",
        "symlink abs -> /a",
        "symlink out -> ../../..",
        "link h -> a/d",
    ];
    let cases: [(&str, &[&[&str]]); 32] = [
        ("whiteouts", &[&["file a/b/.wh.c", "file .wh.e"]]),
        ("a-whiteout-of-a-directory", &[&["file .wh.a"]]),
        ("a-whiteout-of-nothing", &[&["file .wh.none", "file none/.wh.none"]]),
        ("a-whiteout-after-the-file", &[&["file e new", "file .wh.e"]]),
        ("a-whiteout-before-the-file", &[&["file .wh.e", "file e new"]]),
        ("a-whiteout-after-a-child", &[&["file a/new x", "file .wh.a"]]),
        ("opaque", &[&["dir a/", "file a/.wh..wh..opq", "file a/new x"]]),
        ("opaque-at-the-end", &[&["file a/new x", "file a/b/new y", "file a/.wh..wh..opq"]]),
        ("opaque-through-a-link", &[&["file l/.wh..wh..opq"]]),
        ("a-file-for-a-directory", &[&["file a x"]]),
        ("a-directory-for-a-file", &[&["dir e/", "file e/x y"]]),
        ("a-link-for-a-directory", &[&["symlink a -> e"]]),
        ("a-directory-for-a-link", &[&["dir l/", "file l/x y"]]),
        ("through-links", &[&["file l/new x", "file abs/new y", "file out/new z"]]),
        ("dots", &[&["file ../../dots x", "file a/../b/./c y", "file /absolute z"]]),
        ("missing-parents", &[&["file x/y/z deep"]]),
        ("links-across-layers", &[&["link new -> a/b/c", "link again -> new"]]),
        ("a-link-through-a-link", &[&["link new -> l/c"]]),
        ("one-of-two-links-goes", &[&["file .wh.h"], &["link x -> a/d"]]),
        ("one-of-two-links-changes", &[&["file a/d changed"]]),
        ("twice", &[&["file t one", "file t two"], &["dir t/", "file t/x x"]]),
        ("the-root", &[&["dir ./", "file ./x y"]]),
        ("whiteouts-of-two-layers", &[&["file .wh.a"], &["file a/b/x y"], &["file a/b/.wh.x"]]),
        ("a-new-name-for-an-old-one", &[&["link new -> a/d", "file .wh.h"]]),
        ("a-new-name-below-an-opaque", &[&["link a/new -> a/d", "file a/.wh..wh..opq"]]),
        ("a-new-name-from-an-opaque", &[&["link new -> a/d", "file a/.wh..wh..opq"]]),
        ("opaque-twice", &[&["file a/.wh..wh..opq", "file a/b/x y", "file a/.wh..wh..opq"]]),
        ("through-nothing", &[&["symlink n -> none/../real", "file n/x y"]]),
        ("through-a-file", &[&["symlink n -> e/../real", "file n/x y"]]),
        ("a-whiteout-through-nothing", &[&["symlink n -> none/../a", "file n/.wh.d"]]),
        ("what-hangs-in-the-air", &[&["symlink n -> none/at/all", "file n/x y"]]),
        ("notes-of-aufs", &[&["file .wh..wh.aufs", "dir .wh..wh.plnk/", "file .wh..wh.plnk/1 x"]]),
    ];
    let dir = temp_dir();
    let maker = Maker::new(dir.path().join("layout"));
    for (tag, above) in cases {
        let all = std::iter::once(&base).chain(above);
        let layers: Vec<_> = all.map(|entries| archive(entries)).collect();
        assert!(is_as_umoci_has_it(dir.path(), &maker, tag, layers), "{tag}: umoci refuses it");
    }
}

/// Converts an image of these layers in both ways, and compares it with what umoci unpacks, but for
/// the times, which umoci does not always restore. Tells whether umoci takes them; where it does
/// not, we must not either.
#[track_caller]
fn is_as_umoci_has_it(dir: &Path, maker: &Maker, tag: &str, layers: Vec<Vec<u8>>) -> bool {
    let layers: Vec<_> = layers.into_iter().map(|archive| (TAR, archive, "cat")).collect();
    maker.image(tag, &layers);
    let bundle = dir.join(format!("{tag}-bundle"));
    let image = maker.layout.image(tag);
    let unpacked = run(umoci().args(["unpack", "--image"]).arg(&image).arg(&bundle));
    let is_taken = unpacked.status.success();
    let expected = is_taken.then(|| Snapshot::of(&bundle.join("rootfs")).without(&["mtime"]));
    for options in [&[][..], &["--squash"]] {
        let what = format!("{tag} {options:?}");
        let mut command = puzzlefs();
        command.arg("convert").args(options).arg(&image).arg(maker.layout.image("new"));
        let Some(expected) = &expected else {
            fail(1, &mut command);
            continue;
        };
        succeed(&mut command);
        let target = dir.join(format!("{tag}-{}", options.len()));
        extract(&maker.layout, "new", &target);
        assert_same(&what, expected, &Snapshot::of(&target).without(&["mtime"]));
    }
    expected.is_some()
}

/// Bytes without a pattern, one after the other.
struct Dice(Vec<u8>);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        usize::from(self.0.pop().unwrap()) % sides
    }

    fn name(&mut self) -> &'static str {
        ["a", "b", "c", "d", "e"][self.roll(5)]
    }

    fn path(&mut self) -> String {
        let names: Vec<_> = (0..=self.roll(3)).map(|_| self.name()).collect();
        let path = names.join("/");
        match self.roll(20) {
            0 => format!("../{path}"),
            1 => format!("/{path}"),
            2 => format!("{path}/../{}", self.name()),
            3 => format!("{path}/./{}", self.name()),
            _ => path,
        }
    }

    /// An entry; hard links are to one of the `files` if there are any.
    fn entry(&mut self, files: &mut Vec<String>) -> String {
        let path = self.path();
        let (parent, name) = path.rsplit_once('/').unwrap_or((".", &path));
        match self.roll(20) {
            0..6 => {
                files.push(path.clone());
                format!("file {path} {}", self.roll(100))
            }
            6..11 => format!("dir {path}/"),
            11..13 => match self.roll(3) {
                0 => format!("symlink {path} -> /{}", self.path()),
                1 => format!("symlink {path} -> ../{}", self.path()),
                _ => format!("symlink {path} -> {}", self.path()),
            },
            13..15 => match files.len() {
                0 => format!("link {path} -> {}", self.path()),
                count => format!("link {path} -> {}", files[self.roll(count)]),
            },
            15 => format!("fifo {path}"),
            16..18 => format!("file {parent}/.wh.{name}"),
            _ => format!("file {parent}/.wh..wh..opq"),
        }
    }
}

/// Whatever layers have: what umoci makes of them, or an error where it refuses them.
#[test]
fn layers_at_random() {
    const IMAGES: u64 = 60;
    let dir = temp_dir();
    let maker = Maker::new(dir.path().join("layout"));
    let mut taken = 0;
    for seed in 0..IMAGES {
        let (mut dice, mut files) = (Dice(random(seed, 4 * KIB)), Vec::new());
        let layers: Vec<Vec<String>> = (0..=dice.roll(3))
            .map(|_| (0..=dice.roll(8)).map(|_| dice.entry(&mut files)).collect())
            .collect();
        println!("{seed}: {layers:#?}");
        let archives = layers.iter().map(|entries| archive(entries)).collect();
        let tag = format!("random-{seed}");
        taken += u64::from(is_as_umoci_has_it(dir.path(), &maker, &tag, archives));
    }
    assert!(taken > IMAGES / 3, "umoci refuses most of them: {taken} of {IMAGES} are left");
}

/// What cannot be, or would lead elsewhere: an error that says where, and no tag.
#[test]
fn bad_archives() {
    let dir = temp_dir();
    let maker = Maker::new(dir.path().join("layout"));
    let good = archive(&["file a content"]);
    let patched = |at: usize, bytes: &[u8]| {
        let mut archive = good.clone();
        archive[at..at + bytes.len()].copy_from_slice(bytes);
        let sum: u32 =
            (0..512).map(|n| if (148..156).contains(&n) { 32 } else { archive[n].into() }).sum();
        archive[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        archive
    };
    let long = "x".repeat(90);
    let name = "n".repeat(256);
    let large = "v".repeat(64 * KIB + 1);
    let map = |map: &str| {
        let records =
            [("GNU.sparse.size", "100"), ("GNU.sparse.map", map), ("GNU.sparse.name", "sparse")];
        extended(&records, "file a content")
    };
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("link to nothing", archive(&["link a -> none"]), "which is not there"),
        ("link to a directory", archive(&["dir d/", "link a -> d"]), "to the directory"),
        ("link out", archive(&["link a -> ../../etc/passwd"]), "which is not there"),
        ("through a file", archive(&["file a x", "file a/b y"]), "is not a directory"),
        ("root as a file", archive(&["file . x"]), "the root is not a directory"),
        (
            "links in a circle",
            archive(&["symlink a -> b", "symlink b -> a", "file a/x y"]),
            "too many symbolic links",
        ),
        ("no target", archive(&["symlink a"]), "whose target cannot be"),
        ("cut in a file", good[..515].to_vec(), "ends within a file"),
        ("cut in a header", good[..300].to_vec(), "ends within a block"),
        ("checksum", [&good[..100], b"9", &good[101..]].concat(), "checksum"),
        ("size", patched(124, b"77777777777\0"), "ends within a file"),
        (
            "size in base 256",
            patched(124, &[0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
            "a size of",
        ),
        (
            "size beyond base 256",
            patched(124, &[0x80, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 7]),
            "size is no number",
        ),
        ("a block of zeros", [vec![0; 512], good.clone()].concat(), "a block of zeros"),
        ("a link to itself", archive(&["file a x", "link a -> a"]), "which is not there"),
        ("a link to its child", archive(&["file a/b x", "link a -> a/b"]), "which is not there"),
        ("a whiteout of the root", archive(&["file .wh."]), "a whiteout of no name"),
        ("a whiteout of itself", archive(&["file a/.wh.."]), "a whiteout of no name"),
        ("a whiteout of its parent", archive(&["file a/.wh..."]), "a whiteout of no name"),
        ("name", extended(&[("path", &name)], "file a"), "cannot be"),
        ("name on the way", extended(&[("path", &format!("{name}/a"))], "file a"), "cannot be"),
        ("NUL", extended(&[("path", "a\0b")], "file a"), "cannot be"),
        ("target", extended(&[("linkpath", &large)], "symlink a -> b"), "whose target cannot be"),
        ("attribute", extended(&[("SCHILY.xattr.user.a", &large)], "file a"), "'user.a' that"),
        ("no attribute", extended(&[("SCHILY.xattr.", "x")], "file a"), "'' that cannot be"),
        (
            "attribute of a link",
            extended(&[("SCHILY.xattr.user.a", "x")], "symlink a -> b"),
            "of what is neither file nor directory",
        ),
        ("mtime", extended(&[("mtime", "yesterday")], "file a"), "a bad mtime"),
        ("gid", extended(&[("gid", "4294967295")], "file a"), "a gid of 4294967295"),
        ("map with an overlap", map("0,5,4,2"), "do not follow each other"),
        ("map beyond the end", map("0,5,99,2"), "do not follow each other"),
        ("map that overflows", map("0,5,18446744073709551615,2"), "do not follow each other"),
        ("map of too little", map("0,5"), "where 7 follow"),
        ("odd map", map("0,5,6"), "an odd number"),
        (
            "sparse file of version 2",
            extended(&[("GNU.sparse.major", "2"), ("GNU.sparse.minor", "1")], "file a content"),
            "unknown version 2.1",
        ),
        ("device", device(0x1000, 0), "a bad device number"),
        ("device's minor", device(0, 0x10_0000), "a bad device number"),
        (
            "long extended header",
            extended(&[("comment", &large.repeat(20))], "file a"),
            "an extended header has",
        ),
        ("type", patched(156, b"Z"), "unknown type 'Z'"),
        ("uid", patched(108, b"zzzzzzz\0"), "a bad uid"),
        ("long name", archive(&[&format!("file {long}/{long}{long}")[..95]]), ""),
        ("junk", b"junk".to_vec(), "ends within a block"),
    ];
    for (what, archive, message) in cases {
        maker.image("bad", &[(TAR, archive, "cat")]);
        let mut command = puzzlefs();
        command.arg("convert").arg(maker.layout.image("bad")).arg(maker.layout.image("new"));
        if message.is_empty() {
            succeed(&mut command);
            succeed(puzzlefs().arg("untag").arg(maker.layout.image("new")));
        } else {
            let failed = fail(1, &mut command);
            let said = failed.errors();
            assert!(
                said.contains(message) && said.contains("the layer sha256:"),
                "{what}: {failed}"
            );
        }
        assert!(maker.layout.tagged("new").is_empty(), "{what}");
        succeed(puzzlefs().arg("untag").arg(maker.layout.image("bad")));
    }
    let left: Vec<_> = fs::read_dir(&maker.layout.dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .filter(|name| name.to_string_lossy().starts_with('.'))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn bad_images() {
    let dir = temp_dir();
    let maker = Maker::new(dir.path().join("layout"));
    let good = archive(&["file a content"]);
    maker.image("good", &[(TAR, good.clone(), "gzip")]);
    maker.image(
        "squashfs",
        &[("application/vnd.stacker.image.layer.squashfs+zstd", good.clone(), "cat")],
    );
    let manifest = maker.layout.manifest("good");
    let mut config = maker.layout.config("good");
    let layer = array(&manifest["layers"])[0].clone();
    config["rootfs"]["diff_ids"] = json!([sha256(b"other")]);
    maker.manifest("diff-id", &config, std::slice::from_ref(&layer));
    config["rootfs"]["diff_ids"] = json!([]);
    maker.manifest("no-diff-id", &config, std::slice::from_ref(&layer));
    let cut = filter("gzip | head -c 40", &good);
    let cut = maker.put(TAR, &cut);
    config["rootfs"]["diff_ids"] = json!([sha256(&good)]);
    maker.manifest("cut", &config, &[cut]);
    let mut lacking = layer.clone();
    lacking["digest"] = json!(sha256(b"lacking"));
    maker.manifest("lacking", &config, &[lacking]);
    let damaged = maker.put(TAR, &filter("gzip -1", &good));
    let path = maker.layout.blob_path(text(&damaged["digest"]));
    let mut bytes = fs::read(&path).unwrap();
    bytes[4] ^= 1; // the time in gzip's header, which its own checksum does not cover
    fs::write(&path, bytes).unwrap();
    maker.manifest("damaged", &config, &[damaged]);
    convert(&maker.layout, "good", "puzzlefs", &[]);
    let cases = [
        ("squashfs", "a layer of type 'application/vnd.stacker.image.layer.squashfs+zstd'"),
        ("diff-id", "instead of sha256:"),
        ("no-diff-id", "has 0 diff IDs for 1 layers"),
        ("cut", "cannot be read"),
        ("lacking", "lacks the blob"),
        ("damaged", "it is damaged"),
        ("puzzlefs", "it is a puzzlefs image already"),
        ("none", "no image tagged 'none'"),
    ];
    for (tag, message) in cases {
        let mut command = puzzlefs();
        command.arg("convert").arg(maker.layout.image(tag)).arg(maker.layout.image("new"));
        let failed = fail(1, &mut command);
        assert!(failed.errors().contains(message), "{tag}: {failed}");
        assert!(maker.layout.tagged("new").is_empty(), "{tag}");
    }
}

/// Docker's own types, with a list of images for several platforms.
#[test]
fn images_of_docker() {
    const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    const LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    let dir = temp_dir();
    let maker = Maker::new(dir.path().join("layout"));
    let manifests: Vec<_> = ["s390x", "arm64"]
        .map(|architecture| {
            let layer = archive(&[format!("file {architecture} x")]);
            let config = json!({
                "architecture": architecture, "os": "linux",
                "rootfs": { "type": "layers", "diff_ids": [sha256(&layer)] },
            });
            let config = serde_json::to_vec(&config).unwrap();
            let packed = filter("gzip", &layer);
            let manifest = json!({
                "schemaVersion": 2, "mediaType": MANIFEST,
                "config": maker.put("application/vnd.docker.container.image.v1+json", &config),
                "layers": [maker.put("application/vnd.docker.image.rootfs.diff.tar.gzip", &packed)],
            });
            let mut entry = maker.put(MANIFEST, &serde_json::to_vec(&manifest).unwrap());
            entry["platform"] = json!({ "os": "linux", "architecture": architecture });
            entry
        })
        .into();
    maker.tag("one", manifests[0].clone());
    let list = json!({ "schemaVersion": 2, "mediaType": LIST, "manifests": manifests });
    maker.tag("list", maker.put(LIST, &serde_json::to_vec(&list).unwrap()));
    let names = |tag: &str, options: &[&str]| {
        convert(&maker.layout, tag, "new", options);
        succeed(puzzlefs().arg("ls").arg(maker.layout.image("new"))).text().to_owned()
    };
    assert_eq!(names("one", &[]), "s390x");
    assert_eq!(names("list", &["--platform=linux/arm64"]), "arm64");
    assert_eq!(maker.layout.config("new")["architecture"], "arm64");
    let mut command = puzzlefs();
    command.args(["convert", "--platform=plan9/arm64"]).arg(maker.layout.image("list"));
    let failed = fail(1, command.arg(maker.layout.image("none")));
    assert!(failed.errors().contains("no image for plan9/arm64"), "{failed}");
}

/// A layer of a few kilobytes that would fill the memory.
#[test]
fn what_would_fill_the_memory() {
    let dir = temp_dir();
    let maker = Maker::new(dir.path().join("layout"));
    let value = "v".repeat(60 * KIB);
    let keys: Vec<_> = (0..17).map(|number| format!("SCHILY.xattr.user.{number}")).collect();
    let records: Vec<_> = keys.iter().map(|key| (key.as_str(), value.as_str())).collect();
    // For all that follow.
    let mut global = extended(&records, "file a");
    global.truncate(global.len() - archive(&["file a"]).len());
    global[156] = b'g';
    let sum: u32 =
        (0..512).map(|n| if (148..156).contains(&n) { 32 } else { global[n].into() }).sum();
    global[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let files: Vec<_> = (0..2000).map(|number| format!("file {number}")).collect();
    maker.image("bad", &[(TAR, [global, archive(&files)].concat(), "gzip")]);
    let mut command = puzzlefs();
    command.arg("convert").arg(maker.layout.image("bad")).arg(maker.layout.image("new"));
    let failed = fail(1, &mut command);
    assert!(failed.errors().contains("bytes of memory"), "{failed}");
}

/// Images on one base share what the base became.
#[test]
fn images_on_one_base_share_it() {
    let dir = temp_dir();
    let maker = Maker::new(dir.path().join("layout"));
    let tree = mkdir(&dir.path().join("tree"));
    fs::write(tree.join("large"), hex::encode(random(1, 3000 * KIB))).unwrap();
    fs::write(tree.join("changed"), lines(100 * KIB)).unwrap();
    let base = tar(&tree, &[]);
    maker.image("base", &[(TAR, base.clone(), "zstd")]);
    let above = archive(&["file changed anew", "file new x"]);
    maker.image("app", &[(TAR, base, "zstd"), (TAR, above, "cat")]);
    convert(&maker.layout, "base", "base-new", &[]);
    let made = convert(&maker.layout, "app", "app-new", &[]);
    let data = |tag: &str| array(&layers(&maker.layout, tag))[1..].to_vec();
    assert!(data("base-new").iter().all(|pack| data("app-new").contains(pack)), "{made:#}");
    assert!(made["bytes"]["stored"].as_u64().unwrap() < 10_000, "{made:#}");
}

#[test]
fn a_terabyte_of_nothing() {
    let dir = temp_dir();
    let maker = Maker::new(dir.path().join("layout"));
    let tree = mkdir(&dir.path().join("tree"));
    sparse(&tree.join("big"), 1 << 40, &[(1 << 39, b"middle".to_vec())]);
    for version in ["0.0", "0.1", "1.0"] {
        let options = ["--format=posix", "--sparse", &format!("--sparse-version={version}")];
        maker.image(version, &[(TAR, tar(&tree, &options), "cat")]);
        let made = convert(&maker.layout, version, "new", &[]);
        assert_eq!(made["bytes"]["tree"], 1_u64 << 40);
    }
}

/// An image as an archive: what went in comes out, by GNU tar and by ourselves.
#[test]
fn exports() {
    let dir = temp_dir();
    let maker = Maker::new(dir.path().join("layout"));
    let tree = mkdir(&dir.path().join("tree"));
    tree::everything(&tree);
    fs::write(tree.join("attribute"), "").unwrap();
    set_xattr(&tree.join("attribute"), b"user.a=b%3Dc%25%", b"=d");
    // As a layer's, these names would be whiteouts.
    let whiteouts = "find . -name '.wh.*' -delete";
    succeed(Command::new("sh").args(["-c", whiteouts]).current_dir(&tree));
    tree::set_times(&tree);
    let layout = &maker.layout;
    succeed(puzzlefs().arg("build").arg(&tree).arg(layout.image("v1")));
    let exported = succeed(puzzlefs().arg("export").arg(layout.image("v1")));
    assert!(
        exported.errors().contains("since no archive can hold a socket"),
        "{}",
        exported.errors()
    );
    let file = dir.path().join("exported.tar");
    succeed(puzzlefs().args(["export", "--output"]).arg(&file).arg(layout.image("v1")));
    assert!(fs::read(&file).unwrap() == exported.stdout, "the same bytes each time");

    // What fails leaves what was there.
    let link = dir.path().join("link.tar");
    std::os::unix::fs::symlink(&file, &link).unwrap();
    let damaged = Layout::new(dir.path().join("damaged"));
    succeed(Command::new("cp").arg("-a").arg(&layout.dir).arg(&damaged.dir));
    let pack = text(&damaged.manifest("v1")["layers"][1]["digest"]).to_owned();
    let pack = damaged.blob_path(&pack);
    let mut bytes = fs::read(&pack).unwrap();
    bytes[100] ^= 1;
    fs::write(pack, bytes).unwrap();
    let entries = || fs::read_dir(dir.path()).unwrap().count();
    let before = entries();
    for output in [&link, &dir.path().join("new.tar")] {
        fail(1, puzzlefs().args(["export", "--output"]).arg(output).arg(damaged.image("v1")));
        assert!(fs::read(&file).unwrap() == exported.stdout);
        assert_eq!(entries(), before);
    }
    succeed(puzzlefs().args(["export", "--output"]).arg(&link).arg(layout.image("v1")));
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert!(fs::read(&file).unwrap() == exported.stdout);

    // The archive as a layer of an image.
    maker.image("again", &[(TAR, exported.stdout, "cat")]);
    convert(layout, "again", "new", &["--squash"]);
    // Sockets are lost; that they go changes their directories' times.
    let sockets = "find . -type s -delete";
    succeed(Command::new("sh").args(["-c", sockets]).current_dir(&tree));
    let target = dir.path().join("ours");
    extract(layout, "new", &target);
    let without = |tree: &Path| Snapshot::of(tree).without(&["mtime"]);
    assert_same("ours", &without(&tree), &without(&target));

    // GNU tar goes no deeper than a path can.
    fs::remove_dir_all(tree.join("deep")).unwrap();
    let target = mkdir(&dir.path().join("theirs"));
    let mut gnu = Command::new("tar");
    gnu.args([
        "--extract",
        "--exclude=./deep",
        "--exclude=deep",
        "--numeric-owner",
        "--same-permissions",
        "--xattrs",
    ]);
    gnu.args(["--xattrs-include=*", "--delay-directory-restore", "-C"]).arg(&target);
    succeed(gnu.arg("-f").arg(&file));
    assert_same("theirs", &without(&tree), &without(&target));
}
