//! How mounts end, and what they stand before that.

use std::cell::RefCell;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::common::command::{fail, puzzlefs, succeed};
use super::common::snapshot::{Snapshot, assert_same};
use super::common::tree::{KIB, lines, mkdir, random};
use super::support::{Stage, daemons, debian, is_mounted, wait_until};

const NO_OPTIONS: [&str; 0] = [];

/// Some directories with files of all sizes.
fn many_files(tree: &Path) {
    for dir in 0..8 {
        let dir = mkdir(&tree.join(format!("dir-{dir}")));
        for number in 0..40 {
            let size = [10, 3000, 20 * KIB, 150 * KIB][number % 4];
            let bytes = if number % 2 == 0 { random(number as u64, size) } else { lines(size) };
            fs::write(dir.join(format!("file-{number}")), bytes).unwrap();
        }
    }
    fs::write(tree.join("large"), random(99, 6 * 1024 * KIB)).unwrap();
}

#[test]
fn a_killed_process_leaves_what_umount_clears() {
    let stage = Stage::new(many_files);
    for options in [&[][..], &["-w"], &["-p", stage.path("kept").to_str().unwrap()]] {
        let mounted = stage.mount(options);
        let readers: Vec<_> = (0..4)
            .map(|_| {
                let script = "while cat \"$0\"/*/* \"$0/large\" >/dev/null 2>&1; do :; done";
                let mut reader = Command::new("sh");
                reader.args(["-c", script]).arg(&*mounted).stderr(Stdio::null()).spawn().unwrap()
            })
            .collect();
        thread::sleep(Duration::from_millis(100));
        let daemon = daemons(&mounted)[0];
        succeed(Command::new("kill").args(["-s", "KILL", &daemon.to_string()]));
        // Nobody hangs: they all fail, and end.
        for mut reader in readers {
            assert!(reader.wait().unwrap().success());
        }
        wait_until("its process is gone", || daemons(&mounted).is_empty());
        let again = fail(1, &mut stage.command(&NO_OPTIONS));
        assert!(again.errors().contains(" on '"), "{again}");
        mounted.unmount();
        // And it can be mounted again.
        let mounted = stage.mount(options);
        assert_eq!(fs::read(mounted.join("dir-0/file-0")).unwrap(), random(0, 10));
        mounted.unmount();
    }
}

/// However far the kernel and it are with what is read, its readers end, it is gone, and umount works.
#[test]
fn a_process_may_be_killed_at_any_moment() {
    const KILLS: u64 = 25;
    let stage = Stage::of(&debian());
    for kill in 0..KILLS {
        let mounted = stage.mount(&NO_OPTIONS);
        let readers = [
            "tar -C \"$0\" -cf - . | wc -c",
            "find \"$0\" -type f -exec cat {} +",
            "find \"$0\" -type f -print0 | shuf -z | xargs -0 -P 4 -n 50 cat",
        ]
        .map(|script| {
            let mut reader = Command::new("sh");
            reader.args(["-c", script]).arg(&*mounted);
            RefCell::new(reader.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
        });
        thread::sleep(Duration::from_millis(kill * 400 / KILLS));
        let daemon = daemons(&mounted)[0];
        succeed(Command::new("kill").args(["-s", "KILL", &daemon.to_string()]));
        for reader in readers {
            wait_until("a reader ends", || reader.borrow_mut().try_wait().unwrap().is_some());
        }
        wait_until("all of its threads are gone", || {
            let threads = fs::read_dir(format!("/proc/{daemon}/task"));
            threads.map_or(0, Iterator::count) <= 1
        });
        mounted.unmount();
    }
}

/// Sixteen processes read everything while the blobs come and go: some fail, but when all is back,
/// all is right.
#[test]
fn blobs_may_come_and_go() {
    const READERS: usize = 16;
    let stage = Stage::with_options(many_files, &["--layout=blob-per-chunk"]);
    let log = stage.path("log");
    let mounted = stage.mount(&["--log", log.to_str().unwrap()]);
    let blobs = stage.layout.dir.join("blobs/sha256");
    let away = mkdir(&stage.path("away"));
    let running: Vec<_> = (0..READERS)
        .map(|number| {
            let script = [
                "for i in 1 2 3; do find \"$0\" -printf '%p %s %T@\\n' | sort | sha256sum; done",
                "for i in 1 2 3; do cat \"$0\"/*/* 2>&1 | wc -c; done",
                "for i in 1 2 3; do tar -C \"$0\" -cf - . 2>/dev/null | wc -c; done",
            ][number % 3];
            let mut reader = Command::new("sh");
            reader.args(["-c", script]).arg(&*mounted).stdout(Stdio::null()).spawn().unwrap()
        })
        .collect();
    for round in 0..20 {
        let names: Vec<_> =
            fs::read_dir(&blobs).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        let gone = names.iter().skip(round % 3).step_by(3);
        let gone: Vec<_> = gone.collect();
        for name in &gone {
            fs::rename(blobs.join(name), away.join(name)).unwrap();
        }
        // What the kernel has cached is read anew.
        fs::write("/proc/sys/vm/drop_caches", "1").unwrap();
        thread::sleep(Duration::from_millis(20));
        for name in &gone {
            fs::rename(away.join(name), blobs.join(name)).unwrap();
        }
    }
    for mut reader in running {
        assert!(reader.wait().unwrap().success());
    }
    assert_same("all is back", &Snapshot::of(&stage.tree), &Snapshot::of(&mounted));
    assert_eq!(daemons(&mounted).len(), 1);
    mounted.unmount();
}

/// Sequential and random readers, new and again, all at once.
#[test]
fn many_readers_at_once() {
    let stage = Stage::new(many_files);
    let mounted = stage.mount(&NO_OPTIONS);
    let expected = fs::read(stage.tree.join("large")).unwrap();
    let wrong = AtomicUsize::new(0);
    thread::scope(|scope| {
        for reader in 0..8_u64 {
            let (mounted, expected, wrong) = (&mounted, &expected, &wrong);
            scope.spawn(move || {
                use std::os::unix::fs::FileExt;
                let file = File::open(mounted.join("large")).unwrap();
                let places = random(reader, 8 * 200);
                for place in places.chunks_exact(8) {
                    let place = u64::from_le_bytes(place.try_into().unwrap());
                    let offset = (place % (expected.len() as u64 - 5000)) as usize;
                    let mut buffer = vec![0; 5000];
                    file.read_exact_at(&mut buffer, offset as u64).unwrap();
                    if buffer != expected[offset..offset + 5000] {
                        wrong.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        scope.spawn(|| {
            assert_same("in between", &Snapshot::of(&stage.tree), &Snapshot::of(&mounted))
        });
    });
    assert_eq!(wrong.into_inner(), 0);
}

#[test]
fn what_is_in_use_is_unmounted_lazily_or_not() {
    let stage = Stage::new(many_files);
    let mounted = stage.mount(&NO_OPTIONS);
    let mut file = File::open(mounted.join("large")).unwrap();
    let busy = fail(1, puzzlefs().arg("umount").arg(&*mounted));
    assert!(busy.errors().contains("busy"), "{busy}");
    succeed(puzzlefs().args(["umount", "-l"]).arg(&*mounted));
    assert!(!is_mounted(&mounted));
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut file, &mut bytes).unwrap();
    assert!(bytes == random(99, 6 * 1024 * KIB));
    drop(file);
    wait_until("its process is gone", || daemons(&mounted).is_empty());
}

#[test]
fn several_mounts_of_one_image() {
    let stage = Stage::new(many_files);
    let points: Vec<_> = (0..5).map(|number| stage.path(&format!("mnt-{number}"))).collect();
    let mounted: Vec<_> = points
        .iter()
        .map(|point| {
            fs::create_dir(point).unwrap();
            let mounted = super::support::Mounted(point.clone());
            succeed(puzzlefs().arg("mount").arg(stage.layout.image("v1")).arg(point));
            mounted
        })
        .collect();
    let expected = Snapshot::of(&stage.tree);
    for mounted in mounted {
        assert_same("one of them", &expected, &Snapshot::of(&mounted));
        mounted.unmount();
    }
}

/// A connection that is cut leaves nothing mounted, and no process.
#[test]
fn an_aborted_connection_ends_it() {
    let stage = Stage::new(many_files);
    let mounted = stage.mount(&NO_OPTIONS);
    let device =
        rustix::fs::minor(std::os::unix::fs::MetadataExt::dev(&fs::metadata(&*mounted).unwrap()));
    let script = "mount -t fusectl none /sys/fs/fuse/connections || true
        echo 1 >/sys/fs/fuse/connections/$1/abort";
    let reading = AtomicBool::new(true);
    thread::scope(|scope| {
        scope.spawn(|| {
            while reading.load(Ordering::Relaxed) {
                // It fails some time.
                let _ = fs::read(mounted.join("large"));
            }
        });
        super::support::alone(script, &[device.to_string().as_ref()]);
        let deadline = Instant::now() + super::support::PATIENCE;
        while is_mounted(&mounted) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(5));
        }
        reading.store(false, Ordering::Relaxed);
    });
    assert!(!is_mounted(&mounted));
    wait_until("its process is gone", || daemons(&mounted).is_empty());
}
