//! What is mounted, and mounts of the reference implementation that do not outlive their test.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::command::{reference, run};
use super::layout::Layout;
use super::temp_dir;

/// Far more than a mount takes, far less than a test run may.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(5);

pub fn is_mounted(point: &Path) -> bool {
    mount_line(point).is_some()
}

/// The line of the kernel's table for what is mounted on `point`.
pub fn mount_line(point: &Path) -> Option<String> {
    // Other tests mount on what is no UTF-8.
    let table = fs::read("/proc/self/mountinfo").unwrap();
    let table = String::from_utf8_lossy(&table);
    let point = point.to_str().unwrap();
    table.lines().find(|line| line.split(' ').nth(4) == Some(point)).map(str::to_owned)
}

/// An image, mounted by the reference until the value goes.
pub struct Mount {
    process: Child,
    /// Holds the mount point, and what the reference says.
    dir: TempDir,
    point: PathBuf,
}

impl Mount {
    #[track_caller]
    pub fn new(layout: &Layout, tag: &str) -> Mount {
        let dir = temp_dir();
        let point = dir.path().join("mnt");
        fs::create_dir(&point).unwrap();
        let log = File::create(dir.path().join("log")).unwrap();
        let device = fs::metadata(&point).unwrap().dev();
        let process = reference()
            .args(["mount", "-f"])
            .arg(layout.image(tag))
            .arg(&point)
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let mut mount = Mount { process, dir, point };
        let deadline = Instant::now() + PATIENCE;
        while fs::metadata(&mount.point).unwrap().dev() == device {
            let ended = mount.process.try_wait().unwrap();
            assert!(
                ended.is_none() && Instant::now() < deadline,
                "the reference did not mount {}: {ended:?}\n{}",
                layout.image(tag).display(),
                mount.log()
            );
            thread::sleep(PAUSE);
        }
        mount
    }

    pub fn path(&self) -> &Path {
        &self.point
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap()
    }

    /// Unmounts; tells why it could not.
    fn end(&mut self) -> Result<(), String> {
        let ended = |process: &mut Child| process.try_wait().unwrap().is_some();
        if ended(&mut self.process) {
            return Err(format!("the reference ended before its time\n{}", self.log()));
        }
        let unmounted = run(Command::new("umount").arg(&self.point));
        if !unmounted.status.success() {
            return Err(unmounted.to_string());
        }
        let deadline = Instant::now() + PATIENCE;
        while !ended(&mut self.process) {
            if Instant::now() > deadline {
                return Err(format!("the reference outlives its mount\n{}", self.log()));
            }
            thread::sleep(PAUSE);
        }
        Ok(())
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let Err(why) = self.end() else { return };
        // The process first: then nothing waits for it, and the mount can go,
        // where there was one.
        let _ = self.process.kill();
        let _ = self.process.wait();
        run(Command::new("umount").arg("--lazy").arg(&self.point));
        if !thread::panicking() {
            panic!("{why}");
        }
    }
}
