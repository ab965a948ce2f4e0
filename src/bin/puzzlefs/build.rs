//! The commands that make images: build, delta, canonicalize.

use std::path::Path;
use std::process::ExitCode;

use puzzlefs::build::{
    BaseOptions, BuildOptions, BuildReport, ConvertOptions, DataLayout, build, canonicalize,
    convert, delta, source_date_epoch,
};
use puzzlefs::image::OpenOptions;
use puzzlefs::layout::{ConfigOptions, Reference};
use puzzlefs::progress::Monitor;
use puzzlefs::source::ScanOptions;
use puzzlefs::source::overlay::MarkNamespace;
use puzzlefs::{Error, ErrorKind};
use serde_json::json;

use crate::args::{self, Build, Canonicalize, Convert, Delta, OnBase};
use crate::output::{Bar, Failure, note, warning};

pub fn run_build(args: Build) -> Result<ExitCode, Failure> {
    let mut options = options(&args.options)?;
    options.base = args.base.map(|base| base_options(base, args.on_base));
    options.trust_mtime = args.trust_mtime;
    options.scan.one_file_system = args.one_file_system;
    run(&args.options, |monitor| build(&args.rootfs, &args.image, &options, monitor))
}

pub fn run_delta(args: Delta) -> Result<ExitCode, Failure> {
    let mut options = options(&args.options)?;
    options.base = Some(base_options(args.base, args.on_base));
    options.scan.one_file_system = args.one_file_system;
    let marks = match args.marks {
        args::Marks::Auto => MarkNamespace::Auto,
        args::Marks::Trusted => MarkNamespace::Trusted,
        args::Marks::User => MarkNamespace::User,
    };
    if is_kept(&args.upperdir) {
        let (given, upper) = (args.upperdir.display(), args.upperdir.join("upper"));
        let upper = upper.display();
        warning(&format!(
            "'{given}' looks like what `mount --persist` keeps; the upperdir is '{upper}'"
        ));
    }
    run(&args.options, |monitor| delta(&args.upperdir, marks, &args.image, &options, monitor))
}

/// Whether a directory holds an upperdir and its workdir, and nothing else.
fn is_kept(dir: &Path) -> bool {
    let names = |dir: &Path| -> std::io::Result<Vec<_>> {
        let names = std::fs::read_dir(dir)?.map(|entry| Ok(entry?.file_name()));
        let mut names = names.collect::<std::io::Result<Vec<_>>>()?;
        names.sort();
        Ok(names)
    };
    names(dir).is_ok_and(|names| names == ["upper", "work"])
        && names(&dir.join("work")).is_ok_and(|names| names == ["work"])
}

pub fn run_canonicalize(args: Canonicalize) -> Result<ExitCode, Failure> {
    let options = options(&args.options)?;
    let from = args.from;
    let open = OpenOptions { platform: from.platform, verify: true };
    run(&args.options, |monitor| {
        canonicalize(&from.reference, &open, &args.image, &options, monitor)
    })
}

pub fn run_convert(args: Convert) -> Result<ExitCode, Failure> {
    let options = ConvertOptions {
        build: options(&args.options)?,
        platform: args.from.platform,
        squash: args.squash,
    };
    run(&args.options, |monitor| convert(&args.from.reference, &args.image, &options, monitor))
}

fn base_options(image: Reference, on_base: OnBase) -> BaseOptions {
    BaseOptions { image, platform: on_base.base_platform, verify: on_base.verify_base }
}

/// Builds with a progress bar, and tells what was built.
pub fn run(
    args: &args::BuildOptions,
    build: impl FnOnce(&Monitor<'_>) -> puzzlefs::Result<BuildReport>,
) -> Result<ExitCode, Failure> {
    let bar = Bar::new(args.quiet);
    let report = |progress| bar.show(progress);
    let built = build(&Monitor::new(&report))?;
    drop(bar);
    if built.bytes_copied > 0 && !args.quiet {
        note(&format!(
            "copied {} from the base's layout",
            indicatif::BinaryBytes(built.bytes_copied)
        ));
    }
    if args.json {
        crate::look::print_json(&json(&built))?;
    } else {
        crate::look::print(&format!("{}\n", built.descriptor.digest))?;
    }
    Ok(ExitCode::SUCCESS)
}

pub fn options(args: &args::BuildOptions) -> Result<BuildOptions, Error> {
    let clamp_mtime = match args.clamp_mtime {
        None => None,
        Some(Some(seconds)) => Some(seconds),
        Some(None) => Some(source_date_epoch()?.ok_or_else(|| {
            Error::new(
                ErrorKind::InvalidInput,
                "--clamp-mtime has no value, and SOURCE_DATE_EPOCH is not set",
            )
        })?),
    };
    Ok(BuildOptions {
        base: None,
        trust_mtime: false,
        scan: ScanOptions {
            exclude: args.exclude.clone(),
            one_file_system: false,
            owner: args.owner,
            clamp_mtime,
            selinux: args.selinux,
        },
        compression: args.compression,
        data_layout: match args.layout {
            args::DataLayout::Packs => DataLayout::Packs,
            args::DataLayout::BlobPerChunk => DataLayout::BlobPerChunk,
        },
        pack_size: args.pack_size,
        config: ConfigOptions {
            start: crate::config::read(args.config.as_deref())?,
            architecture: args.architecture.clone(),
            os: args.os.clone(),
        },
        annotations: args.annotation.iter().cloned().collect(),
        created: args.created,
        author: args.author.clone(),
        created_by: args.created_by.clone(),
        comment: args.comment.clone(),
        threads: args.threads,
        memory_limit: args.memory_limit,
    })
}

fn json(built: &BuildReport) -> serde_json::Value {
    json!({
        "descriptor": {
            "mediaType": built.descriptor.media_type,
            "digest": built.descriptor.digest.to_string(),
            "size": built.descriptor.size,
        },
        "verity": hex::encode(built.verity),
        "inodes": built.inodes,
        "files": built.files,
        "unchanged_files": built.unchanged_files,
        "layers": built.layers,
        "chunks": built.chunks,
        "new_chunks": built.new_chunks,
        "bytes": {
            "tree": built.bytes_tree,
            "read": built.bytes_read,
            "new": built.bytes_new,
            "moved": built.bytes_moved,
            "stored": built.bytes_stored,
            "copied": built.bytes_copied,
            "shared": built.bytes_shared,
            "metadata": built.bytes_metadata,
        },
    })
}
