//! Writing an image out as a tar archive.
//!
//! POSIX pax, the same bytes for the same tree: entries in the order of the walk, extended headers
//! only for what the old header cannot hold, holes as GNU tar's sparse files of version 1.0.

use std::collections::HashMap;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use tar::{EntryType, Header};

use crate::error::{Error, Result};
use crate::fault;
use crate::image::Image;
use crate::progress::{Monitor, Progress, Stage};
use crate::source::Contents;
use crate::source::image::ImageFile;
use crate::tree::{Device, Ino, Inode, Kind, Timestamp};

const BLOCK: usize = 512;
/// How many bytes of a file are read at once.
const WINDOW: usize = 256 * 1024;
/// What the numbers of the old header hold: 7 and 11 octal digits.
const ID_MAX: u32 = 0o7_777_777;
const SIZE_MAX: u64 = 0o77_777_777_777;
/// What the old header holds of a name, in bytes.
const NAME_MAX: usize = 100;

/// What was written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExportReport {
    /// Entries in the archive.
    pub entries: u64,
    /// Bytes of the files.
    pub bytes: u64,
    /// Sockets, which no archive can hold, and which were left out.
    pub sockets: Vec<PathBuf>,
}

/// Writes the tree of `image` to `out` as a tar archive.
///
/// Fails if a data blob is missing or damaged, `out` cannot be written, or the work is cancelled;
/// `out` has then the begin of an archive.
pub fn export(image: &Image, out: &mut dyn Write, monitor: &Monitor<'_>) -> Result<ExportReport> {
    let files = image.tree().iter().map(|(ino, _)| image.size(ino));
    let mut writer = Writer {
        image,
        out,
        monitor,
        total: files.fold(0, u64::saturating_add),
        names: HashMap::new(),
        report: ExportReport::default(),
    };
    writer.run()?;
    Ok(writer.report)
}

struct Writer<'a> {
    image: &'a Image,
    out: &'a mut dyn Write,
    monitor: &'a Monitor<'a>,
    total: u64,
    /// The first names of inodes that have several.
    names: HashMap<Ino, Vec<u8>>,
    report: ExportReport,
}

/// An entry: what the header holds, and what it cannot.
struct Entry {
    header: Header,
    records: Vec<u8>,
}

impl Writer<'_> {
    fn run(&mut self) -> Result<()> {
        let tree = self.image.tree();
        self.entry(Ino::ROOT, b".")?;
        tree.walk(Ino::ROOT, |path, ino| self.entry(ino, path).map(|()| true))?;
        // Two blocks of zeros are the end.
        self.write(&[0; 2 * BLOCK])
    }

    fn entry(&mut self, ino: Ino, path: &[u8]) -> Result<()> {
        fault::point!("export");
        let inode = self.image.tree().inode(ino);
        if matches!(inode.kind, Kind::Socket) {
            let path = Path::new(std::ffi::OsStr::from_bytes(path));
            self.report.sockets.push(path.to_owned());
            return Ok(());
        }
        self.report.entries += 1;
        if let Some(first) = self.names.get(&ino) {
            let mut entry = Entry::new(inode, path, EntryType::Link);
            entry.link(first);
            return self.write_entry(entry);
        }
        if inode.nlink > 1 && inode.entries().is_none() {
            self.names.insert(ino, path.to_owned());
        }
        match &inode.kind {
            Kind::Directory(_) => {
                let path = [path, b"/"].concat();
                self.write_entry(Entry::new(inode, &path, EntryType::Directory))
            }
            Kind::Symlink(target) => {
                let mut entry = Entry::new(inode, path, EntryType::Symlink);
                entry.link(target);
                self.write_entry(entry)
            }
            Kind::Regular(extents) => self.file(inode, path, extents),
            Kind::Fifo => self.write_entry(Entry::new(inode, path, EntryType::Fifo)),
            Kind::CharDevice(device) => {
                let mut entry = Entry::new(inode, path, EntryType::Char);
                entry.device(*device)?;
                self.write_entry(entry)
            }
            Kind::BlockDevice(device) => {
                let mut entry = Entry::new(inode, path, EntryType::Block);
                entry.device(*device)?;
                self.write_entry(entry)
            }
            Kind::Socket => unreachable!("sockets are left out"),
        }
    }

    fn file(
        &mut self,
        inode: &Inode<Box<[crate::chunk::Extent]>>,
        path: &[u8],
        extents: &[crate::chunk::Extent],
    ) -> Result<()> {
        let size = crate::format::file_size(extents);
        let pieces = self.pieces(extents);
        let is_sparse = pieces.iter().map(|(_, length)| length).sum::<u64>() < size;
        let mut contents = ImageFile::new(self.image.blobs(), extents);
        if !is_sparse {
            let mut entry = Entry::new(inode, path, EntryType::Regular);
            entry.size(size);
            self.write_entry(entry)?;
            self.data(&mut contents, 0, size)?;
            return self.pad(size);
        }
        let map = sparse_map(&pieces);
        let stored = map.len() as u64 + pieces.iter().map(|(_, length)| length).sum::<u64>();
        let mut entry = Entry::new(inode, b"GNUSparseFile.0/file", EntryType::Regular);
        entry.record("GNU.sparse.major", b"1");
        entry.record("GNU.sparse.minor", b"0");
        entry.record("GNU.sparse.name", path);
        entry.record("GNU.sparse.realsize", size.to_string().as_bytes());
        entry.size(stored);
        self.write_entry(entry)?;
        self.write(&map)?;
        for (offset, length) in pieces {
            self.data(&mut contents, offset, length)?;
        }
        self.pad(stored)
    }

    /// The runs of a file that are no holes: offset and length. A hole at the end is followed by an
    /// empty run, by which GNU tar knows the file's size.
    fn pieces(&self, extents: &[crate::chunk::Extent]) -> Vec<(u64, u64)> {
        let mut pieces: Vec<(u64, u64)> = Vec::new();
        let mut at = 0;
        for extent in extents {
            match pieces.last_mut() {
                _ if self.image.is_zeros(extent) => {}
                Some((offset, length)) if *offset + *length == at => *length += extent.length,
                _ => pieces.push((at, extent.length)),
            }
            at += extent.length;
        }
        if pieces.last().is_none_or(|(offset, length)| offset + length < at) {
            pieces.push((at, 0));
        }
        pieces
    }

    fn data(&mut self, contents: &mut ImageFile<'_>, mut offset: u64, length: u64) -> Result<()> {
        let mut window = vec![0; WINDOW];
        let end = offset + length;
        while offset < end {
            let length = window.len().min((end - offset).try_into().unwrap_or(WINDOW));
            contents.read_exact_at(&mut window[..length], offset)?;
            self.write(&window[..length])?;
            offset += length as u64;
            self.report.bytes += length as u64;
            let (done, total) = (self.report.bytes, self.total);
            self.monitor.report(Progress { stage: Stage::Extract, done, total })?;
        }
        Ok(())
    }

    fn write_entry(&mut self, mut entry: Entry) -> Result<()> {
        self.monitor.report(Progress {
            stage: Stage::Extract,
            done: self.report.bytes,
            total: self.total,
        })?;
        if !entry.records.is_empty() {
            let mut header = Header::new_ustar();
            header.set_entry_type(EntryType::XHeader);
            header.as_old_mut().name[..3].copy_from_slice(b"pax");
            header.set_mode(0o644);
            header.set_uid(0);
            header.set_gid(0);
            header.set_mtime(0);
            header.set_size(entry.records.len() as u64);
            header.set_cksum();
            self.write(header.as_bytes())?;
            self.write(&entry.records)?;
            self.pad(entry.records.len() as u64)?;
        }
        entry.header.set_cksum();
        self.write(entry.header.as_bytes())
    }

    fn pad(&mut self, length: u64) -> Result<()> {
        let padding = length.wrapping_neg() % BLOCK as u64;
        self.write(&[0; BLOCK][..padding as usize])
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).map_err(|error| Error::system("write the archive", error))
    }
}

impl Entry {
    fn new<F>(inode: &Inode<F>, path: &[u8], kind: EntryType) -> Self {
        let mut entry = Entry { header: Header::new_ustar(), records: Vec::new() };
        entry.header.set_entry_type(kind);
        entry.name(path);
        let metadata = &inode.metadata;
        entry.header.set_mode(metadata.permissions.into());
        entry.owner(metadata.uid, metadata.gid);
        entry.mtime(metadata.mtime);
        entry.size(0);
        // Of a further name, attributes would be those of another file.
        if kind != EntryType::Link {
            for xattr in &metadata.xattrs {
                let key = [b"SCHILY.xattr.", &*encode_key(&xattr.key)].concat();
                record(&mut entry.records, &key, &xattr.value);
            }
        }
        entry
    }

    fn record(&mut self, key: &str, value: &[u8]) {
        record(&mut self.records, key.as_bytes(), value);
    }

    fn name(&mut self, path: &[u8]) {
        let held = path.len().min(NAME_MAX);
        self.header.as_old_mut().name[..held].copy_from_slice(&path[..held]);
        if path.len() > NAME_MAX || !path.is_ascii() {
            self.record("path", path);
        }
    }

    fn link(&mut self, target: &[u8]) {
        let held = target.len().min(NAME_MAX);
        self.header.as_old_mut().linkname[..held].copy_from_slice(&target[..held]);
        if target.len() > NAME_MAX || !target.is_ascii() {
            self.record("linkpath", target);
        }
    }

    fn owner(&mut self, uid: u32, gid: u32) {
        self.header.set_uid(uid.min(ID_MAX).into());
        self.header.set_gid(gid.min(ID_MAX).into());
        for (key, id) in [("uid", uid), ("gid", gid)] {
            if id > ID_MAX {
                self.record(key, id.to_string().as_bytes());
            }
        }
    }

    fn mtime(&mut self, mtime: Timestamp) {
        let whole = u64::try_from(mtime.seconds).ok().filter(|&seconds| seconds <= SIZE_MAX);
        self.header.set_mtime(whole.unwrap_or(0));
        if whole.is_none() || mtime.nanoseconds > 0 {
            self.record("mtime", time(mtime).as_bytes());
        }
    }

    fn size(&mut self, size: u64) {
        self.header.set_size(size.min(SIZE_MAX));
        if size > SIZE_MAX {
            self.record("size", size.to_string().as_bytes());
        }
    }

    fn device(&mut self, device: Device) -> Result<()> {
        let wrong = |error| Error::system("write a device's number", error);
        self.header.set_device_major(device.major).map_err(wrong)?;
        self.header.set_device_minor(device.minor).map_err(wrong)
    }
}

/// A key of an attribute as GNU tar writes it, since no record's key can have a `=`. Other programs
/// do not know of that, so nothing is written so that need not be.
fn encode_key(mut key: &[u8]) -> Vec<u8> {
    let mut encoded = Vec::with_capacity(key.len());
    while let Some((first, rest)) = key.split_first() {
        match key {
            [b'=', ..] => encoded.extend_from_slice(b"%3D"),
            [b'%', b'3', b'D', ..] | [b'%', b'2', b'5', ..] => encoded.extend_from_slice(b"%25"),
            _ => encoded.push(*first),
        }
        key = rest;
    }
    encoded
}

/// Adds a record `LENGTH KEY=VALUE\n`, whose length counts itself.
fn record(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + " =\n".len();
    let mut length = rest + 1;
    while length.to_string().len() + rest != length {
        length = length.to_string().len() + rest;
    }
    records.extend(length.to_string().bytes());
    records.push(b' ');
    records.extend_from_slice(key);
    records.push(b'=');
    records.extend_from_slice(value);
    records.push(b'\n');
}

/// Seconds since 1970 with a fraction; before 1970 the fraction counts backwards.
fn time(mtime: Timestamp) -> String {
    let Timestamp { seconds, nanoseconds } = mtime;
    let text = match (seconds < 0, nanoseconds) {
        (_, 0) => return seconds.to_string(),
        (false, _) => format!("{seconds}.{nanoseconds:09}"),
        (true, _) => format!("-{}.{:09}", -(seconds + 1), 1_000_000_000 - nanoseconds),
    };
    text.trim_end_matches('0').to_owned()
}

/// The map of a sparse file of version 1.0, padded to whole blocks.
fn sparse_map(pieces: &[(u64, u64)]) -> Vec<u8> {
    let mut map = format!("{}\n", pieces.len());
    for (offset, length) in pieces {
        map.push_str(&format!("{offset}\n{length}\n"));
    }
    let mut map = map.into_bytes();
    map.resize(map.len().next_multiple_of(BLOCK), 0);
    map
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_count_themselves() {
        for length in [0, 1, 80, 90, 91, 92, 93, 980, 990, 991, 9990] {
            let mut records = Vec::new();
            record(&mut records, b"key", &vec![b'x'; length]);
            let text = String::from_utf8(records).unwrap();
            let (told, _) = text.split_once(' ').unwrap();
            assert_eq!(told.parse::<usize>().unwrap(), text.len());
        }
    }

    #[test]
    fn times() {
        let cases = [
            (0, 0, "0"),
            (5, 500_000_000, "5.5"),
            (-1, 0, "-1"),
            (-2, 500_000_000, "-1.5"),
            (-1, 1, "-0.999999999"),
        ];
        for (seconds, nanoseconds, text) in cases {
            assert_eq!(time(Timestamp { seconds, nanoseconds }), text);
        }
    }
}
