//! All of the library as a command-line tool: see suite.bats, which tests this one and its like in
//! C and in Go.
//!
//!     tool COMMAND [--OPTION[=VALUE]]... [OPERAND]...

use std::ffi::{OsStr, OsString};
use std::fmt::Display;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::process::{ExitCode, exit};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;
use std::{env, ops::ControlFlow};

use puzzlefs::build::{
    BaseOptions, BuildOptions, BuildReport, ConvertOptions, DataLayout, build, canonicalize,
    convert, delta,
};
use puzzlefs::config::{Clear, ConfigChange, Configured, configure};
use puzzlefs::diff::{Added, Change, added, changes};
use puzzlefs::export::export;
use puzzlefs::extract::{ExtractOptions, extract};
use puzzlefs::fsck::{FsckOptions, fsck, parse_target};
use puzzlefs::image::{Image, OpenOptions, Pin};
use puzzlefs::inspect::inspect;
use puzzlefs::layout::{ConfigOptions, GcOptions, Layout, Platform, Reference, TagEntry, gc};
use puzzlefs::mount::{IdMap, MountOptions, Writable, mount, unmount};
use puzzlefs::pack::Compression;
use puzzlefs::progress::{Monitor, Progress};
use puzzlefs::source::ScanOptions;
use puzzlefs::source::overlay::MarkNamespace;
use puzzlefs::tree::{Ino, Kind};
use puzzlefs::{Error, Result};
use serde_json::Value;

fn die(what: impl Display) -> ! {
    eprintln!("tool: wrong {what}");
    exit(2);
}

/// What of the command line is not taken yet.
struct Arguments(Vec<OsString>);

impl Arguments {
    /// Takes `--name` or `--name=value`.
    fn take(&mut self, name: &str) -> Option<OsString> {
        let found = |argument: &OsString| {
            let rest = argument.as_bytes().strip_prefix(name.as_bytes())?;
            if rest.is_empty() {
                Some(rest.to_vec())
            } else {
                rest.strip_prefix(b"=").map(<[u8]>::to_vec)
            }
        };
        let (at, value) =
            self.0.iter().enumerate().find_map(|(at, argument)| Some((at, found(argument)?)))?;
        self.0.remove(at);
        Some(OsString::from_vec(value))
    }

    fn flag(&mut self, name: &str) -> bool {
        self.take(name).is_some()
    }

    fn text(&mut self, name: &str) -> Option<String> {
        Some(self.take(name)?.into_string().unwrap_or_else(|_| die(name)))
    }

    fn number<N: FromStr>(&mut self, name: &str) -> Option<N> {
        Some(self.text(name)?.parse().unwrap_or_else(|_| die(name)))
    }

    /// All values of an option.
    fn list(&mut self, name: &str) -> Vec<String> {
        std::iter::from_fn(|| self.text(name)).collect()
    }

    /// All values of an option, each as `KEY=VALUE`.
    fn pairs<L: FromIterator<(String, String)>>(&mut self, name: &str) -> L {
        let split =
            |pair: &String| pair.split_once('=').map(|(key, value)| (key.into(), value.into()));
        self.list(name).iter().map(|pair| split(pair).unwrap_or_else(|| die(name))).collect()
    }

    /// What a file holds, as an option has its path.
    fn content(&mut self, name: &str) -> Option<Vec<u8>> {
        Some(fs::read(self.take(name)?).unwrap_or_else(|_| die(name)))
    }

    /// An option's value among all there are; the first if it is not given.
    fn choice<T: Copy>(&mut self, name: &str, values: &[(&str, T)]) -> T {
        let Some(value) = self.text(name) else { return values[0].1 };
        values.iter().find(|(text, _)| *text == value).unwrap_or_else(|| die(name)).1
    }

    fn platform(&mut self) -> Result<Option<Platform>> {
        self.text("--platform").map(|text| Platform::parse(&text)).transpose()
    }

    /// All that is left of the command line.
    fn operands(&self, count: usize) -> &[OsString] {
        if let Some(unknown) = self.0.iter().find(|argument| argument.as_bytes().starts_with(b"--"))
        {
            die(unknown.display());
        }
        if self.0.len() != count {
            die("number of operands");
        }
        &self.0
    }

    /// Opens the image that is the first of so many operands, and gives the others.
    fn open(&mut self, count: usize) -> Result<(Image, &[OsString])> {
        let options = OpenOptions { platform: self.platform()?, verify: !self.flag("--no-verify") };
        let (image, others) = self.operands(count).split_first().expect("it is one at least");
        Ok((Image::open(&reference(image)?, &options)?, others))
    }
}

fn reference(text: &OsString) -> Result<Reference> {
    Reference::parse(Path::new(text))
}

/// Prints bytes; the tests tell whether they came out.
fn print(bytes: &[u8]) {
    io::stdout().write_all(bytes).unwrap_or_else(|_| die("standard output"));
}

fn show(lines: &[(&str, &dyn Display)]) {
    for (name, value) in lines {
        println!("{name} {value}");
    }
}

fn build_options(arguments: &mut Arguments) -> Result<BuildOptions> {
    let base = arguments.take("--base").map(|base| reference(&base)).transpose()?;
    // The platform is the base's, or that of the image that is read.
    let platform = if base.is_some() { arguments.platform()? } else { None };
    let verify = arguments.flag("--verify-base");
    let numbers = |text: String| {
        let (uid, gid) = text.split_once(':')?;
        Some((uid.parse().ok()?, gid.parse().ok()?))
    };
    let compression = arguments.text("--compression");
    Ok(BuildOptions {
        base: base.map(|image| BaseOptions { image, platform, verify }),
        trust_mtime: arguments.flag("--trust-mtime"),
        scan: ScanOptions {
            exclude: arguments.list("--exclude"),
            one_file_system: arguments.flag("--one-file-system"),
            owner: arguments
                .text("--owner")
                .map(|text| numbers(text).unwrap_or_else(|| die("--owner"))),
            clamp_mtime: arguments.number("--clamp-mtime"),
            selinux: arguments.flag("--selinux"),
        },
        compression: match compression.as_deref().map(|text| text.strip_prefix("zstd:")) {
            None => Compression::default(),
            Some(None) => Compression::None,
            Some(Some(level)) => {
                Compression::Zstd(level.parse().unwrap_or_else(|_| die("--compression")))
            }
        },
        data_layout: arguments.choice(
            "--layout",
            &[("packs", DataLayout::Packs), ("blob-per-chunk", DataLayout::BlobPerChunk)],
        ),
        pack_size: arguments.number("--pack-size"),
        config: config_options(arguments),
        annotations: arguments.pairs("--annotation"),
        created: arguments.number("--created"),
        author: arguments.text("--author"),
        created_by: arguments.text("--created-by"),
        comment: arguments.text("--comment"),
        threads: arguments.number("--threads"),
        memory_limit: arguments.number("--memory-limit"),
    })
}

fn config_options(arguments: &mut Arguments) -> ConfigOptions {
    ConfigOptions {
        start: arguments.content("--config"),
        architecture: arguments.text("--architecture"),
        os: arguments.text("--os"),
    }
}

fn run_builder(command: &str, arguments: &mut Arguments) -> Result<()> {
    let report = if arguments.flag("--cancel") {
        |_: Progress| ControlFlow::Break(())
    } else {
        |_: Progress| ControlFlow::Continue(())
    };
    let monitor = Monitor::new(&report);
    let options = build_options(arguments)?;
    let marks = [
        ("auto", MarkNamespace::Auto),
        ("trusted", MarkNamespace::Trusted),
        ("user", MarkNamespace::User),
    ];
    let marks = arguments.choice("--marks", &marks);
    let squash = arguments.flag("--squash");
    let platform = arguments.platform()?;
    let [from, to] = arguments.operands(2) else { unreachable!("they are two") };
    let (path, to) = (Path::new(from), reference(to)?);
    let built = match command {
        "build" => build(path, &to, &options, &monitor)?,
        "delta" => delta(path, marks, &to, &options, &monitor)?,
        "convert" => {
            let options = ConvertOptions { build: options, platform, squash };
            convert(&reference(from)?, &to, &options, &monitor)?
        }
        _ => {
            let open = OpenOptions { platform, verify: true };
            canonicalize(&reference(from)?, &open, &to, &options, &monitor)?
        }
    };
    show_built(&built);
    Ok(())
}

fn show_built(built: &BuildReport) {
    show(&[
        ("digest", &built.descriptor.digest),
        ("verity", &hex::encode(built.verity)),
        ("size", &built.descriptor.size),
        ("inodes", &built.inodes),
        ("files", &built.files),
        ("unchanged_files", &built.unchanged_files),
        ("layers", &built.layers),
        ("chunks", &built.chunks),
        ("new_chunks", &built.new_chunks),
        ("tree", &built.bytes_tree),
        ("read", &built.bytes_read),
        ("new", &built.bytes_new),
        ("moved", &built.bytes_moved),
        ("stored", &built.bytes_stored),
        ("copied", &built.bytes_copied),
        ("shared", &built.bytes_shared),
        ("metadata", &built.bytes_metadata),
    ]);
}

fn run_config(arguments: &mut Arguments) -> Result<()> {
    let given = |list: Vec<String>| (!list.is_empty()).then_some(list);
    let clear = arguments.list("--clear");
    let (tag, platform) = (arguments.text("--tag"), arguments.platform()?);
    let change = ConfigChange {
        options: config_options(arguments),
        clear: clear.iter().map(|what| Clear::parse(what)).collect::<Result<_>>()?,
        entrypoint: given(arguments.list("--entrypoint")),
        cmd: given(arguments.list("--cmd")),
        env: arguments.pairs("--env"),
        labels: arguments.pairs("--label"),
        user: arguments.text("--user"),
        working_dir: arguments.text("--workdir"),
        stop_signal: arguments.text("--stop-signal"),
        volumes: arguments.list("--volume"),
        exposed_ports: arguments.list("--expose"),
        annotations: arguments.pairs("--annotation"),
        created: arguments.number("--created"),
        author: arguments.text("--author"),
        created_by: arguments.text("--created-by"),
        comment: arguments.text("--comment"),
    };
    let image = reference(&arguments.operands(1)[0])?;
    let Configured { descriptor, verity } =
        configure(&image, platform.as_ref(), tag.as_deref(), &change, &Monitor::silent())?;
    show(&[
        ("digest", &descriptor.digest),
        ("verity", &hex::encode(verity)),
        ("size", &descriptor.size),
    ]);
    Ok(())
}

fn run_tag(arguments: &mut Arguments) -> Result<()> {
    let [image, tag] = arguments.operands(2) else { unreachable!("they are two") };
    let image = reference(image)?;
    let tag = tag.to_str().unwrap_or_else(|| die("tag"));
    Layout::open(&image.layout)?.tag(&image.name, tag, &Monitor::silent())
}

fn run_untag(arguments: &mut Arguments) -> Result<()> {
    let image = reference(&arguments.operands(1)[0])?;
    Layout::open(&image.layout)?.untag(&image.name, &Monitor::silent())
}

fn run_tags(arguments: &mut Arguments) -> Result<()> {
    let tags = Layout::open(Path::new(&arguments.operands(1)[0]))?.tags()?;
    println!("{}", Value::Array(tags.iter().map(TagEntry::to_json).collect()));
    Ok(())
}

fn run_gc(arguments: &mut Arguments) -> Result<()> {
    let mut options = GcOptions { dry_run: arguments.flag("--dry-run"), ..GcOptions::default() };
    if let Some(seconds) = arguments.number("--grace") {
        options.grace = Duration::from_secs(seconds);
    }
    let report = gc(Path::new(&arguments.operands(1)[0]), &options, &Monitor::silent())?;
    println!("{}", report.to_json());
    Ok(())
}

fn run_fsck(arguments: &mut Arguments) -> Result<()> {
    let options = FsckOptions {
        repair_from: arguments.list("--repair-from").into_iter().map(Into::into).collect(),
    };
    let (layout, name) = parse_target(Path::new(&arguments.operands(1)[0]))?;
    let report = fsck(&layout, name.as_ref(), &options, &Monitor::silent())?;
    for finding in &report.findings {
        println!("{finding}");
    }
    show(&[
        ("images", &report.images),
        ("blobs", &report.blobs),
        ("bytes", &report.bytes),
        ("unreferenced", &report.unreferenced),
    ]);
    Ok(())
}

/// `st_mode`.
fn mode(image: &Image, ino: Ino) -> u32 {
    let inode = image.tree().inode(ino);
    let kind = match inode.kind {
        Kind::Directory(_) => libc::S_IFDIR,
        Kind::Regular(_) => libc::S_IFREG,
        Kind::Symlink(_) => libc::S_IFLNK,
        Kind::Fifo => libc::S_IFIFO,
        Kind::Socket => libc::S_IFSOCK,
        Kind::CharDevice(_) => libc::S_IFCHR,
        Kind::BlockDevice(_) => libc::S_IFBLK,
    };
    kind | u32::from(inode.metadata.permissions)
}

/// Prints path, type and permissions, links, owner, group, device, size, mtime, and target.
fn run_stat(arguments: &mut Arguments) -> Result<()> {
    let follow = arguments.flag("--follow");
    let (image, paths) = arguments.open(2)?;
    let path = Path::new(&paths[0]);
    let ino = if follow { image.resolve(path)? } else { image.lookup(path)? };
    let inode = image.tree().inode(ino);
    let metadata = &inode.metadata;
    let mode = mode(&image, ino);
    print(paths[0].as_bytes());
    print!(" {mode:o} {} {} {}", inode.nlink, metadata.uid, metadata.gid);
    let (device, size) = match &inode.kind {
        Kind::CharDevice(device) | Kind::BlockDevice(device) => ((device.major, device.minor), 0),
        Kind::Symlink(target) => ((0, 0), target.len() as u64),
        _ => ((0, 0), image.size(ino)),
    };
    print!(" {}:{} {size}", device.0, device.1);
    print!(" {} {}", metadata.mtime.seconds, metadata.mtime.nanoseconds);
    if let Kind::Symlink(target) = &inode.kind {
        print(b" -> ");
        print(target);
    }
    println!();
    Ok(())
}

fn run_ls(arguments: &mut Arguments) -> Result<()> {
    let (image, paths) = arguments.open(2)?;
    let ino = image.resolve(Path::new(&paths[0]))?;
    for entry in image.tree().inode(ino).entries().unwrap_or_else(|| die("directory")) {
        print!("{:o} ", mode(&image, entry.ino));
        print(&entry.name);
        println!();
    }
    Ok(())
}

fn run_xattrs(arguments: &mut Arguments) -> Result<()> {
    let (image, paths) = arguments.open(2)?;
    let ino = image.lookup(Path::new(&paths[0]))?;
    for xattr in &image.tree().inode(ino).metadata.xattrs {
        println!("{}={}", OsStr::from_bytes(&xattr.key).display(), hex::encode(&xattr.value));
    }
    Ok(())
}

fn run_cat(arguments: &mut Arguments) -> Result<()> {
    let (image, paths) = arguments.open(2)?;
    let ino = image.resolve(Path::new(&paths[0]))?;
    let (mut buffer, mut offset) = (vec![0; 1 << 16], 0);
    loop {
        let done = image.read_at(ino, &mut buffer, offset)?;
        if done == 0 {
            return Ok(());
        }
        print(&buffer[..done]);
        offset += done as u64;
    }
}

fn run_inspect(arguments: &mut Arguments) -> Result<()> {
    let (image, _) = arguments.open(1)?;
    println!("{}", inspect(&image)?);
    Ok(())
}

fn run_diff(arguments: &mut Arguments) -> Result<()> {
    let (image, others) = arguments.open(2)?;
    let other = Image::open(&reference(&others[0])?, &OpenOptions::default())?;
    changes(&image, &other, |path, change| {
        let (kind, aspects) = match change {
            Change::Added => ("added", Vec::new()),
            Change::Removed => ("removed", Vec::new()),
            Change::Changed(aspects) => ("changed", aspects),
        };
        print(kind.as_bytes());
        for aspect in aspects {
            print!(" {}", aspect.as_str());
        }
        print(b" ");
        print(path.as_os_str().as_bytes());
        println!();
        Ok::<_, Error>(())
    })?;
    let Added { blobs, bytes_data, bytes_metadata } = added(&image, &other)?;
    show(&[("blobs", &blobs), ("data", &bytes_data), ("metadata", &bytes_metadata)]);
    Ok(())
}

fn run_check(arguments: &mut Arguments) -> Result<()> {
    let (image, others) = arguments.open(2)?;
    let pin: Pin = others[0].to_str().unwrap_or_else(|| die("digest")).parse()?;
    image.check_pin(&pin, &Monitor::silent())
}

fn run_extract(arguments: &mut Arguments) -> Result<()> {
    let options = ExtractOptions {
        same_owner: !arguments.flag("--no-same-owner"),
        threads: arguments.number("--threads"),
    };
    let (image, others) = arguments.open(2)?;
    let report = extract(&image, Path::new(&others[0]), &options, &Monitor::silent())?;
    for lost in &report.lost {
        println!("lost {} {} {}", lost.what, lost.count, lost.first.display());
    }
    show(&[("inodes", &report.inodes), ("bytes", &report.bytes)]);
    Ok(())
}

fn run_export(arguments: &mut Arguments) -> Result<()> {
    let (image, others) = arguments.open(2)?;
    let mut file = File::create(&others[0]).unwrap_or_else(|_| die("file"));
    let report = export(&image, &mut file, &Monitor::silent())?;
    show(&[
        ("entries", &report.entries),
        ("bytes", &report.bytes),
        ("sockets", &report.sockets.len()),
    ]);
    Ok(())
}

/// Mounts until standard input ends.
fn run_mount(arguments: &mut Arguments) -> Result<()> {
    let ids = |text: Option<String>| text.map_or(Ok(IdMap::default()), |text| text.parse());
    let writable = if arguments.flag("--writable") { Writable::Memory } else { Writable::No };
    let allow_other = arguments.flag("--allow-other").then_some(true);
    let options = MountOptions {
        allow_other: if arguments.flag("--owner-only") { Some(false) } else { allow_other },
        default_permissions: arguments.flag("--default-permissions"),
        nosuid: arguments.flag("--nosuid"),
        nodev: arguments.flag("--nodev"),
        noexec: arguments.flag("--noexec"),
        writable: arguments
            .take("--persist")
            .map_or(writable, |path| Writable::Directory(path.into())),
        uids: ids(arguments.text("--uid-map"))?,
        gids: ids(arguments.text("--gid-map"))?,
        threads: arguments.number("--threads"),
        source: arguments.take("--source"),
        log: Some(Arc::new(|line: &str| eprintln!("log: {line}"))),
        ended: None,
    };
    let (image, others) = arguments.open(2)?;
    let mounted = mount(&Arc::new(image), Path::new(&others[0]), options)?;
    println!("{}", mounted.point().display());
    io::copy(&mut io::stdin(), &mut io::sink()).unwrap_or_else(|_| die("standard input"));
    mounted.unmount(false)
}

fn run_unmount(arguments: &mut Arguments) -> Result<()> {
    let lazy = arguments.flag("--lazy");
    unmount(Path::new(&arguments.operands(1)[0]), lazy)
}

fn run_version(arguments: &mut Arguments) -> Result<()> {
    arguments.operands(0);
    println!("{}", env!("CARGO_PKG_VERSION"));
    Ok(())
}

fn run(command: &str, arguments: &mut Arguments) -> Result<()> {
    match command {
        "build" | "delta" | "convert" | "canonicalize" => run_builder(command, arguments),
        "config" => run_config(arguments),
        "tag" => run_tag(arguments),
        "untag" => run_untag(arguments),
        "tags" => run_tags(arguments),
        "gc" => run_gc(arguments),
        "fsck" => run_fsck(arguments),
        "stat" => run_stat(arguments),
        "ls" => run_ls(arguments),
        "xattrs" => run_xattrs(arguments),
        "cat" => run_cat(arguments),
        "inspect" => run_inspect(arguments),
        "diff" => run_diff(arguments),
        "check" => run_check(arguments),
        "extract" => run_extract(arguments),
        "export" => run_export(arguments),
        "mount" => run_mount(arguments),
        "unmount" => run_unmount(arguments),
        "version" => run_version(arguments),
        _ => die("command"),
    }
}

fn fail(error: &Error) -> ExitCode {
    eprintln!("{:?}: {error}", error.kind());
    ExitCode::FAILURE
}

fn main() -> ExitCode {
    let mut arguments = env::args_os().skip(1);
    let command =
        arguments.next().and_then(|command| command.into_string().ok()).unwrap_or_default();
    match run(&command, &mut Arguments(arguments.collect())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}
