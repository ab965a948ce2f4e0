//! An image as FUSE asks for it.
//!
//! Nothing ever changes, so each answer holds for ever, and open and opendir need no question at
//! all.

use std::cell::RefCell;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{
    AccessFlags, Errno, FileAttr, FileHandle, FileType, FopenFlags, Generation, INodeNo, InitFlags,
    KernelConfig, LockOwner, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory, ReplyDirectoryPlus,
    ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLseek, ReplyOpen, ReplyStatfs, ReplyXattr, Request,
};

use super::ahead::Ahead;
use super::ids::{IdMap, map_acl};
use super::log::Log;
use crate::fault;
use crate::image::Image;
use crate::tree::{Device, Ino, Inode, Kind, Locations, NAME_MAX, Timestamp};

/// How long an answer holds: some thirty years.
const EVER: Duration = Duration::from_secs(1 << 30);
/// An inode's number never comes to mean another one.
const GENERATION: Generation = Generation(0);
const BLOCK: u64 = 4096;
/// The unit of `st_blocks`.
const SECTOR: u64 = 512;
/// How many requests the kernel may make that nobody waits for, such as reading ahead.
const BACKGROUND: u16 = 64;
const ACLS: [&[u8]; 2] = [b"system.posix_acl_access", b"system.posix_acl_default"];

/// What the kernel is told an image to be.
pub struct FileSystem {
    image: Arc<Image>,
    locations: Arc<Locations>,
    ahead: Arc<Ahead>,
    log: Arc<Log>,
    uids: IdMap,
    gids: IdMap,
    has_xattrs: bool,
    /// The kernel honours ACLs only if it checks all permissions.
    acls: bool,
    idmap: bool,
    /// Open and opendir can be left out.
    no_open: bool,
    no_opendir: bool,
    blocks: u64,
}

/// What becomes of owners, and who checks permissions.
pub struct Owners {
    pub uids: IdMap,
    pub gids: IdMap,
    /// The kernel does.
    pub checked: bool,
    /// For anybody.
    pub open_to_all: bool,
}

type Node = Inode<Box<[crate::chunk::Extent]>>;

impl FileSystem {
    pub fn new(
        image: Arc<Image>,
        locations: Arc<Locations>,
        ahead: Arc<Ahead>,
        log: Arc<Log>,
        owners: Owners,
    ) -> Self {
        let inodes = image.tree().inodes();
        let mut xattrs = inodes.iter().flat_map(|inode| &inode.metadata.xattrs).peekable();
        let has_xattrs = xattrs.peek().is_some();
        let has_acls = xattrs.any(|xattr| ACLS.contains(&&*xattr.key));
        let sizes = image.tree().iter().map(|(ino, _)| image.size(ino).div_ceil(BLOCK));
        let blocks = sizes.sum();
        FileSystem {
            locations,
            ahead,
            log,
            has_xattrs,
            acls: owners.checked && has_acls,
            idmap: owners.checked && owners.open_to_all,
            uids: owners.uids,
            gids: owners.gids,
            no_open: false,
            no_opendir: false,
            blocks,
            image,
        }
    }

    fn find(&self, number: INodeNo) -> Result<(Ino, &Node), Errno> {
        let ino = self.image.tree().get(number.0).ok_or(Errno::ESTALE)?;
        Ok((ino, self.image.tree().inode(ino)))
    }

    fn attributes(&self, ino: Ino, inode: &Node) -> FileAttr {
        let metadata = &inode.metadata;
        let mtime = time(metadata.mtime);
        let (size, blocks) = match &inode.kind {
            Kind::Regular(extents) => {
                let data = extents.iter().filter(|extent| !self.image.is_zeros(extent));
                let data: u64 = data.map(|extent| extent.length).sum();
                (self.image.size(ino), sectors(data))
            }
            Kind::Symlink(target) => (target.len() as u64, 0),
            Kind::Directory(entries) => {
                // As ext4 has it: a header of 8 bytes and the name, in words of 4, and two more.
                let size = |name: &[u8]| (8 + name.len() as u64).next_multiple_of(4);
                let names: u64 = entries.iter().map(|entry| size(&entry.name)).sum();
                let size = (2 * size(b"..") + names).next_multiple_of(BLOCK);
                (size, sectors(size))
            }
            _ => (0, 0),
        };
        FileAttr {
            ino: INodeNo(ino.get().into()),
            size,
            blocks,
            atime: mtime,
            mtime,
            ctime: mtime,
            crtime: mtime,
            kind: file_type(&inode.kind),
            perm: metadata.permissions,
            nlink: inode.nlink,
            uid: self.uids.map(metadata.uid),
            gid: self.gids.map(metadata.gid),
            rdev: match inode.kind {
                Kind::CharDevice(device) | Kind::BlockDevice(device) => encode(device),
                _ => 0,
            },
            blksize: BLOCK as u32,
            flags: 0,
        }
    }

    /// The entries of a directory from the one with this index on, `.` and `..` first.
    fn entries(
        &self,
        number: INodeNo,
        start: u64,
    ) -> Result<impl Iterator<Item = (u64, Ino, &[u8])>, Errno> {
        let (dir, inode) = self.find(number)?;
        let entries = inode.entries().ok_or(Errno::ENOTDIR)?;
        let dots = [(dir, &b"."[..]), (self.locations.parent(dir), b"..")];
        let start = usize::try_from(start).unwrap_or(usize::MAX);
        let rest = entries.get(start.saturating_sub(dots.len())..).unwrap_or_default();
        let named = rest.iter().map(|entry| (entry.ino, &*entry.name));
        let dots = dots.into_iter().skip(start);
        // What comes next is asked for by this number.
        Ok((start as u64 + 1..).zip(dots.chain(named)).map(|(next, (ino, name))| (next, ino, name)))
    }

    /// Runs what answers a request. A panic is a defect, of which who asks learns that it failed:
    /// a reply that is dropped says so.
    fn guard(&self, request: &str, ino: INodeNo, work: impl FnOnce()) {
        let work = || {
            fault::point!(request);
            work();
        };
        if catch_unwind(AssertUnwindSafe(work)).is_err() {
            let shown = self.path(ino);
            self.log.write(&format!("'{shown}': a defect of libpuzzlefs: {request} failed"));
        }
    }

    fn path(&self, number: INodeNo) -> String {
        match self.image.tree().get(number.0) {
            Some(ino) => {
                format!("/{}", self.image.tree().path(&self.locations, ino).display())
            }
            None => format!("inode {}", number.0),
        }
    }

    fn read_into(&self, number: INodeNo, offset: u64, size: u32, reply: ReplyData) {
        thread_local! {
            static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
        }
        let (ino, inode) = match self.find(number) {
            Ok(found) => found,
            Err(error) => return reply.error(error),
        };
        if inode.file().is_none() {
            return reply.error(Errno::EINVAL);
        }
        let length = self.image.size(ino);
        let wanted = u64::from(size).min(length.saturating_sub(offset)) as usize;
        self.ahead.saw(ino, offset, wanted as u64, length);
        let mut reply = Some(reply);
        let answer = |bytes: &[u8]| {
            self.log.recovered(ino);
            if let Some(reply) = reply.take() {
                reply.data(bytes);
            }
        };
        let result = BUFFER
            .with_borrow_mut(|buffer| self.image.with_content(ino, offset, wanted, buffer, answer));
        if let (Err(error), Some(reply)) = (result, reply) {
            self.log.failed(ino, || format!("'{}': {error}", self.path(number)));
            reply.error(Errno::EIO);
        }
    }

    fn xattr(&self, number: INodeNo, name: &OsStr) -> Result<Vec<u8>, Errno> {
        let (_, inode) = self.find(number)?;
        let xattrs = &inode.metadata.xattrs;
        let found = xattrs.binary_search_by(|xattr| (*xattr.key).cmp(name.as_bytes()));
        let xattr = &xattrs[found.map_err(|_| Errno::ENODATA)?];
        let mapped = !self.uids.is_empty() || !self.gids.is_empty();
        let acl = mapped && ACLS.contains(&&*xattr.key);
        let acl = acl.then(|| map_acl(&xattr.value, &self.uids, &self.gids)).flatten();
        Ok(acl.unwrap_or_else(|| xattr.value.to_vec()))
    }

    fn seek(&self, number: INodeNo, offset: i64, whence: i32) -> Result<i64, Errno> {
        let (ino, inode) = self.find(number)?;
        let extents = inode.file().ok_or(Errno::EINVAL)?;
        let offset = u64::try_from(offset).map_err(|_| Errno::ENXIO)?;
        let size = self.image.size(ino);
        if offset >= size {
            return Err(Errno::ENXIO);
        }
        let hole = match whence {
            libc::SEEK_HOLE => true,
            libc::SEEK_DATA => false,
            _ => return Err(Errno::EINVAL),
        };
        let mut start = 0;
        for extent in extents {
            let end = start + extent.length;
            if end > offset && self.image.is_zeros(extent) == hole {
                return Ok(start.max(offset) as i64);
            }
            start = end;
        }
        // A file ends with a hole that has no length.
        if hole { Ok(size as i64) } else { Err(Errno::ENXIO) }
    }
}

impl fuser::Filesystem for FileSystem {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        let offered = config.capabilities();
        self.no_open = offered.contains(InitFlags::FUSE_NO_OPEN_SUPPORT);
        self.no_opendir = offered.contains(InitFlags::FUSE_NO_OPENDIR_SUPPORT);
        let mut wanted = InitFlags::FUSE_PARALLEL_DIROPS
            | InitFlags::FUSE_DO_READDIRPLUS
            | InitFlags::FUSE_READDIRPLUS_AUTO
            | InitFlags::FUSE_CACHE_SYMLINKS
            | InitFlags::FUSE_ASYNC_DIO
            | InitFlags::FUSE_EXPLICIT_INVAL_DATA;
        wanted.set(InitFlags::FUSE_POSIX_ACL, self.acls);
        wanted.set(InitFlags::FUSE_ALLOW_IDMAP, self.idmap);
        config.add_capabilities(wanted & offered).expect("only what is offered is asked for");
        config.set_max_background(BACKGROUND).expect("not 0");
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        self.guard("lookup request", parent, || {
            let (dir, inode) = match self.find(parent) {
                Ok(found) => found,
                Err(error) => return reply.error(error),
            };
            if inode.entries().is_none() {
                return reply.error(Errno::ENOTDIR);
            }
            match self.image.tree().lookup(dir, name.as_bytes()) {
                Some(ino) => {
                    let attributes = self.attributes(ino, self.image.tree().inode(ino));
                    reply.entry(&EVER, &attributes, GENERATION);
                }
                // No number: that there is nothing holds for ever too.
                None => {
                    let none = FileAttr { ino: INodeNo(0), ..self.attributes(dir, inode) };
                    reply.entry(&EVER, &none, GENERATION);
                }
            }
        });
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        self.guard("getattr request", ino, || match self.find(ino) {
            Ok((found, inode)) => reply.attr(&EVER, &self.attributes(found, inode)),
            Err(error) => reply.error(error),
        });
    }

    fn readlink(&self, _: &Request, ino: INodeNo, reply: ReplyData) {
        self.guard("readlink request", ino, || {
            match self.find(ino).map(|(_, inode)| &inode.kind) {
                Ok(Kind::Symlink(target)) => reply.data(target),
                Ok(_) => reply.error(Errno::EINVAL),
                Err(error) => reply.error(error),
            }
        });
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        match self.no_open {
            true => reply.error(Errno::ENOSYS),
            false => reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE),
        }
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        self.guard("read request", ino, || self.read_into(ino, offset, size, reply));
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }

    fn fsyncdir(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }

    fn opendir(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        let cache = FopenFlags::FOPEN_KEEP_CACHE | FopenFlags::FOPEN_CACHE_DIR;
        match self.no_opendir {
            true => reply.error(Errno::ENOSYS),
            false => reply.opened(FileHandle(0), cache),
        }
    }

    fn readdir(
        &self,
        _: &Request,
        dir: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        self.guard("readdir request", dir, || {
            let entries = match self.entries(dir, offset) {
                Ok(entries) => entries,
                Err(error) => return reply.error(error),
            };
            for (next, ino, name) in entries {
                let kind = file_type(&self.image.tree().inode(ino).kind);
                if reply.add(INodeNo(ino.get().into()), next, kind, OsStr::from_bytes(name)) {
                    break;
                }
            }
            reply.ok();
        });
    }

    fn readdirplus(
        &self,
        _: &Request,
        dir: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        self.guard("readdirplus request", dir, || {
            let entries = match self.entries(dir, offset) {
                Ok(entries) => entries,
                Err(error) => return reply.error(error),
            };
            for (next, ino, name) in entries {
                let attributes = self.attributes(ino, self.image.tree().inode(ino));
                let (number, name) = (attributes.ino, OsStr::from_bytes(name));
                if reply.add(number, next, name, &EVER, &attributes, GENERATION) {
                    break;
                }
            }
            reply.ok();
        });
    }

    fn statfs(&self, _: &Request, ino: INodeNo, reply: ReplyStatfs) {
        self.guard("statfs request", ino, || {
            let inodes = self.image.tree().inodes().len() as u64;
            let block = BLOCK as u32;
            reply.statfs(self.blocks, 0, 0, inodes, 0, block, NAME_MAX as u32, block);
        });
    }

    fn getxattr(&self, _: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        // Before it executes a file, the kernel asks for its capabilities each time.
        if !self.has_xattrs {
            return reply.error(Errno::ENOSYS);
        }
        self.guard("getxattr request", ino, || answer(self.xattr(ino, name), size, reply));
    }

    fn listxattr(&self, _: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        self.guard("listxattr request", ino, || {
            let list = self.find(ino).map(|(_, inode)| {
                let keys = inode.metadata.xattrs.iter().map(|xattr| [&*xattr.key, b"\0"].concat());
                keys.flatten().collect()
            });
            answer(list, size, reply);
        });
    }

    fn access(&self, _: &Request, _: INodeNo, _: AccessFlags, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }

    fn ioctl(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: fuser::IoctlFlags,
        _: u32,
        _: &[u8],
        _: u32,
        reply: ReplyIoctl,
    ) {
        reply.error(Errno::ENOTTY);
    }

    fn lseek(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        self.guard("lseek request", ino, || match self.seek(ino, offset, whence) {
            Ok(found) => reply.offset(found),
            Err(error) => reply.error(error),
        });
    }
}

/// Answers with bytes, or with how many they are to who has no room for any.
fn answer(bytes: Result<Vec<u8>, Errno>, size: u32, reply: ReplyXattr) {
    match bytes {
        Err(error) => reply.error(error),
        Ok(bytes) if size == 0 => reply.size(bytes.len() as u32),
        Ok(bytes) if bytes.len() > size as usize => reply.error(Errno::ERANGE),
        Ok(bytes) => reply.data(&bytes),
    }
}

fn sectors(bytes: u64) -> u64 {
    bytes.next_multiple_of(BLOCK) / SECTOR
}

/// A device's number as the kernel takes it from FUSE: `new_encode_dev` in its `kdev_t.h`.
fn encode(Device { major, minor }: Device) -> u32 {
    (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)
}

fn time(time: Timestamp) -> SystemTime {
    let seconds = Duration::from_secs(time.seconds.unsigned_abs());
    let whole = match time.seconds {
        0.. => UNIX_EPOCH.checked_add(seconds),
        _ => UNIX_EPOCH.checked_sub(seconds),
    };
    let time =
        whole.and_then(|whole| whole.checked_add(Duration::from_nanos(time.nanoseconds.into())));
    time.expect("both count seconds in 64 bits")
}

fn file_type<F>(kind: &Kind<F>) -> FileType {
    match kind {
        Kind::Directory(_) => FileType::Directory,
        Kind::Regular(_) => FileType::RegularFile,
        Kind::Symlink(_) => FileType::Symlink,
        Kind::Fifo => FileType::NamedPipe,
        Kind::Socket => FileType::Socket,
        Kind::CharDevice(_) => FileType::CharDevice,
        Kind::BlockDevice(_) => FileType::BlockDevice,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_the_same() {
        for seconds in [0, 1, -1, i64::MAX, i64::MIN] {
            for nanoseconds in [0, 999_999_999] {
                let shown = time(Timestamp { seconds, nanoseconds });
                let whole = Duration::from_nanos(nanoseconds.into());
                let shown = shown.checked_sub(whole).unwrap();
                let distance = match shown.duration_since(UNIX_EPOCH) {
                    Ok(after) => i128::from(after.as_secs()),
                    Err(before) => -i128::from(before.duration().as_secs()),
                };
                assert_eq!(distance, i128::from(seconds));
            }
        }
    }

    #[test]
    fn device_numbers_are_the_kernels() {
        let cases = [(0, 0, 0), (1, 3, 0x103), (8, 0x100, 0x10_0800), (0xfff, 0xf_ffff, u32::MAX)];
        for (major, minor, encoded) in cases {
            assert_eq!(encode(Device { major, minor }), encoded, "{major}:{minor}");
        }
    }
}
