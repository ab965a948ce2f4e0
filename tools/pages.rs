//! Writes the manual pages and the shell completions of the `puzzlefs` command, from the texts of
//! its own parser:  cargo run --example pages DIR
//!
//! Makes DIR/man1/*.1 and DIR/completions/{puzzlefs.bash,_puzzlefs,puzzlefs.fish}.

#[path = "../src/bin/puzzlefs/args.rs"]
#[allow(dead_code, reason = "only the parser is of interest here, not what it parsed")]
mod args;

use std::fs;
use std::io;
use std::path::Path;

use clap::CommandFactory;
use clap_complete::{Shell, generate_to};

fn main() -> io::Result<()> {
    let Some(dir) = std::env::args_os().nth(1) else {
        return Err(io::Error::other("usage: pages DIR"));
    };
    let dir = Path::new(&dir);
    let [man, completions] = ["man1", "completions"].map(|name| dir.join(name));
    for folder in [&man, &completions] {
        fs::create_dir_all(folder)?;
    }
    // Not the page of `help`.
    let command = args::Args::command().disable_help_subcommand(true);
    clap_mangen::generate_to(command, &man)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        generate_to(shell, &mut args::Args::command(), "puzzlefs", &completions)?;
    }
    Ok(())
}
