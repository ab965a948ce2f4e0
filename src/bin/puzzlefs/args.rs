//! The command line.

// tools/pages has this module elsewhere in its tree.
#[path = "examples.rs"]
pub mod examples;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args as ClapArgs, CommandFactory, Parser, Subcommand, ValueEnum};
use puzzlefs::config::Clear;
use puzzlefs::layout::{Layout, Platform, Reference, parse_time};
use puzzlefs::pack::Compression;

/// Builds, reads and extracts puzzlefs container images.
///
/// An IMAGE is LAYOUT:TAG or LAYOUT@sha256:HEX, where LAYOUT is the folder of an OCI image layout.
#[derive(Parser)]
#[command(name = "puzzlefs", version, after_long_help = examples::help("puzzlefs"))]
pub struct Args {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub enum Command {
    Build(Box<Build>),
    Delta(Box<Delta>),
    Canonicalize(Box<Canonicalize>),
    Convert(Box<Convert>),
    Extract(Extract),
    Export(Export),
    Inspect(Inspect),
    Ls(Ls),
    Cat(Cat),
    Fsck(Fsck),
    Diff(Diff),
    Config(Box<Config>),
    Tag(Tag),
    Untag(Untag),
    Tags(Tags),
    Gc(Gc),
    Mount(Mount),
    Umount(Umount),
    EnableFsVerity(EnableFsVerity),
}

/// Build an image of a directory.
///
/// The layout is made if it is not there. Prints the digest of the image's manifest. Fails if a
/// file or a directory changes while it is read.
#[derive(ClapArgs)]
#[command(after_long_help = examples::help("build"))]
pub struct Build {
    /// The directory.
    pub rootfs: PathBuf,
    /// Where the image is stored: LAYOUT:TAG.
    #[arg(value_parser = reference())]
    pub image: Reference,
    /// An image to start from: files that it has are shared with it, and its configuration and
    /// history are carried on.
    #[arg(short, long, value_name = "IMAGE", value_parser = reference())]
    pub base: Option<Reference>,
    #[command(flatten)]
    pub on_base: OnBase,
    /// Take a file for the base's unread if its path, type, size, mode, owner and mtime are the
    /// same.
    #[arg(long, requires = "base")]
    pub trust_mtime: bool,
    /// Leave directories empty on which another file system is mounted.
    #[arg(long)]
    pub one_file_system: bool,
    #[command(flatten)]
    pub options: BuildOptions,
}

/// Build an image of a base image and what an overlayfs upperdir changes of it.
///
/// The image is that of `build --base` of the merged tree, at the cost of the change. Prints the
/// digest of its manifest.
#[derive(ClapArgs)]
#[command(after_long_help = examples::help("delta"))]
pub struct Delta {
    /// The upperdir of an overlay whose lower layer is the base.
    pub upperdir: PathBuf,
    /// Where the image is stored: LAYOUT:TAG.
    #[arg(value_parser = reference())]
    pub image: Reference,
    /// The image that the upperdir lies on.
    #[arg(short, long, value_name = "IMAGE", value_parser = reference())]
    pub base: Reference,
    #[command(flatten)]
    pub on_base: OnBase,
    /// Which extended attributes are the overlay's: trusted.overlay.*, or user.overlay.* if it was
    /// mounted with userxattr.
    #[arg(long, value_name = "NAMESPACE", default_value = "auto")]
    pub marks: Marks,
    /// Leave directories empty on which another file system is mounted.
    #[arg(long)]
    pub one_file_system: bool,
    #[command(flatten)]
    pub options: BuildOptions,
}

/// Store an image anew, without its history.
///
/// The metadata and data are those that `build` of its tree with the same options would give.
/// Prints the digest of the new image's manifest.
#[derive(ClapArgs)]
#[command(after_long_help = examples::help("canonicalize"))]
pub struct Canonicalize {
    #[command(flatten)]
    pub from: Image,
    /// Where the new image is stored: LAYOUT:TAG.
    #[arg(value_name = "NEW", value_parser = reference())]
    pub image: Reference,
    #[command(flatten)]
    pub options: BuildOptions,
}

/// Make a puzzlefs image of an ordinary OCI image.
///
/// Its layers, tar archives, are read once and not unpacked. Configuration, annotations and
/// history are carried on. Prints the digest of the new image's manifest.
#[derive(ClapArgs)]
#[command(after_long_help = examples::help("convert"))]
pub struct Convert {
    #[command(flatten)]
    pub from: Image,
    /// Where the new image is stored: LAYOUT:TAG.
    #[arg(value_name = "NEW", value_parser = reference())]
    pub image: Reference,
    /// Make one step of all layers: the metadata and data are those that `build` of the unpacked
    /// image would give. Else each layer is a step, and images share what lower layers became.
    #[arg(long)]
    pub squash: bool,
    #[command(flatten)]
    pub options: BuildOptions,
}

/// How the base is opened.
#[derive(ClapArgs)]
pub struct OnBase {
    /// Which image of the base's index: OS/ARCHITECTURE[/VARIANT] [default: this machine's].
    #[arg(long, value_name = "PLATFORM", value_parser = Platform::parse)]
    pub base_platform: Option<Platform>,
    /// Check the digests of all of the base's data first.
    #[arg(long)]
    pub verify_base: bool,
}

/// What every command has that builds an image.
#[derive(ClapArgs)]
pub struct BuildOptions {
    /// How the data is compressed: none, zstd, or zstd:LEVEL [default: zstd:3].
    #[arg(short, long, value_name = "HOW", num_args = 0..=1, require_equals = true,
        default_value = "zstd:3", default_missing_value = "zstd:3", hide_default_value = true,
        value_parser = compression)]
    pub compression: Compression,
    /// How the data is cut into blobs.
    #[arg(long, value_name = "HOW", default_value = "packs")]
    pub layout: DataLayout,
    /// The mean size of packs: 1M to 32M, a power of two [default: by the tree's size].
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub pack_size: Option<u64>,
    /// Keep SELinux labels.
    #[arg(long)]
    pub selinux: bool,
    /// Leave out what matches, with all that is below it: a name at any depth, or a path from the
    /// root of the tree if there is a slash in it. May be given several times.
    #[arg(long, value_name = "GLOB")]
    pub exclude: Vec<String>,
    /// The owner and group of everything.
    #[arg(long, value_name = "UID:GID", value_parser = owner)]
    pub owner: Option<(u32, u32)>,
    /// Make no mtime newer than this, in seconds since 1970 [without a value: SOURCE_DATE_EPOCH].
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, require_equals = true,
        value_parser = parse_time, allow_hyphen_values = true)]
    pub clamp_mtime: Option<Option<i64>>,
    /// The image's architecture, as Go spells it [default: that of --config, else of the image that
    /// it is made of, else this machine's].
    #[arg(long)]
    pub architecture: Option<String>,
    /// The image's operating system [default: that of --config, else of the image that it is made
    /// of, else linux].
    #[arg(long)]
    pub os: Option<String>,
    /// An OCI image configuration to start from, as JSON.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// An annotation of the manifest. May be given several times.
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    pub annotation: Vec<(String, String)>,
    /// When the image was created: a time as 2024-05-31T12:00:00Z, or seconds since 1970
    /// [default: SOURCE_DATE_EPOCH, else what an ordinary image that is converted says, else the
    /// newest mtime in the tree].
    #[arg(long, value_name = "TIME", value_parser = parse_time, allow_hyphen_values = true)]
    pub created: Option<i64>,
    /// Who made the image.
    #[arg(long)]
    pub author: Option<String>,
    /// What made the image, for its history [default: the name of the command].
    #[arg(long, value_name = "TEXT")]
    pub created_by: Option<String>,
    /// A remark for the image's history.
    #[arg(long, value_name = "TEXT")]
    pub comment: Option<String>,
    /// How much memory the build may take, such as 64M: with little it is slower [default: no limit].
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub memory_limit: Option<u64>,
    /// How many threads read and how many compress [default: the number of cores, up to 16].
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    /// Print what was built as JSON.
    #[arg(long)]
    pub json: bool,
    /// Show no progress.
    #[arg(short, long)]
    pub quiet: bool,
}

/// Write an image out as a directory.
#[derive(ClapArgs)]
#[command(after_long_help = examples::help("extract"))]
pub struct Extract {
    #[command(flatten)]
    pub image: Image,
    /// The directory: an empty one, or one to be made.
    pub directory: PathBuf,
    /// Do not check the digests of the data blobs.
    #[arg(long)]
    pub no_verify: bool,
    /// Make everything the caller's own.
    #[arg(long)]
    pub no_same_owner: bool,
    /// How many threads write files [default: the number of cores, up to 16].
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    /// Print what was extracted as JSON.
    #[arg(long)]
    pub json: bool,
    /// Show no progress.
    #[arg(short, long)]
    pub quiet: bool,
}

/// Write an image out as a tar archive, for docker and podman to import.
#[derive(ClapArgs)]
#[command(after_long_help = examples::help("export"))]
pub struct Export {
    #[command(flatten)]
    pub image: Image,
    /// The file to be written [default: standard output].
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Do not check the digests of the data blobs.
    #[arg(long)]
    pub no_verify: bool,
    /// Show no progress.
    #[arg(short, long)]
    pub quiet: bool,
}

/// Show what an image is, or what the images of a layout share.
#[derive(ClapArgs)]
#[command(after_long_help = examples::help("inspect"))]
pub struct Inspect {
    /// LAYOUT:TAG or LAYOUT@sha256:HEX; with --graph also LAYOUT.
    #[arg(value_name = "IMAGE")]
    pub what: PathBuf,
    /// Which image of an index: OS/ARCHITECTURE[/VARIANT] [default: this machine's].
    #[arg(long, value_parser = Platform::parse)]
    pub platform: Option<Platform>,
    /// As JSON.
    #[arg(long, group = "form")]
    pub json: bool,
    /// All of the file system's metadata, a line an inode.
    #[arg(long, group = "form")]
    pub dump: bool,
    /// As a picture, an SVG document: the packs of the image, or of a layout which images share
    /// which packs.
    #[arg(long, group = "form")]
    pub graph: bool,
}

/// List a directory of an image.
#[derive(ClapArgs)]
#[command(after_long_help = examples::help("ls"))]
pub struct Ls {
    #[command(flatten)]
    pub image: Image,
    /// The directory or file.
    #[arg(default_value = "/")]
    pub path: PathBuf,
    /// Show type, permissions, links, owner, size and mtime too.
    #[arg(short)]
    pub long: bool,
    /// List directories below too.
    #[arg(short = 'R', long)]
    pub recursive: bool,
}

/// Print a file of an image.
#[derive(ClapArgs)]
#[command(after_long_help = examples::help("cat"))]
pub struct Cat {
    #[command(flatten)]
    pub image: Image,
    /// The file.
    pub path: PathBuf,
    /// Do not check the digests of the data blobs.
    #[arg(long)]
    pub no_verify: bool,
}

/// Check a layout, or one image of it.
///
/// Each digest, each structure, and that nothing is missing. Tells what is wrong, the tags of the
/// images that it hurts, and what was repaired. Fails if anything is wrong that is not repaired.
/// A line names at most 100 tags, and says how many more there are; JSON has all of them.
#[derive(ClapArgs)]
#[command(after_long_help = examples::help("fsck"))]
pub struct Fsck {
    /// LAYOUT, or LAYOUT:TAG.
    pub what: PathBuf,
    /// Replace missing and damaged blobs by good copies from other layouts. What is not a blob,
    /// index.json and oci-layout, is not repaired: it is this layout's own.
    #[arg(long, requires = "from")]
    pub repair: bool,
    /// A layout to take good copies from. May be given several times: the first that has one
    /// counts.
    #[arg(long, value_name = "LAYOUT", requires = "repair")]
    pub from: Vec<PathBuf>,
    /// Print what was found as JSON.
    #[arg(long)]
    pub json: bool,
    /// Show no progress.
    #[arg(short, long)]
    pub quiet: bool,
}

/// Tell what distinguishes two images, from their metadata alone.
///
/// A line is `+ PATH` for what only B has, `- PATH` for what only A has, and `~ PATH (HOW, …)` for
/// what differs, where HOW is type, content, target, device, mode, owner, time, xattr or links.
/// What is not printable in a path, and a backslash, is escaped. The last line is what B adds.
#[derive(ClapArgs)]
#[command(after_long_help = examples::help("diff"))]
pub struct Diff {
    /// LAYOUT:TAG or LAYOUT@sha256:HEX.
    #[arg(value_parser = reference())]
    pub a: Reference,
    /// LAYOUT:TAG or LAYOUT@sha256:HEX.
    #[arg(value_parser = reference())]
    pub b: Reference,
    /// Which images of indexes: OS/ARCHITECTURE[/VARIANT] [default: this machine's].
    #[arg(long, value_parser = Platform::parse)]
    pub platform: Option<Platform>,
    /// As JSON.
    ///
    /// An object with `changes`, a list of objects with a `path`, a `change` (added, removed,
    /// changed) and, if it is changed, a list `how`; and with `added`, an object with the number of
    /// data `blobs` and the bytes of `data`, of `metadata`, and of both (`bytes`). A path that is not UTF-8 is
    /// escaped, and stands as it is, in hexadecimal, in `path_hex`.
    #[arg(long)]
    pub json: bool,
}

/// Change the configuration of an image.
///
/// The result is stored under the image's tag, or under --tag. The history gets an entry. Prints
/// the digest of the new manifest.
#[derive(ClapArgs)]
#[command(after_long_help = examples::help("config"))]
pub struct Config {
    #[command(flatten)]
    pub image: Image,
    /// Store the result under this tag of the layout.
    #[arg(long, value_name = "TAG")]
    pub tag: Option<String>,
    /// What is executed; for each of its arguments once more. Replaces all of the old.
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub entrypoint: Vec<String>,
    /// The arguments to the entry point, each once more. Replaces all of the old.
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub cmd: Vec<String>,
    /// Set a variable of the environment. May be given several times.
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    pub env: Vec<(String, String)>,
    /// Set a label. May be given several times.
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    pub label: Vec<(String, String)>,
    /// The user: USER[:GROUP], by names or numbers.
    #[arg(long)]
    pub user: Option<String>,
    /// The working directory.
    #[arg(long, value_name = "PATH")]
    pub workdir: Option<String>,
    /// The signal that stops a container.
    #[arg(long, value_name = "SIGNAL")]
    pub stop_signal: Option<String>,
    /// Add a volume. May be given several times.
    #[arg(long, value_name = "PATH")]
    pub volume: Vec<String>,
    /// Add a port: PORT, PORT/tcp or PORT/udp. May be given several times.
    #[arg(long, value_name = "PORT", visible_alias = "port")]
    pub expose: Vec<String>,
    /// Clear something before anything is set: config.cmd, config.entrypoint, config.env,
    /// config.exposedports, config.labels, config.stopsignal, config.user, config.volume,
    /// config.workingdir or manifest.annotations. May be given several times.
    #[arg(long, value_name = "WHAT", value_parser = Clear::parse)]
    pub clear: Vec<Clear>,
    /// The image's architecture, as Go spells it.
    #[arg(long)]
    pub architecture: Option<String>,
    /// The image's operating system, as Go spells it.
    #[arg(long)]
    pub os: Option<String>,
    /// An OCI image configuration to start from instead of the image's, as JSON; the history stays
    /// the image's.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Set an annotation of the manifest. May be given several times.
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    pub annotation: Vec<(String, String)>,
    /// When the change was made: a time as 2024-05-31T12:00:00Z, or seconds since 1970
    /// [default: SOURCE_DATE_EPOCH, else when the image was created].
    #[arg(long, value_name = "TIME", value_parser = parse_time, allow_hyphen_values = true)]
    pub created: Option<i64>,
    /// Who made the image.
    #[arg(long)]
    pub author: Option<String>,
    /// What made the change, for the history [default: puzzlefs config].
    #[arg(long, value_name = "TEXT")]
    pub created_by: Option<String>,
    /// A remark for the history.
    #[arg(long, value_name = "TEXT")]
    pub comment: Option<String>,
    /// Print the new manifest's descriptor as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Make a tag refer to what another one of the layout refers to.
#[derive(ClapArgs)]
#[command(after_long_help = examples::help("tag"))]
pub struct Tag {
    /// LAYOUT:TAG or LAYOUT@sha256:HEX.
    #[arg(value_parser = reference())]
    pub image: Reference,
    /// The new tag.
    pub tag: String,
}

/// Take a tag away; or, with a digest, all that the index of the layout has of it.
///
/// What it refers to stays, until `puzzlefs gc` finds that nothing refers to it any more.
#[derive(ClapArgs)]
#[command(after_long_help = examples::help("untag"))]
pub struct Untag {
    /// LAYOUT:TAG or LAYOUT@sha256:HEX.
    #[arg(value_parser = reference())]
    pub image: Reference,
}

/// List the tags of a layout.
///
/// A line is the tag, the digest, the size of all blobs in bytes, and the kind: puzzlefs, image,
/// index, other or unreadable. `-` stands for what there is not.
#[derive(ClapArgs)]
#[command(after_long_help = examples::help("tags"))]
pub struct Tags {
    /// The layout.
    pub layout: PathBuf,
    /// As JSON.
    #[arg(long)]
    pub json: bool,
}

/// Delete what no tag of a layout refers to, and what killed builders left behind.
///
/// Waits until no builder of ours is at work in the layout. Deletes nothing if something cannot be
/// read that may refer to blobs. Prints the digests of the blobs that are deleted.
#[derive(ClapArgs)]
#[command(after_long_help = examples::help("gc"))]
pub struct Gc {
    /// The layout.
    pub layout: PathBuf,
    /// Spare blobs that are younger: a number of seconds, or one with s, m, h or d. Other tools
    /// may be about to refer to them.
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = duration)]
    pub grace: Duration,
    /// Delete nothing, and print what would be deleted.
    #[arg(long)]
    pub dry_run: bool,
    /// Print what was deleted as JSON.
    #[arg(long)]
    pub json: bool,
    /// Show no progress.
    #[arg(short, long)]
    pub quiet: bool,
}

/// Mount an image.
///
/// Returns when the mount is there; a process in the background serves it until it is unmounted.
#[derive(ClapArgs)]
#[command(after_long_help = examples::help("mount"))]
pub struct Mount {
    #[command(flatten)]
    pub image: Image,
    /// The directory to mount on.
    pub mountpoint: PathBuf,
    /// Stay in the foreground, and log to standard error.
    #[arg(short, long)]
    pub foreground: bool,
    /// Options, with commas between them: allow_other, default_permissions, nosuid, nodev, noexec,
    /// writable, verify, digest=, persist=, uidmap=, gidmap=, threads=, fsname=, log=.
    #[arg(short, value_name = "OPTIONS")]
    pub options: Vec<OsString>,
    /// What the image must be: sha256:HEX, its manifest's digest, or HEX, the fs-verity digest of
    /// its manifest; with the latter, everything is checked before it is mounted.
    #[arg(short, long)]
    pub digest: Option<String>,
    /// Make it writable; what is written goes into memory, unless -p says where.
    #[arg(short, long)]
    pub writable: bool,
    /// Make it writable, and keep what is written in this directory, as DIR/upper.
    #[arg(short, long, value_name = "DIR")]
    pub persist: Option<PathBuf>,
    /// Write 's' to this named pipe when it is mounted, 'f' when that fails.
    #[arg(short, long, value_name = "FIFO")]
    pub init_pipe: Option<PathBuf>,
    /// Log to this file [default: syslog].
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,
    /// The process in the background: says on standard output how it begins.
    #[arg(long, hide = true)]
    pub daemon: bool,
}

/// Unmount an image.
///
/// Also one whose process is gone.
#[derive(ClapArgs)]
#[command(after_long_help = examples::help("umount"))]
pub struct Umount {
    /// The directory that it is mounted on.
    pub mountpoint: PathBuf,
    /// Now, though it is in use: it is over when it is not any more.
    #[arg(short, long)]
    pub lazy: bool,
}

/// Have the kernel protect the blobs of an image with fs-verity.
///
/// They can then be removed, but not changed. The file system must support it.
#[derive(ClapArgs)]
#[command(after_long_help = examples::help("enable-fs-verity"))]
pub struct EnableFsVerity {
    #[command(flatten)]
    pub image: Image,
    /// The fs-verity digest that the image's manifest must have.
    pub digest: Option<String>,
    /// Show no progress.
    #[arg(short, long)]
    pub quiet: bool,
}

/// What mount(8) calls mount.puzzlefs with.
#[derive(Parser)]
#[command(name = "mount.puzzlefs", version)]
pub struct MountHelper {
    #[command(flatten)]
    pub image: Image,
    /// The directory to mount on.
    pub mountpoint: PathBuf,
    /// Options, with commas between them; `puzzlefs mount --help` lists them.
    #[arg(short, value_name = "OPTIONS")]
    pub options: Vec<OsString>,
    /// Do not complain of unknown options.
    #[arg(short)]
    pub sloppy: bool,
    /// Do everything but mount.
    #[arg(short)]
    pub fake: bool,
    /// Without effect.
    #[arg(short)]
    pub no_mtab: bool,
    /// Without effect.
    #[arg(short)]
    pub verbose: bool,
    /// Without effect.
    #[arg(short = 't', value_name = "TYPE")]
    pub kind: Option<String>,
}

/// An image that is read.
#[derive(ClapArgs)]
pub struct Image {
    /// LAYOUT:TAG or LAYOUT@sha256:HEX.
    #[arg(value_name = "IMAGE", value_parser = reference())]
    pub reference: Reference,
    /// Which image of an index: OS/ARCHITECTURE[/VARIANT] [default: this machine's].
    #[arg(long, value_parser = Platform::parse)]
    pub platform: Option<Platform>,
}

/// Which extended attributes are an overlay's.
#[derive(Clone, Copy, ValueEnum)]
pub enum Marks {
    /// Those of the namespace that is met first; both are an error
    Auto,
    /// trusted.overlay.*
    Trusted,
    /// user.overlay.*
    User,
}

/// How the data is cut into blobs.
#[derive(Clone, Copy, ValueEnum)]
pub enum DataLayout {
    /// Many chunks a blob: few blobs, which registries and tools copy fast
    Packs,
    /// A blob a chunk, as the reference implementation does
    BlobPerChunk,
}

impl Inspect {
    /// The image that is meant; a wrong usage if it is none.
    pub fn reference(&self) -> Reference {
        parse_reference(&self.what).unwrap_or_else(|error| {
            let mut command = Args::command();
            command.build();
            let inspect = command.find_subcommand_mut("inspect").expect("it is a command");
            let message = format!("invalid value '{}' for '<IMAGE>': {error}", self.what.display());
            inspect.error(clap::error::ErrorKind::ValueValidation, message).exit()
        })
    }
}

fn reference() -> impl clap::builder::TypedValueParser<Value = Reference> {
    use clap::builder::TypedValueParser;
    clap::builder::PathBufValueParser::new().try_map(|path| parse_reference(&path))
}

/// A reference; who gives something else that is often meant is told what to do.
fn parse_reference(text: &Path) -> puzzlefs::Result<Reference> {
    let parsed = Reference::parse(text);
    let Some(advice) = advice(text, parsed.is_ok()) else { return parsed };
    let message = match parsed {
        Ok(_) => format!("'{}' is not in a layout", text.display()),
        Err(error) => error.to_string(),
    };
    Err(puzzlefs::Error::new(puzzlefs::ErrorKind::InvalidInput, format!("{message}; {advice}")))
}

fn advice(text: &Path, is_reference: bool) -> Option<String> {
    let shown = text.display();
    // As skopeo names images. A folder with such a name is still to be had as ./oci:NAME.
    if text.starts_with("docker:") {
        return Some(format!("`skopeo copy {shown} oci:LAYOUT:TAG` puts it into one"));
    }
    if let Some(image) = text.to_str().and_then(|text| text.strip_prefix("oci:")) {
        return Some(format!("what skopeo calls oci:{image} is {image} here"));
    }
    if is_reference {
        None
    } else if Layout::open(text).is_ok() {
        Some(format!("`puzzlefs tags {shown}` lists its tags"))
    } else if text.is_dir() {
        Some("it is a directory: --help tells which argument comes first".to_owned())
    } else {
        None
    }
}

fn compression(text: &str) -> Result<Compression, String> {
    match text.split_once(':') {
        None if text == "none" => Ok(Compression::None),
        None if text == "zstd" => Ok(Compression::default()),
        Some(("zstd", level)) => level
            .parse()
            .ok()
            .filter(|level| Compression::LEVELS.contains(level))
            .map(Compression::Zstd)
            .ok_or_else(|| "expected a level from -7 to 22".to_owned()),
        _ => Err("expected none, zstd or zstd:LEVEL".to_owned()),
    }
}

fn size(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let shift = match &text[digits.len()..] {
        "" => 0,
        "k" | "K" | "KiB" => 10,
        "m" | "M" | "MiB" => 20,
        "g" | "G" | "GiB" => 30,
        _ => return Err("expected a number of bytes, or one with K, M or G".to_owned()),
    };
    let number = digits.parse::<u64>().ok();
    number
        .and_then(|number| number.checked_mul(1 << shift))
        .ok_or_else(|| "too large, or no number".to_owned())
}

fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "" | "s" => 1,
        "m" => 60,
        "h" => 60 * 60,
        "d" => 24 * 60 * 60,
        _ => return Err("expected a number of seconds, or one with s, m, h or d".to_owned()),
    };
    let seconds = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
    seconds.map(Duration::from_secs).ok_or_else(|| "too large, or no number".to_owned())
}

fn owner(text: &str) -> Result<(u32, u32), String> {
    let numbers =
        text.split_once(':').and_then(|(uid, gid)| Some((uid.parse().ok()?, gid.parse().ok()?)));
    numbers.ok_or_else(|| "expected two numbers, UID:GID".to_owned())
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
        MountHelper::command().debug_assert();
    }

    /// The words of a line as a shell would split it, up to a pipe or a redirection.
    fn words(line: &str) -> Vec<String> {
        let words = line.split_whitespace().take_while(|word| !["|", ">"].contains(word));
        words.map(|word| word.trim_matches(['\'', '"']).to_owned()).collect()
    }

    #[test]
    fn every_command_has_examples_that_parse() {
        let mut command = Args::command().disable_help_subcommand(true);
        command.build();
        for command in std::iter::once(&command).chain(command.get_subcommands()) {
            let name = command.get_name();
            let help = command.get_after_long_help().map(ToString::to_string).unwrap_or_default();
            let lines = help.lines().map(str::trim).filter(|line| line.starts_with("puzzlefs "));
            let mut own = 0;
            for line in lines {
                let words = words(line);
                own += usize::from(words[1] == name || name == "puzzlefs");
                if let Err(error) = Args::try_parse_from(&words) {
                    panic!("an example of {name}: {line}\n{error}");
                }
            }
            assert!(own > 0, "{name} has no example of its own");
            assert!(help.lines().all(|line| line.len() <= 100), "{name} has a long example");
        }
    }

    #[test]
    fn values() {
        assert_eq!(size("4M"), Ok(4 << 20));
        assert_eq!(size("1048576"), Ok(1 << 20));
        assert!(size("M").is_err() && size("1T").is_err() && size("99999999999999999999").is_err());
        assert_eq!(compression("zstd:19"), Ok(Compression::Zstd(19)));
        assert!(compression("zstd:23").is_err() && compression("gzip").is_err());
        assert_eq!(owner("1:4294967294"), Ok((1, 4_294_967_294)));
        assert!(owner("1").is_err() && owner("a:b").is_err());
        assert!(pair("=x").is_err());
        for (text, seconds) in [("0", 0), ("90", 90), ("90s", 90), ("2m", 120), ("3h", 10_800)] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)));
        }
        assert_eq!(duration("7d"), Ok(Duration::from_secs(604_800)));
        for bad in ["", "h", "-1", "1w", "1.5h", "1 h", "999999999999999999d"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
