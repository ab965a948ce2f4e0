//! Power is lost after each system call: what is on the disk then is a layout whose tags are
//! complete, and what was told to be done is there.
//!
//! The calls of a command are recorded, and replayed on a model of a disk.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::process::Command;

use super::common::command::succeed;
use super::common::temp_dir;
use super::common::tree::mkdir;
use super::disk::{Data, Disk, Files};
use super::injection::each;
use super::record::{CHANGES, Change, changes};
use super::sample;
use super::scene::{HURT, Scene, VERBS, Verb, tags};
use super::strace::{self, calls, recorded};

/// How many states of the disk are looked at, unless all are.
const SAMPLE: usize = 200;

/// Commands, one after the other; the first may meet a sync that fails.
struct Case {
    name: String,
    first: &'static Verb,
    failing_sync: Option<usize>,
    second: Option<&'static Verb>,
    /// Whether the disk does not do what a sync says.
    disk_is_deaf: bool,
}

/// The disk after a loss, and what it may be.
struct Loss<'a> {
    case: String,
    /// Where it began.
    scene: &'a Scene,
    layout: &'static str,
    files: Files,
    /// What the tags may be.
    allowed: Vec<BTreeMap<String, String>>,
    /// Whether there must be a layout.
    exists: bool,
}

fn verb(name: &str) -> &'static Verb {
    VERBS.iter().find(|verb| verb.name == name).unwrap()
}

fn cases(scene: &Scene) -> Vec<Case> {
    let mut cases = Vec::new();
    for first in VERBS.iter().filter(|verb| verb.name != "extract") {
        let name = first.name.to_owned();
        cases.push(Case { name, first, failing_sync: None, second: None, disk_is_deaf: false });
    }
    // One that stops at any sync, and another one after it: what the first has done is seen, and
    // not on the disk.
    for (first, second) in [
        ("a first build", "a first build"),
        ("build", "build"),
        ("build", "gc"),
        ("convert", "convert"),
        ("untag", "gc"),
    ] {
        let (first, second) = (verb(first), verb(second));
        let copy = scene.copy();
        let log = copy.path().join("log");
        assert!(copy.run(Some(recorded(&log)), first.arguments).status.success());
        let calls = calls(&log);
        for sync in calls.iter().filter(|call| call.name == "fsync") {
            let name = format!("{}, sync {} fails, {}", first.name, sync.number, second.name);
            let failing_sync = Some(sync.number);
            cases.push(Case {
                name,
                first,
                failing_sync,
                second: Some(second),
                disk_is_deaf: false,
            });
        }
    }
    cases
}

impl Case {
    /// Runs the commands, and tells what may be on the disk at each moment.
    fn losses<'a>(&self, begin: &'a Scene) -> Vec<Loss<'a>> {
        let scene = begin.copy();
        let root = fs::canonicalize(scene.path()).unwrap();
        let layout = match self.first.name {
            "a first build" => "new/layout",
            "repair" => HURT,
            _ => "images",
        };
        let mut disk = Disk::load(&root, layout);
        let tags_now = || tags(&root.join(layout));
        let (mut seen, mut done) = (vec![tags_now()], 0);
        let mut existed = root.join(layout).exists();
        let (mut states, mut known) = (Vec::new(), BTreeSet::new());
        for (verb, failing) in [(Some(self.first), self.failing_sync), (self.second, None)] {
            let Some(verb) = verb else { continue };
            let logs = temp_dir();
            let log = logs.path().join("log");
            let mut through = strace::strace(&log, CHANGES);
            through.arg("--string-limit=1048576");
            if let Some(number) = failing {
                through.args(["-e", &format!("inject=fsync:error=EIO:when={number}")]);
            }
            let run = scene.run(Some(through), verb.arguments);
            assert_eq!(run.status.success(), failing.is_none(), "{}: {run}", self.name);
            seen.push(tags_now());
            let mut look = |disk: &Disk, number: usize, done: usize, exists: bool| {
                for files in disk.losses() {
                    let mut hasher = DefaultHasher::new();
                    (&files.0, done, exists).hash(&mut hasher);
                    if known.insert(hasher.finish()) {
                        let case = format!("{}, after change {number}", self.name);
                        let allowed = seen[done..].to_vec();
                        states.push(Loss { case, scene: begin, layout, files, allowed, exists });
                    }
                }
            };
            for (number, change) in changes(&log, &root).iter().enumerate() {
                if matches!(change, Change::Sync(_)) && self.disk_is_deaf {
                    continue;
                }
                if disk.apply(change).is_some() {
                    look(&disk, number, done, existed);
                }
            }
            // The model shows what the system does, or it is wrong.
            let is_like = |disk: &Disk| disk.after_loss(Data::Kept, |_| true).into_bytes();
            assert!(is_like(&disk) == is_like(&Disk::load(&root, layout)), "{}", self.name);
            if failing.is_none() {
                (done, existed) = (seen.len() - 1, true);
                look(&disk, usize::MAX, done, existed);
            }
        }
        states
    }
}

impl Loss<'_> {
    fn judge(&self) -> Result<bool, String> {
        let scene = Scene { dir: temp_dir() };
        let root = scene.path();
        for (path, file) in &self.files.0 {
            match file {
                None => fs::create_dir(root.join(path)).unwrap(),
                Some(file) => fs::write(root.join(path), &*file.bytes).unwrap(),
            }
        }
        fs::write(mkdir(&root.join("upper")).join("file"), "of the next builder").unwrap();
        let layout = self.layout;
        if layout == HURT {
            let images = self.scene.layout().dir;
            succeed(Command::new("cp").arg("--archive").args([&images, root]));
        }
        let index = self.files.0.get(&Path::new(layout).join("index.json"));
        if let Some(Some(index)) = index
            && serde_json::from_slice::<serde_json::Value>(&index.bytes).is_err()
        {
            return Err(format!("{}: index.json is torn", self.case));
        }
        let found = match root.join(layout).join("oci-layout").exists() {
            true => tags(&root.join(layout)),
            false if self.exists => return Err(format!("{}: no layout", self.case)),
            false => BTreeMap::new(),
        };
        if !self.allowed.contains(&found) {
            return Err(format!("{}: {found:?} instead of {:#?}", self.case, self.allowed));
        }
        scene
            .goes_on(&[&format!("{layout}:next")])
            .map_err(|why| format!("{}: {why}", self.case))?;
        Ok(true)
    }
}

#[test]
fn power_is_lost() {
    let scene = Scene::new();
    let losses: Vec<_> = cases(&scene).iter().flat_map(|case| case.losses(&scene)).collect();
    let count = losses.len();
    let tried = each(&sample(losses, SAMPLE), Loss::judge);
    println!("{tried} of {count} states of the disk");
}

/// Or the test above would see nothing.
#[test]
fn it_is_seen_where_nothing_is_synced() {
    let scene = Scene::new();
    for first in ["a first build", "build", "untag"].map(verb) {
        let name = first.name.to_owned();
        let case = Case { name, first, failing_sync: None, second: None, disk_is_deaf: true };
        let losses = case.losses(&scene);
        assert!(losses.iter().any(|loss| loss.judge().is_err()), "{}", case.name);
    }
}
