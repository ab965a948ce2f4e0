//! Every system call fails, one after the other: what comes of it is an error that says what
//! failed, or the right result; never a tag to something broken, and nothing is left behind.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::common::command::Output;
use super::common::temp_dir;
use super::sample;
use super::scene::{LEFT, Scene, State, VERBS, Verb};
use super::strace::{Call, Fault, calls, injected, injections, recorded};

pub const ERRORS: &[&str] = &["ENOSPC", "EIO", "EMFILE", "EINTR", "EAGAIN", "ENOMEM"];

/// Calls that a signal may interrupt: there EINTR is no failure.
const INTERRUPTIBLE: &[&str] = &[
    "open",
    "openat",
    "read",
    "pread64",
    "readv",
    "write",
    "pwrite64",
    "writev",
    "ftruncate",
    "fallocate",
    "copy_file_range",
    "sendfile",
    "flock",
    "fsync",
    "fdatasync",
    "recvmsg",
    "wait4",
];

/// How many cases of a verb are tried, unless all are.
const SAMPLE: usize = 24;

/// A verb with its good run.
struct Expected {
    verb: &'static Verb,
    before: State,
    after: State,
}

impl Expected {
    /// Runs the verb without a fault; also tells the calls that it made.
    fn of(verb: &'static Verb, scene: &Scene) -> (Expected, Vec<Call>) {
        let scene = scene.copy();
        let log = scene.path().join("log");
        let before = scene.state(verb.arguments);
        let run = scene.run(Some(recorded(&log)), verb.arguments);
        assert!(run.status.success(), "{run}");
        let after = scene.state(verb.arguments);
        // What it does to blobs is no part of that.
        let is_of_blobs = ["gc", "repair"].contains(&verb.name);
        assert!(is_of_blobs || before != after, "{} does nothing", verb.name);
        scene.check(verb.arguments).unwrap();
        (Expected { verb, before, after }, calls(&log))
    }

    /// Runs the verb with a fault; tells whether that came, and what is wrong then.
    fn try_with(&self, scene: &Scene, call: &Call, fault: Fault) -> Result<bool, String> {
        let scene = scene.copy();
        let arguments = self.verb.arguments;
        let logs = temp_dir();
        let log = logs.path().join("log");
        let run = scene.run(Some(injected(&log, call, fault)), arguments);
        let injected = injections(&log);
        let wrong = |why: String| {
            format!("{}: {call:?}: {fault:?}: {why}\n{run}{injected:#?}", self.verb.name)
        };
        self.judge(&scene, &run, call, fault, &injected).map_err(wrong)?;
        Ok(!injected.is_empty() || fault == Fault::Kill)
    }

    fn judge(
        &self,
        scene: &Scene,
        run: &Output,
        call: &Call,
        fault: Fault,
        injected: &[String],
    ) -> Result<(), String> {
        let arguments = self.verb.arguments;
        let state = scene.state(arguments);
        let out_of_memory = run.errors().contains("memory allocation of");
        if fault == Fault::Kill || out_of_memory {
            // It could tidy up nothing.
            if state.tags != self.before.tags && state.tags != self.after.tags {
                return Err(format!("neither the old tags nor the new ones: {state:?}"));
            }
        } else if run.status.success() {
            if state != self.after {
                return Err(format!("it succeeded, and did not do it: {state:?}"));
            }
            scene.check(arguments)?;
        } else {
            is_told(run, injected)?;
            // opendir(3) does not try again.
            let is_folder = injected.iter().any(|line| line.contains("O_DIRECTORY"));
            let is_interruptible = INTERRUPTIBLE.contains(&&*call.name) && !is_folder;
            if fault == Fault::Error("EINTR") && is_interruptible {
                return Err("it was not tried again".to_owned());
            }
            if state.tags != self.before.tags && state.tags != self.after.tags {
                return Err(format!("neither the old tags nor the new ones: {state:?}"));
            }
            if state.target != self.before.target && !run.errors().contains("remains") {
                return Err("what was extracted is left there".to_owned());
            }
            let mut left = scene.leftovers(arguments);
            left.retain(|name| name != LEFT);
            if !left.is_empty() && !injected.iter().any(|line| is_removal(line)) {
                return Err(format!("left behind: {left:?}"));
            }
        }
        scene.goes_on(arguments)
    }
}

/// Whether the failure of this call kept something from being removed.
fn is_removal(line: &str) -> bool {
    let of_ours = line.contains(".puzzlefs-");
    of_ours && ["unlink", "O_DIRECTORY", "getdents64", "stat"].iter().any(|it| line.contains(it))
}

/// It failed with an error that says what failed, in one line.
fn is_told(run: &Output, injected: &[String]) -> Result<(), String> {
    if run.status.code() != Some(1) {
        return Err("it should have failed with 1".to_owned());
    }
    // Where that is what fails, it cannot.
    if injected.iter().any(|line| line.starts_with("write(2<")) {
        return Ok(());
    }
    // A check that could be made says in its report what it could not repair.
    if run.text().starts_with("error: ") && run.errors().is_empty() {
        return Ok(());
    }
    let said = run.errors();
    let lines: Vec<_> = said.lines().collect();
    let told = |line: &&str| !line.starts_with("puzzlefs: warning: ");
    let errors: Vec<_> = lines.iter().filter(|line| told(line)).collect();
    let [error] = errors[..] else { return Err(format!("not one line: {said}")) };
    let names_something = error.contains('\'') || error.contains("sha256:");
    match error.strip_prefix("puzzlefs: ") {
        Some(text) if names_something || text.starts_with("cannot ") => Ok(()),
        _ => Err(format!("it does not say what failed: {said}")),
    }
}

/// Does all cases, two at a time; tells how many came to something, and panics with all that went
/// wrong.
pub fn each<T: Sync>(cases: &[T], work: impl Fn(&T) -> Result<bool, String> + Sync) -> usize {
    let (next, tried) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let failures = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    match work(case) {
                        Ok(came) => drop(tried.fetch_add(came.into(), Ordering::Relaxed)),
                        Err(why) => failures.lock().unwrap().push(why),
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    let count = cases.len();
    assert!(failures.is_empty(), "{} of {count} cases:\n{}", failures.len(), failures.join("\n"));
    tried.into_inner()
}

/// All calls of all verbs with these faults, or a sample.
fn inject(faults: &[Fault]) {
    let scene = Scene::new();
    let expected: Vec<_> = VERBS.iter().map(|verb| Expected::of(verb, &scene)).collect();
    let mut cases = Vec::new();
    for (expected, calls) in &expected {
        let of_verb = calls.iter().flat_map(|call| faults.iter().map(move |fault| (call, *fault)));
        let of_verb = sample(of_verb.collect(), SAMPLE);
        cases.extend(of_verb.into_iter().map(|(call, fault)| (expected, call, fault)));
    }
    let counts: Mutex<BTreeMap<&str, usize>> = Mutex::default();
    let tried = each(&cases, |(expected, call, fault)| {
        let came = expected.try_with(&scene, call, *fault)?;
        *counts.lock().unwrap().entry(expected.verb.name).or_default() += usize::from(came);
        Ok(came)
    });
    println!("{tried} of {} cases came about: {:?}", cases.len(), counts.into_inner().unwrap());
    assert!(tried * 2 > cases.len(), "only {tried} of {} faults came about", cases.len());
}

#[test]
fn a_call_fails() {
    let faults: Vec<_> = ERRORS.iter().map(|error| Fault::Error(error)).collect();
    inject(&faults);
}

#[test]
fn a_call_is_the_last() {
    inject(&[Fault::Kill]);
}
