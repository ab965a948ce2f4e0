//! From a connection with the kernel to a mount, and away again.
//!
//! Who may mount does it with the calls that Linux has had since 5.2: the file system is made, and
//! answers, before it is seen anywhere; and the kernel says what it does not like. An ordinary
//! user does it through `fusermount3`, which mounts at once.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, UnmountFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount,
};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

use super::table::SUBTYPE;
use crate::error::{Error, ErrorKind, Result};

const DEVICE: &str = "/dev/fuse";
const HELPER: &str = "fusermount3";

/// What a mount is like, for the kernel.
#[derive(Debug, Clone)]
pub struct Attributes {
    /// What is shown as mounted.
    pub source: OsString,
    pub allow_other: bool,
    pub default_permissions: bool,
    pub nosuid: bool,
    pub nodev: bool,
    pub noexec: bool,
}

impl Attributes {
    pub fn flags(&self) -> MountAttrFlags {
        let flags = [
            (self.nosuid, MountAttrFlags::MOUNT_ATTR_NOSUID),
            (self.nodev, MountAttrFlags::MOUNT_ATTR_NODEV),
            (self.noexec, MountAttrFlags::MOUNT_ATTR_NOEXEC),
        ];
        flags.into_iter().filter(|(set, _)| *set).map(|(_, flag)| flag).collect()
    }
}

/// A connection with the kernel.
pub struct Connection {
    /// Where requests come from.
    pub device: OwnedFd,
    /// The mount, not seen anywhere yet; `None` if it is on the mount point already.
    pub detached: Option<OwnedFd>,
}

/// Makes the file system, whose requests can then be read.
pub fn connect(point: &Path, attributes: &Attributes) -> Result<Connection> {
    match make(attributes) {
        Ok(connection) => Ok(connection),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            let refused = |helper: Error| error.context(format_args!("{helper}; without it"));
            let device = ask_helper(point, attributes).map_err(refused)?;
            Ok(Connection { device, detached: None })
        }
        Err(error) => Err(error),
    }
}

fn make(attributes: &Attributes) -> Result<Connection> {
    let device = File::options().read(true).write(true).open(DEVICE);
    let device = OwnedFd::from(device.map_err(no_device)?);
    let file_system = FileSystem::open("fuse")?;
    file_system.set("source", &attributes.source)?;
    file_system.set("subtype", SUBTYPE)?;
    file_system.set("fd", format!("{}", std::os::fd::AsRawFd::as_raw_fd(&device)))?;
    // A directory; the kernel asks for the rest of the mode before anybody needs it.
    file_system.set("rootmode", "40000")?;
    file_system.set("user_id", rustix::process::getuid().as_raw().to_string())?;
    file_system.set("group_id", rustix::process::getgid().as_raw().to_string())?;
    file_system.set_flag("ro")?;
    for (flag, set) in [
        ("allow_other", attributes.allow_other),
        ("default_permissions", attributes.default_permissions),
    ] {
        if set {
            file_system.set_flag(flag)?;
        }
    }
    let flags = attributes.flags() | MountAttrFlags::MOUNT_ATTR_RDONLY;
    Ok(Connection { device, detached: Some(file_system.mount(flags)?) })
}

fn no_device(error: io::Error) -> Error {
    let told = Error::io("open", DEVICE, error);
    match told.errno() {
        Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => told.advice(
            "`modprobe fuse` gives a machine the device, --device /dev/fuse gives it to a container",
        ),
        _ => told,
    }
}

/// A file system that is being made.
pub struct FileSystem {
    name: &'static str,
    context: OwnedFd,
}

impl FileSystem {
    pub fn open(name: &'static str) -> Result<Self> {
        let context = fsopen(name, FsOpenFlags::FSOPEN_CLOEXEC)
            .map_err(|error| Error::system(&format!("mount with {name}"), error.into()))?;
        Ok(FileSystem { name, context })
    }

    pub fn set(&self, key: &str, value: impl rustix::path::Arg) -> Result<()> {
        fsconfig_set_string(&self.context, key, value).map_err(|error| self.failed(error))
    }

    pub fn set_flag(&self, key: &str) -> Result<()> {
        fsconfig_set_flag(&self.context, key).map_err(|error| self.failed(error))
    }

    pub fn mount(self, flags: MountAttrFlags) -> Result<OwnedFd> {
        fsconfig_create(&self.context).map_err(|error| self.failed(error))?;
        fsmount(&self.context, FsMountFlags::FSMOUNT_CLOEXEC, flags)
            .map_err(|error| self.failed(error))
    }

    /// What the kernel has to say about it, as far as it does.
    fn failed(&self, error: Errno) -> Error {
        let mut said = Vec::new();
        let mut message = [0; 1024];
        while let Ok(length @ 1..) = rustix::io::read(&self.context, &mut message) {
            // `e TEXT`, or `w` or `i` for what is no error.
            let text = message[..length].strip_prefix(b"e ").unwrap_or_default().trim_ascii();
            said.extend((!text.is_empty()).then(|| String::from_utf8_lossy(text).into_owned()));
        }
        let what = match said.is_empty() {
            true => format!("mount with {}", self.name),
            false => format!("mount with {} ({})", self.name, said.join("; ")),
        };
        Error::system(&what, error.into())
    }
}

/// Puts a mount that is not seen anywhere on its mount point.
pub fn attach(mount: impl AsFd, point: &Path) -> Result<()> {
    move_mount(mount, "", CWD, point, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .map_err(|error| Error::io("mount on", point, error))
}

/// Has `fusermount3` mount, which sends the connection.
fn ask_helper(point: &Path, attributes: &Attributes) -> Result<OwnedFd> {
    let mut options = b"ro,nosuid,nodev,subtype=".to_vec();
    options.extend_from_slice(SUBTYPE.as_bytes());
    for (option, set) in [
        (",noexec", attributes.noexec),
        (",allow_other", attributes.allow_other),
        (",default_permissions", attributes.default_permissions),
    ] {
        options.extend_from_slice(if set { option.as_bytes() } else { b"" });
    }
    options.extend_from_slice(b",fsname=");
    for &byte in attributes.source.as_encoded_bytes() {
        options.extend_from_slice(if b",\\".contains(&byte) { b"\\" } else { b"" });
        options.push(byte);
    }
    let (ours, theirs) =
        UnixStream::pair().map_err(|error| Error::system("make a pair of sockets", error))?;
    let mut helper = Command::new(HELPER);
    helper.arg("-o").arg(OsString::from_vec(options)).arg("--").arg(point);
    // It looks there for the socket by which to send; any number will do.
    helper.env("_FUSE_COMMFD", "0").stdin(Stdio::from(OwnedFd::from(theirs)));
    let child = helper.stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    // It holds the other end of the pair, which shall be closed with the process.
    drop(helper);
    let child = child.map_err(|error| Error::io("run", HELPER, error))?;
    let device = receive(&ours);
    let output = child.wait_with_output();
    match device.map_err(|error| Error::io("hear from", HELPER, error))? {
        // However it ended: where nobody waits for children (SIGCHLD is ignored), that is not told.
        Some(device) => Ok(device),
        None => {
            let output = output.map_err(|error| Error::io("run", HELPER, error))?;
            Err(helper_failed("mount on", point, &output.stderr))
        }
    }
}

fn helper_failed(what: &str, point: &Path, said: &[u8]) -> Error {
    let said = String::from_utf8_lossy(said);
    let said = said.trim().replace('\n', "; ");
    let said = said.strip_prefix("fusermount3: ").unwrap_or(&said);
    let why = if said.is_empty() { "it does not say why" } else { said };
    let message = format!("{HELPER} cannot {what} '{}': {why}", point.display());
    Error::new(ErrorKind::PermissionDenied, message).with_path(point)
}

/// The descriptor that comes through the socket; `None` if it is closed before.
fn receive(socket: &UnixStream) -> io::Result<Option<OwnedFd>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let received = loop {
        let parts = &mut [IoSliceMut::new(&mut byte)];
        match recvmsg(socket, parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
            Err(Errno::INTR) => {}
            result => break result?,
        }
    };
    let messages = ancillary.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    Ok(messages.last().filter(|_| received.bytes > 0))
}

/// Takes away what is mounted on `point`, at once or, if `lazy`, for those who have nothing open in
/// it.
pub fn detach(point: &Path, lazy: bool) -> Result<()> {
    let mut flags = UnmountFlags::NOFOLLOW;
    flags.set(UnmountFlags::DETACH, lazy);
    match rustix::mount::unmount(point, flags) {
        Ok(()) => Ok(()),
        Err(Errno::PERM) => ask_helper_to_unmount(point, lazy),
        Err(Errno::INVAL) => Err(Error::new(
            ErrorKind::NotFound,
            format!("nothing is mounted on '{}'", point.display()),
        )
        .with_path(point)),
        Err(error) => Err(not_unmounted(point, error)),
    }
}

fn not_unmounted(point: &Path, error: Errno) -> Error {
    let told = Error::io("unmount", point, error);
    match error {
        Errno::BUSY => told.advice(
            "somebody uses it, or has mounted something below it: wait for them, or unmount it \
             lazily (--lazy)",
        ),
        _ => told,
    }
}

fn ask_helper_to_unmount(point: &Path, lazy: bool) -> Result<()> {
    let mut helper = Command::new(HELPER);
    helper.arg("-u").args(lazy.then_some("-z")).arg("--").arg(point);
    let output = helper.stdin(Stdio::null()).output();
    let output = output.map_err(|error| Error::io("run", HELPER, error))?;
    match output.status.success() {
        true => Ok(()),
        false => {
            let busy = String::from_utf8_lossy(&output.stderr).contains("busy");
            Err(match busy {
                true => not_unmounted(point, Errno::BUSY),
                false => helper_failed("unmount", point, &output.stderr)
                    .advice("only who mounted it can, and root"),
            })
        }
    }
}

/// What the kernel reads ahead of a sequential reader, in KiB: all at once what it asks for at
/// most at once. Only root may set it, and it is only about speed.
pub fn raise_readahead(device: (u32, u32)) {
    const KIB: &str = "1024";
    let path = format!("/sys/class/bdi/{}:{}/read_ahead_kb", device.0, device.1);
    if let Err(error) = std::fs::write(&path, KIB) {
        tracing::debug!("cannot write '{path}': {error}");
    }
}
