//! Mounts of those who are not root.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::process::Command;

use super::common::command::{ORDINARY_USER, fail, run, succeed};
use super::common::tree::{KIB, mkdir, random, set_mode};
use super::support::{Mounted, NO_OPTIONS, Stage, daemons, is_mounted, wait_until};

const ORDINARY_GROUP: u32 = 65533;

/// An image that everybody may read, with a copy of the program for a user who may have no way to
/// where it is built.
fn stage() -> Stage {
    let stage = Stage::new(|tree| {
        fs::write(tree.join("file"), random(1, 200 * KIB)).unwrap();
        fs::write(tree.join("closed"), "not for all").unwrap();
        set_mode(&tree.join("closed"), 0o600);
        chown(tree.join("closed"), Some(5), Some(6)).unwrap();
    });
    let copy = stage.path("puzzlefs");
    fs::copy(env!("CARGO_BIN_EXE_puzzlefs"), &copy).unwrap();
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();
    chown(stage.point(), Some(ORDINARY_USER), Some(ORDINARY_GROUP)).unwrap();
    chown(mkdir(&stage.path("own")), Some(ORDINARY_USER), Some(ORDINARY_GROUP)).unwrap();
    stage
}

fn as_user(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.arg(format!("--reuid={ORDINARY_USER}")).arg(format!("--regid={ORDINARY_GROUP}"));
    command.arg("--clear-groups").arg(program).current_dir("/");
    command
}

fn user_mounts(stage: &Stage, options: &[&str]) -> Command {
    let mut command = as_user(stage.path("puzzlefs"));
    command.arg("mount").args(options).arg(stage.layout.image("v1")).arg(stage.point());
    command
}

#[test]
fn a_user_mounts_through_fusermount() {
    let stage = stage();
    let mounted = Mounted(stage.point());
    let log = stage.path("own/log");
    succeed(&mut user_mounts(&stage, &["--log", log.to_str().unwrap()]));
    let line = mounted.line();
    for word in ["nosuid", "nodev", "fuse.puzzlefs", "user_id=65534"] {
        assert!(line.contains(word), "{line}");
    }
    // It is for the user alone, and all of it.
    let own = succeed(as_user("cat").arg(mounted.join("file")));
    assert!(own.stdout == random(1, 200 * KIB));
    assert_eq!(succeed(as_user("cat").arg(mounted.join("closed"))).text(), "not for all");
    assert!(fs::read(mounted.join("file")).is_err(), "root reads it");

    let again = fail(1, &mut user_mounts(&stage, &[]));
    assert!(!again.errors().is_empty(), "{again}");
    succeed(as_user(stage.path("puzzlefs")).arg("umount").arg(&*mounted));
    wait_until("its process is gone", || daemons(&mounted).is_empty());
    assert!(!is_mounted(&mounted));
}

#[test]
fn a_user_lets_others_look() {
    let stage = stage();
    let mounted = Mounted(stage.point());
    succeed(&mut user_mounts(&stage, &["-o", "allow_other"]));
    assert!(fs::read(mounted.join("file")).unwrap() == random(1, 200 * KIB));
    // Then permissions count, also for the one who mounted.
    let closed = run(as_user("cat").arg(mounted.join("closed")));
    assert!(closed.errors().contains("Permission denied"), "{closed}");
    succeed(as_user(stage.path("puzzlefs")).args(["umount", "-l"]).arg(&*mounted));
    wait_until("its process is gone", || daemons(&mounted).is_empty());
}

#[test]
fn a_user_learns_why_not() {
    let stage = stage();
    let point = stage.path("roots");
    mkdir(&point);
    let mut command = as_user(stage.path("puzzlefs"));
    let output = fail(1, command.arg("mount").arg(stage.layout.image("v1")).arg(&point));
    assert!(output.errors().contains("fusermount3 cannot mount"), "{output}");
    let kept = stage.path("own/kept");
    for options in [&["-w"][..], &["-p", kept.to_str().unwrap()]] {
        let output = fail(1, &mut user_mounts(&stage, options));
        assert!(output.errors().contains("needs root, or a user namespace"), "{output}");
        assert!(!is_mounted(&stage.point()) && !kept.exists(), "{output}");
    }
    let mounted = stage.mount(&NO_OPTIONS);
    let output = fail(1, as_user(stage.path("puzzlefs")).arg("umount").arg(stage.point()));
    assert!(output.errors().contains("only who mounted it can, and root"), "{output}");
    mounted.unmount();
}

/// In a user namespace, somebody is root who is not: mounts are its own, writable too.
#[test]
fn mounts_in_a_user_namespace() {
    let stage = stage();
    let script = r#"
        puzzlefs=$1 image=$2 point=$3 dir=$4
        "$puzzlefs" mount -o uidmap=0:0:1+5:0:1,gidmap=0:0:1 "$image" "$point"
        stat -c '%u %g' "$point/file" "$point/closed"
        cmp "$point/file" "$dir/tree/file"
        "$puzzlefs" umount "$point"
        "$puzzlefs" mount -p "$dir/own/kept" -o uidmap=0:0:1+5:0:1,gidmap=0:0:1+6:0:1 "$image" "$point"
        echo new >"$point/new"
        rm "$point/closed"
        mv "$point/file" "$point/moved"
        "$puzzlefs" umount "$point"
        "$puzzlefs" mount -p "$dir/own/kept" -o uidmap=0:0:1+5:0:1,gidmap=0:0:1+6:0:1 "$image" "$point"
        ls "$point"
        "$puzzlefs" umount "$point"
    "#;
    let mut command = as_user("unshare");
    command.args([
        "--user",
        "--map-root-user",
        "--mount",
        "bash",
        "-euxo",
        "pipefail",
        "-c",
        script,
        "user",
    ]);
    command.arg(stage.path("puzzlefs")).arg(stage.layout.image("v1")).arg(stage.point());
    let output = succeed(command.arg(stage.dir.path()));
    // Nobody is seen where the map has nobody.
    assert_eq!(output.text(), "0 0\n0 65534\nmoved\nnew", "{output}");
    let kept = stage.path("own/kept/upper");
    assert_eq!(fs::read(kept.join("moved")).unwrap(), random(1, 200 * KIB));
    assert_eq!(owner(&kept.join("new")), ORDINARY_USER);
}

fn owner(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().uid()
}

#[test]
fn owners_are_shifted() {
    let stage = stage();
    let mounted = stage.mount(&["-o", "uidmap=0:100000:65536,gidmap=6:7:1"]);
    let found = |name: &str| {
        let found = fs::metadata(mounted.join(name)).unwrap();
        (found.uid(), found.gid())
    };
    assert_eq!((found("file"), found("closed")), ((100_000, 65534), (100_005, 7)));
}

/// A copy of the mount in which others own everything, by the kernel: mount_setattr(2).
#[test]
fn a_mount_can_be_idmapped() {
    let stage = stage();
    let mounted = stage.mount(&[""; 0]);
    let shifted = Mounted(mkdir(&stage.path("shifted")));
    let program = r#"
import ctypes, os, struct, subprocess, sys
OPEN_TREE, MOVE_MOUNT, MOUNT_SETATTR = 428, 429, 442
AT_FDCWD, AT_EMPTY_PATH, OPEN_TREE_CLONE, F_EMPTY_PATH, ATTR_IDMAP = -100, 0x1000, 1, 4, 0x100000
libc = ctypes.CDLL(None, use_errno=True)
def call(*arguments):
    result = libc.syscall(*arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
# It says a line when it is in its namespace.
child = subprocess.Popen(["unshare", "--user", "sh", "-c", "echo; cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
child.stdout.readline()
for name in "uid_map", "gid_map":
    with open(f"/proc/{child.pid}/{name}", "w") as file:
        file.write("0 100000 65536")
namespace = os.open(f"/proc/{child.pid}/ns/user", os.O_RDONLY)
tree = call(OPEN_TREE, AT_FDCWD, sys.argv[1].encode(), OPEN_TREE_CLONE)
attributes = struct.pack("QQQQ", ATTR_IDMAP, 0, 0, namespace)
call(MOUNT_SETATTR, tree, b"", AT_EMPTY_PATH, attributes, len(attributes))
call(MOVE_MOUNT, tree, b"", AT_FDCWD, sys.argv[2].encode(), F_EMPTY_PATH)
child.communicate()
"#;
    let mut python = Command::new("python3");
    succeed(python.args(["-c", program]).arg(&*mounted).arg(&*shifted));
    assert_eq!(owner(&shifted.join("file")), 100_000);
    assert_eq!(owner(&shifted.join("closed")), 100_005);
    assert_eq!(owner(&mounted.join("closed")), 5);
    assert!(fs::read(shifted.join("file")).unwrap() == random(1, 200 * KIB));
    succeed(Command::new("umount").arg(&*shifted));
    mounted.unmount();
}
