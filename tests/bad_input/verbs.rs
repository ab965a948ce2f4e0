//! All ways to read an image, by all programs that can, and what they may come to.
//!
//! The programs are the command, and those whose paths are in `PUZZLEFS_TOOLS`, with colons
//! between: the tools of `tests/suite` in C, in Go and in Rust. All of them must say the same.
//!
//! `PUZZLEFS_SECONDS` says how much processor time a run may take, on a machine that has nothing else
//! to do: 5 is what is promised, and what `make hostile` asks for. Without it, only what hangs fails.

use std::collections::{HashMap, HashSet};
use std::env;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, OnceLock};
use std::thread::sleep;
use std::time::Duration;

use serde_json::Value;

use crate::check::{PUZZLEFS, Run, Verdict, limited, nothing_written, scratch};
use crate::forge::{Blob, Image, dir, symlink};
use crate::images::{R, ROOT, content_of_f, sample};

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Verb {
    Inspect,
    Ls,
    Cat,
    Extract,
    Export,
    Fsck,
    Mount,
    Delta,
    Canonicalize,
    Diff,
    DiffJson,
    Convert,
    Tags,
    Gc,
    Graph,
    FsckLayout,
    Tag,
    Config,
    Untag,
}

use Verb::*;

/// Those that read the metadata.
pub const ALL: &[Verb] =
    &[Inspect, Ls, Cat, Extract, Export, Fsck, Mount, Delta, Canonicalize, Diff, DiffJson];
/// Those that read what is in `f`. A delta may, if it has to compare.
pub const DATA: &[Verb] = &[Cat, Extract, Export, Fsck, Mount, Canonicalize];
/// Those that read what is in all files.
pub const ALL_DATA: &[Verb] = &[Extract, Export, Fsck, Canonicalize];
/// Those that read documents alone, if not less: what is wrong with the rest is no matter to them.
const DOCUMENTS: &[Verb] = &[Convert, Tags, Gc, Graph, FsckLayout];
/// Those that change the layout.
const CHANGES: &[Verb] = &[Tag, Config, Untag];

/// How each verb is said to the command, and to a tool if it knows it. They find the image
/// `out:v1`, one that is honest, an upperdir that changes the last byte of `f`, and a directory to
/// mount on.
const WORDS: &[(Verb, &str, &str)] = &[
    (Inspect, "inspect --json out:v1", "inspect out:v1"),
    (Ls, "ls -R out:v1", "ls out:v1 ."),
    (Cat, "cat out:v1 f", "cat out:v1 f"),
    (Extract, "extract out:v1 target", "extract out:v1 target"),
    (Export, "export out:v1", "export out:v1 /dev/null"),
    (Fsck, "fsck out:v1", "fsck out:v1"),
    (Mount, "mount --foreground -o verify out:v1 mnt", "mount out:v1 mnt"),
    (Delta, "delta --base out:v1 upper new:v1", "delta --base=out:v1 upper new:v1"),
    (Canonicalize, "canonicalize out:v1 new:v1", "canonicalize out:v1 new:v1"),
    (Diff, "diff out:v1 honest:v1", "diff out:v1 honest:v1"),
    (DiffJson, "diff --json out:v1 honest:v1", ""),
    (Convert, "convert out:v1 new:v1", "convert out:v1 new:v1"),
    (Tags, "tags out", "tags out"),
    (Gc, "gc --dry-run out", "gc --dry-run out"),
    (Graph, "inspect --graph out", ""),
    (FsckLayout, "fsck out", "fsck out"),
    (Tag, "tag out:v1 new", "tag out:v1 new"),
    (Config, "config --user 1 --tag new out:v1", "config --user=1 --tag=new out:v1"),
    (Untag, "untag out:new", "untag out:new"),
];

/// What verbs make.
const MADE: &[&str] = &["target", "new"];

/// A program that knows the verbs.
struct Program {
    path: PathBuf,
    is_tool: bool,
}

fn programs() -> &'static [Program] {
    static PROGRAMS: OnceLock<Vec<Program>> = OnceLock::new();
    PROGRAMS.get_or_init(|| {
        let tools = env::var_os("PUZZLEFS_TOOLS").unwrap_or_default();
        let tools = env::split_paths(&tools).filter(|path| !path.as_os_str().is_empty());
        let command = Program { path: PUZZLEFS.into(), is_tool: false };
        std::iter::once(command).chain(tools.map(|path| Program { path, is_tool: true })).collect()
    })
}

impl Program {
    /// What it is told to do; `None` if it can't.
    fn words(&self, verb: Verb) -> Option<Vec<&'static str>> {
        let (_, command, tool) = WORDS.iter().find(|(known, ..)| *known == verb)?;
        let words = if self.is_tool { tool } else { command };
        (!words.is_empty()).then(|| words.split(' ').collect())
    }

    fn run(&self, dir: &Path, verb: Verb) -> Option<Answer> {
        let words = self.words(verb)?;
        let usage = tempfile::NamedTempFile::new().expect("make a file");
        // Of the one process, unlike what this process, which is larger, would be told.
        let mut command = limited(dir);
        command.args(["time", "--quiet", "--format=%M %U %S", "--output"]).arg(usage.path());
        command.arg(&self.path);
        let (run, content) = match verb {
            Mount => mount(dir, &mut command, &words),
            _ => (Run::of(&mut command, &words), None),
        };
        let usage = fs::read_to_string(usage.path()).expect("read what time says");
        let usage: Vec<f64> =
            usage.split(' ').filter_map(|word| word.trim().parse().ok()).collect();
        let &[kib, user, system] = &*usage else { panic!("{run}: time says {usage:?}") };
        let (memory, seconds) = ((kib as u64) << 10, user + system);
        Some(Answer { run, is_tool: self.is_tool, content, memory, seconds })
    }
}

/// What came out of a verb.
struct Answer {
    run: Run,
    is_tool: bool,
    /// What reading `f` in the mount came to.
    content: Option<io::Result<Vec<u8>>>,
    /// The most memory that was taken, in bytes.
    memory: u64,
    /// The processor time.
    seconds: f64,
}

/// Mounts, reads `f` and all else, and unmounts.
fn mount(dir: &Path, command: &mut Command, words: &[&str]) -> (Run, Option<io::Result<Vec<u8>>>) {
    let point = dir.join("mnt");
    let mut child = command
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("start a mount");
    let device = |path: &Path| fs::metadata(path).map(|metadata| metadata.dev()).ok();
    let is_mounted = || device(&point) != device(dir);
    while !is_mounted() && child.try_wait().expect("wait").is_none() {
        sleep(Duration::from_millis(2));
    }
    let content = is_mounted().then(|| {
        walk(&point, &mut 1000);
        read(&point.join("f"))
    });
    while is_mounted() {
        let umount = Command::new("umount").arg(&point).output().expect("run umount");
        if !umount.status.success() {
            sleep(Duration::from_millis(10));
        }
    }
    // A tool's own sign to end.
    drop(child.stdin.take());
    (Run::ended(words, child.wait_with_output().expect("wait")), content)
}

/// Reads the first bytes of a file: it may claim to have very many.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(1 << 20).read_to_end(&mut bytes).map(|_| bytes)
}

/// Looks at what is below a directory, as a careless program would, but not at more than so many
/// inodes; what fails is left out.
fn walk(dir: &Path, most: &mut usize) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if *most == 0 {
            return;
        }
        *most -= 1;
        let path = entry.path();
        let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
        let kind = metadata.file_type();
        // The deepest trees have a test of their own.
        if kind.is_dir() && path.as_os_str().len() < 1000 {
            walk(&path, most);
        } else if kind.is_symlink() {
            let _ = fs::read_link(&path);
        } else if kind.is_file() {
            let _ = read(&path);
        }
    }
}

impl Answer {
    /// It did what it was told; a mount can be read.
    fn succeeded(&self) -> Verdict {
        self.run.succeeded()?;
        match &self.content {
            Some(Err(error)) => Err(format!("{}: reading f: {error}", self.run)),
            _ => Ok(()),
        }
    }

    /// It told what is wrong; reading in a mount says no more than that it failed.
    fn refused(&self, verb: Verb, message: &str) -> Verdict {
        match (verb, &self.content) {
            (Mount, Some(Err(error))) if error.raw_os_error() == Some(libc::EIO) => {
                self.run.succeeded()
            }
            (Mount, Some(read)) => Err(format!("{}: reading f: {read:?}", self.run)),
            (Fsck, _) => self.found(message).or_else(|_| self.failed(message)),
            _ => self.failed(message),
        }
    }

    /// It did what it was told, or told in one line why not.
    fn answered(&self) -> Verdict {
        self.run.succeeded().or_else(|_| self.found("")).or_else(|_| self.failed(""))
    }

    fn failed(&self, message: &str) -> Verdict {
        match self.is_tool {
            true => self.run.told(1, "", message),
            false => self.run.told(1, "puzzlefs: ", message),
        }
    }

    /// A check found an error: to a tool that is no failure.
    fn found(&self, message: &str) -> Verdict {
        self.run.found(if self.is_tool { 0 } else { 1 }, message)
    }

    /// The kind of error, as far as it is told, and the words of it; what a check found.
    fn said(&self) -> (Option<String>, String) {
        let (stdout, stderr) = (self.run.stdout(), self.run.stderr());
        let found = stdout
            .lines()
            .filter(|line| ["error: ", "warning: "].iter().any(|s| line.starts_with(s)));
        match stderr.trim_end().split_once(": ") {
            Some((kind, words)) if self.run.succeeded().is_err() => {
                (self.is_tool.then(|| kind.to_owned()), words.to_owned())
            }
            _ => (None, found.map(|line| format!("{line}\n")).collect()),
        }
    }
}

/// The image `out:v1` in `dir` is refused by these verbs, which name what is wrong and write
/// nothing, and by no other that reads images. Whatever they come to, they take no more memory
/// than they may, and all programs say the same.
pub fn refused_by(dir: &Path, verbs: &[Verb], message: &str) -> Verdict {
    prepare(dir);
    let row = Row { verbs, message, size: Size::of(&dir.join("out")) };
    let mut said = HashMap::new();
    let mut problems = Vec::new();
    for (program, number) in programs().iter().zip(0..) {
        let mut check = |verb: Verb| {
            let Some(answer) = program.run(dir, verb) else { return };
            let verdicts = [
                row.check(verb, &answer),
                within(&answer, most_memory(number, verb, row.size)),
                same(verb, &answer, &mut said),
            ];
            problems.extend(verdicts.into_iter().filter_map(Result::err));
            if !verbs.contains(&verb) {
                remove_made(dir);
            }
        };
        let reading = || {
            ALL.iter().chain(DOCUMENTS).for_each(|&verb| check(verb));
            Ok(())
        };
        let verdict = nothing_written(dir, reading);
        CHANGES.iter().for_each(|&verb| check(verb));
        problems.extend(verdict.err());
    }
    if problems.is_empty() { Ok(()) } else { Err(problems.join("\n    ")) }
}

/// An image, and what is expected.
struct Row<'a> {
    verbs: &'a [Verb],
    message: &'a str,
    size: Size,
}

impl Row<'_> {
    fn check(&self, verb: Verb, answer: &Answer) -> Verdict {
        match verb {
            _ if self.verbs.contains(&verb) => answer.refused(verb, self.message),
            // It compares, or takes what is there as it is.
            Delta => answer.answered(),
            _ if ALL.contains(&verb) => answer.succeeded(),
            _ => answer.answered(),
        }
    }
}

fn within(answer: &Answer, most: u64) -> Verdict {
    let Answer { run, memory, seconds, .. } = answer;
    if *memory > most {
        Err(format!("{run}: {memory} bytes of memory, more than {most}"))
    } else if *seconds > most_seconds() {
        Err(format!("{run}: {seconds} seconds of processor time"))
    } else {
        Ok(())
    }
}

type Said = (Option<String>, String);

/// Every program says the same as the first one, and gives the error the same kind.
fn same(verb: Verb, answer: &Answer, said: &mut HashMap<Verb, Said>) -> Verdict {
    let (kind, words) = answer.said();
    let known = said.entry(verb).or_insert_with(|| (kind.clone(), words.clone()));
    if known.0.is_none() {
        known.0 = kind.clone();
    }
    // How much is read at once is the program's own matter.
    let same_words = verb == Cat || known.1 == words;
    match same_words && (kind.is_none() || known.0 == kind) {
        true => Ok(()),
        false => Err(format!("{}: the others said {known:?}", answer.run)),
    }
}

fn remove_made(dir: &Path) {
    for made in MADE {
        let made = dir.join(made);
        if made.exists() {
            fs::remove_dir_all(made).expect("remove what was made");
        }
    }
}

/// Makes what verbs need beside the image.
fn prepare(dir: &Path) {
    sample().write(&dir.join("honest"), "v1");
    for folder in ["mnt", "upper"] {
        fs::create_dir(dir.join(folder)).expect("mkdir");
    }
    let mut changed = content_of_f();
    *changed.last_mut().expect("f is not empty") ^= 1;
    fs::write(dir.join("upper/f"), changed).expect("write");
}

// Memory and time

/// The processor time that a run may take.
fn most_seconds() -> f64 {
    const HANGS: f64 = 100.0;
    env::var("PUZZLEFS_SECONDS").map_or(HANGS, |text| text.parse().expect("a number"))
}

/// What an image may take beyond what an honest one of the same size takes.
const BEYOND: u64 = 64 << 20;
/// The most memory that the program may take for the verb and an image of this size.
fn most_memory(program: usize, verb: Verb, size: Size) -> u64 {
    type Known = HashMap<(usize, Verb, Size), u64>;
    static KNOWN: Mutex<Option<Known>> = Mutex::new(None);
    let mut known = KNOWN.lock().expect("the lock");
    let honest = || {
        let scratch = scratch();
        honest(size).write(&scratch.path().join("out"), "v1");
        prepare(scratch.path());
        let answer = programs()[program].run(scratch.path(), verb).expect("it can");
        answer.answered().expect("an honest image can be read");
        answer.memory
    };
    let key = (program, verb, size);
    BEYOND + *known.get_or_insert_default().entry(key).or_insert_with(honest)
}

/// How many bytes an image has, about: those of about the same size are compared with the same honest
/// one.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Size {
    metadata: u64,
    /// What its packs hold, uncompressed.
    data: u64,
}

impl Size {
    const METADATA: u64 = 8 << 20;
    const DATA: u64 = 32 << 20;

    /// Of the image `v1` of a layout; of what can't be told, 0.
    fn of(layout: &Path) -> Self {
        let layers = layers(layout).unwrap_or_default();
        let metadata = layers.first().map_or(0, |(path, size)| len(path).min(*size));
        let packs: HashSet<&Path> = layers.iter().skip(1).map(|(path, _)| &**path).collect();
        let data: u64 = packs.into_iter().map(content).sum();
        Size {
            metadata: metadata / Self::METADATA * Self::METADATA,
            data: data / Self::DATA * Self::DATA,
        }
    }
}

/// The paths of the layers of the image `v1`, with the sizes that its manifest says.
fn layers(layout: &Path) -> Option<Vec<(PathBuf, u64)>> {
    let document = |path: &Path| -> Option<Value> {
        let is_small = (1..Size::METADATA).contains(&len(path));
        serde_json::from_slice(&is_small.then(|| fs::read(path).ok())??).ok()
    };
    let blob = |descriptor: &Value| {
        let digest = descriptor["digest"].as_str()?.strip_prefix("sha256:")?;
        Some(layout.join("blobs/sha256").join(digest))
    };
    let index = document(&layout.join("index.json"))?;
    let manifest = document(&blob(&index["manifests"][0])?)?;
    let layers = manifest["layers"].as_array()?.iter();
    Some(layers.filter_map(|layer| Some((blob(layer)?, layer["size"].as_u64()?))).collect())
}

/// The length of a file; of what is no file, 0.
fn len(path: &Path) -> u64 {
    fs::metadata(path).ok().filter(fs::Metadata::is_file).map_or(0, |metadata| metadata.len())
}

/// How many bytes a blob of data holds, as zstd says, if it is compressed.
fn content(path: &Path) -> u64 {
    const MOST: u64 = 1 << 30;
    if len(path) == 0 {
        return 0;
    }
    let decoder = File::open(path).and_then(zstd::Decoder::new);
    let content = decoder.and_then(|d| io::copy(&mut d.take(MOST), &mut io::sink()));
    content.unwrap_or_else(|_| len(path))
}

/// The sample with so many symlinks more, with long targets, and with a file so large, that it has at
/// least that size.
fn honest(size: Size) -> Image {
    const TARGET: usize = 4000;
    const NEW: u64 = 6;
    let mut image = sample();
    let links = NEW + 1..=NEW + size.metadata.div_ceil(TARGET as u64);
    let target = "t".repeat(TARGET);
    let names: Vec<(String, u64)> = links.clone().map(|ino| (format!("{ino:08}"), ino)).collect();
    let names: Vec<(&str, u64)> = names.iter().map(|(name, ino)| (name.as_str(), *ino)).collect();
    image.inode(ROOT).entries().insert(0, (b"all".into(), NEW));
    image.metadatas[0].push(dir(NEW, &names));
    image.metadatas[0].extend(links.map(|ino| symlink(ino, &target)));
    if size.data > 0 {
        let content: Vec<u8> = (0..size.data).map(|at| (at >> 10) as u8).collect();
        let blob = Blob::zstd(&content);
        *image.inode(R).extents() = vec![blob.extent(0, size.data)];
        image.blobs.push(blob);
    }
    image
}
