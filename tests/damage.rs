//! What is damaged is found, is never taken for what it was, and can be repaired.
//!
//! `PUZZLEFS_FLIPS` says how many bits are flipped.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use common::command::{Output, fail, puzzlefs, run, succeed};
use common::layout::{Layout, REF_NAME, array, sha256, text};
use common::snapshot::{Snapshot, assert_same};
use common::temp_dir;
use common::tree::{KIB, lines, make_node, mkdir, random, set_times, sparse};
use rustix::fs::FileType;
use serde_json::{Value, json};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const RAW: &str = "application/vnd.puzzlefs.image.filedata.v1";

/// How many bits are flipped.
fn flips() -> u64 {
    std::env::var("PUZZLEFS_FLIPS").map_or(100, |count| count.parse().expect("a number"))
}

/// Numbers without a pattern, the same for the same seed.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 += 1;
        let bytes = random(self.0, 8).try_into().unwrap();
        (u64::from_le_bytes(bytes) % limit as u64) as usize
    }
}

/// A layout with images of all forms that share blobs, an index in the index, and what no tag has.
struct Stage {
    dir: tempfile::TempDir,
    good: Layout,
    layout: Layout,
    /// What each tag holds.
    trees: BTreeMap<String, Snapshot>,
    /// The tags that each blob belongs to; none of what is unreferenced.
    tags: BTreeMap<String, BTreeSet<String>>,
    /// The data blobs that are stored raw.
    raw: BTreeSet<String>,
}

impl Stage {
    fn new() -> Stage {
        let dir = temp_dir();
        let good = Layout::new(dir.path().join("good"));
        let trees = [mkdir(&dir.path().join("tree")), mkdir(&dir.path().join("next"))];
        for (number, tree) in (0..).zip(&trees) {
            fs::write(tree.join("lines"), lines(400 * KIB)).unwrap();
            fs::write(tree.join("random"), random(1, 300 * KIB)).unwrap();
            fs::write(tree.join("own"), random(2 + number, 100 * KIB)).unwrap();
            let small = mkdir(&tree.join("small"));
            for file in 0..20 {
                fs::write(small.join(format!("{file}")), random(10 + file, 500)).unwrap();
            }
            sparse(&tree.join("sparse"), 2000 * KIB, &[(900 * KIB, lines(5000))]);
            symlink("lines", tree.join("link")).unwrap();
            set_times(tree);
        }
        let [tree, next] = trees.each_ref();
        let base = good.image("v1");
        let base = format!("--base={}", base.display());
        let images: [(&Path, &str, &[&str]); 6] = [
            (tree, "v1", &[]),
            (next, "v2", &[&base]),
            (tree, "raw", &["--compression=none"]),
            (next, "chunks", &["--layout=blob-per-chunk"]),
            (tree, "raw-chunks", &["--layout=blob-per-chunk", "--compression=none"]),
            (next, "untagged", &["--compression=zstd:9"]),
        ];
        let mut found = BTreeMap::new();
        for (tree, tag, options) in images {
            let mut build = puzzlefs();
            succeed(build.args(["build", "--quiet"]).args(options).arg(tree).arg(good.image(tag)));
            found.insert(tag.to_owned(), Snapshot::of(tree));
        }
        succeed(puzzlefs().arg("untag").arg(good.image("untagged")));
        let untagged = found.remove("untagged").unwrap();
        found.insert("nested".to_owned(), untagged);
        nest(&good, &["v2"], "nested");
        let (tags, raw) = (tags_of_blobs(&good), raw_blobs(&good));
        let layout = Layout::new(dir.path().join("layout"));
        copy(&good.dir, &layout.dir);
        Stage { dir, good, layout, trees: found, tags, raw }
    }

    fn fsck(&self, options: &[&str]) -> Output {
        run(puzzlefs().args(["fsck", "--quiet", "--json"]).args(options).arg(&self.layout.dir))
    }

    fn repair(&self) -> Output {
        self.fsck(&["--repair", "--from", self.good.dir.to_str().unwrap()])
    }

    /// Extracts an image; tells whether that worked, and whether what came out is right.
    #[track_caller]
    fn read(&self, what: &str, tag: &str, options: &[&str]) -> Reading {
        let target = self.dir.path().join("target");
        let mut extract = puzzlefs();
        extract.args(["extract", "--quiet"]).args(options).arg(self.layout.image(tag)).arg(&target);
        let output = run(&mut extract);
        if !output.status.success() {
            assert!(output.status.code() == Some(1), "{what}: {output}");
            assert!(!target.exists(), "{what}: {output}");
            return Reading::Failed;
        }
        let differences = self.trees[tag].differences(&Snapshot::of(&target));
        fs::remove_dir_all(&target).unwrap();
        if differences.is_empty() { Reading::Right } else { Reading::Wrong }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    Right,
    Failed,
    Wrong,
}

fn copy(from: &Path, to: &Path) {
    succeed(Command::new("cp").arg("-a").arg(from).arg(to));
}

/// Tags an index of images that have tags, too.
fn nest(layout: &Layout, images: &[&str], tag: &str) {
    let untagged = |image: &&str| {
        let mut entry = layout.tagged(image).remove(0);
        entry.as_object_mut().unwrap().remove("annotations");
        entry
    };
    let entries: Vec<_> = images.iter().map(untagged).collect();
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}).to_string();
    let digest = sha256(index.as_bytes());
    fs::write(layout.blob_path(&digest), &index).unwrap();
    let mut document = layout.index();
    document["manifests"].as_array_mut().unwrap().push(json!({
        "mediaType": INDEX, "digest": digest, "size": index.len(), "annotations": {REF_NAME: tag},
    }));
    fs::write(layout.dir.join("index.json"), document.to_string()).unwrap();
}

/// Of each blob the tags from which a way leads to it.
fn tags_of_blobs(layout: &Layout) -> BTreeMap<String, BTreeSet<String>> {
    let mut tags: BTreeMap<_, _> =
        layout.blobs().into_iter().map(|blob| (blob, BTreeSet::new())).collect();
    for entry in array(&layout.index()["manifests"]) {
        let tag = text(&entry["annotations"][REF_NAME]);
        let mut pending = vec![entry.clone()];
        while let Some(descriptor) = pending.pop() {
            let digest = text(&descriptor["digest"]);
            tags.get_mut(digest).unwrap().insert(tag.to_owned());
            if text(&descriptor["mediaType"]).contains("index")
                || text(&descriptor["mediaType"]).contains("manifest")
            {
                let document = layout.json(digest);
                for key in ["manifests", "layers"] {
                    pending.extend(document[key].as_array().into_iter().flatten().cloned());
                }
                pending.extend(document.get("config").cloned());
            }
        }
    }
    tags
}

fn raw_blobs(layout: &Layout) -> BTreeSet<String> {
    let manifests = ["v1", "v2", "raw", "chunks", "raw-chunks"].map(|tag| layout.manifest(tag));
    let layers = manifests.iter().flat_map(|manifest| array(&manifest["layers"]));
    let raw = layers.filter(|layer| layer["mediaType"] == RAW);
    raw.map(|layer| text(&layer["digest"]).to_owned()).collect()
}

/// Flips a bit of a file; tells where.
fn flip(path: &Path, numbers: &mut Numbers) -> String {
    let file = File::options().read(true).write(true).open(path).unwrap();
    let offset = numbers.below(file.metadata().unwrap().len() as usize);
    let bit = numbers.below(8);
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset as u64).unwrap();
    file.write_all_at(&[byte[0] ^ (1 << bit)], offset as u64).unwrap();
    format!("bit {bit} of byte {offset} of {}", path.display())
}

fn strings(value: &Value) -> BTreeSet<String> {
    array(value).iter().map(|value| text(value).to_owned()).collect()
}

/// Whichever bit of a blob is flipped: `fsck` names the blob and exactly the tags that it hurts,
/// and nobody who verifies reads a wrong byte. Who does not verify reads one of raw blobs alone,
/// which have no checksums. Then the blob is repaired.
#[test]
fn each_flipped_bit_is_found_and_repaired() {
    let stage = Stage::new();
    let good = Snapshot::of(&stage.good.dir).without(&["mtime"]);
    let mut numbers = Numbers(1000);
    let blobs: Vec<_> = stage.tags.keys().collect();
    let (mut wrong, mut raw) = (0, 0);
    for _ in 0..flips() {
        let blob = blobs[numbers.below(blobs.len())];
        let hurt = &stage.tags[blob];
        let what = flip(&stage.layout.blob_path(blob), &mut numbers);
        let found = stage.fsck(&[]).json();
        let [finding] = array(&found["findings"]) else { panic!("{what}: {found:#}") };
        assert!(text(&finding["message"]).contains(blob.as_str()), "{what}: {finding}");
        let severity = if hurt.is_empty() { "warning" } else { "error" };
        assert_eq!(finding["severity"], severity, "{what}: {finding}");
        assert_eq!(found["clean"], hurt.is_empty(), "{what}: {finding}");
        assert_eq!(strings(&finding["tags"]), *hurt, "{what}: {finding}");

        for tag in stage.trees.keys().filter(|tag| hurt.contains(*tag)) {
            // What zeros are made of need not be read.
            let verified = stage.read(&what, tag, &[]);
            assert_ne!(verified, Reading::Wrong, "{what}: {tag}");
            let unverified = stage.read(&what, tag, &["--no-verify"]);
            raw += u64::from(stage.raw.contains(blob));
            if unverified == Reading::Wrong {
                assert!(stage.raw.contains(blob), "{what}: {tag} has wrong bytes");
                wrong += 1;
            }
        }
        // The others are whole.
        let other = stage.trees.keys().nth(numbers.below(stage.trees.len())).unwrap();
        if !hurt.contains(other) {
            assert_eq!(stage.read(&what, other, &[]), Reading::Right, "{what}: {other}");
        }

        let repaired = stage.repair();
        assert!(repaired.status.success(), "{what}: {repaired}");
        if hurt.is_empty() {
            // Nobody needs it.
            fs::copy(stage.good.blob_path(blob), stage.layout.blob_path(blob)).unwrap();
        } else {
            let finding = &repaired.json()["findings"][0];
            assert_eq!(finding["severity"], "repaired", "{what}: {repaired}");
            assert_eq!(strings(&finding["tags"]), *hurt, "{what}: {repaired}");
        }
        let now = Snapshot::of(&stage.layout.dir).without(&["mtime"]);
        assert_same(&what, &good, &now);
    }
    eprintln!(
        "unverified, {wrong} of {raw} readings through a raw blob with a flipped bit were wrong"
    );
    assert!(flips() < 100 || wrong > 0, "raw blobs have no checksums: what was read?");
}

/// Nothing vouches for `index.json` and `oci-layout`. But what fsck calls clean refers to the
/// images that were there.
#[test]
fn a_flipped_bit_of_the_index_lies_about_no_image() {
    let stage = Stage::new();
    let mut numbers = Numbers(2000);
    let images = |index: &Value| -> BTreeSet<_> {
        let entries = array(&index["manifests"]).iter();
        entries.map(|entry| (entry["digest"].clone().to_string(), entry["size"].as_u64())).collect()
    };
    let expected = images(&stage.good.index());
    let mut clean = 0;
    for turn in 0..flips() {
        let name = ["index.json", "index.json", "oci-layout"][turn as usize % 3];
        let what = flip(&stage.layout.dir.join(name), &mut numbers);
        let output = stage.fsck(&[]);
        match output.status.code() {
            Some(0) => {
                assert_eq!(name, "index.json", "{what}: {output}");
                assert_eq!(images(&stage.layout.index()), expected, "{what}: {output}");
                clean += 1;
            }
            Some(1) if output.stdout.is_empty() => {
                let said = output.errors();
                let named =
                    said.contains(name) || said.contains(stage.layout.dir.to_str().unwrap());
                assert!(named && said.lines().count() == 1, "{what}: {output}");
            }
            code => assert_eq!(code, Some(1), "{what}: {output}"),
        }
        fs::copy(stage.good.dir.join(name), stage.layout.dir.join(name)).unwrap();
    }
    eprintln!("{clean} of {} flipped bits are of no matter to the images", flips());
}

/// Many broken blobs at once, a mount that verifies: each file is what it was, or an error.
#[test]
fn a_verifying_mount_gives_no_wrong_byte() {
    const AT_ONCE: u64 = 5;
    let stage = Stage::new();
    let mut numbers = Numbers(3000);
    let point = mkdir(&stage.dir.path().join("mnt"));
    let (mut right, mut failed) = (0, 0);
    for batch in 0..flips().div_ceil(10 * AT_ONCE) {
        let tag = ["chunks", "v2", "raw-chunks", "v1", "raw"][batch as usize % 5];
        let manifest = stage.good.manifest(tag);
        let (_, data) = array(&manifest["layers"]).split_first().unwrap();
        for _ in 0..AT_ONCE {
            let digest = text(&data[numbers.below(data.len())]["digest"]);
            flip(&stage.layout.blob_path(digest), &mut numbers);
        }
        succeed(
            puzzlefs().args(["mount", "-o", "verify"]).arg(stage.layout.image(tag)).arg(&point),
        );
        let tree =
            stage.dir.path().join(if matches!(tag, "v2" | "chunks") { "next" } else { "tree" });
        let small = (0..20).map(|number| format!("small/{number}"));
        let files =
            ["lines", "random", "own", "sparse"].map(str::to_owned).into_iter().chain(small);
        let wrong: Vec<_> = files
            .filter(|file| match fs::read(point.join(file)) {
                Ok(bytes) => {
                    right += 1;
                    bytes != fs::read(tree.join(file)).unwrap()
                }
                Err(error) => {
                    failed += 1;
                    error.raw_os_error() != Some(libc::EIO)
                }
            })
            .collect();
        succeed(puzzlefs().arg("umount").arg(&point));
        assert!(wrong.is_empty(), "{tag}: {wrong:?}");
        assert!(stage.repair().status.success());
    }
    assert!(right > 0 && failed > 0, "{right} files were right, {failed} failed");
}

#[test]
fn what_cannot_be_read_hides_nothing_else() {
    let stage = Stage::new();
    let layout = &stage.layout;
    let tags = ["v1", "raw", "chunks"];
    nest(layout, &tags, "all");
    let manifest = layout.digest("raw");
    let packs = ["v1", "chunks"].map(|tag| layout.manifest(tag)["layers"][1]["digest"].clone());
    for tag in stage.trees.keys() {
        succeed(puzzlefs().arg("untag").arg(layout.image(tag)));
    }
    let mut broken: BTreeSet<_> = packs.iter().map(|pack| text(pack).to_owned()).collect();
    broken.insert(manifest);
    for digest in &broken {
        flip(&layout.blob_path(digest), &mut Numbers(4000));
    }
    let found = stage.fsck(&[]).json();
    let findings = array(&found["findings"]);
    assert_eq!(findings.len(), broken.len(), "{found:#}");
    for digest in broken {
        let names = |finding: &&Value| text(&finding["message"]).contains(&digest);
        let finding = findings.iter().find(names).unwrap_or_else(|| panic!("{digest}: {found:#}"));
        assert_eq!(finding["tags"], json!(["all"]), "{finding}");
    }
}

// Repairing

type Break = fn(&Path);

#[test]
fn whatever_is_in_a_blobs_place_is_repaired() {
    let breaks: &[(&str, Break, bool)] = &[
        ("nothing", |_| {}, true),
        ("an empty file", |path| fs::write(path, "").unwrap(), true),
        ("another file", |path| fs::write(path, random(7, 100)).unwrap(), true),
        ("a link to a file", |path| symlink("/etc/passwd", path).unwrap(), true),
        ("a link to nothing", |path| symlink("nothing", path).unwrap(), true),
        ("a FIFO", |path| make_node(path, FileType::Fifo, 0), true),
        // It may be anybody's.
        ("a directory", |path| drop(mkdir(path)), false),
    ];
    let stage = Stage::new();
    let good = Snapshot::of(&stage.good.dir).without(&["mtime"]);
    let blobs: Vec<_> = stage.tags.iter().filter(|(_, tags)| !tags.is_empty()).collect();
    for (number, (what, put, repairable)) in breaks.iter().enumerate() {
        let (digest, tags) = blobs[number * 5 % blobs.len()];
        let path = stage.layout.blob_path(digest);
        fs::remove_file(&path).unwrap();
        put(&path);
        let output = stage.repair();
        assert_eq!(output.status.success(), *repairable, "{what}: {output}");
        let found = output.json();
        let [finding] = array(&found["findings"]) else { panic!("{what}: {output}") };
        let severity = if *repairable { "repaired" } else { "error" };
        assert_eq!(finding["severity"], severity, "{what}: {output}");
        assert_eq!(strings(&finding["tags"]), *tags, "{what}: {output}");
        if path.is_dir() {
            fs::remove_dir(&path).unwrap();
            assert!(stage.repair().status.success());
        }
        assert_same(what, &good, &Snapshot::of(&stage.layout.dir).without(&["mtime"]));
    }
}

/// What a document refers to is known once that is repaired, and is repaired then.
#[test]
fn everything_at_once_is_repaired() {
    let stage = Stage::new();
    let good = Snapshot::of(&stage.good.dir).without(&["mtime"]);
    let needed: Vec<_> = stage.tags.iter().filter(|(_, tags)| !tags.is_empty()).collect();
    for (digest, _) in &needed {
        fs::remove_file(stage.layout.blob_path(digest)).unwrap();
    }
    let output = stage.repair();
    assert!(output.status.success(), "{output}");
    assert_eq!(array(&output.json()["findings"]).len(), needed.len(), "{output}");
    assert_same("the layout", &good, &Snapshot::of(&stage.layout.dir).without(&["mtime"]));
}

/// Blobs are damaged and repaired while garbage is collected and images are built in the layout, and
/// in the one from which good copies are taken.
#[test]
fn a_repair_is_not_alone() {
    let stage = Stage::new();
    let trees = ["a", "b"].map(|name| mkdir(&stage.dir.path().join(name)));
    let needed: Vec<_> = stage.tags.iter().filter(|(_, tags)| !tags.is_empty()).collect();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        for (layout, tree) in [&stage.good, &stage.layout].into_iter().zip(&trees) {
            let over = &over;
            scope.spawn(move || {
                let mut round = 0;
                while !over.load(Ordering::Relaxed) {
                    round += 1;
                    fs::write(tree.join("file"), random(round, 5000)).unwrap();
                    // It may stop at what is broken just now.
                    let gc = run(puzzlefs().args(["gc", "--quiet", "--grace=0"]).arg(&layout.dir));
                    assert!(gc.status.success() || gc.errors().contains("sha256:"), "{gc}");
                    succeed(puzzlefs().arg("build").arg(tree).arg(layout.image("other")));
                }
            });
        }
        let _ends = Ends(&over);
        let mut numbers = Numbers(5000);
        for _ in 0..flips().div_ceil(4) {
            let (digest, tags) = needed[numbers.below(needed.len())];
            let what = flip(&stage.layout.blob_path(digest), &mut numbers);
            // What others wrote in the meantime is no matter.
            let tag = tags.first().unwrap();
            let from = stage.good.dir.to_str().unwrap();
            let mut fsck = puzzlefs();
            fsck.args(["fsck", "--repair", "--from", from]).arg(stage.layout.image(tag));
            let repaired = succeed(&mut fsck);
            assert!(repaired.text().starts_with("repaired: "), "{what}: {repaired}");
            assert_eq!(stage.read(&what, tag, &[]), Reading::Right, "{what}");
        }
    });
    assert!(stage.repair().status.success());
}

/// Says that it is over, also to who waits for that when a test fails.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_repair_says_what_it_needs_and_what_it_did() {
    let stage = Stage::new();
    let pack = text(&stage.good.manifest("raw")["layers"][1]["digest"]).to_owned();
    let path = stage.layout.blob_path(&pack);
    let whole = fs::read(&path).unwrap();
    let damaged = || {
        let mut bytes = whole.clone();
        bytes[100] ^= 1;
        bytes
    };
    fs::write(&path, damaged()).unwrap();
    // Others that have nothing good.
    let [empty, bad] = ["empty", "bad"].map(|name| stage.dir.path().join(name));
    copy(&stage.layout.dir, &bad);
    copy(&stage.layout.dir, &empty);
    fs::remove_file(Layout::new(&empty).blob_path(&pack)).unwrap();
    let names = |paths: &[&PathBuf]| -> Vec<String> {
        paths.iter().map(|path| format!("--from={}", path.display())).collect()
    };
    let repair = |code: i32, target: &Path, from: &[String]| {
        fail(code, puzzlefs().args(["fsck", "--repair"]).args(from).arg(target))
    };
    let no_source = repair(2, &stage.layout.dir, &[]);
    assert!(no_source.errors().contains("--from <LAYOUT>"), "{no_source}");
    let no_repair = fail(2, puzzlefs().args(["fsck", "--from=x"]).arg(&stage.layout.dir));
    assert!(no_repair.errors().contains("--repair"), "{no_repair}");
    let nowhere = repair(1, &stage.layout.dir, &["--from=/does/not/exist".to_owned()]);
    assert!(nowhere.errors().contains("there is no layout '/does/not/exist'"), "{nowhere}");

    let before = Snapshot::of(&stage.layout.dir);
    let refused = repair(1, &stage.layout.dir, &names(&[&empty, &bad]));
    let expected = format!(
        "error: the blob {pack} does not have this digest: it is damaged; \
         no good copy in '{empty}': the layout '{empty}' lacks the blob {pack}; \
         no good copy in '{bad}': the blob {pack} does not have this digest: it is damaged \
         (hurts: raw)",
        empty = empty.display(),
        bad = bad.display(),
    );
    assert_eq!(refused.text(), expected);
    assert_same("nothing is written", &before, &Snapshot::of(&stage.layout.dir));

    // Another image is whole, and what is whole is not written to.
    let from = names(&[&bad, &stage.good.dir]);
    succeed(puzzlefs().args(["fsck", "--repair"]).args(&from).arg(stage.layout.image("v1")));
    assert_same("nothing is written", &before, &Snapshot::of(&stage.layout.dir));

    // Who has the broken one open goes on reading it.
    let mut open = File::open(&path).unwrap();
    let repaired =
        succeed(puzzlefs().args(["fsck", "--repair"]).args(&from).arg(stage.layout.image("raw")));
    let expected = format!(
        "repaired: the blob {pack} does not have this digest: it is damaged; \
         no good copy in '{bad}': the blob {pack} does not have this digest: it is damaged; \
         a good copy is taken from '{good}' (hurt: raw)",
        bad = bad.display(),
        good = stage.good.dir.display(),
    );
    assert_eq!(repaired.text(), expected);
    let mut bytes = Vec::new();
    open.read_to_end(&mut bytes).unwrap();
    assert!(bytes == damaged());
    assert!(fs::read(&path).unwrap() == whole);
    assert_eq!(stage.read("repaired", "raw", &[]), Reading::Right);
    let entries = fs::read_dir(&stage.layout.dir).unwrap().count();
    assert_eq!(entries, 3, "blobs, index.json and oci-layout");
}
