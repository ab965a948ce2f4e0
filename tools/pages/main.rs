//! Writes the manual pages and the shell completions of the `puzzlefs` command, from the texts of
//! its own parser, and the library's page from its header:  cargo run --example pages DIR
//!
//! Makes DIR/man1/*.1, DIR/man3/libpuzzlefs.3 and DIR/completions/{puzzlefs.bash,_puzzlefs,puzzlefs.fish}.

#[path = "../../src/bin/puzzlefs/args.rs"]
#[allow(dead_code, reason = "only the parser is of interest here, not what it parsed")]
mod args;
mod library;

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use args::examples::{self, Example};
use clap::{Command, CommandFactory};
use clap_complete::{Shell, generate_to};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

fn main() -> io::Result<()> {
    let Some(dir) = std::env::args_os().nth(1) else {
        return Err(io::Error::other("usage: pages DIR"));
    };
    let dir = Path::new(&dir);
    let [man, library, completions] = ["man1", "man3", "completions"].map(|name| dir.join(name));
    for folder in [&man, &library, &completions] {
        fs::create_dir_all(folder)?;
    }
    // Not the page of `help`.
    let mut command = args::Args::command().disable_help_subcommand(true);
    command.build();
    let version = command.get_version().unwrap_or_default();
    let source = format!("puzzlefs {version}");
    library::render(&mut fs::File::create(library.join("libpuzzlefs.3"))?, version)?;
    for command in std::iter::once(&command).chain(command.get_subcommands()) {
        let page = Man::new(command.clone()).source(&source);
        fs::write(man.join(page.get_filename()), render(&page, command)?)?;
    }
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        generate_to(shell, &mut args::Args::command(), "puzzlefs", &completions)?;
    }
    Ok(())
}

/// The page of a command. [`Man::render`] would put the examples into a paragraph called EXTRA.
fn render(page: &Man, command: &Command) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    page.render_title(&mut out)?;
    page.render_name_section(&mut out)?;
    page.render_synopsis_section(&mut out)?;
    page.render_description_section(&mut out)?;
    page.render_options_section(&mut out)?;
    if command.has_subcommands() {
        page.render_subcommands_section(&mut out)?;
    }
    render_examples(&mut out, examples::of(command.get_name()))?;
    if command.get_version().is_some() {
        page.render_version_section(&mut out)?;
    }
    Ok(out)
}

fn render_examples(out: &mut dyn Write, examples: &[Example]) -> io::Result<()> {
    let mut roff = Roff::default();
    roff.control("SH", ["EXAMPLES"]);
    for (what, lines) in examples {
        roff.control("PP", []);
        roff.text([roman(format!("{what}:"))]);
        roff.control("RS", ["4"]);
        roff.control("nf", []);
        for line in *lines {
            roff.text([bold(*line)]);
        }
        roff.control("fi", []);
        roff.control("RE", []);
    }
    roff.to_writer(out)
}
