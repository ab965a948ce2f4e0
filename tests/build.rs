//! A tree becomes an image and comes back, with all options.

mod common;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::command::{fail, puzzlefs, succeed};
use common::layout::{Layout, VARIANTS, array, text};
use common::snapshot::{Snapshot, assert_same};
use common::temp_dir;
use common::tree::{self, KIB, everything, lines, mkdir, random, set_mode, set_xattr, sparse};
use serde_json::{Value, json};

/// Builds `tree` as `tag` and tells what `build --json` prints.
#[track_caller]
fn build(tree: &Path, layout: &Layout, tag: &str, options: &[&str]) -> Value {
    let mut command = puzzlefs();
    command.args(["build", "--json"]).args(options).arg(tree).arg(layout.image(tag));
    succeed(&mut command).json()
}

#[track_caller]
fn extract(layout: &Layout, tag: &str, target: &Path) {
    succeed(puzzlefs().arg("extract").arg(layout.image(tag)).arg(target));
}

fn tree_with(dir: &Path, files: &[(&str, Vec<u8>)]) -> PathBuf {
    let tree = mkdir(&dir.join("tree"));
    for (path, bytes) in files {
        let path = tree.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    tree
}

#[test]
fn everything_comes_back() {
    let dir = temp_dir();
    let tree = mkdir(&dir.path().join("tree"));
    everything(&tree);
    let expected = Snapshot::of(&tree);
    for variant in VARIANTS {
        let layout = variant.build(&tree, dir.path(), "v1", &[]);
        let target = dir.path().join(format!("{}-extracted", variant.name()));
        extract(&layout, "v1", &target);
        assert_same(&variant.name(), &expected, &Snapshot::of(&target));
        let clean = succeed(puzzlefs().arg("fsck").arg(&layout.dir));
        assert_eq!(clean.text(), "", "fsck of {}", variant.name());
    }
}

#[test]
fn holes_come_back_as_holes() {
    let dir = temp_dir();
    let tree = mkdir(&dir.path().join("tree"));
    let data = |offset| (offset, random(1, 64 * KIB));
    sparse(&tree.join("holes"), 4096 * KIB, &[data(0), data(1024 * KIB), data(4032 * KIB)]);
    sparse(&tree.join("all-hole"), 300 * 1024 * KIB, &[]);
    sparse(&tree.join("hole-at-end"), 4096 * KIB, &[data(0)]);
    let layout = Layout::new(dir.path().join("out"));
    let built = build(&tree, &layout, "v1", &[]);
    assert_eq!(built["bytes"]["read"], 4 * 64 * 1024);
    let target = dir.path().join("extracted");
    extract(&layout, "v1", &target);
    assert_same("holes", &Snapshot::with_holes(&tree), &Snapshot::with_holes(&target));
}

#[test]
fn a_terabyte_of_nothing() {
    let dir = temp_dir();
    let tree = mkdir(&dir.path().join("tree"));
    sparse(&tree.join("big"), 1 << 40, &[(1 << 39, b"middle".to_vec())]);
    let layout = Layout::new(dir.path().join("out"));
    let built = build(&tree, &layout, "v1", &[]);
    assert_eq!(built["bytes"]["tree"], 1_u64 << 40);
    assert_eq!(built["bytes"]["read"], 4096, "the block in which the data is");
    assert!(built["bytes"]["stored"].as_u64().unwrap() < 4 << 20);
    let target = dir.path().join("extracted");
    extract(&layout, "v1", &target);
    let extracted = fs::metadata(target.join("big")).unwrap();
    assert_eq!(extracted.len(), 1 << 40);
    assert!(extracted.blocks() < 1024, "it is stored sparse");
}

/// The same tree gives the same image, whatever else differs.
#[test]
fn the_image_depends_on_the_tree_alone() {
    let dir = temp_dir();
    let tree = mkdir(&dir.path().join("tree"));
    everything(&tree);
    // Paths beyond what cp can copy.
    fs::remove_dir_all(tree.join("deep")).unwrap();
    let layout = Layout::new(dir.path().join("out"));
    let digest = |tree: &Path, tag: &str, options: &[&str]| {
        text(&build(tree, &layout, tag, options)["descriptor"]["digest"]).to_owned()
    };
    let expected = digest(&tree, "first", &[]);
    for threads in ["1", "2", "3", "7", "16"] {
        assert_eq!(digest(&tree, threads, &["--threads", threads]), expected, "{threads} threads");
    }
    assert_eq!(digest(&tree, "quiet", &["--quiet"]), expected);

    let copy = dir.path().join("copy");
    succeed(Command::new("cp").args(["-a", "--sparse=always"]).arg(&tree).arg(&copy));
    assert_eq!(digest(&copy, "copy", &[]), expected, "a copy with more holes");
    let copy = dir.path().join("full");
    succeed(Command::new("cp").args(["-a", "--sparse=never"]).arg(&tree).arg(&copy));
    assert_eq!(digest(&copy, "full", &[]), expected, "a copy without holes");

    let tmpfs = Tmpfs::mount(&dir.path().join("tmpfs"), "256m");
    let copy = tmpfs.0.join("tree");
    succeed(Command::new("cp").arg("-a").arg(&tree).arg(&copy));
    assert_eq!(digest(&copy, "tmpfs", &[]), expected, "a copy on tmpfs");

    let extracted = dir.path().join("extracted");
    extract(&layout, "first", &extracted);
    assert_eq!(digest(&extracted, "again", &[]), expected, "what was extracted");
    let other = Layout::new(dir.path().join("other"));
    let built = build(&tree, &other, "v1", &[]);
    assert_eq!(text(&built["descriptor"]["digest"]), expected, "in a layout of its own");
}

/// A tmpfs that is unmounted when the value goes.
struct Tmpfs(PathBuf);

impl Tmpfs {
    fn mount(path: &Path, size: &str) -> Tmpfs {
        let path = mkdir(path);
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(&path);
        succeed(&mut command);
        Tmpfs(path)
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let status = Command::new("umount").arg(&self.0).status();
        assert!(status.is_ok_and(|status| status.success()), "cannot unmount {}", self.0.display());
    }
}

#[test]
fn images_built_apart_share_their_packs() {
    let dir = temp_dir();
    let same: Vec<_> = (0..40).map(|seed| (format!("f{seed}"), random(seed, 512 * KIB))).collect();
    let files: Vec<_> = same.iter().map(|(name, bytes)| (&name[..], bytes.clone())).collect();
    let tree = tree_with(dir.path(), &files);
    let layout = Layout::new(dir.path().join("out"));
    let first = build(&tree, &layout, "v1", &["--pack-size", "1M"]);
    fs::write(tree.join("f20"), lines(512 * KIB)).unwrap();
    let second = build(&tree, &layout, "v2", &["--pack-size", "1M"]);
    let stored = |built: &Value| built["bytes"]["stored"].as_u64().unwrap();
    assert!(stored(&second) < stored(&first) / 4, "{first}\n{second}");
    let shared = second["bytes"]["shared"].as_u64().unwrap();
    assert!(shared > stored(&first) * 3 / 4, "{second}");
    let page = succeed(puzzlefs().arg("inspect").arg(layout.image("v2")));
    assert!(page.text().contains("shared with    v1: "), "{page}");
}

/// Runs a program; tells the most bytes that it had in memory.
fn memory_of(command: &Command) -> u64 {
    const SCRIPT: &str = "import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024)";
    let mut python = Command::new("python3");
    python.args(["-c", SCRIPT]).arg(command.get_program()).args(command.get_args());
    succeed(&mut python).text().parse().unwrap()
}

/// Within a limit the image is the same, and the process does not have more than the limit and what
/// it has to build next to nothing; below what is needed, nothing is made.
#[test]
fn a_limit_to_memory() {
    const MIB: u64 = 1 << 20;
    let dir = temp_dir();
    let path = |name: &str| dir.path().join(name);
    let files: Vec<_> = (0..48).map(|seed| (format!("{seed}"), random(seed, 1 << 20))).collect();
    let files: Vec<_> = files.iter().map(|(name, data)| (name.as_str(), data.clone())).collect();
    let tree = tree_with(dir.path(), &files);
    for number in 0..5000 {
        let name = format!("an-empty-file-{number}");
        fs::hard_link(tree.join("0"), tree.join(&name)).unwrap();
        fs::write(tree.join(format!("small-{number}")), number.to_string()).unwrap();
    }
    let nothing = mkdir(&path("nothing"));
    let layout = Layout::new(path("images"));
    let command = |options: &[&str], tree: &Path, tag: &str| {
        let mut command = puzzlefs();
        command.arg("build").args(["--threads=16", "--quiet"]).args(options).arg(tree);
        command.arg(layout.image(tag));
        command
    };
    let own = memory_of(&command(&[], &nothing, "nothing"));
    let free = memory_of(&command(&[], &tree, "free"));
    assert!(free > own + 48 * MIB, "{} MiB", free / MIB);
    for (limit, base) in [(32, None), (64, None), (120, Some("free"))] {
        let limited = format!("--memory-limit={limit}M");
        let base = base.map(|base| format!("--base={}", layout.image(base).to_str().unwrap()));
        let options: Vec<&str> = [Some(&*limited), base.as_deref()].into_iter().flatten().collect();
        let taken = memory_of(&command(&options, &tree, "limited"));
        assert!(taken <= own + limit * MIB, "{options:?}: {} MiB", taken / MIB);
        if base.is_none() {
            assert_eq!(layout.digest("limited"), layout.digest("free"), "{options:?}");
        }
    }
    let refused = fail(1, &mut command(&["--memory-limit=16M"], &tree, "refused"));
    let words = "MiB of memory, and the limit is 16 MiB";
    assert!(refused.errors().contains(words), "{refused}");
    assert!(layout.tagged("refused").is_empty());
}

#[test]
fn options_change_what_is_in_the_image() {
    let dir = temp_dir();
    let tree = tree_with(
        dir.path(),
        &[
            ("keep/me", b"1".to_vec()),
            ("keep/cache/x", b"2".to_vec()),
            ("cache/y", b"3".to_vec()),
            ("a/b/c.o", b"4".to_vec()),
            ("a/c.o", b"5".to_vec()),
        ],
    );
    set_xattr(&tree.join("keep/me"), b"security.selinux", b"system_u:object_r:usr_t:s0\0");
    set_xattr(&tree.join("keep/me"), b"user.kept", b"yes");
    let layout = Layout::new(dir.path().join("out"));
    let names = |tag: &str| {
        let listed = succeed(puzzlefs().args(["ls", "-R"]).arg(layout.image(tag)));
        listed.text().lines().map(str::to_owned).collect::<Vec<_>>().join(" ")
    };
    let cases: [(&[&str], &str); 6] = [
        (&[], "a a/b a/b/c.o a/c.o cache cache/y keep keep/cache keep/cache/x keep/me"),
        (&["--exclude", "cache"], "a a/b a/b/c.o a/c.o keep keep/me"),
        (&["--exclude=/cache"], "a a/b a/b/c.o a/c.o keep keep/cache keep/cache/x keep/me"),
        (&["--exclude=*.o", "--exclude=keep/cache"], "a a/b cache cache/y keep keep/me"),
        (&["--exclude=a/*.o"], "a a/b a/b/c.o cache cache/y keep keep/cache keep/cache/x keep/me"),
        (&["--exclude=a/**/c.o", "--exclude=k*"], "a a/b cache cache/y"),
    ];
    for (options, expected) in cases {
        build(&tree, &layout, "v", options);
        assert_eq!(names("v"), expected, "{options:?}");
    }

    let line = |tag: &str, path: &str| {
        let dump = succeed(puzzlefs().args(["inspect", "--dump"]).arg(layout.image(tag)));
        let found = dump.text().lines().find(|line| line.starts_with(path)).map(str::to_owned);
        found.unwrap_or_else(|| panic!("no {path} in\n{dump}"))
    };
    build(&tree, &layout, "v", &["--owner=7:4294967294", "--clamp-mtime=-5"]);
    let me = line("v", "/keep/me ");
    assert!(me.starts_with("/keep/me file 0644 7:4294967294 -5.000000000 "), "{me}");
    assert!(me.ends_with(" xattr user.kept=yes"), "{me}");
    build(&tree, &layout, "v", &["--selinux"]);
    let me = line("v", "/keep/me ");
    assert!(me.contains(" xattr security.selinux=system_u:object_r:usr_t:s0\\x00 "), "{me}");
}

#[test]
fn another_file_system_stays_empty_if_asked() {
    let dir = temp_dir();
    let tree = tree_with(dir.path(), &[("file", b"1".to_vec())]);
    let mounted = Tmpfs::mount(&tree.join("mounted"), "1m");
    fs::write(mounted.0.join("inside"), "2").unwrap();
    let layout = Layout::new(dir.path().join("out"));
    for (options, expected) in
        [(&[][..], "file\nmounted\nmounted/inside"), (&["--one-file-system"], "file\nmounted")]
    {
        build(&tree, &layout, "v", options);
        let listed = succeed(puzzlefs().args(["ls", "-R"]).arg(layout.image("v")));
        assert_eq!(listed.text().trim_end(), expected, "{options:?}");
    }
}

#[test]
fn options_change_the_configuration_and_the_manifest() {
    let dir = temp_dir();
    let tree = tree_with(dir.path(), &[("file", b"1".to_vec())]);
    succeed(Command::new("touch").args(["-d", "@1700000000.5"]).arg(tree.join("file")));
    for path in [&tree, &tree.join("file")] {
        let when = if path == &tree { "@1600000000" } else { "@1700000000.5" };
        succeed(Command::new("touch").args(["-d", when]).arg(path));
    }
    let start = dir.path().join("start.json");
    let document = json!({
        "architecture": "riscv64", "os": "linux", "variant": "x",
        "config": {"Env": ["A=b"], "Cmd": ["sh"]}, "unknown": [1],
    });
    fs::write(&start, document.to_string()).unwrap();
    let start = format!("--config={}", start.display());
    let layout = Layout::new(dir.path().join("out"));
    type Case<'a> = (&'a [&'a str], Option<&'a str>, &'a str, Value);
    let cases: [Case<'_>; 8] = [
        (&[], None, "/created", json!("2023-11-14T22:13:20Z")),
        (&[], Some("86400"), "/created", json!("1970-01-02T00:00:00Z")),
        (
            &["--created=2020-01-02T03:04:05+01:00"],
            Some("5"),
            "/created",
            json!("2020-01-02T02:04:05Z"),
        ),
        (
            &["--author=me", "--created-by=this", "--comment=c"],
            Some("0"),
            "/history",
            json!([
                {"created": "1970-01-01T00:00:00Z", "created_by": "this", "author": "me", "comment": "c"},
            ]),
        ),
        (
            &[],
            Some("0"),
            "/history",
            json!([
                {"created": "1970-01-01T00:00:00Z", "created_by": "puzzlefs build"},
            ]),
        ),
        (&["--architecture=arm64", "--os=plan9"], None, "/architecture", json!("arm64")),
        (&[&start], None, "/config", json!({"Env": ["A=b"], "Cmd": ["sh"]})),
        (&[&start, "--os=plan9"], None, "/architecture", json!("riscv64")),
    ];
    for (options, epoch, pointer, expected) in cases {
        let mut command = puzzlefs();
        command.arg("build").args(options).arg(&tree).arg(layout.image("v"));
        if let Some(epoch) = epoch {
            command.env("SOURCE_DATE_EPOCH", epoch);
        }
        succeed(&mut command);
        let config = layout.config("v");
        assert_eq!(config.pointer(pointer), Some(&expected), "{options:?}");
        assert_eq!(
            array(&config["rootfs"]["diff_ids"]).len(),
            array(&layout.manifest("v")["layers"]).len()
        );
    }
    assert_eq!(layout.config("v")["unknown"], json!([1]), "what is not known is kept");

    build(&tree, &layout, "v", &["--annotation=b=c=d", "--annotation=a=", "--pack-size=8M"]);
    let expected = json!({"a": "", "b": "c=d", "io.puzzlefsoci.libpuzzlefs.pack_size": "8388608"});
    assert_eq!(layout.manifest("v")["annotations"], expected);
}

#[test]
fn source_date_epoch_clamps_times() {
    let dir = temp_dir();
    let tree = tree_with(dir.path(), &[("old", b"1".to_vec()), ("new", b"2".to_vec())]);
    succeed(Command::new("touch").args(["-d", "@999.25"]).arg(tree.join("old")));
    let layout = Layout::new(dir.path().join("out"));
    let clamp = || {
        let mut command = puzzlefs();
        command.args(["build", "--clamp-mtime"]).arg(&tree).arg(layout.image("v"));
        command
    };
    succeed(clamp().env("SOURCE_DATE_EPOCH", "1000"));
    let dump = succeed(puzzlefs().args(["inspect", "--dump"]).arg(layout.image("v")));
    let times: Vec<_> = dump.text().lines().map(|line| line.split(' ').nth(4).unwrap()).collect();
    assert_eq!(times, ["1000.000000000", "1000.000000000", "999.250000000"], "root, new, old");
    let error = fail(1, clamp().env_remove("SOURCE_DATE_EPOCH"));
    assert!(error.errors().contains("SOURCE_DATE_EPOCH is not set"), "{error}");
}

/// Reading what is in an image without extracting it.
#[test]
fn looking_into_an_image() {
    let dir = temp_dir();
    let tree = tree_with(dir.path(), &[("etc/motd", lines(200 * KIB)), ("bin/true", vec![7; 10])]);
    symlink("../etc", tree.join("bin/etc")).unwrap();
    symlink("/bin/etc/motd", tree.join("absolute")).unwrap();
    symlink("loop", tree.join("loop")).unwrap();
    let layout = Layout::new(dir.path().join("out"));
    build(&tree, &layout, "v1", &[]);
    let image = layout.image("v1");
    let digest = format!("{}@{}", layout.dir.display(), layout.digest("v1"));
    for (name, path) in [
        (image.as_os_str(), "/etc/motd"),
        (&image, "etc/motd"),
        (&image, "bin/etc/motd"),
        (&image, "/bin/../etc/./motd"),
        (&image, "/../../etc/motd"),
        (&image, "absolute"),
        (OsStr::new(&digest), "etc/motd"),
    ] {
        let found = succeed(puzzlefs().arg("cat").arg(name).arg(path));
        assert_eq!(found.text().as_bytes(), lines(200 * KIB), "{path}");
    }
    for (command, path, expected) in [
        ("cat", "etc/none", "there is no 'none'"),
        ("cat", "etc/motd/x", "not a directory"),
        ("cat", "etc", "'etc' in the image: not a regular file"),
        ("cat", "loop", "too many symbolic links"),
        ("ls", "none", "there is no 'none'"),
    ] {
        let error = fail(1, puzzlefs().arg(command).arg(&image).arg(path));
        assert!(error.errors().contains(expected), "{error}");
    }
    let listed = succeed(puzzlefs().args(["ls", "-l"]).arg(&image).arg("bin"));
    let ends: Vec<_> = listed
        .text()
        .lines()
        .map(|line| (&line[..10], line.rsplit_once("Z ").unwrap().1))
        .collect();
    assert_eq!(ends, [("lrwxrwxrwx", "etc -> ../etc"), ("-rw-r--r--", "true")]);

    let inspected = succeed(puzzlefs().args(["inspect", "--json"]).arg(&image)).json();
    assert_eq!(inspected["inodes"]["total"], 8);
    assert_eq!(inspected["inodes"]["symlinks"], 3);
    assert_eq!(inspected["manifest"]["digest"], layout.digest("v1"));
}

/// Who is not root gets what is possible, and is told the rest; so does the root of a user namespace.
#[test]
fn extracting_as_an_ordinary_user() {
    let everything = ["owner of ", "device of ", "security.capability of ", "trusted."];
    extract_as_an_ordinary_user(&[], &everything);
    let capabilities_are_its_own = ["owner of ", "device of ", "trusted."];
    extract_as_an_ordinary_user(&["unshare", "--map-root-user"], &capabilities_are_its_own);
}

/// A command that runs one as an ordinary user.
const AS_ORDINARY_USER: &[&str] = &["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];

/// A folder of that user's, and a copy of the program, since the user may have no way to where it is
/// built.
fn for_an_ordinary_user(dir: &Path) -> (PathBuf, PathBuf) {
    let home = mkdir(&dir.join("home"));
    std::os::unix::fs::chown(&home, Some(65534), Some(65534)).unwrap();
    let program = dir.join("puzzlefs");
    fs::copy(env!("CARGO_BIN_EXE_puzzlefs"), &program).unwrap();
    (home, program)
}

fn extract_as_an_ordinary_user(wrapper: &[&str], lost: &[&str]) {
    let dir = temp_dir();
    let tree = mkdir(&dir.path().join("tree"));
    everything(&tree);
    let layout = Layout::new(dir.path().join("out"));
    build(&tree, &layout, "v1", &[]);
    let (home, program) = for_an_ordinary_user(dir.path());
    let mut command = Command::new(AS_ORDINARY_USER[0]);
    command.args(&AS_ORDINARY_USER[1..]).args(wrapper).arg(&program);
    command.arg("extract").arg(layout.image("v1")).arg(home.join("x"));
    let told = succeed(&mut command).errors();
    for what in lost {
        assert!(told.contains(&format!("not restored: {what}")), "{what}\n{told}");
    }
    let lost = ["uid", "gid", "nlink", "same as", "rdev", "mode"];
    let expected = Snapshot::of(&tree).without(&lost);
    let found = Snapshot::of(&home.join("x")).without(&lost);
    let differences = expected.differences(&found);
    let unexpected: Vec<_> = differences
        .iter()
        .filter(|line| {
            !["nodes", "privileged-attributes", "trusted.", "security."]
                .iter()
                .any(|known| line.contains(known))
        })
        .collect();
    assert!(unexpected.is_empty(), "{unexpected:#?}");
    assert!(!differences.is_empty(), "devices are missing");
}

/// A program gets the rights of its owner only if that is who the image says.
#[test]
fn programs_of_other_owners_get_no_rights() {
    let dir = temp_dir();
    let tree = mkdir(&dir.path().join("tree"));
    for (name, owner) in [("root", 0), ("other", 1000)] {
        let program = tree.join(name);
        fs::write(&program, "").unwrap();
        std::os::unix::fs::chown(&program, Some(owner), Some(owner)).unwrap();
        set_xattr(&program, b"security.capability", &tree::capability());
        set_mode(&program, 0o6755);
    }
    set_mode(&mkdir(&tree.join("shared")), 0o2775);
    let layout = Layout::new(dir.path().join("out"));
    build(&tree, &layout, "v1", &[]);
    let (home, program) = for_an_ordinary_user(dir.path());
    // What is made in it has its group.
    let of_a_group = mkdir(&home.join("group"));
    std::os::unix::fs::chown(&of_a_group, Some(65534), Some(1000)).unwrap();
    set_mode(&of_a_group, 0o2775);
    /// Who extracts, how and where, and which programs get what they had.
    type Row<'a> = (&'a [&'a str], &'a [&'a str], &'a Path, &'a [&'a str]);
    let rows: [Row<'_>; 5] = [
        (&["env"], &[], &home, &["root", "other"]),
        (&["env"], &["--no-same-owner"], &home, &["root"]),
        (AS_ORDINARY_USER, &[], &home, &[]),
        (&["env"], &[], &of_a_group, &["root", "other"]),
        (&["env"], &["--no-same-owner"], &of_a_group, &[]),
    ];
    for (number, (user, options, place, whole)) in rows.iter().enumerate() {
        let target = place.join(number.to_string());
        let mut command = Command::new(user[0]);
        command.args(&user[1..]).arg(&program).arg("extract").args(*options);
        let told = succeed(command.arg(layout.image("v1")).arg(&target)).errors();
        for name in ["root", "other"] {
            let file = target.join(name);
            let mode = fs::metadata(&file).unwrap().mode() & 0o7777;
            let capability = rustix::fs::lgetxattr(&file, "security.capability", &mut [0; 64]);
            let expected = if whole.contains(&name) { 0o6755 } else { 0o755 };
            assert_eq!(mode, expected, "{number}: {name}");
            assert_eq!(capability.is_ok(), whole.contains(&name), "{number}: {name}");
        }
        assert_eq!(fs::metadata(target.join("shared")).unwrap().mode() & 0o7777, 0o2775);
        let lost = 2 - whole.len();
        let said = format!("not restored: set-user-ID or set-group-ID of {lost} inodes");
        assert_eq!(told.contains(&said), lost > 0, "{number}: {told}");
    }
}

/// What is not restored is told the same however many threads find it.
#[test]
fn losses_are_told_in_one_order() {
    let dir = temp_dir();
    let tree = mkdir(&dir.path().join("tree"));
    for number in 0..200 {
        let program = tree.join(format!("{number:03}"));
        fs::write(&program, "").unwrap();
        if number % 2 == 1 {
            set_xattr(&program, b"security.capability", &tree::capability());
        }
        set_mode(&program, if number % 3 == 2 { 0o4755 } else { 0o755 });
    }
    let layout = Layout::new(dir.path().join("out"));
    build(&tree, &layout, "v1", &[]);
    let (home, program) = for_an_ordinary_user(dir.path());
    let expected = serde_json::json!([
        {"what": "owner", "count": 201, "first": "/"},
        {"what": "security.capability", "count": 100, "first": "/001"},
        {"what": "set-user-ID or set-group-ID", "count": 66, "first": "/002"},
    ]);
    for (run, threads) in [1, 2, 8, 8, 8, 8].into_iter().enumerate() {
        let mut command = Command::new(AS_ORDINARY_USER[0]);
        command.args(&AS_ORDINARY_USER[1..]).arg(&program).args(["extract", "--quiet", "--json"]);
        command.arg(format!("--threads={threads}"));
        let told = succeed(command.arg(layout.image("v1")).arg(home.join(run.to_string())));
        assert_eq!(told.json()["lost"], expected, "{threads} threads");
    }
}

/// What a terminal would take for a command is escaped there; who reads a pipe gets what is.
#[test]
fn names_are_escaped_for_terminals() {
    let dir = temp_dir();
    let tree = mkdir(&dir.path().join("tree"));
    fs::write(tree.join("a\x1b[31m\nb"), "").unwrap();
    std::os::unix::fs::symlink("c\x07", tree.join("link")).unwrap();
    let layout = Layout::new(dir.path().join("out"));
    build(&tree, &layout, "v1", &[]);
    let image = layout.image("v1").into_string().unwrap();
    let piped = succeed(puzzlefs().args(["ls", &image]));
    assert_eq!(piped.text(), "a\x1b[31m\nb\nlink");
    let line = format!("{} ls -l {image}", env!("CARGO_BIN_EXE_puzzlefs"));
    let mut script = Command::new("script");
    let shown = succeed(script.args(["--quiet", "--return", "--command", &line, "/dev/null"]));
    let ends: Vec<_> =
        shown.text().lines().map(|line| line.rsplit_once("Z ").unwrap().1.trim_end()).collect();
    assert_eq!(ends, [r"a\u{1b}[31m\nb", r"link -> c\u{7}"]);
}

/// What an image holds is no command in what people and programs are told of it.
#[test]
fn no_command_is_told() {
    const ODD: &str = "\u{1b}[31m\u{9b}2J\u{7f}\n";
    let dir = temp_dir();
    let tree = mkdir(&dir.path().join("tree"));
    let socket = UnixListener::bind(tree.join(ODD)).unwrap();
    drop(socket);
    set_xattr(&tree.join(ODD), b"trusted.a", b"for root alone");
    let layout = Layout::new(dir.path().join("out"));
    build(&mkdir(&dir.path().join("empty")), &layout, "v0", &[]);
    let config = dir.path().join("config");
    let odd = serde_json::json!({"config": {ODD: ODD, "Labels": {ODD: ODD}}});
    fs::write(&config, odd.to_string()).unwrap();
    let annotation = format!("--annotation=a{ODD}={ODD}");
    build(&tree, &layout, "v1", &[&format!("--config={}", config.display()), &annotation]);
    let mut index = layout.index();
    let mut other = index["manifests"][0].clone();
    other["annotations"]["org.opencontainers.image.ref.name"] = ODD.into();
    other["digest"] = format!("sha256:{}", "0".repeat(64)).into();
    index["manifests"].as_array_mut().unwrap().push(other);
    fs::write(layout.dir.join("index.json"), index.to_string()).unwrap();

    let (home, program) = for_an_ordinary_user(dir.path());
    let (old, new) = (layout.image("v0"), layout.image("v1"));
    let (old, new, out) =
        (old.to_str().unwrap(), new.to_str().unwrap(), layout.dir.to_str().unwrap());
    let home = |name: &str| home.join(name).into_os_string().into_string().unwrap();
    let line = r"\u{1b}[31m\u{9b}2J\u{7f}\n";
    let json = r"\u001b[31m\u009b2J\u007f\n";
    for (arguments, code, expected) in [
        (&["extract", new, &home("lines")][..], 0, line),
        (&["extract", "--json", new, &home("json")], 0, json),
        (&["export", "--output", &home("tar"), new], 0, line),
        (&["inspect", new], 0, line),
        (&["inspect", "--json", new], 0, json),
        (&["diff", old, new], 0, line),
        (&["diff", "--json", old, new], 0, json),
        (&["tags", out], 0, line),
        (&["tags", "--json", out], 0, json),
        (&["fsck", out], 1, line),
        (&["fsck", "--json", out], 1, json),
        (&["cat", new, ODD], 1, line),
    ] {
        let mut command = Command::new(AS_ORDINARY_USER[0]);
        let output = fail(code, command.args(&AS_ORDINARY_USER[1..]).arg(&program).args(arguments));
        let told = format!("{}{}", output.text(), output.errors());
        assert!(told.contains(expected), "{output}");
        let command = |letter: char| letter.is_control() && letter != '\n';
        assert!(!told.contains(command), "{arguments:?}: {told:?}");
    }
    let page = succeed(puzzlefs().args(["inspect", new]));
    let lines: Vec<_> = page.text().lines().filter(|text| text.ends_with(line)).collect();
    let known =
        [format!("{} {line}", line.to_lowercase()), format!("annotation     a{line}={line}")];
    assert_eq!(lines, known, "{page}");
}

/// The first signal stops the work, and what it made is cleared.
#[test]
fn a_signal_cancels() {
    let dir = temp_dir();
    let layout = Layout::new(dir.path().join("out"));
    let before = tree_with(dir.path(), &[("file", b"1".to_vec())]);
    build(&before, &layout, "before", &[]);
    let index = fs::read(layout.dir.join("index.json")).unwrap();
    let slow = mkdir(&dir.path().join("slow"));
    fs::write(slow.join("file"), lines(16 * 1024 * KIB)).unwrap();
    for (signal, code) in [("INT", 130), ("TERM", 143), ("QUIT", 131), ("HUP", 129)] {
        let mut command = Command::new("timeout");
        command.args([
            "--foreground",
            "--preserve-status",
            "--signal",
            signal,
            "--kill-after=30",
            "0.5",
        ]);
        command.arg(env!("CARGO_BIN_EXE_puzzlefs")).args(["build", "--compression=zstd:22"]);
        let output = fail(code, command.arg(&slow).arg(layout.image("v1")));
        assert_eq!(output.errors(), "puzzlefs: cancelled\n", "{signal}");
        assert_eq!(fs::read(layout.dir.join("index.json")).unwrap(), index, "{signal}");
        let names = fs::read_dir(&layout.dir).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<_> = names.collect();
        names.sort();
        assert_eq!(names, ["blobs", "index.json", "oci-layout"], "{signal}");
    }
}

#[test]
fn nohup_is_respected() {
    let dir = temp_dir();
    let layout = Layout::new(dir.path().join("out"));
    let slow = tree_with(dir.path(), &[("file", lines(16 * 1024 * KIB))]);
    let mut command = Command::new("timeout");
    command.args(["--foreground", "--preserve-status", "--signal=HUP", "0.3"]);
    command.args(["env", "--ignore-signal=HUP", env!("CARGO_BIN_EXE_puzzlefs"), "build"]);
    succeed(command.arg("--compression=zstd:16").arg(&slow).arg(layout.image("v1")));
}
