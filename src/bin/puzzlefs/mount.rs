//! `puzzlefs mount` and what belongs to it.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use puzzlefs::image::{OpenOptions, Pin};
use puzzlefs::mount::{Mount, MountOptions, Writable, mount};
use puzzlefs::progress::Monitor;
use puzzlefs::{Error, ErrorKind, image};
use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::args;
use crate::interrupt;
use crate::logger::Logger;
use crate::look;
use crate::output::{self, Bar, Failure};

const HELPER: &str = "mount.puzzlefs";

/// Whether mount(8) called.
pub fn is_helper() -> bool {
    let name = std::env::args_os().next();
    name.is_some_and(|name| Path::new(&name).file_name() == Some(OsStr::new(HELPER)))
}

/// `mount.puzzlefs`: the same in other words.
pub fn help(args: args::MountHelper) -> Result<ExitCode, Failure> {
    let mut options = args.options;
    if args.sloppy {
        options.push("sloppy".into());
    }
    let mount = args::Mount {
        image: args.image,
        mountpoint: args.mountpoint,
        options,
        foreground: false,
        digest: None,
        writable: false,
        persist: None,
        init_pipe: None,
        log: None,
        daemon: false,
    };
    if args.fake {
        Wanted::of(&mount)?;
        return Ok(ExitCode::SUCCESS);
    }
    run(mount)
}

pub fn run(args: args::Mount) -> Result<ExitCode, Failure> {
    let wanted = Wanted::of(&args)?;
    if args.foreground || args.daemon {
        return serve(&args, wanted);
    }
    start(&args)
}

pub fn unmount(args: args::Umount) -> Result<ExitCode, Failure> {
    puzzlefs::mount::unmount(&args.mountpoint, args.lazy)?;
    Ok(ExitCode::SUCCESS)
}

pub fn enable_fs_verity(args: args::EnableFsVerity) -> Result<ExitCode, Failure> {
    let digest = match args.digest.as_deref().map(str::parse).transpose()? {
        None => None,
        Some(Pin::Verity(digest)) => Some(digest),
        Some(Pin::Digest(_)) => {
            return Err(invalid("expected an fs-verity digest, 64 digits of 0-9a-f").into());
        }
    };
    let bar = Bar::new(args.quiet);
    let report = |progress| bar.show(progress);
    look::open(&args.image, false)?.enable_verity(digest, &Monitor::new(&report))?;
    Ok(ExitCode::SUCCESS)
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidInput, message)
}

// Options

/// What the flags and the options ask for together.
struct Wanted {
    mount: MountOptions,
    verify: bool,
    pin: Option<Pin>,
    log: Option<PathBuf>,
    /// What else is asked for, nothing can be written.
    read_only: bool,
}

impl Wanted {
    fn of(args: &args::Mount) -> Result<Self, Error> {
        let mut wanted = Wanted {
            mount: MountOptions::default(),
            verify: false,
            pin: args.digest.as_deref().map(str::parse).transpose()?,
            log: args.log.clone(),
            read_only: false,
        };
        let lists = || args.options.iter().map(|list| list.as_bytes());
        let options = || lists().flat_map(|list| list.split(|&byte| byte == b','));
        let sloppy = options().any(|option| option == b"sloppy");
        for option in options() {
            wanted.add(option, sloppy)?;
        }
        if args.writable {
            wanted.write_to_memory();
        }
        if let Some(path) = &args.persist {
            wanted.mount.writable = Writable::Directory(path.clone());
        }
        if wanted.read_only {
            if args.writable || args.persist.is_some() {
                return Err(invalid("the option 'ro' is for a mount that is not writable"));
            }
            // mount(8) names it first, whatever else there is.
            wanted.mount.writable = Writable::No;
        }
        let source = image_text(args);
        wanted.mount.source.get_or_insert(source);
        Ok(wanted)
    }

    fn write_to_memory(&mut self) {
        if self.mount.writable == Writable::No {
            self.mount.writable = Writable::Memory;
        }
    }

    fn add(&mut self, option: &[u8], sloppy: bool) -> Result<(), Error> {
        let equals = option.iter().position(|&byte| byte == b'=');
        let (name, value) = match equals {
            Some(at) => (&option[..at], Some(OsStr::from_bytes(&option[at + 1..]))),
            None => (option, None),
        };
        let shown = option.escape_ascii();
        let text = || {
            let text = value.and_then(OsStr::to_str).filter(|text| !text.is_empty());
            text.ok_or_else(|| invalid(format!("the option '{shown}' needs a value")))
        };
        let path = || {
            let path = value.filter(|path| !path.is_empty()).map(PathBuf::from);
            path.ok_or_else(|| invalid(format!("the option '{shown}' needs a path")))
        };
        let mount = &mut self.mount;
        match name {
            b"digest" => self.pin = Some(text()?.parse()?),
            b"fsname" => mount.source = Some(path()?.into()),
            b"gidmap" => mount.gids = text()?.parse()?,
            b"log" => self.log = Some(path()?),
            b"persist" => mount.writable = Writable::Directory(path()?),
            b"threads" => {
                let wrong = |_| invalid(format!("the option '{shown}' needs a number"));
                mount.threads = Some(text()?.parse().map_err(wrong)?);
            }
            b"uidmap" => mount.uids = text()?.parse()?,
            _ if name.starts_with(b"x-") || name.starts_with(b"X-") || name == b"comment" => {}
            // mount(8) may say which one.
            _ if value.is_some() && name != b"user" => return unknown(option, sloppy),
            b"allow_other" => mount.allow_other = Some(true),
            b"default_permissions" => mount.default_permissions = true,
            b"nodev" => mount.nodev = true,
            b"dev" => mount.nodev = false,
            b"noexec" => mount.noexec = true,
            b"exec" => mount.noexec = false,
            b"nosuid" => mount.nosuid = true,
            b"suid" => mount.nosuid = false,
            // As mount(8) has it: what users may mount is not to be trusted.
            b"user" | b"users" | b"owner" | b"group" => {
                (mount.nosuid, mount.nodev) = (true, true);
                mount.noexec |= name.starts_with(b"user");
            }
            b"ro" => self.read_only = true,
            b"rw" => self.read_only = false,
            b"writable" => self.write_to_memory(),
            b"verify" => self.verify = true,
            // What mount(8) and fstab(5) have for others; it says `rw` whenever not told `ro`, which
            // does not make it writable.
            b"" | b"_netdev" | b"async" | b"atime" | b"auto" | b"defaults" | b"diratime"
            | b"loud" | b"noatime" | b"noauto" | b"nodiratime" | b"nofail" | b"nogroup"
            | b"noowner" | b"norelatime" | b"nostrictatime" | b"nouser" | b"nousers"
            | b"relatime" | b"silent" | b"sloppy" | b"strictatime" | b"sync" | b"dirsync" => {}
            _ => return unknown(option, sloppy),
        }
        Ok(())
    }
}

fn unknown(option: &[u8], sloppy: bool) -> Result<(), Error> {
    match sloppy {
        true => Ok(()),
        false => Err(invalid(format!(
            "there is no option '{}'; `puzzlefs mount --help` lists them",
            option.escape_ascii()
        ))),
    }
}

fn image_text(args: &args::Mount) -> OsString {
    let reference = &args.image.reference;
    let mut text = OsString::from(&reference.layout);
    text.push(reference.name.to_string());
    text
}

// In the background

/// Starts the process that serves the mount; returns when it does.
fn start(args: &args::Mount) -> Result<ExitCode, Failure> {
    const SELF: &str = "/proc/self/exe";
    let mut daemon = Command::new(SELF);
    daemon.arg0("puzzlefs").args(command_line(args)).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut daemon = daemon.spawn().map_err(|error| Error::io("run", Path::new(SELF), error))?;
    let mut said = Vec::new();
    let mut pipe = daemon.stdout.take().expect("it is piped");
    pipe.read_to_end(&mut said).map_err(|error| Error::io("hear from", Path::new(SELF), error))?;
    if said == BEGUN {
        return Ok(ExitCode::SUCCESS);
    }
    // It told why on standard error.
    let status = daemon.wait().map_err(|error| Error::io("wait for", Path::new(SELF), error))?;
    match status.code() {
        Some(code @ 1..=255) => Ok(ExitCode::from(code as u8)),
        _ => Err(Error::new(ErrorKind::Internal, format!("the process ended: {status}")).into()),
    }
}

const BEGUN: &[u8] = b"s";

/// The command line of the process in the background.
fn command_line(args: &args::Mount) -> Vec<OsString> {
    let mut line: Vec<OsString> = vec!["mount".into(), "--daemon".into()];
    let mut add = |flag: &str, value: &OsStr| {
        let mut argument = OsString::from(flag);
        argument.push(value);
        line.push(argument);
    };
    for options in args.options.iter().filter(|options| !options.is_empty()) {
        add("-o", options);
    }
    if let Some(digest) = &args.digest {
        add("--digest=", digest.as_ref());
    }
    for (flag, path) in
        [("--persist=", &args.persist), ("--init-pipe=", &args.init_pipe), ("--log=", &args.log)]
    {
        if let Some(path) = path {
            add(flag, path.as_os_str());
        }
    }
    if let Some(platform) = &args.image.platform {
        add("--platform=", platform.to_string().as_ref());
    }
    line.extend(args.writable.then(|| "--writable".into()));
    line.extend(["--".into(), image_text(args), args.mountpoint.clone().into()]);
    line
}

// Serving

/// What ends the wait.
enum Event {
    /// Somebody unmounted it.
    Ended,
    /// A signal asks to.
    Signal(i32),
}

fn serve(args: &args::Mount, wanted: Wanted) -> Result<ExitCode, Failure> {
    if args.daemon {
        let detached = rustix::process::setsid();
        detached.map_err(|error| Error::io("begin a session for", &args.mountpoint, error))?;
    }
    let logger = Arc::new(match (&wanted.log, args.foreground) {
        (Some(path), _) => Logger::file(path)?,
        (None, true) => Logger::standard_error(),
        (None, false) => Logger::syslog(),
    });
    let (sender, events) = channel();
    let mounted = begin(args, wanted, &logger, sender);
    let mounted = match &args.init_pipe {
        Some(pipe) => told(mounted, pipe)?,
        None => mounted?,
    };
    let shown = (image_text(args), mounted.point().to_owned());
    let (image, point) = (shown.0.display(), shown.1.display());
    logger.info(&format!("mounted {image} on {point}"));
    if args.daemon {
        settle().map_err(|error| Error::io("leave the terminal for", &args.mountpoint, error))?;
    }
    if let Ok(Event::Signal(signal)) = events.recv() {
        logger.info(&format!("unmounting {point} on signal {signal}"));
        // Who still reads shall go on; another signal ends it all.
        if mounted.unmount(false).is_err() {
            mounted.unmount(true)?;
        }
        mounted.wait(None);
    }
    // What it still has to say comes first.
    drop(mounted);
    logger.info(&format!("unmounted {image} from {point}"));
    Ok(ExitCode::SUCCESS)
}

fn begin(
    args: &args::Mount,
    wanted: Wanted,
    logger: &Arc<Logger>,
    sender: Sender<Event>,
) -> Result<Mount, Error> {
    let options = OpenOptions { platform: args.image.platform.clone(), verify: wanted.verify };
    let image = Arc::new(image::Image::open(&args.image.reference, &options)?);
    if let Some(pin) = &wanted.pin {
        image.check_pin(pin, &Monitor::silent())?;
    }
    let mut signals = signal_hook::iterator::Signals::new(interrupt::signals())
        .map_err(|error| Error::io("catch signals for", &args.mountpoint, error))?;
    let on_signal = sender.clone();
    let pass_on = move || {
        for signal in signals.forever() {
            if on_signal.send(Event::Signal(signal)).is_err() {
                return;
            }
        }
    };
    std::thread::Builder::new()
        .spawn(pass_on)
        .map_err(|error| Error::io("start a thread for", &args.mountpoint, error))?;
    let log = logger.clone();
    let options = MountOptions {
        log: Some(Arc::new(move |line: &str| log.error(line))),
        ended: Some(Box::new(move || drop(sender.send(Event::Ended)))),
        ..wanted.mount
    };
    mount(&image, &args.mountpoint, options)
}

/// Tells by the pipe whether it is mounted. It is no longer if nobody wants to know: who asked has
/// gone, and nobody else would unmount it.
fn told(mounted: Result<Mount, Error>, pipe: &Path) -> Result<Mount, Failure> {
    match mounted {
        Ok(mounted) => {
            tell(pipe, b"s")?;
            Ok(mounted)
        }
        Err(error) => {
            // Whoever reads the pipe may keep it waiting.
            output::error(&error);
            if let Err(error) = tell(pipe, b"f") {
                output::warning(&error.to_string());
            }
            Err(Failure::Told)
        }
    }
}

/// Writes to a pipe, which whoever reads may be about to open.
fn tell(pipe: &Path, what: &[u8]) -> Result<(), Error> {
    const PATIENCE: Duration = Duration::from_secs(5);
    const PAUSE: Duration = Duration::from_millis(10);
    let failed = |error| Error::io("write to", pipe, error);
    let mut options = File::options();
    options.write(true).custom_flags(OFlags::NONBLOCK.bits() as i32);
    let begun = Instant::now();
    loop {
        match options.open(pipe) {
            Err(error) if error.raw_os_error() == Some(Errno::NXIO.raw_os_error()) => {}
            opened => return opened.and_then(|mut pipe| pipe.write_all(what)).map_err(failed),
        }
        if interrupt::exit_code().is_some() || begun.elapsed() > PATIENCE {
            return Err(failed(io::Error::other("nobody reads it")));
        }
        std::thread::sleep(PAUSE);
    }
}

/// Tells who started this process that all is well, and lets go of what it has from there.
fn settle() -> io::Result<()> {
    let null = File::options().read(true).write(true).open("/dev/null")?;
    std::env::set_current_dir("/")?;
    let mut out = io::stdout();
    out.write_all(BEGUN)?;
    out.flush()?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stderr(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn parse(options: &str) -> Result<Wanted, Error> {
        let line = ["puzzlefs", "mount", "images:v1", "mnt", "-o", options];
        let args::Command::Mount(args) = args::Args::parse_from(line).command else {
            unreachable!("it is this command");
        };
        Wanted::of(&args)
    }

    #[test]
    fn options_are_read() {
        let wanted = parse("allow_other,nosuid,nodev,noexec,suid,verify,threads=2").unwrap();
        assert_eq!(wanted.mount.allow_other, Some(true));
        assert!(!wanted.mount.nosuid && wanted.mount.nodev && wanted.mount.noexec);
        assert!(wanted.verify && wanted.mount.threads == Some(2));
        assert_eq!(wanted.mount.source, Some("images:v1".into()));
        let users = parse("user,exec,fsname=a=b").unwrap().mount;
        assert!(users.nosuid && users.nodev && !users.noexec);
        assert_eq!(users.source, Some("a=b".into()));
        for (options, writable) in [
            ("defaults,_netdev,nofail,x-systemd.automount,comment=no", Writable::No),
            ("rw", Writable::No),
            ("writable", Writable::Memory),
            ("writable,ro", Writable::No),
            ("ro,writable", Writable::No),
            ("ro,persist=/a", Writable::No),
            ("ro,writable,rw", Writable::Memory),
            ("persist=/a,writable,rw", Writable::Directory("/a".into())),
        ] {
            assert_eq!(parse(options).unwrap().mount.writable, writable, "{options}");
        }
    }

    #[test]
    fn what_is_no_option_is_refused() {
        for (option, expected) in [
            ("whatever", "there is no option 'whatever'"),
            ("ro=1", "there is no option 'ro=1'"),
            ("persist", "needs a path"),
            ("threads=x", "needs a number"),
            ("uidmap=1", "maps no numbers"),
            ("digest=1", "neither a digest"),
        ] {
            let error = parse(option).err().expect(option).to_string();
            assert!(error.contains(expected), "{option}: {error}");
        }
        assert!(parse("whatever,sloppy").is_ok());
    }

    #[test]
    fn the_background_is_asked_for_the_same() {
        let line = [
            "puzzlefs",
            "mount",
            "-w",
            "-o",
            "ro",
            "-overify",
            "-d",
            "sha256:1",
            "-p",
            "dir",
            "-i",
            "fifo",
            "--log",
            "file",
            "--platform",
            "a/b/c",
            "--",
            "-images:v1",
            "-mnt",
        ];
        let args::Command::Mount(args) = args::Args::parse_from(line).command else {
            unreachable!("it is this command");
        };
        let again = [vec!["puzzlefs".into()], command_line(&args)].concat();
        let args::Command::Mount(again) = args::Args::parse_from(again).command else {
            unreachable!("it is this command");
        };
        assert!(again.daemon && again.writable && !again.foreground);
        assert_eq!(command_line(&again), command_line(&args));
        assert_eq!(again.mountpoint, Path::new("-mnt"));
    }
}
