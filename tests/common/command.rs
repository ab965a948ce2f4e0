//! Running programs, with messages that tell what went wrong.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Duration;
use std::{env, fs, io, thread};

use rustix::process::{Pid, Signal};
use serde_json::Value;

/// Far more than any program of the tests takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(300);

/// The user that stands for all users who are not root: nobody.
pub const ORDINARY_USER: u32 = 65534;

/// What a program that has ended left.
pub struct Output {
    command: String,
    pub status: ExitStatus,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
}

impl Output {
    /// Standard output, which must be UTF-8, without the last newline.
    #[track_caller]
    pub fn text(&self) -> &str {
        let Ok(text) = std::str::from_utf8(&self.stdout) else {
            panic!("standard output is not UTF-8\n{self}");
        };
        text.strip_suffix('\n').unwrap_or(text)
    }

    /// Standard output, which must be one JSON document.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.stdout)
            .unwrap_or_else(|e| panic!("standard output is not JSON: {e}\n{self}"))
    }

    pub fn errors(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        writeln!(f, "$ {}", self.command)?;
        writeln!(f, "{}", self.status)?;
        for (name, bytes) in [("output", &self.stdout), ("error", &self.stderr)] {
            writeln!(f, "--- standard {name}")?;
            writeln!(f, "{}", String::from_utf8_lossy(bytes).trim_end())?;
        }
        Ok(())
    }
}

/// Runs a program to its end, however that be; one that hangs is killed.
#[track_caller]
pub fn run(command: &mut Command) -> Output {
    let line = show(command);
    let child = match command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn() {
        Ok(child) => child,
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            panic!("$ {line}\nthere is no such program: run `make deps`")
        }
        Err(e) => panic!("$ {line}\ncannot start it: {e}"),
    };
    let process = Pid::from_child(&child);
    let (ended, end) = mpsc::channel();
    let watch = thread::spawn(move || {
        let hangs = end.recv_timeout(PATIENCE).is_err();
        if hangs {
            rustix::process::kill_process(process, Signal::KILL).unwrap();
        }
        hangs
    });
    let output = child.wait_with_output().unwrap();
    // Nobody receives it where the program was killed.
    let _ = ended.send(());
    let hung = watch.join().unwrap();
    let output = Output {
        command: line,
        status: output.status,
        stdout: output.stdout,
        stderr: output.stderr,
    };
    assert!(!hung, "a command took more than {PATIENCE:?}\n{output}");
    output
}

/// Runs a program that must succeed.
#[track_caller]
pub fn succeed(command: &mut Command) -> Output {
    let output = run(command);
    assert!(output.status.success(), "a command failed\n{output}");
    output
}

/// Runs a program that must fail with this exit status, and not by a signal.
#[track_caller]
pub fn fail(code: i32, command: &mut Command) -> Output {
    let output = run(command);
    assert_eq!(
        output.status.code(),
        Some(code),
        "a command ended otherwise than it had to\n{output}"
    );
    output
}

/// The command-line tool under test. What it makes may depend on nothing that
/// the caller of the tests has in the environment.
pub fn puzzlefs() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_puzzlefs"));
    command.env_remove("SOURCE_DATE_EPOCH");
    command
}

/// The reference implementation's program.
#[track_caller]
pub fn reference_program() -> PathBuf {
    let program = match env::var_os("PUZZLEFS_REFERENCE") {
        Some(program) => PathBuf::from(program),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/reference/bin/puzzlefs"),
    };
    assert!(
        program.is_file(),
        "the reference implementation is missing at {}: run `make deps`",
        program.display()
    );
    program
}

/// The reference implementation, as root.
#[track_caller]
pub fn reference() -> Command {
    Command::new(reference_program())
}

/// The reference implementation, as an ordinary user. It runs from a copy in
/// `dir`, since that user may have no way to where it is installed.
#[track_caller]
pub fn reference_as_ordinary_user(dir: &Path) -> Command {
    let copy = dir.join("reference");
    fs::copy(reference_program(), &copy).unwrap();
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = Command::new("setpriv");
    command
        .arg(format!("--reuid={ORDINARY_USER}"))
        .arg(format!("--regid={ORDINARY_USER}"))
        .arg("--clear-groups")
        .arg(copy);
    command
}

/// The command line, as a shell would take it unless it has odd bytes.
fn show(command: &Command) -> String {
    let mut line = quote(command.get_program());
    for argument in command.get_args() {
        line.push(' ');
        line.push_str(&quote(argument));
    }
    line
}

fn quote(argument: &OsStr) -> String {
    let text = argument.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:=@,+%".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.into_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}
