//! Writable mounts.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::process::Command;

use super::common::command::{fail, puzzlefs, succeed};
use super::common::snapshot::{Snapshot, assert_same};
use super::common::temp_dir;
use super::common::tree::{everything, set_mode, set_times, set_xattr};
use super::support::{Mounted, Stage, debian};

fn small() -> Stage {
    Stage::new(|tree| {
        fs::write(tree.join("file"), "old").unwrap();
        fs::write(tree.join("gone"), "old").unwrap();
        fs::create_dir(tree.join("dir")).unwrap();
        fs::write(tree.join("dir/inside"), "old").unwrap();
        set_xattr(tree, b"user.on-the-root", b"yes");
        chown(tree, Some(3), Some(4)).unwrap();
        set_mode(tree, 0o1751);
        set_times(tree);
    })
}

fn change(point: &Path) {
    fs::write(point.join("file"), "new").unwrap();
    fs::remove_file(point.join("gone")).unwrap();
    fs::rename(point.join("dir/inside"), point.join("dir/renamed")).unwrap();
    fs::write(point.join("more"), "new").unwrap();
}

fn contents(point: &Path) -> Vec<(String, String)> {
    let read = |name: &str| (name.to_owned(), fs::read_to_string(point.join(name)).unwrap());
    let mut names = vec![];
    for dir in ["", "dir/"] {
        for entry in fs::read_dir(point.join(dir)).unwrap() {
            let name = format!("{dir}{}", entry.unwrap().file_name().display());
            names.extend((name != "dir").then_some(name));
        }
    }
    names.sort();
    names.iter().map(|name| read(name)).collect()
}

#[test]
fn what_is_written_to_memory_is_gone() {
    let stage = small();
    let before = contents(&stage.tree);
    for _ in 0..2 {
        let mounted = stage.mount(&["-w"]);
        assert_eq!(contents(&mounted), before);
        change(&mounted);
        assert_ne!(contents(&mounted), before);
        mounted.unmount();
    }
    // The table of mounts has nothing of what it was put together of.
    let table = fs::read("/proc/self/mountinfo").unwrap();
    let table = String::from_utf8_lossy(&table);
    assert!(!table.contains(stage.dir.path().to_str().unwrap()), "{table}");
}

#[test]
fn what_is_kept_is_found_again() {
    let stage = small();
    let kept = stage.path("kept");
    let options = ["-p", kept.to_str().unwrap()];
    let mounted = stage.mount(&options);
    let (root, expected) = (fs::metadata(&*mounted).unwrap(), fs::metadata(&stage.tree).unwrap());
    assert_eq!(
        (root.mode(), root.uid(), root.gid(), root.mtime(), root.mtime_nsec()),
        (expected.mode(), expected.uid(), expected.gid(), expected.mtime(), expected.mtime_nsec()),
    );
    assert_same("nothing written yet", &Snapshot::of(&stage.tree), &Snapshot::of(&mounted));
    change(&mounted);
    let changed = contents(&mounted);

    // One at a time.
    let other = Mounted(stage.path("other"));
    fs::create_dir(&*other).unwrap();
    let mut second = super::common::command::puzzlefs();
    second.arg("mount").args(options).arg(stage.layout.image("v1")).arg(&*other);
    let refused = fail(1, &mut second);
    assert!(refused.errors().contains("another writable mount uses the directory"), "{refused}");

    mounted.unmount();
    let mounted = stage.mount(&options);
    assert_eq!(contents(&mounted), changed);
    mounted.unmount();
    // What `delta` takes: an upper directory as overlayfs leaves it.
    let upper = kept.join("upper");
    assert_eq!(fs::read_to_string(upper.join("file")).unwrap(), "new");
    assert!(fs::symlink_metadata(upper.join("gone")).unwrap().file_type().is_char_device());
    let mut names: Vec<_> =
        fs::read_dir(&kept).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["upper", "work"]);
}

/// Everything can be copied up, and is the same then.
#[test]
fn everything_can_be_copied_up() {
    let stage = Stage::new(|tree| {
        everything(tree);
        // chown cannot go there.
        fs::remove_dir_all(tree.join("deep")).unwrap();
        set_times(tree);
    });
    let mounted = stage.mount(&["-w"]);
    let expected = Snapshot::of(&stage.tree);
    assert_same("before", &expected, &Snapshot::of(&mounted));
    // Hard links are broken up by it, as overlayfs does; times stay.
    succeed(Command::new("find").arg(&*mounted).args(["-exec", "touch", "-h", "-a", "{}", "+"]));
    let found = Snapshot::of(&mounted).without(&["nlink", "same as"]);
    assert_same("after", &expected.without(&["nlink", "same as"]), &found);
}

#[test]
fn a_package_is_installed() {
    let stage = Stage::of(&debian());
    let package = make_package();
    let kept = stage.path("kept");
    let options = ["-p", kept.to_str().unwrap()];
    let mounted = stage.mount(&options);
    fs::copy(package.path().join("hello-test.deb"), mounted.join("root/hello-test.deb")).unwrap();
    let mut dpkg = Command::new("chroot");
    succeed(dpkg.arg(&*mounted).args(["dpkg", "-i", "/root/hello-test.deb"]));
    fs::remove_file(mounted.join("root/hello-test.deb")).unwrap();
    mounted.unmount();

    assert!(fs::metadata(kept.join("upper/usr/bin/hello-test")).is_ok());
    let mounted = stage.mount(&options);
    let hello = succeed(Command::new("chroot").arg(&*mounted).arg("/usr/bin/hello-test"));
    assert_eq!(hello.text(), "hello from a package");
    let mut query = Command::new("chroot");
    let status = succeed(query.arg(&*mounted).args(["dpkg", "--status", "hello-test"]));
    assert!(status.text().contains("install ok installed"), "{status}");
    mounted.unmount();

    // What was written becomes the next image.
    let [old, new] = ["v1", "v2"].map(|tag| stage.layout.image(tag));
    let mut delta = puzzlefs();
    succeed(delta.arg("delta").arg("--base").arg(old).arg(kept.join("upper")).arg(&new));
    let mounted = Mounted(stage.point());
    succeed(puzzlefs().arg("mount").arg(&new).arg(&*mounted));
    let hello = succeed(Command::new("chroot").arg(&*mounted).arg("/usr/bin/hello-test"));
    assert_eq!(hello.text(), "hello from a package");
    let mut query = Command::new("chroot");
    let status = succeed(query.arg(&*mounted).args(["dpkg", "--status", "hello-test"]));
    assert!(status.text().contains("install ok installed"), "{status}");
    mounted.unmount();
}

/// A package with one program.
fn make_package() -> tempfile::TempDir {
    let dir = temp_dir();
    let root = dir.path().join("package");
    fs::create_dir_all(root.join("DEBIAN")).unwrap();
    fs::create_dir_all(root.join("usr/bin")).unwrap();
    let control = "Package: hello-test\nVersion: 1.0\nArchitecture: all\n\
        Maintainer: nobody <nobody@example.org>\nDescription: says hello\n";
    fs::write(root.join("DEBIAN/control"), control).unwrap();
    let program = root.join("usr/bin/hello-test");
    fs::write(&program, "#!/bin/sh\necho hello from a package\n").unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let mut build = Command::new("dpkg-deb");
    build.args(["--root-owner-group", "--build"]).arg(&root);
    succeed(build.arg(dir.path().join("hello-test.deb")));
    dir
}
