//! Mounts of the library, in this process.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use puzzlefs::image::{Image, OpenOptions};
use puzzlefs::layout::Reference;
use puzzlefs::mount::{Mount, MountOptions, Writable, mount};
use puzzlefs::{Error, ErrorKind};

use super::common::command::succeed;
use super::common::process::{assert_nothing_left, descriptors_and_threads};
use super::common::tree::{KIB, random};
use super::support::{PATIENCE, Stage, is_mounted};

fn small() -> Stage {
    Stage::new(|tree| fs::write(tree.join("file"), random(1, 200 * KIB)).unwrap())
}

fn open(stage: &Stage) -> Arc<Image> {
    let reference = Reference::parse(Path::new(&stage.layout.image("v1"))).unwrap();
    Arc::new(Image::open(&reference, &OpenOptions::default()).unwrap())
}

fn mount_with(stage: &Stage, options: MountOptions) -> Result<Mount, Error> {
    mount(&open(stage), &stage.point(), options)
}

#[test]
fn a_mount_lives_as_long_as_its_value() {
    let stage = small();
    for writable in [Writable::No, Writable::Memory, Writable::Directory(stage.path("kept"))] {
        let mounted =
            mount_with(&stage, MountOptions { writable, ..MountOptions::default() }).unwrap();
        assert_eq!(mounted.point(), stage.point());
        assert!(fs::read(stage.point().join("file")).unwrap() == random(1, 200 * KIB));
        assert!(!mounted.wait(Some(Duration::from_millis(10))));
        drop(mounted);
        assert!(!is_mounted(&stage.point()));
    }
}

#[test]
fn unmounting_tells_whether_it_is_in_use() {
    let stage = small();
    let mounted = mount_with(&stage, MountOptions::default()).unwrap();
    let file = File::open(stage.point().join("file")).unwrap();
    let error = mounted.unmount(false).unwrap_err();
    assert_eq!((error.kind(), error.errno()), (ErrorKind::Io, Some(libc::EBUSY)), "{error}");
    assert!(is_mounted(&stage.point()));
    mounted.unmount(true).unwrap();
    assert!(!is_mounted(&stage.point()) && !mounted.wait(Some(Duration::ZERO)));
    drop(file);
    assert!(mounted.wait(Some(PATIENCE)));
    mounted.unmount(false).unwrap();
}

#[test]
fn who_unmounts_is_told_by_the_callback_only_if_it_was_somebody_else() {
    let stage = small();
    for by_others in [true, false] {
        let (sender, ended) = channel();
        let options = MountOptions {
            ended: Some(Box::new(move || sender.send(()).unwrap())),
            ..MountOptions::default()
        };
        let mounted = mount_with(&stage, options).unwrap();
        if by_others {
            succeed(Command::new("umount").arg(stage.point()));
            ended.recv_timeout(PATIENCE).unwrap();
            assert!(mounted.wait(None));
        } else {
            mounted.unmount(false).unwrap();
            drop(mounted);
            // The function went without being called.
            assert!(ended.recv().is_err());
        }
    }
}

/// The callback may free what it belongs to; a panic in it ends nothing else.
#[test]
fn callbacks_may_do_anything() {
    let stage = small();
    let slot: Arc<Mutex<Option<Mount>>> = Arc::default();
    let (sender, ended) = channel();
    let own = slot.clone();
    let options = MountOptions {
        ended: Some(Box::new(move || {
            drop(own.lock().unwrap().take());
            sender.send(()).unwrap();
            // Not printed as a panic, and caught all the same.
            std::panic::resume_unwind(Box::new("a panic"));
        })),
        ..MountOptions::default()
    };
    *slot.lock().unwrap() = Some(mount_with(&stage, options).unwrap());
    succeed(Command::new("umount").arg(stage.point()));
    ended.recv_timeout(PATIENCE).unwrap();
}

#[test]
fn the_log_goes_to_its_function() {
    let stage = small();
    let pack = stage.pack();
    let (sender, lines) = channel();
    let sender = Mutex::new(sender);
    let options = MountOptions {
        log: Some(Arc::new(move |line: &str| {
            sender.lock().unwrap().send(line.to_owned()).unwrap()
        })),
        ..MountOptions::default()
    };
    let mounted = mount_with(&stage, options).unwrap();
    fs::rename(&pack, stage.path("away")).unwrap();
    assert!(fs::read(stage.point().join("file")).is_err());
    let line = lines.recv_timeout(PATIENCE).unwrap();
    assert!(line.starts_with("'/file': ") && line.contains("lacks the blob"), "{line}");
    fs::rename(stage.path("away"), &pack).unwrap();
    assert!(fs::read(stage.point().join("file")).is_ok());
    drop(mounted);
    assert!(lines.recv().is_err(), "there was more than one line");
}

/// What is asked for the wrong way leaves nothing.
#[test]
fn what_fails_leaves_nothing() {
    let stage = small();
    let bad = [
        MountOptions { threads: Some(1000), ..MountOptions::default() },
        MountOptions {
            writable: Writable::Directory(PathBuf::from("/proc/self/mounts")),
            ..MountOptions::default()
        },
        MountOptions {
            writable: Writable::Directory("/sys/kernel/no".into()),
            ..MountOptions::default()
        },
    ];
    for options in bad {
        let shown = format!("{options:?}");
        assert!(mount_with(&stage, options).is_err(), "{shown}");
        assert!(!is_mounted(&stage.point()), "{shown}");
    }
}

const CHILD: &str = "PUZZLEFS_TEST_MOUNTS";

/// In a process of its own, where nobody else has threads and files.
#[test]
fn hundreds_of_mounts_leave_nothing_behind() {
    if std::env::var_os(CHILD).is_some() {
        return mount_again_and_again();
    }
    let name = "library::hundreds_of_mounts_leave_nothing_behind";
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", name, "--nocapture", "--test-threads=1"]).env(CHILD, "300");
    succeed(&mut child);
}

fn mount_again_and_again() {
    let rounds: usize = std::env::var(CHILD).unwrap().parse().unwrap();
    let stage = small();
    let image = open(&stage);
    let mut before = None;
    for round in 0..rounds {
        let writable = if round % 10 == 9 { Writable::Memory } else { Writable::No };
        let options = MountOptions { writable, ..MountOptions::default() };
        let mounted = mount(&image, &stage.point(), options).unwrap();
        assert!(fs::read(stage.point().join("file")).unwrap() == random(1, 200 * KIB));
        if round % 2 == 0 {
            mounted.unmount(false).unwrap();
            assert!(mounted.wait(Some(PATIENCE)));
        }
        drop(mounted);
        assert!(!is_mounted(&stage.point()));
        // The first rounds open what stays open, such as the image's data.
        if round == 20 {
            before = Some(descriptors_and_threads());
        }
    }
    assert_nothing_left(before.unwrap());
}
