//! Commands that are killed at any moment, while others are at work in the same layout.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::all;
use super::common::command::puzzlefs;
use super::common::snapshot::{Snapshot, assert_same};
use super::common::tree::random;
use super::scene::{HURT, Scene, VERBS, Verb, tags, verb};

/// How many are killed before they are done; so many if all is tried.
const KILLS: (u64, u64) = (30, 1000);

const SEED: u64 = 20_261_126;

/// Those who are at work meanwhile, and are not killed.
const OTHERS: &[&[&str]] = &[
    &["build", "--quiet", "--threads=1", "other", "images:other"],
    &["gc", "--quiet", "--grace=0", "images"],
    &["delta", "--quiet", "--threads=1", "--base=images:base", "upper", "images:other-delta"],
];

/// Instead of the verb of that name: a tag that nobody needs.
const UNTAG: Verb = verb("untag", &["untag", "images:extra"]);

/// Tags that nobody changes.
const KEPT: &[&str] = &["v1", "base", "ordinary"];

fn start(dir: &Path, arguments: &[&str]) -> Child {
    let mut command = puzzlefs();
    command.args(arguments).current_dir(dir).stdout(Stdio::null()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

fn number(seed: u64) -> u64 {
    u64::from_le_bytes(random(seed, 8).try_into().unwrap())
}

/// How long a command takes alone; adds the digests of what it makes to `known`.
fn try_alone(scene: &Scene, arguments: &[&str], known: &mut BTreeSet<String>) -> Duration {
    let scene = scene.copy();
    let start = Instant::now();
    scene.succeed(arguments);
    let whole = start.elapsed();
    known.extend(scene.state(arguments).tags.into_values());
    whole
}

/// One round: a command is killed while the others work, who succeed; tells whether it was killed
/// before it was done.
fn round(scene: &Scene, verb: &Verb, after: Duration) -> bool {
    let dir = scene.path();
    let others: Vec<Child> = OTHERS.iter().map(|arguments| start(dir, arguments)).collect();
    let mut victim = start(dir, verb.arguments);
    thread::sleep(after);
    victim.kill().unwrap();
    let ended = victim.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.code().is_none_or(|code| code == 0), "{}: {said}", verb.name);
    for (arguments, other) in OTHERS.iter().zip(others) {
        let ended = other.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&ended.stderr);
        assert!(ended.status.success(), "beside {}: {arguments:?}: {said}", verb.name);
    }
    ended.status.code().is_none()
}

#[test]
fn commands_are_killed() {
    let kills = if all() { KILLS.1 } else { KILLS.0 };
    let scene = Scene::new();
    let dir = scene.path();
    let before = tags(&scene.layout().dir);
    let expected = Snapshot::of(&dir.join("tree"));
    scene.succeed(&["tag", "images:base", "extra"]);
    let verbs = VERBS.iter().filter(|verb| verb.name != UNTAG.name).chain([&UNTAG]);
    let mut known = BTreeSet::new();
    let victims: Vec<_> =
        verbs.map(|verb| (verb, try_alone(&scene, verb.arguments, &mut known))).collect();
    for arguments in OTHERS {
        try_alone(&scene, arguments, &mut known);
    }
    let mut killed: BTreeMap<&str, u64> = BTreeMap::new();
    let (mut kill, mut early) = (0, 0);
    while early < kills {
        assert!(kill < 10 * kills, "only {early} were killed before they were done");
        kill += 1;
        let (verb, whole) = victims[number(SEED + kill) as usize % victims.len()];
        let part = number(!SEED + kill) % 1500;
        let what = format!("seed {SEED}, kill {kill}: {}", verb.name);
        if round(&scene, verb, whole.mul_f64(part as f64 / 1000.0)) {
            *killed.entry(verb.name).or_default() += 1;
            early += 1;
        }
        scene.goes_on(&[HURT]).unwrap_or_else(|why| panic!("{what}: {why}"));
        for layout in ["images", "new/layout"] {
            scene.check(&[layout]).unwrap_or_else(|why| panic!("{what}: {why}"));
            let now = tags(&dir.join(layout));
            assert!(now.values().all(|digest| known.contains(digest)), "{what}: {now:?}");
        }
        let now = tags(&scene.layout().dir);
        for tag in KEPT {
            assert_eq!(now.get(*tag), before.get(*tag), "{what}: the tag {tag}");
        }
        // Each round begins with the same.
        if dir.join("new").exists() {
            scene.goes_on(&["new/layout"]).unwrap_or_else(|why| panic!("{what}: {why}"));
            fs::remove_dir_all(dir.join("new")).unwrap();
        }
        if dir.join("target").exists() {
            fs::remove_dir_all(dir.join("target")).unwrap();
        }
        scene.succeed(&["tag", "images:base", "extra"]);
        scene.hurt();
    }
    println!("killed before they were done: {killed:?}");
    scene.goes_on(&["images"]).unwrap();
    scene.succeed(&["extract", "--quiet", "images:v1", "target"]);
    assert_same("v1", &expected, &Snapshot::of(&dir.join("target")));
}
