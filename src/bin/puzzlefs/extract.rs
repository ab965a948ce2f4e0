//! `puzzlefs extract` and `puzzlefs export`.

use std::io::{self, BufWriter, IsTerminal, Write};
use std::process::ExitCode;

use puzzlefs::export::export;
use puzzlefs::extract::{ExtractOptions, extract};
use puzzlefs::progress::Monitor;
use serde_json::json;

use crate::args::{Export, Extract};
use crate::look;
use crate::output::{Bar, Failure, warning};
use crate::whole;

pub fn run(args: Extract) -> Result<ExitCode, Failure> {
    let image = look::open(&args.image, !args.no_verify)?;
    let options = ExtractOptions { same_owner: !args.no_same_owner, threads: args.threads };
    let bar = Bar::new(args.quiet);
    let report = |progress| bar.show(progress);
    let extracted = extract(&image, &args.directory, &options, &Monitor::new(&report))?;
    drop(bar);
    for lost in &extracted.lost {
        let (count, what, first) = (lost.count, &lost.what, lost.first.display());
        warning(&format!("not restored: {what} of {count} inodes, first '{first}'"));
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

pub fn run_export(args: Export) -> Result<ExitCode, Failure> {
    if args.output.is_none() && io::stdout().is_terminal() {
        let message = "an archive is not for a terminal: name a file with --output, or redirect";
        return Err(puzzlefs::Error::new(puzzlefs::ErrorKind::InvalidInput, message).into());
    }
    let image = look::open(&args.image, !args.no_verify)?;
    let write = |out: &mut dyn Write| -> Result<(), Failure> {
        let bar = Bar::new(args.quiet);
        let report = |progress| bar.show(progress);
        let mut buffered = BufWriter::with_capacity(1 << 20, out);
        let exported = export(&image, &mut buffered, &Monitor::new(&report))?;
        buffered.flush()?;
        drop(bar);
        for socket in &exported.sockets {
            let socket = socket.display();
            warning(&format!("left out, since no archive can hold a socket: '{socket}'"));
        }
        Ok(())
    };
    match &args.output {
        Some(path) => whole::write(path, write)?,
        None => write(&mut io::stdout().lock())?,
    }
    Ok(ExitCode::SUCCESS)
}
