//! Running the CLI within limits, and what a run may come to.

use std::collections::BTreeSet;
use std::fmt::{self, Display};
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

/// The command-line tool under test.
pub const PUZZLEFS: &str = env!("CARGO_BIN_EXE_puzzlefs");

/// A run that takes longer hangs: most take some milliseconds, the longest a few seconds.
const TIMEOUT_SECONDS: &str = "300";

/// The address space of a run: what keeps the machine from harm, where a run is to be refused for
/// the memory that it takes.
const ADDRESS_SPACE: &str = "--as=4294967296";

/// What a test expects, or the reason why it did not come.
pub type Verdict = Result<(), String>;

/// Checks all rows of a table and fails with every row that is not as it should be.
#[track_caller]
pub fn each<R>(rows: impl IntoIterator<Item = R>, check: impl Fn(&R) -> Verdict) {
    let mut checked = 0;
    let mut failures = Vec::new();
    for row in rows {
        checked += 1;
        failures.extend(check(&row).err());
    }
    assert!(checked > 0, "the table is empty");
    assert!(failures.is_empty(), "{} of {checked} rows:\n{}", failures.len(), failures.join("\n"));
}

/// What came out of a run of the CLI, or of another program.
pub struct Run {
    command: String,
    output: Output,
}

/// A command that runs a program in `dir` with limits on its time and memory, up to the program's
/// own name.
pub fn limited(dir: &Path) -> Command {
    let mut command = Command::new("timeout");
    command.args(["--signal=KILL", TIMEOUT_SECONDS, "prlimit", ADDRESS_SPACE]);
    command.current_dir(dir);
    command
}

/// Runs the CLI in `dir`, with limits on its time and memory.
pub fn puzzlefs(dir: &Path, args: &[&str]) -> Run {
    wrapped(dir, &[], args)
}

/// The same through a command that runs a command, such as setpriv.
pub fn wrapped(dir: &Path, wrapper: &[&str], args: &[&str]) -> Run {
    Run::of(limited(dir).args(wrapper).arg(PUZZLEFS), args)
}

impl Run {
    /// Runs a command that ends with the CLI, with these arguments of the CLI.
    pub fn of(command: &mut Command, args: &[&str]) -> Self {
        let output = command.args(args).output();
        let output = output.unwrap_or_else(|error| panic!("run {command:?}: {error}"));
        Self::ended(args, output)
    }

    /// A run of the CLI with these arguments that left this.
    pub fn ended(args: &[&str], output: Output) -> Self {
        Run { command: format!("puzzlefs {}", args.join(" ")), output }
    }

    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.output.stdout).into_owned()
    }

    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.output.stderr).into_owned()
    }

    pub fn bytes(&self) -> &[u8] {
        &self.output.stdout
    }

    fn code(&self) -> Result<i32, String> {
        if self.stderr().contains("panicked") {
            return Err(format!("{self}: a panic"));
        }
        self.output.status.code().ok_or_else(|| format!("{self}: killed"))
    }

    /// It did what it was told.
    pub fn succeeded(&self) -> Verdict {
        match self.code()? {
            0 => Ok(()),
            _ => Err(format!("{self}: should work")),
        }
    }

    /// It failed with `code`, saying `message`: in one line, unless it found fault with the
    /// command line, of which clap says more.
    pub fn refused(&self, code: i32, message: &str) -> Verdict {
        match code {
            1 => self.told(1, "puzzlefs: ", message),
            _ => self.said(code, message),
        }
    }

    /// It failed with `code`, saying `message`: in one line, which begins with `start`.
    pub fn told(&self, code: i32, start: &str, message: &str) -> Verdict {
        self.said(code, message)?;
        let said = self.stderr();
        match said.lines().count() == 1 && said.starts_with(start) {
            true => Ok(()),
            false => Err(format!("{self}: should say one line, '{start}…'")),
        }
    }

    fn said(&self, code: i32, message: &str) -> Verdict {
        if self.code()? != code {
            Err(format!("{self}: should exit with {code}"))
        } else if !self.stderr().contains(message) {
            Err(format!("{self}: should say '{message}'"))
        } else {
            Ok(())
        }
    }

    /// It failed, and could not say why.
    pub fn failed_silently(&self) -> Verdict {
        match self.code()? {
            1 => Ok(()),
            _ => Err(format!("{self}: should exit with 1")),
        }
    }

    /// A check ended with `code` and found an error that says `message`.
    pub fn found(&self, code: i32, message: &str) -> Verdict {
        let stdout = self.stdout();
        let named = |line: &str| line.starts_with("error: ") && line.contains(message);
        if self.code()? != code {
            Err(format!("{self}: should exit with {code}"))
        } else if !stdout.lines().any(named) {
            Err(format!("{self}: should find '{message}'"))
        } else {
            Ok(())
        }
    }
}

impl Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = self.output.status;
        let code = status.code().map(|code| format!("exit {code}"));
        let signal = || format!("signal {}", status.signal().unwrap_or_default());
        let code = code.unwrap_or_else(signal);
        let (stdout, stderr) = (excerpt(&self.stdout()), excerpt(&self.stderr()));
        write!(f, "`{}`: {code}, stdout {stdout:?}, stderr {stderr:?}", self.command)
    }
}

fn excerpt(text: &str) -> String {
    const LONGEST: usize = 400;
    text.chars().take(LONGEST).collect()
}

/// An empty directory for one row of a table.
pub fn scratch() -> TempDir {
    tempfile::Builder::new().prefix("puzzlefs-bad-input-").tempdir().expect("make a directory")
}

/// All that is below `dir`, a line each: type, mode and owner, and of what is not a directory the
/// size and the time of the last change of any kind.
fn listing(dir: &Path) -> BTreeSet<String> {
    let every = "%P %y %m %U:%G";
    let of_directories = format!("{every}\\n");
    let of_others = format!("{every} %s %C@ %l\\n");
    let find = Command::new("find")
        .arg(dir)
        .args(["-type", "d", "-printf", &of_directories, "-o", "-printf", &of_others])
        .output()
        .expect("run find");
    assert!(find.status.success(), "find: {}", String::from_utf8_lossy(&find.stderr));
    String::from_utf8_lossy(&find.stdout).lines().map(str::to_owned).collect()
}

/// Runs `action`, after which `dir` must be as it was before.
pub fn nothing_written(dir: &Path, action: impl FnOnce() -> Verdict) -> Verdict {
    let before = listing(dir);
    action()?;
    let after = listing(dir);
    if before == after {
        return Ok(());
    }
    let (gone, new): (Vec<_>, Vec<_>) =
        (before.difference(&after).collect(), after.difference(&before).collect());
    Err(format!("something was written: gone {gone:?}, new {new:?}"))
}

/// Joins the name of a row to what went wrong in it.
pub fn named<'a>(name: &'a str) -> impl Fn(String) -> String + 'a {
    move |problem| format!("- {name}: {problem}")
}

/// The tags of the layout `out`, in the order of its index.
pub fn tags(out: &Path) -> Vec<String> {
    let index = fs::read(out.join("index.json")).expect("read index.json");
    let index: Value = serde_json::from_slice(&index).expect("parse index.json");
    let tag = |manifest: &Value| {
        let tag = &manifest["annotations"]["org.opencontainers.image.ref.name"];
        tag.as_str().expect("a tag").to_owned()
    };
    index["manifests"].as_array().expect("manifests").iter().map(tag).collect()
}

/// Two trees have the same files, with the same bytes.
#[track_caller]
pub fn same(one: &Path, other: &Path) {
    let diff = Command::new("diff").args(["-r", "--no-dereference"]).args([one, other]).output();
    let diff = diff.expect("run diff");
    let said = String::from_utf8_lossy(&diff.stdout);
    assert!(diff.status.success(), "{one:?} and {other:?} differ: {}", excerpt(&said));
}

/// A seeded generator of numbers that look random and of bytes that don't compress.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Random(seed)
    }

    /// The next number: xorshift64*.
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        let words = (0..len.div_ceil(8)).map(|_| self.next());
        let mut bytes: Vec<u8> = words.flat_map(u64::to_le_bytes).collect();
        bytes.truncate(len);
        bytes
    }
}
