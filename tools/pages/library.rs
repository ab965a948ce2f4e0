//! The page of the library, libpuzzlefs(3), from the texts of its header.

use std::io::{self, Write};

use clap_mangen::roff::{Roff, bold, roman};

const HEADER: &str = include_str!("../../include/puzzlefs.h");
const EXAMPLE: &str = include_str!("../../examples/c/build.c");

/// Writes the page; `version` is the library's.
pub fn render(out: &mut dyn Write, version: &str) -> io::Result<()> {
    let mut page = Roff::default();
    page.control("TH", ["libpuzzlefs", "3", "", &format!("puzzlefs {version}"), ""]);
    page.control("SH", ["NAME"]);
    page.text([roman("libpuzzlefs - build, read, mount and extract puzzlefs container images")]);
    page.control("SH", ["SYNOPSIS"]);
    code(&mut page, "#include <puzzlefs.h>\n\ncc program.c $(pkg-config --cflags --libs puzzlefs)");
    page.control("SH", ["DESCRIPTION"]);
    let opening = comments(HEADER).next().unwrap_or_default();
    let paragraphs: Vec<_> = opening.split("\n\n").collect();
    // The last one says how the header is made.
    for paragraph in paragraphs.iter().take(paragraphs.len().saturating_sub(1)) {
        page.control("PP", []);
        page.text([roman(paragraph.replace('\n', " "))]);
    }
    page.control("SH", ["FUNCTIONS"]);
    page.text([roman("The header tells of each one what it takes and returns, and shows a call.")]);
    for (name, sentence) in functions(HEADER) {
        page.control("TP", []);
        page.text([bold(format!("{name}()"))]);
        page.text([roman(sentence)]);
    }
    page.control("SH", ["EXAMPLES"]);
    code(&mut page, EXAMPLE);
    page.control("SH", ["SEE ALSO"]);
    page.text([bold("puzzlefs"), roman("(1), "), bold("pkg-config"), roman("(1)")]);
    page.to_writer(out)
}

fn code(page: &mut Roff, text: &str) {
    page.control("RS", ["4"]);
    page.control("nf", []);
    for line in text.lines() {
        match line {
            "" => page.control("sp", []),
            line => page.text([roman(line)]),
        };
    }
    page.control("fi", []);
    page.control("RE", []);
}

/// The texts of the comments, without what is around and before their lines.
fn comments(header: &str) -> impl Iterator<Item = String> {
    header.split("/*").skip(1).filter_map(|rest| rest.split_once("*/")).map(|(comment, _)| {
        let lines = comment.lines().map(|line| line.trim_start_matches([' ', '*']).trim_end());
        lines.collect::<Vec<_>>().join("\n").trim().to_owned()
    })
}

/// The name and the first sentence of each function, in the header's order.
fn functions(header: &str) -> Vec<(&str, String)> {
    let mut found = Vec::new();
    for (comment, code) in header.split("/**").skip(1).filter_map(|rest| rest.split_once("*/")) {
        let declaration = code.split([';', '{']).next().unwrap_or_default();
        let Some((before, _)) = declaration.split_once('(') else { continue };
        let name = before.rsplit([' ', '*']).next().unwrap_or_default();
        if !name.starts_with("puzzlefs_") || declaration.contains("typedef") {
            continue;
        }
        let text = comments(&format!("/**{comment}*/")).next().unwrap_or_default();
        let paragraph = text.split("\n\n").next().unwrap_or_default().replace('\n', " ");
        let sentence = paragraph.split_inclusive(". ").next().unwrap_or_default().trim();
        found.push((name, sentence.to_owned()));
    }
    found
}
