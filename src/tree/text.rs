//! A tree as text, a line an inode: for golden tests, bug reports and `puzzlefs inspect --dump`.
//!
//! ```text
//! /          dir     0755 0:0 1700000000.000000000
//! /etc       dir     0755 0:0 1700000000.000000000
//! /etc/motd  file    0644 0:0 1700000000.250000000 content=…
//! /etc/issue link    /etc/motd
//! /dev/null  char    0666 0:0 1700000000.000000000 1:3
//! /lib       symlink 0777 0:0 1700000000.000000000 usr/lib user.a=b
//! ```
//!
//! The fields are separated by one space: the path, the type, permissions in octal, owner and
//! group, mtime, the words that belong to the type, then the extended attributes as `key=value`
//! each behind a word `xattr`. A further name of an inode is a `link` to its first. In paths,
//! targets, keys and values every byte that is not printable ASCII, and space, backslash and `=`,
//! is `\xHH`; the empty string is `\-`. What a regular file holds is written and read by the
//! caller, as words without spaces.

use std::collections::HashMap;
use std::io::{self, Write};

use super::{Device, Ino, Inode, Kind, Metadata, Timestamp, Tree, TreeBuilder, Xattr};
use crate::error::{Error, Result};

/// Writes `tree` to `out`; `content` gives the words for a regular file's content.
pub fn write<F>(
    tree: &Tree<F>,
    out: &mut dyn Write,
    content: impl Fn(&F) -> Vec<String>,
) -> io::Result<()> {
    let mut first_path: Vec<Option<String>> = vec![None; tree.inodes().len()];
    // Paths are only kept of what a later line may refer to.
    let mut pending = vec![(String::from("/"), Ino::ROOT)];
    while let Some((path, ino)) = pending.pop() {
        if let Some(first) = &first_path[ino.index()] {
            writeln!(out, "{path} link {first}")?;
            continue;
        }
        let inode = tree.inode(ino);
        writeln!(out, "{path} {}", line(inode, &content).join(" "))?;
        let below = if ino == Ino::ROOT { "" } else { path.as_str() };
        for entry in inode.entries().unwrap_or_default().iter().rev() {
            pending.push((format!("{below}/{}", escape(&entry.name)), entry.ino));
        }
        if inode.entries().is_none() && inode.nlink > 1 {
            first_path[ino.index()] = Some(path);
        }
    }
    Ok(())
}

fn line<F>(inode: &Inode<F>, content: impl Fn(&F) -> Vec<String>) -> Vec<String> {
    let Metadata { permissions, uid, gid, mtime, xattrs } = &inode.metadata;
    let numbers = |device: &Device| vec![format!("{}:{}", device.major, device.minor)];
    let (kind, specific) = match &inode.kind {
        Kind::Directory(_) => ("dir", vec![]),
        Kind::Regular(file) => ("file", content(file)),
        Kind::Symlink(target) => ("symlink", vec![escape(target)]),
        Kind::Fifo => ("fifo", vec![]),
        Kind::Socket => ("socket", vec![]),
        Kind::CharDevice(device) => ("char", numbers(device)),
        Kind::BlockDevice(device) => ("block", numbers(device)),
    };
    let mut words = vec![
        kind.to_owned(),
        format!("{permissions:04o}"),
        format!("{uid}:{gid}"),
        format!("{}.{:09}", mtime.seconds, mtime.nanoseconds),
    ];
    words.extend(specific);
    for xattr in xattrs {
        words.push("xattr".to_owned());
        words.push(format!("{}={}", escape(&xattr.key), escape(&xattr.value)));
    }
    words
}

/// Reads what [`write`] wrote; `content` makes a regular file's content of its words.
///
/// Fails with the number of the line that it does not understand.
pub fn parse<F>(text: &str, content: impl Fn(&[&str]) -> Result<F>) -> Result<Tree<F>> {
    let mut builder: Option<TreeBuilder<F>> = None;
    let mut inos: HashMap<Vec<u8>, Ino> = HashMap::new();
    for (index, line) in text.lines().enumerate() {
        let words: Vec<&str> = line.split(' ').filter(|word| !word.is_empty()).collect();
        let at = |error: Error| error.context(format_args!("line {}", index + 1));
        let Some((path, rest)) = words.split_first() else { continue };
        add_line(&mut builder, &mut inos, &unescape(path).map_err(at)?, rest, &content)
            .map_err(at)?;
    }
    builder.map(TreeBuilder::finish).ok_or_else(|| Error::invalid("the text has no inodes"))
}

fn add_line<F>(
    builder: &mut Option<TreeBuilder<F>>,
    inos: &mut HashMap<Vec<u8>, Ino>,
    path: &[u8],
    words: &[&str],
    content: impl Fn(&[&str]) -> Result<F>,
) -> Result<()> {
    let Some(slash) = path.iter().rposition(|&byte| byte == b'/') else {
        return Err(Error::invalid("the path does not begin with '/'"));
    };
    let (parent, name) = (&path[..slash], &path[slash + 1..]);
    let Some(builder) = builder else {
        if path != b"/" {
            return Err(Error::invalid("the first line is not the root, '/'"));
        }
        *builder = Some(TreeBuilder::new(parse_inode(words, content)?)?);
        inos.insert(Vec::new(), Ino::ROOT);
        return Ok(());
    };
    let of = |path: &[u8]| {
        inos.get(path).copied().ok_or_else(|| {
            Error::invalid(format!(
                "no line before this one has the path '{}'",
                path.escape_ascii()
            ))
        })
    };
    let parent = of(parent)?;
    let ino = match words {
        ["link", first] => {
            let ino = of(&unescape(first)?)?;
            builder.link(parent, name, ino)?;
            ino
        }
        _ => builder.add(parent, name, parse_inode(words, content)?)?,
    };
    inos.insert(path.to_vec(), ino);
    Ok(())
}

fn parse_inode<F>(words: &[&str], content: impl Fn(&[&str]) -> Result<F>) -> Result<Inode<F>> {
    let [kind, permissions, owner, mtime, rest @ ..] = words else {
        return Err(Error::invalid("expected a type, permissions, an owner and a time"));
    };
    let split = rest.iter().position(|&word| word == "xattr").unwrap_or(rest.len());
    let (specific, xattrs) = rest.split_at(split);
    let (uid, gid) = pair(owner, ':')?;
    let metadata = Metadata {
        permissions: u16::from_str_radix(permissions, 8)
            .ok()
            .filter(|bits| *bits <= 0o7777)
            .ok_or_else(|| bad("permissions", permissions))?,
        uid,
        gid,
        mtime: parse_time(mtime)?,
        xattrs: parse_xattrs(xattrs)?,
    };
    let device = || match specific {
        [numbers] => pair(numbers, ':').map(|(major, minor)| Device { major, minor }),
        _ => Err(Error::invalid("expected MAJOR:MINOR")),
    };
    let kind = match (*kind, specific) {
        ("dir", []) => Kind::Directory(Vec::new()),
        ("file", words) => Kind::Regular(content(words)?),
        ("symlink", [target]) => Kind::Symlink(unescape(target)?.into()),
        ("fifo", []) => Kind::Fifo,
        ("socket", []) => Kind::Socket,
        ("char", _) => Kind::CharDevice(device()?),
        ("block", _) => Kind::BlockDevice(device()?),
        (kind, _) => return Err(bad("type, or words behind it", kind)),
    };
    Ok(Inode::new(metadata, kind))
}

fn parse_time(word: &str) -> Result<Timestamp> {
    let parsed = word.split_once('.').and_then(|(seconds, nanoseconds)| {
        let nanoseconds = (nanoseconds.len() == 9).then(|| nanoseconds.parse().ok())??;
        Some(Timestamp { seconds: seconds.parse().ok()?, nanoseconds })
    });
    parsed.ok_or_else(|| bad("time", word))
}

fn parse_xattrs(words: &[&str]) -> Result<Box<[Xattr]>> {
    let parse = |words: &[&str]| match words {
        ["xattr", word] => match word.split_once('=') {
            Some((key, value)) => {
                Ok(Xattr { key: unescape(key)?.into(), value: unescape(value)?.into() })
            }
            None => Err(bad("extended attribute", word)),
        },
        _ => Err(Error::invalid("expected 'xattr KEY=VALUE'")),
    };
    words.chunks(2).map(parse).collect()
}

fn pair(word: &str, separator: char) -> Result<(u32, u32)> {
    let parsed = word
        .split_once(separator)
        .and_then(|(first, second)| Some((first.parse().ok()?, second.parse().ok()?)));
    parsed.ok_or_else(|| bad("pair of numbers", word))
}

fn bad(what: &str, word: &str) -> Error {
    Error::invalid(format!("'{word}' is no {what}"))
}

const EMPTY: &str = "\\-";

/// Bytes as one word of the text form.
pub fn escape(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return EMPTY.to_owned();
    }
    let mut word = String::with_capacity(bytes.len());
    for &byte in bytes {
        match byte {
            b'\\' | b'=' => word.push_str(&format!("\\x{byte:02x}")),
            0x21..=0x7e => word.push(byte as char),
            _ => word.push_str(&format!("\\x{byte:02x}")),
        }
    }
    word
}

/// The bytes of a word made by [`escape`].
pub fn unescape(word: &str) -> Result<Vec<u8>> {
    if word == EMPTY {
        return Ok(Vec::new());
    }
    let mut bytes = Vec::with_capacity(word.len());
    let mut rest = word.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        if first != b'\\' {
            bytes.push(first);
            rest = tail;
            continue;
        }
        let [b'x', high, low, tail @ ..] = tail else { return Err(bad("escaped word", word)) };
        let mut byte = [0];
        hex::decode_to_slice([*high, *low], &mut byte).map_err(|_| bad("escaped word", word))?;
        bytes.push(byte[0]);
        rest = tail;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = "\
/ dir 0755 0:0 1700000000.000000000
/dev dir 0755 0:0 1700000000.000000000
/dev/null char 0666 0:0 -1.999999999 1:3
/dev/sda block 0660 0:6 0.000000000 8:0
/etc dir 0755 0:0 1700000000.000000000 xattr user.a\\x3d=\\- xattr user.b=x\\x20y
/etc/motd file 0644 4294967294:1 1.000000001 12 x
/lib symlink 0777 0:0 0.000000000 usr/\\xff\\x0a
/motd link /etc/motd
/run fifo 0600 0:0 0.000000000
/sock socket 0600 0:0 0.000000000
/with\\x20space file 4755 0:0 0.000000000
";

    fn words(words: &[&str]) -> Result<Vec<String>> {
        Ok(words.iter().map(|&word| word.to_owned()).collect())
    }

    #[test]
    fn what_is_written_is_read_back() {
        let tree = parse(EXAMPLE, words).unwrap();
        let mut written = Vec::new();
        write(&tree, &mut written, Vec::clone).unwrap();
        assert_eq!(String::from_utf8(written).unwrap(), EXAMPLE);

        let motd = tree.lookup(tree.lookup(Ino::ROOT, b"etc").unwrap(), b"motd").unwrap();
        assert_eq!(tree.lookup(Ino::ROOT, b"motd"), Some(motd));
        assert_eq!(tree.inode(motd).nlink, 2);
        assert_eq!(tree.inode(Ino::ROOT).nlink, 4);
        assert_eq!(tree.path(&tree.locations(), motd).to_str(), Some("etc/motd"));
    }

    #[test]
    fn a_tree_keeps_its_promises() {
        let cases = [
            ("", "the text has no inodes"),
            ("/a dir 0755 0:0 0.000000000", "the first line is not the root"),
            ("/ fifo 0755 0:0 0.000000000", "the root of the tree is not a directory"),
            ("ROOT\n/b fifo 0644 0:0 0.000000000\n/a fifo 0644 0:0 0.000000000", "out of order"),
            ("ROOT\n/a fifo 0644 0:0 0.000000000\n/a fifo 0644 0:0 0.000000000", "occurs twice"),
            (
                "ROOT\n/a fifo 0644 0:0 0.000000000\n/a/b fifo 0644 0:0 0.000000000",
                "is not a directory",
            ),
            ("ROOT\n/a dir 0755 0:0 0.000000000\n/b link /a", "has two parents"),
            ("ROOT\n/b link /a", "no line before"),
            ("ROOT\n/.. fifo 0644 0:0 0.000000000", "is '.' or '..'"),
            ("ROOT\n/a\\x2fb fifo 0644 0:0 0.000000000", "no line before"),
            ("ROOT\n/a\\x00 fifo 0644 0:0 0.000000000", "has a NUL"),
            ("ROOT\n/a fifo 10000 0:0 0.000000000", "line 2: '10000' is no permissions"),
            ("ROOT\n/a fifo 0644 0:0 0.5", "'0.5' is no time"),
            ("ROOT\n/a\\ fifo 0644 0:0 0.000000000", "is no escaped word"),
        ];
        for (text, expected) in cases {
            let text = text.replace("ROOT", "/ dir 0755 0:0 0.000000000");
            let error = parse(&text, words).expect_err(&text).to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
