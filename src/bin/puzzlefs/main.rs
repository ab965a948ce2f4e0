//! `puzzlefs`: a thin shell around the library.
#![forbid(unsafe_code)]

mod args;
mod build;
mod config;
mod extract;
mod interrupt;
mod layout;
mod logger;
mod look;
mod mount;
mod output;
mod whole;

use std::process::ExitCode;

use clap::Parser;

use args::{Args, Command};

#[global_allocator]
static ALLOCATOR: puzzlefs::Allocator = puzzlefs::Allocator;

fn main() -> ExitCode {
    if mount::is_helper() {
        interrupt::catch();
        return finish(mount::help(args::MountHelper::parse()));
    }
    let command = Args::parse().command;
    if !command.only_looks() {
        interrupt::catch();
    }
    finish(match command {
        Command::Build(args) => build::run_build(*args),
        Command::Delta(args) => build::run_delta(*args),
        Command::Canonicalize(args) => build::run_canonicalize(*args),
        Command::Convert(args) => build::run_convert(*args),
        Command::Extract(args) => extract::run(args),
        Command::Export(args) => extract::run_export(args),
        Command::Inspect(args) => look::inspect(args),
        Command::Ls(args) => look::ls(args),
        Command::Cat(args) => look::cat(args),
        Command::Fsck(args) => look::fsck(args),
        Command::Diff(args) => look::diff(args),
        Command::Config(args) => config::run(*args),
        Command::Tag(args) => layout::tag(args),
        Command::Untag(args) => layout::untag(args),
        Command::Tags(args) => layout::tags(args),
        Command::Gc(args) => layout::gc(args),
        Command::Mount(args) => mount::run(args),
        Command::Umount(args) => mount::unmount(args),
        Command::EnableFsVerity(args) => mount::enable_fs_verity(args),
    })
}

impl Command {
    /// It has nothing to clear away: a signal ends it at once.
    fn only_looks(&self) -> bool {
        use Command::{Cat, Diff, Inspect, Ls, Tags};
        matches!(self, Inspect(_) | Ls(_) | Cat(_) | Diff(_) | Tags(_))
    }
}

fn finish(result: Result<ExitCode, output::Failure>) -> ExitCode {
    match result {
        Ok(code) => return code,
        // Who reads the output may stop early, as `head` does; that is no error.
        Err(output::Failure::Closed) => return ExitCode::SUCCESS,
        Err(output::Failure::Error(error)) => output::error(&error),
        Err(output::Failure::Told) => {}
    }
    ExitCode::from(interrupt::exit_code().unwrap_or(1))
}
