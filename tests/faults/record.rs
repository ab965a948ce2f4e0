//! What the calls of a recorded command did to files and folders.

use std::fs;
use std::path::{Path, PathBuf};

use super::strace::lines;

/// The calls that change what is on the disk, or make it stay.
pub const CHANGES: &str = "openat,write,pwrite64,writev,ftruncate,fallocate,copy_file_range,sendfile,\
    ioctl,rename,renameat,renameat2,link,linkat,symlink,symlinkat,unlink,unlinkat,rmdir,mkdir,\
    mkdirat,fsync,fdatasync";

/// What a call did.
#[derive(Debug)]
pub enum Change {
    MakeFile(PathBuf),
    MakeFolder(PathBuf),
    Write(PathBuf, Vec<u8>),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
    Sync(PathBuf),
}

/// What a log says, by paths from `root` on, in the order in which it was done.
pub fn changes(log: &Path, root: &Path) -> Vec<Change> {
    lines(log).iter().filter_map(|line| change(&parse(line)?, root)).collect()
}

/// A call with its arguments, strings as their bytes.
struct Call<'a> {
    name: &'a str,
    arguments: Vec<Vec<u8>>,
    result: &'a str,
}

fn parse(line: &str) -> Option<Call<'_>> {
    let (name, rest) = line.split_once('(')?;
    let mut arguments = Vec::new();
    let mut argument = Vec::new();
    let mut bytes = rest.bytes();
    loop {
        match bytes.next()? {
            b'"' => argument = quoted(&mut bytes)?,
            // A file without a name: `3</path>(deleted)`.
            b'(' => while bytes.next()? != b')' {},
            b',' => arguments.push(std::mem::take(&mut argument)),
            b')' => break,
            b' ' => {}
            byte => argument.push(byte),
        }
    }
    arguments.push(argument);
    let (_, result) = line.rsplit_once(" = ")?;
    Some(Call { name, arguments, result })
}

/// A string behind its first quotation mark.
fn quoted(bytes: &mut std::str::Bytes<'_>) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    let mut next = bytes.next()?;
    while next != b'"' {
        if next != b'\\' {
            text.push(next);
            next = bytes.next()?;
            continue;
        }
        let mut escaped = bytes.next()?;
        next = bytes.next()?;
        if !escaped.is_ascii_digit() {
            let known = [b"nrtvf\"\\", b"\n\r\t\x0b\x0c\"\\"];
            let which = known[0].iter().position(|&known| known == escaped)?;
            text.push(known[1][which]);
            continue;
        }
        // One to three octal digits.
        let mut value = 0;
        for digit in 0..3 {
            value = value * 8 + (escaped - b'0');
            if digit == 2 || !(b'0'..=b'7').contains(&next) {
                break;
            }
            (escaped, next) = (next, bytes.next()?);
        }
        text.push(value);
    }
    Some(text)
}

/// The path of a descriptor: `3</path>`.
fn path_of(descriptor: &[u8]) -> PathBuf {
    let text = String::from_utf8_lossy(descriptor);
    let path = text.split_once('<').and_then(|(_, path)| path.strip_suffix('>'));
    PathBuf::from(path.unwrap_or_else(|| panic!("no path in {text}")))
}

fn text_of(argument: &[u8]) -> &Path {
    Path::new(std::str::from_utf8(argument).unwrap())
}

/// What a call did, by paths from `root` on; nothing if it failed or is about something else.
fn change(call: &Call<'_>, root: &Path) -> Option<Change> {
    if call.result.starts_with('-') {
        return None;
    }
    let below = |path: PathBuf| path.strip_prefix(root).ok().map(Path::to_owned);
    let plain = |at: usize| below(root.join(text_of(&call.arguments[at])));
    let in_folder =
        |at: usize| below(path_of(&call.arguments[at]).join(text_of(&call.arguments[at + 1])));
    let open = || below(path_of(&call.arguments[0]));
    match call.name {
        "openat" => {
            let flags = String::from_utf8_lossy(&call.arguments[2]);
            let path = in_folder(0)?;
            assert!(!flags.contains("O_TRUNC"), "a file is truncated: {}", path.display());
            // A file without a name leaves nothing.
            let makes = flags.contains("O_CREAT") && !flags.contains("O_TMPFILE");
            makes.then_some(Change::MakeFile(path))
        }
        "write" => Some(Change::Write(open()?, call.arguments[1].clone())),
        // From a blob, which does not change, to its end, of which the last call tells.
        "copy_file_range" if call.result == "0" => None,
        "copy_file_range" => {
            let bytes = fs::read(path_of(&call.arguments[0])).unwrap();
            assert_eq!(call.result, bytes.len().to_string(), "a part of a file is copied");
            Some(Change::Write(below(path_of(&call.arguments[2]))?, bytes))
        }
        "mkdir" => Some(Change::MakeFolder(plain(0)?)),
        "rename" => Some(Change::Rename(plain(0)?, plain(1)?)),
        "renameat" | "renameat2" => Some(Change::Rename(in_folder(0)?, in_folder(2)?)),
        "unlink" | "rmdir" => Some(Change::Remove(plain(0)?)),
        "unlinkat" => Some(Change::Remove(in_folder(0)?)),
        "fsync" | "fdatasync" => Some(Change::Sync(open()?)),
        "ioctl" => None,
        name => panic!("the model does not know {name}"),
    }
}
