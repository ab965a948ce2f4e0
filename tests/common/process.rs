//! This process as the kernel sees it, and the memory that it may have.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// Far more than it takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// How many descriptors and threads this process has.
pub fn descriptors_and_threads() -> (usize, usize) {
    let count = |what: &str| fs::read_dir(format!("/proc/self/{what}")).unwrap().count();
    (count("fd"), count("task"))
}

/// Waits until this process has as many descriptors and threads as `before`: one that has ended may
/// be listed for a moment.
#[track_caller]
pub fn assert_nothing_left(before: (usize, usize)) {
    let deadline = Instant::now() + PATIENCE;
    while descriptors_and_threads() != before {
        let now = descriptors_and_threads();
        assert!(Instant::now() < deadline, "descriptors and threads: {before:?}, then {now:?}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// The bytes of this process that are in memory and no file's.
fn memory() -> u64 {
    status("RssAnon:")
}

/// The most bytes that this process had in memory.
fn peak_memory() -> u64 {
    status("VmHWM:")
}

/// Does `round` again and again: at least so many `rounds`, and for as many seconds as
/// `PUZZLEFS_SOAK` says, or else `seconds`. After each, descriptors and threads are as before; memory
/// does not grow, and is never more than `most` bytes.
#[track_caller]
pub fn soak(seconds: u64, rounds: usize, most: u64, mut round: impl FnMut(u64)) {
    let seconds = std::env::var("PUZZLEFS_SOAK").map_or(seconds, |text| text.parse().unwrap());
    let deadline = Instant::now() + Duration::from_secs(seconds);
    let before = descriptors_and_threads();
    let mut samples = Vec::new();
    for number in 0.. {
        round(number);
        assert_nothing_left(before);
        samples.push(memory());
        if samples.len() >= rounds && Instant::now() > deadline {
            break;
        }
    }
    assert_flat(&mut samples);
    let peak = peak_memory();
    println!("{} rounds, {} MiB at most", samples.len(), peak >> 20);
    assert!(peak < most, "{} MiB", peak >> 20);
}

/// Half of the later samples of [`memory`] are not above half of the earlier ones, but for what
/// chance may add. A single one tells little: now and then the heap keeps what was freed.
#[track_caller]
fn assert_flat(samples: &mut [u64]) {
    const CHANCE: u64 = 16 << 20;
    let half = samples.len() / 2;
    let (early, late) = samples.split_at_mut(half);
    let (early, late) = (median(early), median(late));
    println!("memory: {} KiB, later {} KiB", early >> 10, late >> 10);
    assert!(late < early + CHANCE, "memory grows: {} KiB, then {} KiB", early >> 10, late >> 10);
}

fn median(samples: &mut [u64]) -> u64 {
    let middle = samples.len() / 2;
    *samples.select_nth_unstable(middle).1
}

fn status(field: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
    kib * 1024
}

/// A control group that this process is in until the value goes, with all that it starts.
pub struct ControlGroup {
    own: PathBuf,
    before: PathBuf,
}

impl ControlGroup {
    /// One that has so many bytes of memory, what it reads of files included.
    pub fn with_memory(bytes: u64) -> ControlGroup {
        let line_of = |controller: &str| {
            let groups = fs::read_to_string("/proc/self/cgroup").unwrap();
            let line = groups.lines().find(|line| line.split(':').nth(1) == Some(controller));
            line.map(|line| line.splitn(3, ':').nth(2).unwrap().trim_start_matches('/').to_owned())
        };
        // The first version has a tree for each resource.
        let (tree, limit, group) = match line_of("memory") {
            Some(group) => ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", group),
            None => ("/sys/fs/cgroup", "memory.max", line_of("").unwrap()),
        };
        let tree = Path::new(tree);
        let own = tree.join(format!("puzzlefs-test-{}", std::process::id()));
        fs::create_dir(&own).expect("the tests need control groups, as root of the machine");
        fs::write(own.join(limit), bytes.to_string()).expect("no limit to memory can be set");
        enter(&own);
        ControlGroup { own, before: tree.join(group) }
    }
}

impl Drop for ControlGroup {
    fn drop(&mut self) {
        enter(&self.before);
        fs::remove_dir(&self.own).unwrap();
    }
}

fn enter(group: &Path) {
    fs::write(group.join("cgroup.procs"), std::process::id().to_string()).unwrap();
}
