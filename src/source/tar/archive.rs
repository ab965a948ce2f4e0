//! Reading a tar archive as a stream: POSIX ustar and pax, GNU's long names, sparse files in all
//! four forms (GNU tar's manual, "Sparse Formats"), and numbers in base 256.
//!
//! The archive is not trusted: names, attributes and maps are bounded, and data is passed on as it
//! comes.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::rc::Rc;

use tar::{EntryType, Header};

use crate::error::{Error, ErrorKind, Result};
use crate::tree::{Device, Timestamp, Xattr};

const BLOCK: u64 = 512;
/// The longest name, and the longest list of extended headers, in bytes; also all that such headers
/// say of an entry, or of the archive.
const EXTENSION_MAX: u64 = 1024 * 1024;
/// What a record of an extended header takes in memory beside its key and value.
const RECORD_MEMORY: u64 = 100;
/// How many pieces a sparse file may have.
const PIECES_MAX: u64 = 1024 * 1024;

/// GNU tar's type of the entry that has the name of the volume.
const VOLUME: u8 = b'V';
/// The type of a regular file, from before there was one for directories.
const OLD_REGULAR: u8 = 0;

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file.
    Regular,
    /// Another name of the file with this path.
    Link(Vec<u8>),
    /// A symbolic link with its target.
    Symlink(Vec<u8>),
    Directory,
    Fifo,
    CharDevice(Device),
    BlockDevice(Device),
}

/// A run of bytes of a file that is in the archive; what lies between two is zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    pub offset: u64,
    pub length: u64,
}

/// What an archive says of a file, without its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub path: Vec<u8>,
    pub kind: EntryKind,
    pub permissions: u16,
    pub uid: u32,
    pub gid: u32,
    pub mtime: Timestamp,
    pub xattrs: Vec<Xattr>,
    /// The file's size in bytes.
    pub size: u64,
    /// The pieces of a regular file that follow in the archive, in order.
    pub pieces: Vec<Piece>,
}

/// An archive that is being read.
pub struct Archive<R> {
    input: R,
    /// What is left of the current entry's data, and of the padding behind it.
    left: u64,
    padding: u64,
    global: Rc<Extensions>,
}

/// What extended headers say.
#[derive(Debug, Clone, Default)]
struct Extensions {
    /// The values of keys that count once.
    values: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The map of a sparse file in the oldest pax form, whose keys are repeated.
    map: Vec<u64>,
    /// The memory that both take, in bytes.
    memory: u64,
}

/// What is said of an entry: what its own headers say counts more than what the archive's do.
struct Said {
    global: Rc<Extensions>,
    local: Extensions,
}

impl<R: Read> Archive<R> {
    pub fn new(input: R) -> Self {
        Archive { input, left: 0, padding: 0, global: Rc::default() }
    }

    /// The next entry; `None` at the end of the archive. What was not read of the last entry's
    /// data is skipped.
    pub fn next(&mut self) -> Result<Option<Entry>> {
        self.skip_rest()?;
        let mut local = Extensions::default();
        let (mut long_name, mut long_link) = (None, None);
        loop {
            let Some(header) = self.header()? else {
                return match local.values.is_empty() && long_name.is_none() && long_link.is_none() {
                    true => Ok(None),
                    false => Err(damaged("it ends after an extended header")),
                };
            };
            let size = number(&header.as_old().size);
            let size = size.ok_or_else(|| damaged("a header's size is no number"))?;
            match header.entry_type() {
                EntryType::XGlobalHeader => {
                    let extensions = self.extension(size)?;
                    Rc::make_mut(&mut self.global).read(&extensions)?;
                }
                EntryType::XHeader => {
                    let extensions = self.extension(size)?;
                    local.read(&extensions)?;
                }
                EntryType::GNULongName => long_name = Some(self.text(size)?),
                EntryType::GNULongLink => long_link = Some(self.text(size)?),
                // The name of a volume.
                other if other.as_byte() == VOLUME => {
                    self.extension(size)?;
                }
                _ => {
                    let said = Said { global: self.global.clone(), local };
                    return self.entry(&header, &said, long_name, long_link).map(Some);
                }
            }
        }
    }

    /// Reads the current entry's data; 0 at its end.
    pub fn read_data(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let length = buffer.len().min(self.left.try_into().unwrap_or(usize::MAX));
        if length == 0 {
            return Ok(0);
        }
        let read = retry(|| self.input.read(&mut buffer[..length]))?;
        if read == 0 {
            return Err(damaged("it ends within a file"));
        }
        self.left -= read as u64;
        Ok(read)
    }

    /// The stream behind the archive's end.
    pub fn into_input(self) -> R {
        self.input
    }

    fn skip_rest(&mut self) -> Result<()> {
        let mut skipped = [0; 16 * 1024];
        while self.read_data(&mut skipped)? > 0 {}
        // Some archives end with the last file's data.
        let mut padding = std::mem::take(&mut self.padding) as usize;
        while padding > 0 {
            match retry(|| self.input.read(&mut skipped[..padding]))? {
                0 => break,
                read => padding -= read,
            }
        }
        Ok(())
    }

    fn block(&mut self) -> Result<Option<[u8; BLOCK as usize]>> {
        let mut block = [0; BLOCK as usize];
        let mut done = 0;
        while done < block.len() {
            match retry(|| self.input.read(&mut block[done..]))? {
                0 if done == 0 => return Ok(None),
                0 => return Err(damaged("it ends within a block")),
                read => done += read,
            }
        }
        Ok(Some(block))
    }

    /// The next header; `None` at the end, which two blocks of zeros are. Some archives end
    /// without them.
    fn header(&mut self) -> Result<Option<Header>> {
        let is_zero = |block: &[u8; BLOCK as usize]| block.iter().all(|&byte| byte == 0);
        let Some(block) = self.block()? else { return Ok(None) };
        if is_zero(&block) {
            return match self.block()? {
                Some(second) if !is_zero(&second) => Err(damaged("a block of zeros is within it")),
                _ => Ok(None),
            };
        }
        let header = Header::from_byte_slice(&block).clone();
        match number(&header.as_old().cksum) {
            Some(sum) if checksums(&block).contains(&(sum as i64)) => Ok(Some(header)),
            _ => Err(damaged("a header's checksum is wrong")),
        }
    }

    fn begin_data(&mut self, size: u64) {
        self.left = size;
        self.padding = size.wrapping_neg() % BLOCK;
    }

    fn extension(&mut self, size: u64) -> Result<Vec<u8>> {
        if size > EXTENSION_MAX {
            return Err(damaged(format!("an extended header has {size} bytes")));
        }
        self.begin_data(size);
        let mut bytes = vec![0; size as usize];
        let mut done = 0;
        while done < bytes.len() {
            done += self.read_data(&mut bytes[done..])?;
        }
        self.skip_rest()?;
        Ok(bytes)
    }

    fn text(&mut self, size: u64) -> Result<Vec<u8>> {
        let mut bytes = self.extension(size)?;
        let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
        bytes.truncate(end);
        Ok(bytes)
    }

    fn entry(
        &mut self,
        header: &Header,
        said: &Said,
        long_name: Option<Vec<u8>>,
        long_link: Option<Vec<u8>>,
    ) -> Result<Entry> {
        let value = |key: &str| said.value(key);
        let is_file = is_file(header);
        let path = value("GNU.sparse.name").filter(|_| is_file).cloned().or(long_name);
        let path = path.or_else(|| value("path").cloned());
        let path = path.unwrap_or_else(|| header.path_bytes().into_owned());
        let in_entry = |error: Error| error.context(format_args!("'{}'", show_path(&path)));
        let link = long_link.or_else(|| value("linkpath").cloned());
        let link = link.or_else(|| header.link_name_bytes().map(|link| link.into_owned()));
        let link = link.unwrap_or_default();
        let number = |key: &str, field: &[u8]| {
            let found = value(key).map_or_else(|| number(field), |text| parse(text));
            found.ok_or_else(|| in_entry(damaged(format!("a bad {key}"))))
        };
        let fields = header.as_old();
        let stored = number("size", &fields.size)?;
        let id = |key: &str, field: &[u8]| -> Result<u32> {
            let number = number(key, field)?;
            match u32::try_from(number) {
                Ok(id) if id != u32::MAX => Ok(id),
                _ => Err(in_entry(damaged(format!("a {key} of {number}")))),
            }
        };
        let mode = number("mode", &fields.mode)?;
        let (kind, has_data) = kind(header, &path, link).map_err(in_entry)?;
        let (uid, gid) = (id("uid", &fields.uid)?, id("gid", &fields.gid)?);
        let mtime = match value("mtime") {
            Some(text) => parse_time(text),
            None => mtime(header),
        };
        let mtime = mtime.ok_or_else(|| in_entry(damaged("a bad mtime")))?;
        // What a header says of the size of a link or a directory means nothing.
        let (size, pieces) = match has_data {
            false => (0, Vec::new()),
            true => self.pieces(header, said, stored).map_err(in_entry)?,
        };
        Ok(Entry {
            kind,
            permissions: (mode & 0o7777) as u16,
            uid,
            gid,
            mtime,
            xattrs: said.xattrs(),
            size,
            pieces,
            path,
        })
    }

    /// The size of a regular file, and which pieces of it are in the `stored` bytes that follow.
    fn pieces(&mut self, header: &Header, said: &Said, stored: u64) -> Result<(u64, Vec<Piece>)> {
        let parsed = |key: &str| said.value(key).and_then(|text| parse(text));
        let version = (parsed("GNU.sparse.major"), parsed("GNU.sparse.minor"));
        let (size, pieces) = if header.entry_type() == EntryType::GNUSparse {
            let found = self.old_sparse(header)?;
            self.begin_data(stored);
            found
        } else if version == (Some(1), Some(0)) {
            self.begin_data(stored);
            let size = parsed("GNU.sparse.realsize").ok_or_else(|| damaged("no size"))?;
            (size, self.map_in_data()?)
        } else if let (Some(major @ 1..), minor) = version {
            let minor = minor.unwrap_or_default();
            let message = format!("a sparse file of the unknown version {major}.{minor}");
            return Err(Error::new(ErrorKind::Unsupported, message));
        } else if let Some(size) = parsed("GNU.sparse.size") {
            self.begin_data(stored);
            let map = match said.value("GNU.sparse.map") {
                Some(text) => {
                    let numbers = text.split(|&byte| byte == b',').map(parse);
                    numbers.collect::<Option<_>>().ok_or_else(|| damaged("a bad map"))?
                }
                None => said.map(),
            };
            let pieces = pairs(&map)?;
            match parsed("GNU.sparse.numblocks") {
                Some(count) if count != pieces.len() as u64 => {
                    return Err(damaged(format!("a map of {} pieces, not {count}", pieces.len())));
                }
                _ => (size, pieces),
            }
        } else {
            self.begin_data(stored);
            (stored, vec![Piece { offset: 0, length: stored }])
        };
        check_pieces(size, &pieces, self.left)?;
        Ok((size, pieces.into_iter().filter(|piece| piece.length > 0).collect()))
    }

    /// GNU's old form: the map is in the header and in blocks behind it.
    fn old_sparse(&mut self, header: &Header) -> Result<(u64, Vec<Piece>)> {
        const ENTRIES: std::ops::Range<usize> = 386..482;
        const IS_EXTENDED: usize = 482;
        const REAL_SIZE: std::ops::Range<usize> = 483..495;
        const EXTENDED_ENTRIES: std::ops::Range<usize> = 0..504;
        const ENTRY: usize = 24;
        let mut pieces = Vec::new();
        let mut add = |bytes: &[u8]| -> Result<()> {
            for entry in bytes.chunks(ENTRY).filter(|entry| entry[0] != 0) {
                let (offset, length) = entry.split_at(ENTRY / 2);
                let number = |field| number(field).ok_or_else(|| damaged("a bad map"));
                pieces.push(Piece { offset: number(offset)?, length: number(length)? });
            }
            match pieces.len() as u64 > PIECES_MAX {
                true => Err(damaged("a map of too many pieces")),
                false => Ok(()),
            }
        };
        let bytes = header.as_bytes();
        add(&bytes[ENTRIES])?;
        let size = number(&bytes[REAL_SIZE]).ok_or_else(|| damaged("a bad size"))?;
        let mut is_extended = bytes[IS_EXTENDED] != 0;
        while is_extended {
            let block = self.block()?.ok_or_else(|| damaged("it ends within a map"))?;
            add(&block[EXTENDED_ENTRIES])?;
            is_extended = block[EXTENDED_ENTRIES.end] != 0;
        }
        Ok((size, pieces))
    }

    /// The newest pax form: the map is ahead of the data, as lines of numbers.
    fn map_in_data(&mut self) -> Result<Vec<Piece>> {
        let mut block = Vec::new();
        let mut line = || -> Result<u64> {
            let mut digits = Vec::new();
            loop {
                if block.is_empty() {
                    block = vec![0; BLOCK as usize];
                    let mut done = 0;
                    while done < block.len() {
                        match self.read_data(&mut block[done..])? {
                            0 => return Err(damaged("a map that does not end")),
                            read => done += read,
                        }
                    }
                    block.reverse();
                }
                match block.pop() {
                    Some(b'\n') => return parse(&digits).ok_or_else(|| damaged("a bad map")),
                    Some(digit) if digits.len() < 20 => digits.push(digit),
                    _ => return Err(damaged("a bad map")),
                }
            }
        };
        let count = line()?;
        if count > PIECES_MAX {
            return Err(damaged("a map of too many pieces"));
        }
        let mut map = Vec::new();
        for _ in 0..2 * count {
            map.push(line()?);
        }
        pairs(&map)
    }
}

/// The type of an entry, and whether data of its own follows.
fn kind(header: &Header, path: &[u8], link: Vec<u8>) -> Result<(EntryKind, bool)> {
    let is_old = header.as_old().linkflag[0] == OLD_REGULAR;
    let kind = match header.entry_type() {
        // Before there was a type for directories, a slash said it.
        EntryType::Regular if is_old && path.ends_with(b"/") => EntryKind::Directory,
        _ if is_file(header) => return Ok((EntryKind::Regular, true)),
        EntryType::Link => EntryKind::Link(link),
        EntryType::Symlink => EntryKind::Symlink(link),
        EntryType::Directory => EntryKind::Directory,
        EntryType::Fifo => EntryKind::Fifo,
        EntryType::Char => EntryKind::CharDevice(device(header)?),
        EntryType::Block => EntryKind::BlockDevice(device(header)?),
        other => {
            let letter = char::from(other.as_byte()).escape_default();
            let message = format!("an entry of the unknown type '{letter}'");
            return Err(Error::new(ErrorKind::Unsupported, message));
        }
    };
    Ok((kind, false))
}

fn is_file(header: &Header) -> bool {
    use EntryType::{Continuous, GNUSparse, Regular};
    matches!(header.entry_type(), Regular | Continuous | GNUSparse)
}

/// Linux has 12 bits for the major number and 20 for the minor.
fn device(header: &Header) -> Result<Device> {
    const MAJOR: std::ops::Range<usize> = 329..337;
    const MINOR: std::ops::Range<usize> = 337..345;
    let bytes = header.as_bytes();
    match (number(&bytes[MAJOR]), number(&bytes[MINOR])) {
        (Some(major @ ..0x1000), Some(minor @ ..0x10_0000)) => {
            Ok(Device { major: major as u32, minor: minor as u32 })
        }
        _ => Err(damaged("a bad device number")),
    }
}

/// The sums of a header's bytes, the field of the sum itself taken as blanks: of bytes without a
/// sign, and with one, as some old programs have it.
fn checksums(block: &[u8]) -> [i64; 2] {
    const FIELD: std::ops::Range<usize> = 148..156;
    let bytes = || block.iter().enumerate();
    let bytes = || bytes().map(|(at, byte)| if FIELD.contains(&at) { b' ' } else { *byte });
    [bytes().map(i64::from).sum(), bytes().map(|byte| i64::from(byte.cast_signed())).sum()]
}

/// In base 256 the time may lie before 1970, which the crate's numbers cannot say.
fn mtime(header: &Header) -> Option<Timestamp> {
    let field = &header.as_old().mtime;
    let seconds = match field[0] {
        0xff => i64::from_be_bytes(*field.last_chunk()?),
        _ => i64::try_from(number(field)?).ok()?,
    };
    Some(Timestamp { seconds, nanoseconds: 0 })
}

/// A decimal number of seconds, perhaps with a fraction.
fn parse_time(text: &[u8]) -> Option<Timestamp> {
    const DIGITS: usize = 9;
    let text = std::str::from_utf8(text).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let is_negative = whole.starts_with('-');
    let seconds: i64 = if whole == "-" { 0 } else { whole.parse().ok()? };
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let digits: String = fraction.chars().chain("000000000".chars()).take(DIGITS).collect();
    let nanoseconds: u32 = digits.parse().ok()?;
    Some(match is_negative && nanoseconds > 0 {
        true => {
            Timestamp { seconds: seconds.checked_sub(1)?, nanoseconds: 1_000_000_000 - nanoseconds }
        }
        false => Timestamp { seconds, nanoseconds },
    })
}

fn parse(text: &[u8]) -> Option<u64> {
    let is_number = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(text).ok().filter(|_| is_number)?.parse().ok()
}

/// A field of a header: an octal number, perhaps among blanks, or one in base 256; 0 if the field is
/// empty.
fn number(field: &[u8]) -> Option<u64> {
    if let [first, rest @ ..] = field
        && first & 0x80 != 0
    {
        return std::iter::once(&(first & 0x7f))
            .chain(rest)
            .try_fold(0_u64, |sum, byte| Some(sum.checked_mul(256)? | u64::from(*byte)));
    }
    let end = field.iter().position(|&byte| byte == 0).unwrap_or(field.len());
    let text = std::str::from_utf8(&field[..end]).ok()?.trim_matches(' ');
    let is_octal = text.bytes().all(|byte| (b'0'..b'8').contains(&byte));
    match text {
        "" => Some(0),
        _ => u64::from_str_radix(text, 8).ok().filter(|_| is_octal),
    }
}

fn pairs(numbers: &[u64]) -> Result<Vec<Piece>> {
    match numbers.as_chunks() {
        (pairs, []) => Ok(pairs.iter().map(|&[offset, length]| Piece { offset, length }).collect()),
        _ => Err(damaged("a map of an odd number of numbers")),
    }
}

/// Pieces are in order, within the file, and as long as what is stored.
fn check_pieces(size: u64, pieces: &[Piece], stored: u64) -> Result<()> {
    if size > i64::MAX as u64 {
        return Err(damaged(format!("a size of {size} bytes")));
    }
    let (mut end, mut sum) = (0, 0);
    for piece in pieces {
        let next = piece.offset.checked_add(piece.length).filter(|&next| next <= size);
        match next {
            Some(next) if piece.offset >= end => end = next,
            _ => return Err(damaged("a map whose pieces do not follow each other in the file")),
        }
        sum += piece.length;
    }
    match sum == stored {
        true => Ok(()),
        false => Err(damaged(format!("a map of {sum} bytes, where {stored} follow"))),
    }
}

impl Extensions {
    /// Adds records `LENGTH KEY=VALUE\n` (POSIX.1-2024, pax).
    fn read(&mut self, mut bytes: &[u8]) -> Result<()> {
        let wrong = || damaged("an extended header is not well-formed");
        while !bytes.is_empty() {
            let space = bytes.iter().position(|&byte| byte == b' ').ok_or_else(wrong)?;
            let length = parse(&bytes[..space]).ok_or_else(wrong)?;
            let length = usize::try_from(length).ok().filter(|&n| n > space && n <= bytes.len());
            let (record, rest) = bytes.split_at(length.ok_or_else(wrong)?);
            let record = record[space + 1..].strip_suffix(b"\n").ok_or_else(wrong)?;
            let equals = record.iter().position(|&byte| byte == b'=').ok_or_else(wrong)?;
            let (key, value) = (&record[..equals], &record[equals + 1..]);
            match key {
                b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => {
                    self.map.push(parse(value).ok_or_else(wrong)?);
                    self.memory += size_of::<u64>() as u64;
                }
                // An empty value takes an earlier one back, but attributes may be empty.
                _ if value.is_empty() && !key.starts_with(XATTR) => self.remove(key),
                _ => self.insert(key, value),
            }
            if self.memory > EXTENSION_MAX {
                return Err(damaged(format!(
                    "its extended headers say more than {EXTENSION_MAX} bytes"
                )));
            }
            bytes = rest;
        }
        Ok(())
    }

    fn insert(&mut self, key: &[u8], value: &[u8]) {
        self.remove(key);
        self.values.insert(key.to_vec(), value.to_vec());
        self.memory += RECORD_MEMORY + (key.len() + value.len()) as u64;
    }

    fn remove(&mut self, key: &[u8]) {
        if let Some(value) = self.values.remove(key) {
            self.memory -= RECORD_MEMORY + (key.len() + value.len()) as u64;
        }
    }

    /// The attributes, by their keys as they are written.
    fn xattrs(&self) -> impl Iterator<Item = (&[u8], &Vec<u8>)> {
        let from_first = self.values.range(XATTR.to_vec()..);
        from_first.map_while(|(key, value)| Some((key.strip_prefix(XATTR)?, value)))
    }
}

impl Said {
    fn value(&self, key: &str) -> Option<&Vec<u8>> {
        let key = key.as_bytes();
        self.local.values.get(key).or_else(|| self.global.values.get(key))
    }

    fn map(&self) -> Vec<u64> {
        [&self.global.map[..], &self.local.map].concat()
    }

    fn xattrs(&self) -> Vec<Xattr> {
        let mut xattrs: BTreeMap<_, _> = self.global.xattrs().collect();
        xattrs.extend(self.local.xattrs());
        let xattr = |(key, value): (&[u8], &Vec<u8>)| Xattr {
            key: decode_key(key).into(),
            value: value.as_slice().into(),
        };
        xattrs.into_iter().map(xattr).collect()
    }
}

/// What the keys of extended attributes begin with.
const XATTR: &[u8] = b"SCHILY.xattr.";

/// A key of an attribute as GNU tar writes it, since no record's key can have a `=`.
fn decode_key(mut key: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(key.len());
    while let Some(&first) = key.first() {
        let (byte, length) = match key {
            [b'%', b'3', b'D', ..] => (b'=', 3),
            [b'%', b'2', b'5', ..] => (b'%', 3),
            _ => (first, 1),
        };
        decoded.push(byte);
        key = &key[length..];
    }
    decoded
}

/// A path for a message: bytes that are not printable are escaped, and a long one is cut.
pub fn show_path(path: &[u8]) -> String {
    const LONGEST: usize = 256;
    let shown = path[..path.len().min(LONGEST)].escape_ascii().to_string();
    if path.len() > LONGEST { shown + "…" } else { shown }
}

fn retry(mut read: impl FnMut() -> io::Result<usize>) -> Result<usize> {
    loop {
        match read() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                return Err(match error.downcast::<Error>() {
                    Ok(own) => own,
                    Err(error) => damaged(format!("it cannot be read: {error}")),
                });
            }
            Ok(read) => return Ok(read),
        }
    }
}

fn damaged(what: impl std::fmt::Display) -> Error {
    Error::corrupt(format!("the tar archive is damaged: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        let cases = [
            ("0", Some((0, 0))),
            ("1.5", Some((1, 500_000_000))),
            ("-1.5", Some((-2, 500_000_000))),
            ("-0.25", Some((-1, 750_000_000))),
            ("-3", Some((-3, 0))),
            ("1.1234567899", Some((1, 123_456_789))),
            ("", None),
            ("x", None),
            ("1.x", None),
            ("99999999999999999999", None),
        ];
        for (text, expected) in cases {
            let found = parse_time(text.as_bytes()).map(|time| (time.seconds, time.nanoseconds));
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn fields() {
        let cases: [(&[u8], Option<u64>); 10] = [
            (b"0000017\0", Some(0o17)),
            (b"     17 ", Some(0o17)),
            (b"17\0junk!", Some(0o17)),
            (b"\0\0\0\0\0\0\0\0", Some(0)),
            (b"        ", Some(0)),
            (b"0000018\0", None),
            (b"-0000017", None),
            (b"\x80\0\0\0\0\0\x01\x02", Some(0x102)),
            (b"\x80\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff", Some(u64::MAX)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", None),
        ];
        for (field, expected) in cases {
            assert_eq!(number(field), expected, "{}", field.escape_ascii());
        }
    }

    #[test]
    fn sums_of_both_signs() {
        let mut block = [0; 512];
        block[..2].copy_from_slice(b"\xffa");
        block[150] = b'9';
        assert_eq!(checksums(&block), [255 + 97 + 8 * 32, -1 + 97 + 8 * 32]);
    }

    #[test]
    fn keys_of_attributes() {
        for (key, expected) in
            [("user.a", "user.a"), ("a%3Db", "a=b"), ("%253D", "%3D"), ("%%4", "%%4"), ("%3", "%3")]
        {
            assert_eq!(decode_key(key.as_bytes()), expected.as_bytes(), "{key}");
        }
    }

    #[test]
    fn maps_that_cannot_be() {
        let piece = |offset, length| Piece { offset, length };
        let cases = [
            (10, vec![piece(0, 5), piece(5, 5)], 10, true),
            (10, vec![piece(2, 3), piece(10, 0)], 3, true),
            (10, vec![piece(0, 5), piece(4, 5)], 10, false),
            (10, vec![piece(5, 6)], 6, false),
            (10, vec![piece(u64::MAX, 2)], 2, false),
            (10, vec![piece(0, 5)], 6, false),
            (u64::MAX, vec![], 0, false),
        ];
        for (size, pieces, stored, is_right) in cases {
            let found = check_pieces(size, &pieces, stored).is_ok();
            assert_eq!(found, is_right, "{size} {pieces:?} {stored}");
        }
    }

    #[test]
    fn extended_headers() {
        let mut extensions = Extensions::default();
        extensions.read(b"12 path=a b\n6 x=y\n19 SCHILY.xattr.u=\n").unwrap();
        assert_eq!(extensions.values[&b"path"[..]], b"a b");
        assert_eq!(extensions.xattrs().count(), 1);
        for bad in [&b"x"[..], b"3 a", b"99 a=b\n", b"5 ab\n", b"0 a=b\n", b"6 a=bc", b"2 \n"] {
            assert!(Extensions::default().read(bad).is_err(), "{}", bad.escape_ascii());
        }
    }

    /// One after the other, they can ask for any amount of memory; not so if they only say
    /// something else.
    #[test]
    fn extended_headers_without_end() {
        type Record = fn(usize) -> String;
        let read = |record: Record| {
            let mut extensions = Extensions::default();
            (0..200_000).try_for_each(|n| extensions.read(record(n).as_bytes()))
        };
        let cases: [(&str, Record, bool); 4] = [
            ("other keys", |n| format!("16 k{n:07}=abc\n"), false),
            ("a map", |n| format!("29 GNU.sparse.offset={n:07}\n"), false),
            ("other values", |n| format!("14 key={n:06}\n"), true),
            ("values taken back", |n| ["8 k=abc\n", "5 k=\n"][n % 2].to_owned(), true),
        ];
        for (name, record, is_right) in cases {
            assert_eq!(read(record).is_ok(), is_right, "{name}");
        }
    }
}
