//! A folder with trees and a layout, from which each case starts anew.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::common::command::{Output, puzzlefs, run, succeed};
use super::common::layout::{Layout, REF_NAME, array, text};
use super::common::snapshot::Snapshot;
use super::common::temp_dir;
use super::common::tree::{KIB, lines, mkdir, random, set_mode, set_times, set_xattr};

/// What a command is run for, in a scene.
#[derive(Debug)]
pub struct Verb {
    pub name: &'static str,
    pub arguments: &'static [&'static str],
}

pub const fn verb(name: &'static str, arguments: &'static [&'static str]) -> Verb {
    Verb { name, arguments }
}

/// All that change something.
pub const VERBS: &[Verb] = &[
    verb("a first build", &["build", "--quiet", "--threads=1", "tree", "new/layout:v1"]),
    verb("build", &["build", "--quiet", "--threads=1", "other", "images:v2"]),
    verb("delta", &["delta", "--quiet", "--threads=1", "--base=images:v1", "upper", "images:v2"]),
    verb("convert", &["convert", "--quiet", "--threads=1", "images:ordinary", "images:v2"]),
    verb("canonicalize", &["canonicalize", "--quiet", "--threads=1", "images:base", "images:v2"]),
    verb("config", &["config", "images:v1", "--tag=v2", "--env=A=b"]),
    verb("tag", &["tag", "images:v1", "v2"]),
    verb("untag", &["untag", "images:base"]),
    verb("gc", &["gc", "--quiet", "--grace=0", "images"]),
    verb("extract", &["extract", "--quiet", "--threads=1", "images:v1", "target"]),
    verb("repair", REPAIR),
];

const REPAIR: &[&str] = &["fsck", "--quiet", "--repair", "--from=images", HURT];

/// The layout that is to be repaired.
pub const HURT: &str = "hurt";

/// What a killed builder left in the layout.
pub const LEFT: &str = ".puzzlefs-left";

/// The folder.
pub struct Scene {
    pub dir: TempDir,
}

/// What can be seen of a layout and of what was extracted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// What each tag refers to.
    pub tags: BTreeMap<String, String>,
    pub target: Option<Snapshot>,
}

impl Scene {
    /// Makes the trees `tree` and `other`, the upperdir `upper`, and the layout `images` with an
    /// image `v1` of `tree`, a step `base` on it, an image `ordinary` of a tar layer, a blob that
    /// no tag refers to, and what a killed builder left; and the layout `hurt`.
    pub fn new() -> Scene {
        let dir = temp_dir();
        let path = dir.path();
        fill(&mkdir(&path.join("tree")), 1);
        fill(&mkdir(&path.join("other")), 2);
        let upper = mkdir(&path.join("upper"));
        fs::write(upper.join("new"), lines(3 * KIB)).unwrap();
        let scene = Scene { dir };
        scene.succeed(&["build", "--quiet", "tree", "images:v1"]);
        scene.succeed(&["delta", "--quiet", "--base=images:v1", "upper", "images:base"]);
        scene.add_ordinary();
        let layout = scene.layout();
        fs::write(layout.dir.join("blobs/sha256").join("0".repeat(64)), "garbage").unwrap();
        fs::write(mkdir(&layout.dir.join(LEFT)).join("pack"), "left").unwrap();
        scene.hurt();
        scene
    }

    /// Makes the layout `hurt`: what `images` is, with a blob that is gone, one that is damaged, and
    /// a manifest of which half is there.
    pub fn hurt(&self) {
        let (good, hurt) = (self.layout(), Layout::new(self.path().join(HURT)));
        if hurt.dir.exists() {
            fs::remove_dir_all(&hurt.dir).unwrap();
        }
        succeed(Command::new("cp").arg("--archive").arg(&good.dir).arg(&hurt.dir));
        let manifest = good.manifest("base");
        let layers = array(&manifest["layers"]);
        let path = |digest: &serde_json::Value| hurt.blob_path(text(digest));
        fs::remove_file(path(&layers[0]["digest"])).unwrap();
        let pack = path(&layers[1]["digest"]);
        let mut bytes = fs::read(&pack).unwrap();
        bytes[100] ^= 1;
        fs::write(pack, bytes).unwrap();
        let manifest = hurt.blob_path(&good.digest("v1"));
        let half = fs::metadata(&manifest).unwrap().len() / 2;
        fs::File::options().write(true).open(manifest).unwrap().set_len(half).unwrap();
    }

    /// An image of one tar layer, put together by umoci.
    fn add_ordinary(&self) {
        let umoci = |arguments: &[&str]| {
            succeed(Command::new("umoci").args(arguments).current_dir(self.path()));
        };
        umoci(&["new", "--image=images:ordinary"]);
        umoci(&["insert", "--image=images:ordinary", "tree", "/in"]);
    }

    /// A scene that is the same.
    pub fn copy(&self) -> Scene {
        let dir = temp_dir();
        let mut cp = Command::new("cp");
        succeed(cp.args(["--archive", "--no-target-directory"]).arg(self.path()).arg(dir.path()));
        Scene { dir }
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn layout(&self) -> Layout {
        Layout::new(self.path().join("images"))
    }

    /// The layout that a command writes to.
    fn layout_of(&self, arguments: &[&str]) -> PathBuf {
        let names = |layout: &&str| arguments.iter().any(|argument| argument.starts_with(*layout));
        self.path().join(["new/layout", HURT].into_iter().find(names).unwrap_or("images"))
    }

    /// Runs the tool in the scene, through another program or not.
    pub fn run(&self, through: Option<Command>, arguments: &[&str]) -> Output {
        let mut command = match through {
            Some(mut command) => {
                command.arg(env!("CARGO_BIN_EXE_puzzlefs"));
                command
            }
            None => puzzlefs(),
        };
        run(command.args(arguments).current_dir(self.path()))
    }

    #[track_caller]
    pub fn succeed(&self, arguments: &[&str]) -> Output {
        succeed(puzzlefs().args(arguments).current_dir(self.path()))
    }

    pub fn state(&self, arguments: &[&str]) -> State {
        let layout = self.layout_of(arguments);
        let target = self.path().join("target");
        State { tags: tags(&layout), target: target.exists().then(|| Snapshot::of(&target)) }
    }

    /// What is wrong with the layout that a command wrote to, if anything.
    pub fn check(&self, arguments: &[&str]) -> Result<(), String> {
        let layout = self.layout_of(arguments);
        if !layout.join("oci-layout").exists() {
            return Ok(());
        }
        let fsck = self.run(None, &["fsck", "--quiet", layout.to_str().unwrap()]);
        if fsck.status.success() { Ok(()) } else { Err(fsck.to_string()) }
    }

    /// What lies in the layout and is no part of it.
    pub fn leftovers(&self, arguments: &[&str]) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.layout_of(arguments)) else { return Vec::new() };
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| !["blobs", "index.json", "oci-layout"].contains(&&**name)).collect()
    }

    /// Whether a builder that comes next just works, and clears what was left; before it whoever
    /// repairs what is to be repaired.
    pub fn goes_on(&self, arguments: &[&str]) -> Result<(), String> {
        let layout = self.layout_of(arguments);
        if layout.ends_with(HURT) {
            let repair = self.run(None, REPAIR);
            if !repair.status.success() {
                return Err(format!("the next repair failed: {repair}"));
            }
        }
        let image = format!("{}:next", layout.display());
        let build = self.run(None, &["build", "--quiet", "--threads=1", "upper", &image]);
        if !build.status.success() {
            return Err(format!("the next builder failed: {build}"));
        }
        let left = self.leftovers(arguments);
        if !left.is_empty() {
            return Err(format!("the next builder did not clear {left:?}"));
        }
        self.check(arguments)
    }
}

/// What each tag of a layout refers to; nothing if there is no layout yet.
pub fn tags(layout: &Path) -> BTreeMap<String, String> {
    if !layout.join("index.json").exists() {
        return BTreeMap::new();
    }
    let index = Layout::new(layout).index();
    let entry = |entry: &serde_json::Value| {
        let tag = &entry["annotations"][REF_NAME];
        (text(tag).to_owned(), text(&entry["digest"]).to_owned())
    };
    array(&index["manifests"]).iter().map(entry).collect()
}

/// A small tree with enough files for a thread to do each thing more than once.
fn fill(root: &Path, seed: u64) {
    fs::write(root.join("large"), random(seed, 300 * KIB)).unwrap();
    fs::write(root.join("common"), random(0, 100 * KIB)).unwrap();
    for number in 0..3 {
        let dir = mkdir(&root.join(format!("dir-{number}")));
        for file in 0..3 {
            let bytes = random(seed * 100 + number * 10 + file, 2000);
            fs::write(dir.join(format!("file-{file}")), bytes).unwrap();
        }
    }
    std::os::unix::fs::symlink("large", root.join("link")).unwrap();
    fs::hard_link(root.join("large"), root.join("again")).unwrap();
    super::common::tree::make_node(&root.join("fifo"), rustix::fs::FileType::Fifo, 0);
    super::common::tree::sparse(&root.join("sparse"), 512 * KIB, &[(256 * KIB, lines(KIB))]);
    set_xattr(&root.join("common"), b"user.attribute", b"value");
    set_mode(&root.join("dir-0"), 0o700);
    set_times(root);
}
