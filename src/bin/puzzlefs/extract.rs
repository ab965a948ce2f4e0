//! `puzzlefs extract`.

use std::process::ExitCode;

use puzzlefs::extract::{ExtractOptions, extract};
use puzzlefs::progress::Monitor;
use serde_json::json;

use crate::args::Extract;
use crate::look;
use crate::output::{Bar, Failure, warning};

pub fn run(args: Extract) -> Result<ExitCode, Failure> {
    let image = look::open(&args.image, !args.no_verify)?;
    let options = ExtractOptions { same_owner: !args.no_same_owner, threads: args.threads };
    let bar = Bar::new(args.quiet);
    let report = |progress| bar.show(progress);
    let extracted = extract(&image, &args.directory, &options, &Monitor::new(&report))?;
    drop(bar);
    for lost in &extracted.lost {
        let (count, what, first) = (lost.count, &lost.what, lost.first.display());
        warning(&format!(
            "not restored for want of privileges: {what} of {count} inodes, first '{first}'"
        ));
    }
    if args.json {
        let lost = extracted.lost.iter().map(|lost| {
            json!({
                "what": lost.what,
                "count": lost.count,
                "first": look::text(lost.first.as_os_str()),
            })
        });
        let lost: Vec<_> = lost.collect();
        look::print_json(&json!({
            "inodes": extracted.inodes,
            "bytes": extracted.bytes,
            "lost": lost,
        }))?;
    }
    Ok(ExitCode::SUCCESS)
}
