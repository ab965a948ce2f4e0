//! The commands that look at images: inspect, ls, cat, fsck, diff.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::fmt::{self, Display, Formatter};
use std::io::{self, BufWriter, IsTerminal, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::ExitCode;

use puzzlefs::diff::{Added, Change};
use puzzlefs::fsck::FsckOptions;
use puzzlefs::graph::Graph;
use puzzlefs::image::OpenOptions;
use puzzlefs::layout::{Layout, time_of};
use puzzlefs::progress::Monitor;
use puzzlefs::tree::{Ino, Kind};
use puzzlefs::{Error, ErrorKind, diff, fsck, image, inspect};
use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};
use serde_json::{Value, json};

use crate::args::{Cat, Diff, Fsck, Image, Inspect, Ls};
use crate::output::{Bar, Escaped, Failure, JsonWriter};

/// Opens the image that was asked for.
pub fn open(image: &Image, verify: bool) -> Result<image::Image, Error> {
    let options = OpenOptions { platform: image.platform.clone(), verify };
    image::Image::open(&image.reference, &options)
}

/// Prints text to standard output.
pub fn print(text: &str) -> Result<(), Failure> {
    io::stdout().write_all(text.as_bytes()).map_err(Failure::from)
}

/// Prints a JSON document to standard output, as it comes.
pub fn print_json(document: &impl Serialize) -> Result<(), Failure> {
    let mut out = BufWriter::new(io::stdout().lock());
    serde_json::to_writer_pretty(JsonWriter(&mut out), document).map_err(io::Error::from)?;
    out.write_all(b"\n")?;
    Ok(out.flush()?)
}

/// A path as JSON text; what is no UTF-8 is escaped.
pub fn text(path: &OsStr) -> String {
    match path.to_str() {
        Some(text) => text.to_owned(),
        None => path.as_bytes().escape_ascii().to_string(),
    }
}

pub fn inspect(args: Inspect) -> Result<ExitCode, Failure> {
    if args.graph {
        return graph(&args);
    }
    let image = Image { reference: args.reference(), platform: args.platform.clone() };
    let image = open(&image, false)?;
    if args.dump {
        let mut out = BufWriter::new(io::stdout().lock());
        inspect::dump(image.rootfs(), &mut out)?;
        out.flush()?;
        return Ok(ExitCode::SUCCESS);
    }
    let document = inspect::inspect(&image)?;
    if args.json {
        print_json(&document)?;
    } else {
        print(&page(&document))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn graph(args: &Inspect) -> Result<ExitCode, Failure> {
    let (path, name) = fsck::parse_target(&args.what)?;
    let layout = Layout::open(&path)?;
    let graph = match name {
        None => Graph::of_layout(&layout)?,
        Some(name) => Graph::of_image(&layout, &name, args.platform.as_ref())?,
    };
    print(&graph.to_svg(&args.what.to_string_lossy()))?;
    Ok(ExitCode::SUCCESS)
}

/// The document as a page for a human.
fn page(document: &Value) -> String {
    let mut page = String::new();
    let mut line = |key: &str, value: String| {
        page.push_str(&format!("{key:<14} {value}\n"));
    };
    let config = &document["config"];
    let number = |value: &Value| value.as_u64().unwrap_or(0);
    line("manifest", plain(&document["manifest"]["digest"]));
    line("rootfs", plain(&document["rootfs"]["digest"]));
    if config.is_object() {
        line("platform", format!("{}/{}", plain(&config["os"]), plain(&config["architecture"])));
        line("created", plain(&config["created"]));
    } else {
        line("config", "none".to_owned());
    }
    for (key, value) in config["config"].as_object().into_iter().flatten() {
        line(&printable(&key.to_lowercase()), plain(value));
    }
    for (key, value) in document["annotations"].as_object().into_iter().flatten() {
        line("annotation", format!("{}={}", printable(key), plain(value)));
    }
    let inodes = &document["inodes"];
    let kinds = [
        "files",
        "directories",
        "symlinks",
        "fifos",
        "sockets",
        "char_devices",
        "block_devices",
        "hard_links",
    ];
    let counts = kinds.iter().filter(|&&kind| number(&inodes[kind]) > 0);
    let counts: Vec<_> =
        counts.map(|&kind| format!("{} {}", inodes[kind], kind.replace('_', " "))).collect();
    line("inodes", format!("{} ({})", inodes["total"], counts.join(", ")));
    let (bytes, blobs) = (&document["bytes"], &document["blobs"]);
    line("files", format!("{} bytes in {} extents", bytes["files"], bytes["extents"]));
    line("metadata", format!("{} bytes", bytes["metadata"]));
    line(
        "data",
        format!(
            "{} bytes in {} blobs, {} of them compressed",
            bytes["data"], blobs["count"], blobs["compressed"]
        ),
    );
    if number(&blobs["missing"]) > 0 {
        line("missing", format!("{} data blobs", blobs["missing"]));
    }
    for other in document["shared"].as_array().into_iter().flatten() {
        let (tag, blobs, bytes) = (plain(&other["tag"]), &other["blobs"], &other["bytes"]);
        line("shared with", format!("{tag}: {blobs} data blobs, {bytes} bytes"));
    }
    for entry in config["history"].as_array().into_iter().flatten() {
        let texts = ["created", "created_by", "author", "comment"];
        let texts = texts.iter().filter(|&&key| entry[key].is_string());
        let texts: Vec<_> = texts.map(|&key| plain(&entry[key])).collect();
        line("history", texts.join("  "));
    }
    page
}

/// A value as text without quotes, and without what a terminal would take for a command.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => printable(text),
        Value::Null => "-".to_owned(),
        other => Escaped::line(&other.to_string()).to_string(),
    }
}

fn printable(text: &str) -> String {
    text.escape_debug().to_string().replace("\\\"", "\"").replace("\\'", "'")
}

pub fn ls(args: Ls) -> Result<ExitCode, Failure> {
    let image = open(&args.image, false)?;
    let start = image.lookup(&args.path)?;
    let stdout = io::stdout().lock();
    let form = Form { long: args.long, escaped: stdout.is_terminal() };
    let mut out = BufWriter::new(stdout);
    if image.tree().inode(start).entries().is_none() {
        list(&image, &mut out, args.path.as_os_str().as_bytes(), start, form)?;
    }
    image.tree().walk(start, |path, ino| {
        list(&image, &mut out, path, ino, form).map(|()| args.recursive)
    })?;
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// How inodes are listed.
#[derive(Clone, Copy)]
struct Form {
    long: bool,
    /// A terminal would take some names for a command.
    escaped: bool,
}

/// One line: the name as it is, like `ls` into a pipe, or escaped; `-l` puts the rest before it.
fn list(
    image: &image::Image,
    out: &mut impl Write,
    path: &[u8],
    ino: Ino,
    Form { long, escaped }: Form,
) -> io::Result<()> {
    let shown = |bytes| -> Cow<'_, [u8]> {
        if escaped {
            Escaped::exact(bytes).to_string().into_bytes().into()
        } else {
            Cow::Borrowed(bytes)
        }
    };
    if long {
        let inode = image.tree().inode(ino);
        let metadata = &inode.metadata;
        let size = match &inode.kind {
            Kind::CharDevice(device) | Kind::BlockDevice(device) => {
                format!("{}, {}", device.major, device.minor)
            }
            Kind::Symlink(target) => target.len().to_string(),
            _ => image.size(ino).to_string(),
        };
        write!(
            out,
            "{} {:>3} {:>5} {:>5} {:>12} {} ",
            mode(&inode.kind, metadata.permissions),
            inode.nlink,
            metadata.uid,
            metadata.gid,
            size,
            time_of(metadata.mtime.seconds),
        )?;
    }
    out.write_all(&shown(path))?;
    if let (true, Kind::Symlink(target)) = (long, &image.tree().inode(ino).kind) {
        out.write_all(b" -> ")?;
        out.write_all(&shown(target))?;
    }
    out.write_all(b"\n")
}

/// Type and permissions as `ls -l` shows them.
fn mode<F>(kind: &Kind<F>, permissions: u16) -> String {
    let mut text = String::with_capacity(10);
    text.push(match kind {
        Kind::Directory(_) => 'd',
        Kind::Regular(_) => '-',
        Kind::Symlink(_) => 'l',
        Kind::Fifo => 'p',
        Kind::Socket => 's',
        Kind::CharDevice(_) => 'c',
        Kind::BlockDevice(_) => 'b',
    });
    let special = [(0o4000, 's'), (0o2000, 's'), (0o1000, 't')];
    for (class, (bit, letter)) in special.into_iter().enumerate() {
        let bits = permissions >> (6 - 3 * class);
        text.push(if bits & 4 != 0 { 'r' } else { '-' });
        text.push(if bits & 2 != 0 { 'w' } else { '-' });
        text.push(match (permissions & bit != 0, bits & 1 != 0) {
            (true, true) => letter,
            (true, false) => letter.to_ascii_uppercase(),
            (false, true) => 'x',
            (false, false) => '-',
        });
    }
    text
}

pub fn cat(args: Cat) -> Result<ExitCode, Failure> {
    const WINDOW: usize = 1024 * 1024;
    let image = open(&args.image, !args.no_verify)?;
    let ino = image.resolve(&args.path)?;
    if image.tree().inode(ino).file().is_none() {
        let message = format!("'{}' in the image: not a regular file", args.path.display());
        return Err(Error::new(ErrorKind::InvalidInput, message).into());
    }
    let mut out = io::stdout().lock();
    let mut buffer = vec![0; WINDOW];
    let mut offset = 0;
    loop {
        let length = image.read_at(ino, &mut buffer, offset)?;
        if length == 0 {
            break;
        }
        out.write_all(&buffer[..length])?;
        offset += length as u64;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

pub fn fsck(args: Fsck) -> Result<ExitCode, Failure> {
    let (layout, name) = fsck::parse_target(&args.what)?;
    let bar = Bar::new(args.quiet);
    let report = |progress| bar.show(progress);
    let options = FsckOptions { repair_from: args.from };
    let found = fsck::fsck(&layout, name.as_ref(), &options, &Monitor::new(&report))?;
    drop(bar);
    if args.json {
        print_json(&Report::of(&found))?;
    } else {
        let mut out = BufWriter::new(io::stdout().lock());
        for finding in &found.findings {
            writeln!(out, "{finding}")?;
        }
        out.flush()?;
    }
    Ok(if found.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What a check found as JSON, which is written as it comes: findings may be many, and each has all
/// its tags.
#[derive(serde::Serialize)]
struct Report<'a> {
    clean: bool,
    #[serde(serialize_with = "findings")]
    findings: &'a [fsck::Finding],
    images: u64,
    blobs: u64,
    bytes: u64,
    unreferenced: u64,
}

impl<'a> Report<'a> {
    fn of(found: &'a fsck::FsckReport) -> Self {
        Report {
            clean: found.is_clean(),
            findings: &found.findings,
            images: found.images,
            blobs: found.blobs,
            bytes: found.bytes,
            unreferenced: found.unreferenced,
        }
    }
}

#[derive(serde::Serialize)]
struct Finding<'a> {
    severity: String,
    message: &'a str,
    #[serde(serialize_with = "tags")]
    tags: &'a fsck::Tags,
}

fn findings<S: Serializer>(findings: &[fsck::Finding], json: S) -> Result<S::Ok, S::Error> {
    json.collect_seq(findings.iter().map(|finding| Finding {
        severity: finding.severity.to_string(),
        message: &finding.message,
        tags: &finding.tags,
    }))
}

fn tags<S: Serializer>(tags: &fsck::Tags, json: S) -> Result<S::Ok, S::Error> {
    json.collect_seq(tags.iter().map(|tag| &**tag))
}

pub fn diff(args: Diff) -> Result<ExitCode, Failure> {
    let options = OpenOptions { platform: args.platform, verify: false };
    let open = |reference| image::Image::open(reference, &options);
    let (old, new) = (open(&args.a)?, open(&args.b)?);
    let added = diff::added(&old, &new)?;
    if args.json {
        print_json(&Differences { changes: Changes { old: &old, new: &new }, added: &added })?;
    } else {
        let mut out = BufWriter::new(io::stdout().lock());
        diff::changes(&old, &new, |path, change| change_line(&mut out, path, &change))?;
        let Added { blobs, bytes_data, bytes_metadata } = added;
        writeln!(
            out,
            "adds {bytes_data} bytes in {blobs} data blobs, {bytes_metadata} of metadata"
        )?;
        out.flush()?;
    }
    Ok(ExitCode::SUCCESS)
}

fn change_line(out: &mut impl Write, path: &Path, change: &Change) -> io::Result<()> {
    let path = Escaped::exact(path.as_os_str().as_bytes());
    match change {
        Change::Added => writeln!(out, "+ {path}"),
        Change::Removed => writeln!(out, "- {path}"),
        Change::Changed(aspects) => {
            let aspects: Vec<_> = aspects.iter().map(|aspect| aspect.as_str()).collect();
            writeln!(out, "~ {path} ({})", aspects.join(", "))
        }
    }
}

/// The differences as a JSON document, each of which is written when it is found.
#[derive(serde::Serialize)]
struct Differences<'a> {
    changes: Changes<'a>,
    #[serde(serialize_with = "sums")]
    added: &'a Added,
}

fn sums<S: Serializer>(added: &Added, json: S) -> Result<S::Ok, S::Error> {
    let sums = json!({
        "blobs": added.blobs,
        "data": added.bytes_data,
        "metadata": added.bytes_metadata,
        "bytes": added.bytes_data.saturating_add(added.bytes_metadata),
    });
    sums.serialize(json)
}

/// The changes from one image to another.
struct Changes<'a> {
    old: &'a image::Image,
    new: &'a image::Image,
}

impl Serialize for Changes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(None)?;
        diff::changes(self.old, self.new, |path, change| {
            list.serialize_element(&ChangeObject { path, change })
        })?;
        list.end()
    }
}

/// A change as JSON. A path that is not UTF-8 is escaped, and stands as it is, in hexadecimal,
/// beside that.
struct ChangeObject<'a> {
    path: &'a Path,
    change: Change,
}

impl Serialize for ChangeObject<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_map(None)?;
        if let Some(path) = self.path.to_str() {
            object.serialize_entry("path", path)?;
        } else {
            let bytes = self.path.as_os_str().as_bytes();
            object.serialize_entry("path", &format_args!("{}", bytes.escape_ascii()))?;
            object.serialize_entry("path_hex", &format_args!("{}", Hex(bytes)))?;
        }
        let (kind, aspects) = match &self.change {
            Change::Added => ("added", None),
            Change::Removed => ("removed", None),
            Change::Changed(aspects) => ("changed", Some(aspects)),
        };
        object.serialize_entry("change", kind)?;
        if let Some(aspects) = aspects {
            let words: Vec<_> = aspects.iter().map(|aspect| aspect.as_str()).collect();
            object.serialize_entry("how", &words)?;
        }
        object.end()
    }
}

// Paths, which may be of any length: they are written as they are read

/// Bytes in hexadecimal.
struct Hex<'a>(&'a [u8]);

impl Display for Hex<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
