//! A registry of a test's own.

use std::fs::{self, File};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::temp_dir;

const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(10);
/// What the registry logs before the address that it found for itself.
const LISTENING: &str = "listening on ";

/// Debian's docker-registry on a free port of the loopback interface, with its
/// storage in a temporary directory.
pub struct Registry {
    process: Child,
    dir: TempDir,
    /// `127.0.0.1:PORT`
    pub address: String,
}

impl Registry {
    /// Starts it, and waits until it serves.
    #[track_caller]
    pub fn start() -> Registry {
        let dir = temp_dir();
        let config = dir.path().join("config.yml");
        let storage = dir.path().join("storage");
        let text = format!(
            "version: 0.1\n\
             storage: {{filesystem: {{rootdirectory: {storage:?}}}}}\n\
             http: {{addr: '127.0.0.1:0'}}\n"
        );
        fs::write(&config, text).unwrap();
        let log = File::create(dir.path().join("log")).unwrap();
        let process = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|e| panic!("cannot start docker-registry ({e}): run `make deps`"));
        let mut registry = Registry { process, dir, address: String::new() };
        registry.address = registry.listening();
        registry
    }

    #[track_caller]
    fn listening(&mut self) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let log = fs::read_to_string(self.dir.path().join("log")).unwrap();
            let address = log.split_once(LISTENING).and_then(|(_, rest)| {
                rest.split_once(|c: char| !c.is_ascii_digit() && c != '.' && c != ':')
            });
            if let Some((address, _)) = address {
                return address.to_owned();
            }
            let ended = self.process.try_wait().unwrap();
            assert!(
                ended.is_none() && Instant::now() < deadline,
                "docker-registry does not serve: {ended:?}\n{log}"
            );
            thread::sleep(PAUSE);
        }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.process.kill().expect("cannot end docker-registry");
        self.process.wait().expect("cannot end docker-registry");
    }
}
