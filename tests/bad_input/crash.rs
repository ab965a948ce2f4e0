//! Builders that are killed, and builders that run at once.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Instant;

use serde_json::Value;

use crate::check::{PUZZLEFS, Random, puzzlefs, same, scratch, tags, wrapped};

const SEED: u64 = 20_260_101;

/// Starts a build of `tree` into `out` that nobody waits for yet; `limits` is a command that runs a
/// command, or nothing.
fn start_build(dir: &Path, limits: &[&str], tree: &str, tag: &str) -> Child {
    let image = format!("out:{tag}");
    let command = [limits, &[PUZZLEFS, "build", "--quiet", tree, &image]].concat();
    Command::new(command[0])
        .args(&command[1..])
        .current_dir(dir)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("start a build")
}

/// Extracts each tag and compares it with the tree of the same name.
fn each_tag_is_its_tree(dir: &Path, tags: &[String]) {
    for tag in tags {
        let target = format!("extracted-{tag}");
        puzzlefs(dir, &["extract", &format!("out:{tag}"), &target]).succeeded().unwrap();
        same(&dir.join(tag), &dir.join(&target));
    }
}

/// A tree of some small files and one large, of which half is the same in each.
fn make_tree(dir: &Path, name: &str, seed: u64) {
    let tree = dir.join(name);
    fs::create_dir(&tree).expect("mkdir");
    let mut random = Random::new(seed);
    let mut large = Random::new(SEED).bytes(3 << 20);
    large.extend(random.bytes(3 << 20));
    fs::write(tree.join("large"), large).expect("write");
    for file in 0..100 {
        let len = random.next() as usize % 10_000;
        fs::write(tree.join(file.to_string()), random.bytes(len)).expect("write");
    }
}

#[test]
fn builders_that_are_killed() {
    const KILLS: u64 = 40;
    let scratch = scratch();
    let dir = scratch.path();
    make_tree(dir, "before", SEED + 1);
    let start = Instant::now();
    puzzlefs(dir, &["build", "before", "out:before"]).succeeded().unwrap();
    let whole_build = start.elapsed();

    let mut random = Random::new(SEED);
    let mut expected = vec!["before".to_owned()];
    for kill in 0..KILLS {
        let tag = format!("v{kill}");
        make_tree(dir, &tag, SEED + 2 + kill);
        let mut build = start_build(dir, &[], &tag, &tag);
        thread::sleep(whole_build.mul_f64((random.next() % 1000) as f64 / 1000.0));
        build.kill().expect("kill");
        build.wait().expect("wait");
        let found = tags(&dir.join("out"));
        // It may have been done before.
        if found.len() > expected.len() {
            expected.push(tag);
        }
        assert_eq!(found, expected, "seed {SEED}, kill {kill}");
        let fsck = puzzlefs(dir, &["fsck", "out"]);
        fsck.succeeded().unwrap_or_else(|error| panic!("seed {SEED}, kill {kill}: {error}"));
    }
    assert!(expected.len() < KILLS as usize, "nothing was killed");
    make_tree(dir, "after", SEED + 2 + KILLS);
    puzzlefs(dir, &["build", "after", "out:after"]).succeeded().unwrap();
    expected.push("after".to_owned());
    assert_eq!(tags(&dir.join("out")), expected);
    each_tag_is_its_tree(dir, &expected);
    // What those that were killed had not finished is gone.
    let left = fs::read_dir(dir.join("out")).expect("list the layout");
    let mut left: Vec<_> = left.map(|entry| entry.expect("an entry").file_name()).collect();
    left.sort_unstable();
    assert_eq!(left, ["blobs", "index.json", "oci-layout"]);
}

/// The system ends a process that writes a larger file than it may.
#[test]
fn a_builder_that_exceeds_its_limits() {
    let scratch = scratch();
    let dir = scratch.path();
    make_tree(dir, "before", SEED + 1);
    puzzlefs(dir, &["build", "before", "out:before"]).succeeded().unwrap();
    make_tree(dir, "large", SEED + 2);
    let limited =
        wrapped(dir, &["prlimit", "--fsize=100000", "--core=0"], &["build", "large", "out:large"]);
    assert!(limited.succeeded().is_err(), "{limited}: should not work");
    assert_eq!(tags(&dir.join("out")), ["before"]);
    puzzlefs(dir, &["fsck", "out"]).succeeded().unwrap();
    each_tag_is_its_tree(dir, &["before".to_owned()]);
}

/// Builds all trees at once, each under the tag that it is given.
fn build_all(dir: &Path, trees: &[String], tag: impl Fn(&str) -> String) {
    const LIMITS: &[&str] = &["timeout", "--signal=KILL", "60"];
    let start = |tree: &String| start_build(dir, LIMITS, tree, &tag(tree));
    let builds: Vec<Child> = trees.iter().map(start).collect();
    for build in builds {
        let output = build.wait_with_output().expect("wait");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {said}", output.status);
    }
}

fn sorted_tags(dir: &Path) -> Vec<String> {
    let mut tags = tags(&dir.join("out"));
    tags.sort_unstable();
    tags
}

#[test]
fn sixteen_builders_at_once() {
    let scratch = scratch();
    let dir = scratch.path();
    let names: Vec<String> = (0..16).map(|n| format!("v{n:02}")).collect();
    for (seed, name) in (SEED..).zip(&names) {
        make_tree(dir, name, seed);
    }
    // Nobody has made the layout before.
    build_all(dir, &names, str::to_owned);
    assert_eq!(sorted_tags(dir), names);
    puzzlefs(dir, &["fsck", "out"]).succeeded().unwrap();
    each_tag_is_its_tree(dir, &names);

    // Now all have the same tag, which comes to be one of theirs.
    build_all(dir, &names, |_| "last".to_owned());
    assert_eq!(sorted_tags(dir), [&["last".to_owned()], &names[..]].concat());
    puzzlefs(dir, &["fsck", "out"]).succeeded().unwrap();
    let digest = |tag: &str| {
        let inspect = puzzlefs(dir, &["inspect", "--json", &format!("out:{tag}")]);
        inspect.succeeded().unwrap();
        let document: Value = serde_json::from_slice(inspect.bytes()).expect("JSON");
        document["manifest"]["digest"].as_str().expect("a digest").to_owned()
    };
    assert!(names.iter().any(|name| digest(name) == digest("last")));
}
