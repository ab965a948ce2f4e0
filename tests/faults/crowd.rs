//! Sixteen processes at work on a hundred tags of one layout, while a collector goes round and
//! skopeo copies images out of it: nothing is lost, nothing torn.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use super::all;
use super::common::command::{Output, puzzlefs, run};
use super::common::layout::Layout;
use super::common::snapshot::{Snapshot, assert_same};
use super::common::tree::random;
use super::scene::{Scene, tags};

const WORKERS: usize = 16;
const TAGS: usize = 100;

/// How many commands each worker runs; so many if all is tried.
const STEPS: (usize, usize) = (8, 100);

const SEED: u64 = 20_261_126;

/// What a worker may do with a tag of its own, and the tree that the tag has then: that of one of
/// the tags that stay, or none.
const STEPS_OF_ALL: &[(&[&str], Option<&str>)] = &[
    (&["build", "--quiet", "tree", "IMAGE"], Some("v1")),
    (&["delta", "--quiet", "--base=images:v1", "upper", "IMAGE"], Some("base")),
    (&["convert", "--quiet", "images:ordinary", "IMAGE"], Some("converted")),
    (&["convert", "--quiet", "--squash", "images:ordinary", "IMAGE"], Some("converted")),
    (&["canonicalize", "--quiet", "images:base", "IMAGE"], Some("base")),
    (&["config", "images:base", "--tag=TAG", "--env=A=b"], Some("base")),
    (&["tag", "images:v1", "TAG"], Some("v1")),
    (&["untag", "IMAGE"], None),
];

/// The tags that stay.
const STAY: &[&str] = &["v1", "base", "ordinary", "converted"];

/// A worker with tags that nobody else writes to.
struct Worker<'a> {
    scene: &'a Scene,
    number: usize,
    /// The tree of each tag that it has made.
    made: BTreeMap<String, &'static str>,
}

impl Worker<'_> {
    fn work(mut self, steps: usize) -> BTreeMap<String, &'static str> {
        for step in 0..steps {
            let seed = SEED + (self.number * 1000 + step) as u64;
            let [which, what, ..] = random(seed, 8)[..] else { unreachable!("eight bytes") };
            // Every sixteenth of the tags is its own.
            let own = TAGS.div_ceil(WORKERS);
            let number = self.number + WORKERS * (which as usize % own);
            if number >= TAGS {
                continue;
            }
            let (arguments, tree) = STEPS_OF_ALL[what as usize % STEPS_OF_ALL.len()];
            self.step(&format!("t{number:02}"), arguments, tree);
        }
        self.made
    }

    fn step(&mut self, tag: &str, arguments: &[&str], tree: Option<&'static str>) {
        let image = format!("images:{tag}");
        let fill = |argument: &&str| argument.replace("IMAGE", &image).replace("TAG", tag);
        let arguments: Vec<String> = arguments.iter().map(fill).collect();
        let output = run(puzzlefs().args(&arguments).current_dir(self.scene.path()));
        let was_there = match tree {
            Some(tree) => {
                self.made.insert(tag.to_owned(), tree);
                true
            }
            None => self.made.remove(tag).is_some(),
        };
        assert_eq!(output.status.success(), was_there, "{output}");
        if tree.is_some() {
            // It is there at once, and whole.
            self.scene.succeed(&["fsck", "--quiet", &image]);
        }
    }
}

/// Copies an image out of the layout by skopeo; one that was taken away meanwhile may fail.
fn copy(scene: &Scene, tag: &str, to: usize) -> Option<PathBuf> {
    let target = scene.path().join(format!("copy-{to}"));
    let mut skopeo = Command::new("skopeo");
    skopeo.arg("copy").arg("--quiet").arg(scene.layout().transport(tag));
    let output: Output = run(skopeo.arg(Layout::new(&target).transport("copy")));
    assert!(output.status.success() || !STAY.contains(&tag), "{output}");
    output.status.success().then_some(target)
}

#[test]
fn nothing_is_lost_in_a_crowd() {
    let steps = if all() { STEPS.1 } else { STEPS.0 };
    let scene = Scene::new();
    scene.succeed(&["convert", "--quiet", "images:ordinary", "images:converted"]);
    let before = tags(&scene.layout().dir);
    let (at_work, copied, collected) =
        (AtomicBool::new(true), AtomicUsize::new(0), AtomicUsize::new(0));
    let made: BTreeMap<String, &str> = thread::scope(|scope| {
        let collector = scope.spawn(|| {
            while at_work.load(Ordering::Relaxed) {
                scene.succeed(&["gc", "--quiet", "--grace=0", "images"]);
                collected.fetch_add(1, Ordering::Relaxed);
            }
        });
        let copier = scope.spawn(|| {
            for number in (0..).take_while(|_| at_work.load(Ordering::Relaxed)) {
                let tag = match number % 2 {
                    0 => STAY[number / 2 % STAY.len()].to_owned(),
                    _ => format!("t{:02}", number * 7 % TAGS),
                };
                let Some(target) = copy(&scene, &tag, number) else { continue };
                scene.succeed(&["fsck", "--quiet", target.to_str().unwrap()]);
                std::fs::remove_dir_all(target).unwrap();
                copied.fetch_add(1, Ordering::Relaxed);
            }
        });
        let workers: Vec<_> = (0..WORKERS)
            .map(|number| Worker { scene: &scene, number, made: BTreeMap::new() })
            .map(|worker| scope.spawn(move || worker.work(steps)))
            .collect();
        let ended: Vec<_> = workers.into_iter().map(|worker| worker.join()).collect();
        at_work.store(false, Ordering::Relaxed);
        collector.join().unwrap();
        copier.join().unwrap();
        ended.into_iter().flat_map(|made| made.expect("a worker failed")).collect()
    });
    let (copied, collected) = (copied.into_inner(), collected.into_inner());
    println!("{} tags, {copied} copies, {collected} collections", made.len());
    assert!(copied > 0 && collected > 0);

    scene.check(&["images"]).unwrap();
    let now = tags(&scene.layout().dir);
    let expected = made.keys().map(String::as_str).chain(STAY.iter().copied());
    let mut expected: Vec<_> = expected.collect();
    expected.sort_unstable();
    assert_eq!(now.keys().map(String::as_str).collect::<Vec<_>>(), expected);
    assert!(before.iter().all(|(tag, digest)| now.get(tag) == Some(digest)));
    scene.succeed(&["gc", "--quiet", "--grace=0", "images"]);
    assert_eq!(scene.leftovers(&["images"]), [""; 0]);
    scene.check(&["images"]).unwrap();
    // By digest, as many tags have the same.
    let extract = |tag: &str| {
        let target = scene.path().join("target");
        scene.succeed(&["extract", "--quiet", &format!("images:{tag}"), "target"]);
        let found = Snapshot::of(&target);
        std::fs::remove_dir_all(target).unwrap();
        found
    };
    let trees = ["v1", "base", "converted"].map(|tag| (tag, extract(tag)));
    let trees: BTreeMap<_, _> = trees.into_iter().collect();
    assert_same("v1", &Snapshot::of(&scene.path().join("tree")), &trees["v1"]);
    for (tag, tree) in &made {
        assert_same(tag, &trees[tree], &extract(tag));
    }
}
