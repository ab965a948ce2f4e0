//! `puzzlefs`: a thin shell around the library.
#![forbid(unsafe_code)]

mod args;
mod build;
mod extract;
mod interrupt;
mod logger;
mod look;
mod mount;
mod output;

use std::process::ExitCode;

use clap::Parser;

use args::{Args, Command};

fn main() -> ExitCode {
    interrupt::catch();
    if mount::is_helper() {
        return finish(mount::help(args::MountHelper::parse()));
    }
    finish(match Args::parse().command {
        Command::Build(args) => build::run(*args),
        Command::Extract(args) => extract::run(args),
        Command::Inspect(args) => look::inspect(args),
        Command::Ls(args) => look::ls(args),
        Command::Cat(args) => look::cat(args),
        Command::Fsck(args) => look::fsck(args),
        Command::Mount(args) => mount::run(args),
        Command::Umount(args) => mount::unmount(args),
        Command::EnableFsVerity(args) => mount::enable_fs_verity(args),
    })
}

fn finish(result: Result<ExitCode, output::Failure>) -> ExitCode {
    match result {
        Ok(code) => code,
        // Who reads the output may stop early, as `head` does; that is no error.
        Err(output::Failure::Closed) => ExitCode::SUCCESS,
        Err(output::Failure::Error(error)) => {
            output::error(&error);
            ExitCode::from(interrupt::exit_code().unwrap_or(1))
        }
    }
}
