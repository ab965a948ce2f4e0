//! `puzzlefs build`.

use std::process::ExitCode;

use puzzlefs::build::{BuildOptions, BuildReport, DataLayout, build, source_date_epoch};
use puzzlefs::layout::ConfigOptions;
use puzzlefs::progress::Monitor;
use puzzlefs::source::directory::ScanOptions;
use puzzlefs::{Error, ErrorKind};
use serde_json::json;

use crate::args::{self, Build};
use crate::output::{Bar, Failure};

pub fn run(args: Build) -> Result<ExitCode, Failure> {
    let options = options(&args)?;
    let bar = Bar::new(args.quiet);
    let report = |progress| bar.show(progress);
    let built = build(&args.rootfs, &args.image, &options, &Monitor::new(&report))?;
    drop(bar);
    if args.json {
        crate::look::print_json(&json(&built))?;
    } else {
        crate::look::print(&format!("{}\n", built.descriptor.digest))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn options(args: &Build) -> Result<BuildOptions, Error> {
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
        scan: ScanOptions {
            exclude: args.exclude.clone(),
            one_file_system: args.one_file_system,
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
        "layers": built.layers,
        "chunks": built.chunks,
        "new_chunks": built.new_chunks,
        "bytes": {
            "tree": built.bytes_tree,
            "read": built.bytes_read,
            "new": built.bytes_new,
            "stored": built.bytes_stored,
            "shared": built.bytes_shared,
            "metadata": built.bytes_metadata,
        },
    })
}
