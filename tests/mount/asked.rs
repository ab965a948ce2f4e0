//! How mounts are asked for at the command line.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;

use rustix::fs::{CWD, FileType, Mode};
use rustix::process::{Pid, Signal};

use super::common::command::{fail, puzzlefs, run, succeed};
use super::common::layout::text;
use super::common::tree::{self, KIB, mkdir, random};
use super::common::verity::fs_verity;
use super::support::{Mounted, NO_OPTIONS, Stage, alone, daemons, is_mounted, wait_until};

fn small() -> Stage {
    Stage::new(|tree| fs::write(tree.join("file"), tree::lines(200 * KIB)).unwrap())
}

/// Writes over the beginning of a pack, which is that of its first frame.
fn damage(stage: &Stage) -> Vec<u8> {
    let pack = stage.pack();
    let whole = fs::read(&pack).unwrap();
    let mut damaged = whole.clone();
    damaged[..8].fill(b'x');
    fs::write(&pack, damaged).unwrap();
    whole
}

#[test]
fn errors_in_starting_are_the_commands() {
    let stage = small();
    let image = stage.layout.image("v1");
    let image = image.to_str().unwrap();
    let missing = stage.layout.image("v2").into_string().unwrap();
    let point = stage.point().into_os_string().into_string().unwrap();
    fs::write(stage.path("file"), "").unwrap();
    let path = |name: &str| stage.path(name).into_os_string().into_string().unwrap();
    let (file, nowhere) = (path("file"), path("nowhere"));
    let layout = path("images");
    let (blobs, digests) = (path("images/blobs"), path("images/blobs/sha256"));
    let cases: [(&[&str], &str); 16] = [
        (&[&missing, &point], "no image tagged 'v2'"),
        (&[image, &nowhere], "there is no directory"),
        (&[image, &file], "is not a directory"),
        (&[image, &layout], "where the mount would hide it"),
        (&[image, &blobs], "where the mount would hide them"),
        (&[image, &digests], "where the mount would hide them"),
        (&["-w", "-o", "ro", image, &point], "for a mount that is not writable"),
        (&["-o", "ro", "-p", &nowhere, image, &point], "for a mount that is not writable"),
        (&["-o", "whatever", image, &point], "there is no option 'whatever'"),
        (&["-o", "threads=0", image, &point], "0 threads"),
        (&["-p", "/does/not/exist", image, &point], "cannot make the directory"),
        (&["-p", &file, image, &point], "Not a directory"),
        (&["--log", "/does/not/exist", image, &point], "cannot open the log"),
        (&["-d", "md5:00", image, &point], "neither a digest"),
        (&["-o", "uidmap=1", image, &point], "maps no numbers"),
        (&["-o", "log=", image, &point], "needs a path"),
    ];
    for (arguments, expected) in cases {
        for foreground in [&["-f"][..], &[]] {
            let output = fail(1, puzzlefs().arg("mount").args(foreground).args(arguments));
            let errors = output.errors();
            assert!(errors.contains(expected) && errors.lines().count() == 1, "{output}");
            assert!(!is_mounted(&stage.point()), "{output}");
        }
    }
    let mounted = stage.mount(&NO_OPTIONS);
    let output = fail(1, &mut stage.command(&NO_OPTIONS));
    assert!(
        output.errors().contains("mounted on") && output.errors().contains("already"),
        "{output}"
    );
    mounted.unmount();

    let not_ours = fail(1, puzzlefs().args(["umount", "/proc"]));
    assert!(not_ours.errors().contains("no puzzlefs image"), "{not_ours}");
    let nothing = fail(1, puzzlefs().arg("umount").arg(stage.point()));
    assert!(nothing.errors().contains("nothing is mounted"), "{nothing}");
}

/// What cannot be read is told once with its path, and everything else goes on; when it is back,
/// it is read right again.
#[test]
fn a_damaged_pack_is_told_to_the_log() {
    for verify in [false, true] {
        let stage = Stage::new(|tree| {
            mkdir(&tree.join("dir"));
            fs::write(tree.join("dir/bad"), tree::lines(200 * KIB)).unwrap();
            std::os::unix::fs::symlink("dir/bad", tree.join("good")).unwrap();
        });
        let whole = damage(&stage);
        let log = stage.path("log");
        let options = if verify { "verify,ro" } else { "ro" };
        let mounted = stage.mount(&["-o", options, "--log", log.to_str().unwrap()]);
        for _ in 0..3 {
            let error = fs::read(mounted.join("dir/bad")).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EIO));
        }
        assert_eq!(fs::read_link(mounted.join("good")).unwrap().as_os_str(), "dir/bad");
        let said = fs::read_to_string(&log).unwrap();
        let lines: Vec<_> = said.lines().filter(|line| line.contains("'/dir/bad': ")).collect();
        assert_eq!(lines.len(), 1, "{said}");
        let why = if verify { "does not have this digest" } else { "the data blob sha256:" };
        assert!(lines[0].contains(why), "{said}");

        fs::write(stage.pack(), whole).unwrap();
        assert!(fs::read(mounted.join("dir/bad")).unwrap() == tree::lines(200 * KIB));
        mounted.unmount();
        wait_until("the log ends", || fs::read_to_string(&log).unwrap().contains(": unmounted "));
        assert!(fs::read_to_string(&log).unwrap().contains(": mounted "));
    }
}

/// What zstd does not notice, since the data is stored as it is, `verify` does.
#[test]
fn verify_finds_what_nothing_else_does() {
    let stage = Stage::with_options(
        |tree| fs::write(tree.join("file"), random(1, 200 * KIB)).unwrap(),
        &["--compression=none"],
    );
    damage(&stage);
    let mounted = stage.mount(&NO_OPTIONS);
    assert!(fs::read(mounted.join("file")).unwrap() != random(1, 200 * KIB));
    mounted.unmount();
    let mounted = stage.mount(&["-o", "verify"]);
    assert_eq!(fs::read(mounted.join("file")).unwrap_err().raw_os_error(), Some(libc::EIO));
}

#[test]
fn without_a_file_syslog_is_told() {
    let stage = small();
    damage(&stage);
    let script = r#"
        puzzlefs=$1 image=$2 point=$3 dir=$4
        # A /dev of our own, with a syslogd behind it.
        mkdir "$dir/dev"
        mount -t tmpfs none "$dir/dev"
        cp -a /dev/null /dev/fuse /dev/zero "$dir/dev"
        mount --bind "$dir/dev" /dev
        busybox syslogd -n -O "$dir/syslog" 3>&- & daemon=$!
        trap 'kill $daemon' EXIT
        for i in $(seq 1000); do [ -S /dev/log ] && break; sleep 0.05; done
        "$puzzlefs" mount "$image" "$point"
        ! cat "$point/file" >/dev/null
        for i in $(seq 1000); do grep -q "'/file': " "$dir/syslog" && break; sleep 0.05; done
        "$puzzlefs" umount "$point"
        for i in $(seq 1000); do grep -q unmounted "$dir/syslog" && break; sleep 0.05; done
        cat "$dir/syslog"
    "#;
    let program = env!("CARGO_BIN_EXE_puzzlefs");
    let arguments = [
        program.as_ref(),
        stage.layout.image("v1").as_os_str(),
        stage.point().as_os_str(),
        stage.dir.path().as_os_str(),
    ]
    .map(std::ffi::OsStr::to_owned);
    let arguments: Vec<_> = arguments.iter().map(AsRef::as_ref).collect();
    let output = alone(script, &arguments);
    let error = output
        .text()
        .lines()
        .find(|line| line.contains("'/file': "))
        .unwrap_or_else(|| panic!("no such line: {output}"));
    assert!(error.contains("daemon.err") && error.contains("puzzlefs["), "{output}");
    assert!(output.text().contains("daemon.info"), "{output}");
}

#[test]
fn signals_unmount() {
    let stage = small();
    for (signal, options) in [("TERM", &[][..]), ("INT", &[]), ("HUP", &["-w"])] {
        let mounted = stage.mount(options);
        let daemon = daemons(&mounted);
        assert_eq!(daemon.len(), 1, "{daemon:?}");
        succeed(Command::new("kill").args(["-s", signal, &daemon[0].to_string()]));
        wait_until("it is unmounted", || !is_mounted(&mounted));
        wait_until("its process is gone", || daemons(&mounted).is_empty());
    }
}

/// Who has a file open when it is asked to end goes on reading it.
#[test]
fn a_signal_does_not_hurt_who_reads() {
    let stage = small();
    let mounted = stage.mount(&NO_OPTIONS);
    let mut file = File::open(mounted.join("file")).unwrap();
    let daemon = daemons(&mounted)[0];
    succeed(Command::new("kill").args(["-s", "TERM", &daemon.to_string()]));
    wait_until("it is unmounted", || !is_mounted(&mounted));
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).unwrap();
    assert!(bytes == tree::lines(200 * KIB));
    drop(file);
    wait_until("its process is gone", || daemons(&mounted).is_empty());
}

#[test]
fn in_the_foreground_it_lasts_until_it_is_unmounted() {
    let stage = small();
    let mounted = Mounted(stage.point());
    let mut child = stage.command(&["-f"]).stderr(Stdio::piped()).spawn().unwrap();
    wait_until("it is mounted", || is_mounted(&mounted));
    assert_eq!(fs::read(mounted.join("file")).unwrap().len(), 200 * KIB);
    mounted.unmount();
    assert!(child.wait().unwrap().success());
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(said.contains("mounted") && said.contains("unmounted"), "{said}");
}

#[test]
fn mount_and_fstab_know_the_type() {
    let stage = small();
    let script = r#"
        puzzlefs=$1 image=$2 point=$3 dir=$4
        mkdir "$dir/sbin"
        ln -s "$puzzlefs" "$dir/sbin/mount.puzzlefs"
        real=$(realpath /sbin)
        mount -t overlay -o "lowerdir=$dir/sbin:$real" none "$real"
        mount -t puzzlefs -o verify,nodev,noatime "$image" "$point"
        findmnt -n -o FSTYPE,SOURCE,OPTIONS "$point"
        cmp "$point/file" "$dir/tree/file"
        umount "$point"
        echo "$image $point puzzlefs defaults,noauto,nofail,_netdev,x-systemd.automount,writable 0 0" >"$dir/fstab"
        mount --fstab "$dir/fstab" "$point"
        findmnt -n -o FSTYPE,SOURCE "$point"
        echo new >"$point/file"
        umount "$point"
        ! mount -t puzzlefs -o whatever "$image" "$point"
        mount -s -t puzzlefs -o whatever "$image" "$point"
        umount "$point"
        mount -f -t puzzlefs "$image" "$point"
        ! mountpoint -q "$point"
    "#;
    let program = env!("CARGO_BIN_EXE_puzzlefs");
    let arguments = [
        program.into(),
        stage.layout.image("v1"),
        stage.point().into_os_string(),
        stage.dir.path().as_os_str().to_owned(),
    ];
    let arguments: Vec<_> = arguments.iter().map(AsRef::as_ref).collect();
    let output = alone(script, &arguments);
    let image = stage.layout.image("v1").into_string().unwrap();
    let mut lines = output.text().lines();
    let first = lines.next().unwrap();
    assert!(first.starts_with(&format!("fuse.puzzlefs {image} ro,nodev")), "{output}");
    let second: Vec<_> = lines.next().unwrap().split_whitespace().collect();
    assert_eq!(second, ["overlay", &format!("puzzlefs:{image}")], "{output}");
    assert!(output.errors().contains("there is no option 'whatever'"), "{output}");
}

#[test]
fn a_digest_pins_the_image() {
    let stage = small();
    let digest = stage.layout.digest("v1");
    let manifest = stage.layout.blob(&digest);
    let verity = fs_verity(&manifest);
    let wrong = "0".repeat(64);
    let rootfs = stage.layout.manifest("v1")["layers"][0]["digest"].clone();
    let cases = [
        (digest.clone(), None),
        (verity.clone(), None),
        (format!("sha256:{wrong}"), Some("must be")),
        (wrong.clone(), Some("must have")),
        (digest["sha256:".len()..].to_owned(), Some("must have")),
        (format!("sha256:{verity}"), Some("must be")),
        (text(&rootfs).to_owned(), Some("must be")),
        (verity.to_uppercase(), Some("neither a digest")),
        (String::new(), Some("neither a digest")),
        (verity[..63].to_owned(), Some("neither a digest")),
        (format!("sha512:{verity}"), Some("neither a digest")),
    ];
    for (digest, error) in &cases {
        for options in [vec![format!("-d{digest}")], vec!["-o".into(), format!("digest={digest}")]]
        {
            match error {
                None => stage.mount(&options).unmount(),
                Some(_) if digest.is_empty() => {
                    fail_with(&stage, &["-d", ""], "neither a digest");
                }
                Some(error) => fail_with(&stage, &options, error),
            }
        }
    }
    // Of a damaged data blob only the fs-verity digest knows before it is read.
    damage(&stage);
    stage.mount(&["-d", &digest]).unmount();
    fail_with(&stage, &["-d", &verity], "must have");
}

#[track_caller]
fn fail_with(stage: &Stage, options: &[impl AsRef<std::ffi::OsStr>], expected: &str) {
    let output = fail(1, &mut stage.command(options));
    assert!(output.errors().contains(expected), "{output}");
}

fn fifo(stage: &Stage) -> PathBuf {
    let fifo = stage.path("fifo");
    rustix::fs::mknodat(CWD, &fifo, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    fifo
}

#[test]
fn the_init_pipe_tells_how_it_went() {
    let stage = small();
    let fifo = fifo(&stage);
    for (options, byte) in [(&["ro"][..], b"s"), (&["uidmap=0:1:1", "persist=/proc/no"], b"f")] {
        let path = fifo.clone();
        let reader = thread::spawn(move || fs::read(path).unwrap());
        let mounted = Mounted(stage.point());
        let mut command = puzzlefs();
        command.arg("mount").arg("-i").arg(&fifo).arg("-o").arg(options.join(","));
        let output = run(command.arg(stage.layout.image("v1")).arg(stage.point()));
        assert_eq!(output.status.success(), byte == b"s", "{output}");
        assert_eq!(reader.join().unwrap(), byte, "{output}");
        assert_eq!(is_mounted(&mounted), byte == b"s", "{output}");
    }
}

#[test]
fn an_init_pipe_that_nobody_reads_does_not_hang() {
    let stage = small();
    let fifo = fifo(&stage);
    let mounted = Mounted(stage.point());
    let command = |tag: &str, option: Option<&str>| {
        let mut command = puzzlefs();
        command.arg("mount").arg("-i").arg(&fifo).args(option);
        command.arg(stage.layout.image(tag)).arg(stage.point());
        command
    };
    for (tag, first, option) in [
        ("v1", "puzzlefs: cannot write to", None),
        ("v1", "puzzlefs: cannot write to", Some("-f")),
        ("none", "puzzlefs: no image tagged 'none'", None),
    ] {
        let output = fail(1, &mut command(tag, option));
        assert!(output.errors().starts_with(first), "{output}");
        assert!(output.errors().contains("nobody reads it"), "{output}");
        assert!(!is_mounted(&mounted) && daemons(&mounted).is_empty(), "{output}");
    }
    // Nor does it ignore who ends it.
    let ended = command("v1", Some("-f")).stderr(Stdio::null()).spawn().unwrap();
    wait_until("it is mounted", || is_mounted(&mounted));
    rustix::process::kill_process(Pid::from_child(&ended), Signal::TERM).unwrap();
    let ended = ended.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(128 + Signal::TERM.as_raw()));
    assert!(!is_mounted(&mounted));
}

#[test]
fn where_there_is_no_fs_verity_it_says_so() {
    let stage = small();
    let mut command = puzzlefs();
    command.arg("enable-fs-verity").arg(stage.layout.image("v1"));
    let output = run(&mut command);
    // Few file systems have it; where this one does, the image is as good as before.
    if output.status.success() {
        let verity = fs_verity(&stage.layout.blob(&stage.layout.digest("v1")));
        stage.mount(&["-d", &verity]).unmount();
    } else {
        assert!(output.errors().contains("has no fs-verity"), "{output}");
    }
    let wrong = fail(1, puzzlefs().arg("enable-fs-verity").arg(stage.layout.image("v1")).arg("x"));
    assert!(wrong.errors().contains("neither a digest"), "{wrong}");
}

#[test]
fn names_of_any_bytes() {
    let stage = small();
    let odd = std::ffi::OsStr::from_bytes(b"a ,\\\xff\n:b");
    let (layout, point) = (stage.dir.path().join(odd), stage.dir.path().join("mnt \\,:"));
    fs::rename(&stage.layout.dir, &layout).unwrap();
    fs::create_dir(&point).unwrap();
    let mut image = layout.into_os_string();
    image.push(":v1");
    for options in [&[][..], &["-w"]] {
        succeed(puzzlefs().arg("mount").args(options).arg(&image).arg(&point));
        assert!(fs::read(point.join("file")).is_ok());
        let again = fail(1, puzzlefs().arg("mount").arg(&image).arg(&point));
        assert!(again.errors().contains("already"), "{again}");
        succeed(puzzlefs().arg("umount").arg(&point));
        fail(1, puzzlefs().arg("umount").arg(&point));
    }
}
