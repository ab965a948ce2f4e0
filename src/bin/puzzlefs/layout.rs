//! The commands for a layout: tag, untag, tags, gc.

use std::process::ExitCode;

use puzzlefs::layout::{self, GcOptions, Layout, TagEntry};
use puzzlefs::progress::Monitor;
use serde_json::Value;

use crate::args::{Gc, Tag, Tags, Untag};
use crate::interrupt;
use crate::look;
use crate::output::{Bar, Failure, note};

pub fn tag(args: Tag) -> Result<ExitCode, Failure> {
    let report = |_| interrupt::flow();
    let layout = Layout::open(&args.image.layout)?;
    layout.tag(&args.image.name, &args.tag, &Monitor::new(&report))?;
    Ok(ExitCode::SUCCESS)
}

pub fn untag(args: Untag) -> Result<ExitCode, Failure> {
    let report = |_| interrupt::flow();
    Layout::open(&args.image.layout)?.untag(&args.image.name, &Monitor::new(&report))?;
    Ok(ExitCode::SUCCESS)
}

pub fn tags(args: Tags) -> Result<ExitCode, Failure> {
    let tags = Layout::open(&args.layout)?.tags()?;
    if args.json {
        let entries: Vec<Value> = tags.iter().map(TagEntry::to_json).collect();
        look::print_json(&Value::Array(entries))?;
        return Ok(ExitCode::SUCCESS);
    }
    /// As long as a tag can be.
    const WIDEST: usize = 128;
    let width = tags.iter().map(|entry| entry.tag.as_deref().unwrap_or("-").len()).max();
    let width = width.unwrap_or(0).min(WIDEST);
    for TagEntry { tag, digest, bytes, kind, .. } in &tags {
        let tag = tag.as_deref().unwrap_or("-").escape_debug().to_string();
        let bytes = bytes.map_or_else(|| "-".to_owned(), |bytes| bytes.to_string());
        let digest = digest.escape_debug();
        look::print(&format!("{tag:<width$} {digest} {bytes:>12} {}\n", kind.as_str()))?;
    }
    Ok(ExitCode::SUCCESS)
}

pub fn gc(args: Gc) -> Result<ExitCode, Failure> {
    let options = GcOptions { grace: args.grace, dry_run: args.dry_run };
    let bar = Bar::new(args.quiet);
    let report = |progress| bar.show(progress);
    let collected = layout::gc(&args.layout, &options, &Monitor::new(&report))?;
    drop(bar);
    if args.json {
        look::print_json(&collected.to_json())?;
    } else {
        let digests = collected.removed.iter().map(|digest| format!("{digest}\n"));
        look::print(&digests.collect::<String>())?;
    }
    if collected.young > 0 && !args.quiet {
        let (blobs, bytes) = (collected.young, collected.young_bytes);
        note(&format!(
            "spared {blobs} blobs ({bytes} bytes) that no tag needs, since they are younger than \
             --grace says"
        ));
    }
    Ok(ExitCode::SUCCESS)
}
