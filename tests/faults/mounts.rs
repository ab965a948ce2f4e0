//! Every system call of a mount fails, one after the other: it is not there, or serves right bytes;
//! and at the end neither mount nor process is left.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::common::command::{puzzlefs, run};
use super::common::mount::is_mounted;
use super::common::snapshot::Snapshot;
use super::common::temp_dir;
use super::common::tree::mkdir;
use super::injection::{ERRORS, each};
use super::sample;
use super::scene::Scene;
use super::strace::{Call, Fault, calls, injected, injections, recorded};

/// How many cases are tried, unless all are.
const SAMPLE: usize = 24;

/// Far more than anything takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A mount in a scene, served by a process that strace follows.
struct Mounted {
    scene: Scene,
    process: Child,
    point: PathBuf,
}

impl Mounted {
    /// Starts it; it may never be there.
    fn start(scene: Scene, mut through: Command, options: &[&str]) -> Mounted {
        let path = scene.path().to_owned();
        let said = File::create(path.join("said")).unwrap();
        let point = mkdir(&path.join("mnt"));
        through.arg(env!("CARGO_BIN_EXE_puzzlefs")).args(["mount", "--foreground"]).args(options);
        through.args(["-othreads=1", "images:v1", "mnt"]).current_dir(&path);
        let out = said.try_clone().unwrap();
        let process = through.stdin(Stdio::null()).stdout(out).stderr(said).spawn().unwrap();
        let mut mounted = Mounted { scene, process, point };
        let deadline = Instant::now() + PATIENCE;
        while !is_mounted(&mounted.point) && !mounted.has_ended() {
            assert!(Instant::now() < deadline, "neither mounted nor ended: {}", mounted.said());
            thread::sleep(Duration::from_millis(1));
        }
        mounted
    }

    fn has_ended(&mut self) -> bool {
        self.process.try_wait().unwrap().is_some()
    }

    fn said(&self) -> String {
        fs::read_to_string(self.scene.path().join("said")).unwrap()
    }

    /// Copies all that is in it.
    fn read(&self, name: &str) -> Result<Snapshot, String> {
        let copy = self.scene.path().join(name);
        let mut cp = Command::new("timeout");
        cp.args(["--signal=KILL", "60", "cp", "--archive", "mnt"]).arg(&copy);
        let output = run(cp.current_dir(self.scene.path()));
        if output.status.success() { Ok(Snapshot::of(&copy)) } else { Err(output.to_string()) }
    }

    /// Reads it if it is there, unmounts it, and sees that nothing is left.
    fn judge(&mut self, expected: &Snapshot) -> Result<(), String> {
        if is_mounted(&self.point) {
            // What a fault met may have failed, and must not again.
            let read = self.read("first").or_else(|_| self.read("second"));
            match read {
                // A fault has ended it, or is about to.
                _ if !is_mounted(&self.point) || self.said().contains("the mount ends") => {}
                Ok(found) if found == *expected => {}
                Ok(found) => return Err(format!("wrong: {:?}", expected.differences(&found))),
                // It has ended, and is about to say so.
                Err(why) if why.contains("Transport endpoint is not connected") => {}
                Err(why) => return Err(why),
            }
            run(puzzlefs().arg("umount").arg(&self.point));
        }
        let deadline = Instant::now() + PATIENCE;
        while !self.has_ended() {
            if Instant::now() > deadline {
                return Err("the process does not end".to_owned());
            }
            thread::sleep(Duration::from_millis(1));
        }
        if is_mounted(&self.point) {
            return Err("the mount is left".to_owned());
        }
        let status = self.process.wait().unwrap();
        let said = self.said();
        let is_told = said.lines().all(|line| line.starts_with("puzzlefs: ")) && !said.is_empty();
        match status.code() {
            Some(0) => Ok(()),
            Some(1) if is_told && !said.contains("panicked") => Ok(()),
            None if said.contains("memory allocation of") => Ok(()),
            code => Err(format!("it ended with {code:?}")),
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if is_mounted(&self.point) {
            run(Command::new("umount").arg("--lazy").arg(&self.point));
        }
        // It has ended, but where the test has failed.
        let _ = self.process.kill();
        self.process.wait().unwrap();
    }
}

fn inject(options: &[&str]) {
    let scene = Scene::new();
    let expected = Snapshot::of(&scene.path().join("tree"));
    let logs = temp_dir();
    let log = logs.path().join("log");
    Mounted::start(scene.copy(), recorded(&log), options).judge(&expected).unwrap();
    let mut calls = calls(&log);
    // Of an answer that the kernel does not take, it says that nobody waits for it any more. Here
    // somebody would, for ever.
    calls.retain(|call| call.name != "writev");
    let cases = calls.iter().flat_map(|call| ERRORS.iter().map(move |error| (call, *error)));
    let cases: Vec<(&Call, &str)> = sample(cases.collect(), SAMPLE);
    let tried = each(&cases, |(call, error)| {
        let logs = temp_dir();
        let log = logs.path().join("log");
        let through = injected(&log, call, Fault::Error(error));
        let mut mounted = Mounted::start(scene.copy(), through, options);
        mounted.judge(&expected).map_err(|why| {
            let injected = injections(&log);
            format!("mount {options:?}: {call:?}: {error}: {why}\n{}{injected:#?}", mounted.said())
        })?;
        Ok(!injections(&log).is_empty())
    });
    println!("{tried} of {} cases came about: mount {options:?}", cases.len());
    assert!(tried * 3 > cases.len(), "only {tried} of {} faults came about", cases.len());
}

#[test]
fn a_call_of_a_mount_fails() {
    inject(&[]);
}

#[test]
fn a_call_of_a_writable_mount_fails() {
    inject(&["--persist=kept"]);
}
