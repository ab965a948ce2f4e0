//! Mounts that do not outlive their test, and what they are made of.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::common::command::{Output, puzzlefs, run, succeed};
use super::common::layout::Layout;
pub use super::common::mount::is_mounted;
use super::common::mount::mount_line;
use super::common::temp_dir;
use super::common::tree::mkdir;

/// Far more than anything takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// A mount as it is without any.
pub const NO_OPTIONS: [&str; 0] = [];

/// Waits until it is so.
#[track_caller]
pub fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "it never happened: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// An image of a tree, and a place to mount it.
pub struct Stage {
    pub dir: TempDir,
    pub layout: Layout,
    pub tree: PathBuf,
}

impl Stage {
    /// An image of what `fill` makes.
    #[track_caller]
    pub fn new(fill: impl FnOnce(&Path)) -> Stage {
        Stage::with_options(fill, &[])
    }

    #[track_caller]
    pub fn with_options(fill: impl FnOnce(&Path), options: &[&str]) -> Stage {
        let dir = temp_dir();
        let tree = mkdir(&dir.path().join("tree"));
        fill(&tree);
        Stage::build(dir, tree, options)
    }

    /// An image of a tree that is there.
    #[track_caller]
    pub fn of(tree: &Path) -> Stage {
        Stage::build(temp_dir(), tree.to_owned(), &[])
    }

    #[track_caller]
    fn build(dir: TempDir, tree: PathBuf, options: &[&str]) -> Stage {
        let layout = Layout::new(dir.path().join("images"));
        succeed(puzzlefs().arg("build").args(options).arg(&tree).arg(layout.image("v1")));
        mkdir(&dir.path().join("mnt"));
        Stage { dir, layout, tree }
    }

    pub fn point(&self) -> PathBuf {
        self.dir.path().join("mnt")
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The command that mounts the image.
    pub fn command(&self, options: &[impl AsRef<OsStr>]) -> Command {
        let mut command = puzzlefs();
        command.arg("mount").args(options).arg(self.layout.image("v1")).arg(self.point());
        command
    }

    #[track_caller]
    pub fn mount(&self, options: &[impl AsRef<OsStr>]) -> Mounted {
        let mounted = Mounted(self.point());
        succeed(&mut self.command(options));
        assert!(is_mounted(&mounted.0), "{} is not mounted", mounted.0.display());
        mounted
    }

    /// The largest blob: that of data, in the tests which need it.
    pub fn pack(&self) -> PathBuf {
        let blobs = fs::read_dir(self.layout.dir.join("blobs/sha256")).unwrap();
        let blobs = blobs.map(|entry| entry.unwrap().path());
        blobs.max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap()
    }
}

/// A Debian root file system.
pub fn debian() -> PathBuf {
    let root =
        std::env::var_os("PUZZLEFS_ROOT").expect("PUZZLEFS_ROOT is not set: run `make test-rust`");
    PathBuf::from(root)
}

/// A mount, until the value goes.
pub struct Mounted(pub PathBuf);

impl Mounted {
    #[track_caller]
    pub fn unmount(self) {
        succeed(puzzlefs().arg("umount").arg(&self.0));
        assert!(!is_mounted(&self.0), "{} is still mounted", self.0.display());
        // Another test may have a copy of the mount in a namespace of its own for a while.
        wait_until("its process is gone", || daemons(&self.0).is_empty());
    }

    /// The line of the kernel's table.
    pub fn line(&self) -> String {
        mount_line(&self.0).expect("it is mounted")
    }
}

impl std::ops::Deref for Mounted {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.0
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if is_mounted(&self.0) {
            let unmounted: Output = run(Command::new("umount").arg("--lazy").arg(&self.0));
            if !thread::panicking() {
                assert!(unmounted.status.success(), "{unmounted}");
            }
        }
    }
}

/// Runs a script of bash where mounts are seen by nobody else; those of other tests are not seen
/// there, or they would not end.
#[track_caller]
pub fn alone(script: &str, arguments: &[&OsStr]) -> Output {
    const OTHERS: &str = r#"
        awk '$5 ~ /puzzlefs-test-/ { print $5 }' /proc/self/mountinfo | tac |
            while read -r point; do umount --lazy "$(printf %b "$point")"; done
    "#;
    let script = format!("{OTHERS}{script}");
    let mut command = Command::new("unshare");
    command.args(["--mount", "bash", "-euxo", "pipefail", "-c", &script, "alone"]);
    succeed(command.args(arguments))
}

/// The processes that serve this mount point.
pub fn daemons(point: &Path) -> Vec<i32> {
    let own = |entry: fs::DirEntry| {
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        // One that has just ended has none.
        let line = fs::read(entry.path().join("cmdline")).ok()?;
        let mut words = line.split(|&byte| byte == 0);
        let is_daemon = words.any(|word| word == b"--daemon");
        let here =
            line.split(|&byte| byte == 0).any(|word| word == point.as_os_str().as_encoded_bytes());
        (is_daemon && here).then_some(pid)
    };
    fs::read_dir("/proc").unwrap().filter_map(|entry| own(entry.unwrap())).collect()
}
