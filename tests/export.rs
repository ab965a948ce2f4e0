//! Where an archive is written to.

mod common;

use std::fs;
use std::process::Command;

use common::command::{puzzlefs, run, succeed};
use common::layout::Layout;
use common::temp_dir;
use common::tree::{mkdir, random};

/// What the scripts call: `to FILE` exports into a file, or says why not;
/// `user COMMAND…` is for an ordinary user; `whole FILE` holds the whole archive and nothing else.
const WORDS: &str = r#"
set -eu -o pipefail
to() { "$PUZZLEFS" export --quiet --output "$1" "$IMAGE"; }
user() { setpriv --reuid=65534 --regid=65534 --clear-groups "$@"; }
whole() { cmp "$1" "$ARCHIVE"; }
export -f to
"#;

/// What is done in a folder of root's, and what is told of it.
const ROWS: &[(&str, &str, &str)] = &[
    ("nothing yet", "umask 027; to f; whole f; stat -c %a f", "640"),
    ("a file", "seq 99999 >f; chmod 600 f; to f; whole f; stat -c %a f", "600"),
    (
        "a file that is another's",
        "touch f; chown 65534:65533 f; chmod 4664 f; to f; whole f; stat -c %u:%g:%a f",
        "65534:65533:664",
    ),
    ("a file that may be read only", "touch f; chmod 444 f; to f; whole f; stat -c %a f", "444"),
    ("a link", "touch f; ln -s f link; to link; whole f; readlink link", "f"),
    (
        "a link to a link",
        "mkdir dir; touch f; ln -s dir/2 1; ln -s ../f dir/2; to 1; whole f; readlink 1 dir/2",
        "dir/2\n../f",
    ),
    ("a link to nothing", "mkdir dir; ln -s dir/f link; to link; whole dir/f; readlink link", "dir/f"),
    (
        "a link to nothing in no folder",
        "ln -s dir/f link; ! to link; readlink link",
        "puzzlefs: cannot write 'link': No such file or directory\ndir/f",
    ),
    (
        "a link to itself",
        "ln -s link link; ! to link; readlink link",
        "puzzlefs: cannot write 'link': Too many levels of symbolic links\nlink",
    ),
    ("a folder", "! to .", "puzzlefs: cannot write '.': Is a directory"),
    ("standard output into a pipe", "to /dev/stdout | whole -; readlink /dev/stdout", "/proc/self/fd/1"),
    // By a link of our own: what fails must not cost the machine its /dev/stdout.
    (
        "standard output into a file that has no name",
        "ln -s /proc/self/fd/1 out; exec 4<>f; rm f; to out >&4; whole /proc/self/fd/4; readlink out; ls",
        "/proc/self/fd/1\nout",
    ),
    (
        "standard output into a file",
        "ln -s /proc/self/fd/1 out; exec 4<>f; to out >&4; whole /proc/self/fd/4; whole f; readlink out",
        "/proc/self/fd/1",
    ),
    ("a FIFO", "mkfifo p; whole p & to p; wait $!; stat -c %F p", "fifo"),
    (
        "a device that is full",
        "! to /dev/full; test -c /dev/full",
        "puzzlefs: cannot write the output: No space left on device (os error 28)",
    ),
    (
        "a file in a folder that may not be written",
        "seq 99999 >f; chown 65534 f; user bash -euc 'to f; ! to new'; whole f; ls",
        "puzzlefs: cannot write 'new': Permission denied\nf",
    ),
    (
        "a file that is another's and may be written",
        "mkdir dir; chown 65534 dir; seq 99999 >dir/f; chmod 666 dir/f; user bash -c 'to dir/f'; whole dir/f
        stat -c %u:%a dir/f",
        "0:666",
    ),
    (
        "a file that may not be written",
        "mkdir dir; chown 65534 dir; echo old >dir/f; ! user bash -c 'to dir/f'; cat dir/f",
        "puzzlefs: cannot write 'dir/f': Permission denied\nold",
    ),
    (
        "a file in a folder that may not be read",
        "mkdir dir; chown 65534 dir; chmod 300 dir; user bash -c 'to dir/f'; whole dir/f",
        "",
    ),
    (
        "a file that is mounted",
        "echo old >f; touch g; unshare --mount bash -euc 'mount --bind g f; to f'; whole g; cat f",
        "old",
    ),
    (
        "a file, for good",
        "touch f; strace -f -qqq -o log -e trace=fsync,/^rename \"$PUZZLEFS\" export -q -o f \"$IMAGE\"
        sed -E 's/^[0-9]+ +([a-z]+).*/\\1/' log",
        "fsync\nrenameat\nfsync",
    ),
];

#[test]
fn an_archive_is_written_where_it_is_wanted() {
    let dir = temp_dir();
    let tree = mkdir(&dir.path().join("tree"));
    fs::write(tree.join("file"), random(3, 300_000)).unwrap();
    let layout = Layout::new(dir.path().join("layout"));
    succeed(puzzlefs().arg("build").arg(&tree).arg(layout.image("v1")));
    let archive = dir.path().join("archive");
    fs::write(&archive, succeed(puzzlefs().arg("export").arg(layout.image("v1"))).stdout).unwrap();
    // An ordinary user may have no way to where it is built.
    let program = dir.path().join("puzzlefs");
    fs::copy(env!("CARGO_BIN_EXE_puzzlefs"), &program).unwrap();
    let mut wrong = Vec::new();
    for (number, (what, script, expected)) in ROWS.iter().enumerate() {
        let folder = mkdir(&dir.path().join(number.to_string()));
        let mut bash = Command::new("bash");
        bash.args(["-c", &format!("exec 2>&1; {WORDS}{script}\nfind . -name '.puzzlefs-*'")]);
        bash.env("PUZZLEFS", &program).env("IMAGE", layout.image("v1")).env("ARCHIVE", &archive);
        let output = run(bash.current_dir(folder));
        // What is wrong may tell an archive.
        let told = String::from_utf8_lossy(&output.stdout);
        if !output.status.success() || told.trim_end() != *expected {
            wrong.push(format!("{what}: expected {expected:?}\n{output}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
