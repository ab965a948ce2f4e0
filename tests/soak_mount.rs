//! One process that mounts images again and again, in little memory, while programs read them and
//! data comes and goes.
//!
//! It does so for some seconds, or as many as `PUZZLEFS_SOAK` says: see `make soak`.

mod common;
#[path = "mount/support.rs"]
#[allow(dead_code)]
mod support;

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use puzzlefs::image::{Image, OpenOptions};
use puzzlefs::layout::Reference;
use puzzlefs::mount::{Mount, MountOptions, Writable, mount};

use common::command::succeed;
use common::process::{ControlGroup, soak};
use common::tree::mkdir;
use support::{PATIENCE, Stage, debian, is_mounted};

/// What this process and the programs that it starts may have, the cache of what they read
/// included.
const MEMORY: u64 = 256 << 20;
/// What the process alone may have: less than what it is promised to need.
const MOST: u64 = 160 << 20;
/// Each kind of round, with and without verification, writable or not.
const ROUNDS: usize = 6;
/// A program that does not end is stuck.
const STUCK: Duration = Duration::from_secs(300);

#[global_allocator]
static ALLOCATOR: puzzlefs::Allocator = puzzlefs::Allocator;

const CHILD: &str = "PUZZLEFS_TEST_SOAKS";

/// In a process of its own, whose mounts nobody else sees, who could keep them.
#[test]
fn a_process_that_mounts_for_long_loses_nothing() {
    if std::env::var_os(CHILD).is_some() {
        return mount_for_long();
    }
    let mut child = Command::new("unshare");
    child.args(["--mount", "--propagation=private"]).arg(std::env::current_exe().unwrap());
    child.args(["--nocapture", "a_process_that_mounts_for_long_loses_nothing"]).env(CHILD, "1");
    assert!(child.status().unwrap().success(), "see above");
}

fn mount_for_long() {
    let mounts = Soak::new();
    let _group = ControlGroup::with_memory(MEMORY);
    soak(10, ROUNDS, MOST, |round| mounts.round(round));
}

struct Soak {
    /// A root file system, and beside it a file that fio has written.
    stage: Stage,
    image: PathBuf,
    /// What tar says of the tree.
    archive: String,
    packs: Vec<PathBuf>,
}

impl Soak {
    fn new() -> Soak {
        let stage = Stage::new(|tree| {
            succeed(Command::new("cp").arg("--archive").arg(debian()).arg(tree.join("root")));
            // A program that reads opens the device for writing too.
            fs::remove_dir_all(tree.join("root/dev")).unwrap();
            mkdir(&tree.join("fio"));
            succeed(fio(tree, "--rw=write").args(["--do_verify=0", "--end_fsync=1"]));
        });
        let archive = archive(&stage.tree);
        let image = PathBuf::from(stage.layout.image("v1"));
        let blobs = fs::read_dir(stage.layout.dir.join("blobs/sha256")).unwrap();
        let blobs = blobs.map(|entry| entry.unwrap().path());
        let packs = blobs.filter(|path| fs::metadata(path).unwrap().len() > 512 << 10).collect();
        Soak { stage, image, archive, packs }
    }

    fn round(&self, round: u64) {
        let verify = round % 2 == 1;
        let options = OpenOptions { verify, ..OpenOptions::default() };
        let reference = Reference::parse(&self.image).unwrap();
        let image = Arc::new(Image::open(&reference, &options).unwrap());
        let writable = if round % 5 == 4 { Writable::Memory } else { Writable::No };
        let options = MountOptions { writable, ..MountOptions::default() };
        let mounted = mount(&image, &self.stage.point(), options).unwrap();
        drop(image);
        match round % 3 {
            0 => self.all_at_once(mounted),
            1 => self.while_packs_vanish(mounted),
            _ => self.gone_while_read(mounted, Duration::from_millis(round * 37 % 400)),
        }
        assert!(!is_mounted(&self.stage.point()));
    }

    /// Programs that walk, archive and read at random all see what is there.
    fn all_at_once(&self, mounted: Mount) {
        let mut children = self.programs();
        assert_eq!(archive(&self.stage.point()), self.archive);
        for child in &mut children {
            assert!(wait(child), "a program that reads the mount failed");
        }
        mounted.unmount(false).unwrap();
    }

    /// Data that is not there is an error, and never other data; when it is back, all is well.
    fn while_packs_vanish(&self, mounted: Mount) {
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                for pack in self.packs.iter().cycle() {
                    let away = self.stage.path("away");
                    fs::rename(pack, &away).unwrap();
                    thread::sleep(Duration::from_millis(3));
                    fs::rename(&away, pack).unwrap();
                    if over.load(Ordering::Relaxed) {
                        break;
                    }
                }
            });
            compare(&self.stage.tree, &self.stage.point());
            over.store(true, Ordering::Relaxed);
        });
        assert_eq!(archive(&self.stage.point()), self.archive);
        mounted.unmount(false).unwrap();
    }

    /// The mount goes while programs are in it; they end, whether well or not.
    fn gone_while_read(&self, mounted: Mount, after: Duration) {
        let mut children = self.programs();
        thread::sleep(after);
        mounted.unmount(true).unwrap();
        for child in &mut children {
            wait(child);
        }
        assert!(mounted.wait(Some(PATIENCE)), "a mount that nobody uses does not end");
    }

    fn programs(&self) -> Vec<Child> {
        let point = self.stage.point();
        let mut find = Command::new("find");
        find.arg(point.join("root")).arg("-ls");
        let mut tar = Command::new("tar");
        tar.args(["--create", "--file=-", "--directory"]).arg(&point).arg("root");
        let mut random = fio(&point, "--rw=randread");
        random.args(["--readonly", "--time_based", "--runtime=1"]);
        let start = |command: &mut Command| {
            command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
        };
        [find, tar, random].iter_mut().map(start).collect()
    }
}

/// Writes, or reads, a file in which each block tells whether it is right.
fn fio(dir: &Path, what: &str) -> Command {
    let mut command = Command::new("fio");
    command.args(["--name=soak", "--size=48m", "--bs=16k", "--ioengine=psync", "--thread"]);
    command.args(["--verify=crc32c", "--verify_fatal=1", "--verify_state_save=0"]).arg(what);
    command.arg(format!("--filename={}", dir.join("fio/file").display()));
    command
}

/// The digest of an archive of a tree.
fn archive(tree: &Path) -> String {
    const SCRIPT: &str = "set -o pipefail
        tar --create --sort=name --numeric-owner --directory \"$1\" . | sha256sum";
    succeed(Command::new("bash").args(["-c", SCRIPT, "archive"]).arg(tree)).text().to_owned()
}

/// Waits for a program; tells whether it succeeded.
fn wait(child: &mut Child) -> bool {
    let deadline = Instant::now() + STUCK;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.success();
        }
        assert!(Instant::now() < deadline, "a program is stuck");
        thread::sleep(Duration::from_millis(5));
    }
}

/// All that can be read of `found` is as in `tree`.
fn compare(tree: &Path, found: &Path) {
    for entry in fs::read_dir(tree).unwrap() {
        let entry = entry.unwrap();
        let (one, other) = (entry.path(), found.join(entry.file_name()));
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            compare(&one, &other);
        } else if kind.is_file() {
            assert!(is_same(&one, &other), "{} is not what it was", other.display());
        }
    }
}

/// Whether a file is as another, as far as it can be read.
fn is_same(one: &Path, other: &Path) -> bool {
    let (mut one, mut other) = (File::open(one).unwrap(), File::open(other).unwrap());
    let (mut left, mut right) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    loop {
        let length = match other.read(&mut right) {
            Ok(length) => length,
            Err(error) => return error.raw_os_error() == Some(libc::EIO),
        };
        if length == 0 {
            return one.read(&mut left).unwrap() == 0;
        }
        if one.read_exact(&mut left[..length]).is_err() || left[..length] != right[..length] {
            return false;
        }
    }
}
