//! Output that nobody takes.

use std::fs;
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

use crate::check::{PUZZLEFS, Run, Verdict, each, named, scratch, wrapped};
use crate::images::sample;

/// What a run is told to do with its output, and what it comes to.
struct Row {
    name: &'static str,
    shell: &'static str,
    verdict: fn(&Run) -> Verdict,
}

/// A shell that runs the rest of the command line, which `shell` calls `"$@"`.
fn shell(shell: &str) -> [&str; 6] {
    ["bash", "-o", "pipefail", "-c", shell, "bash"]
}

#[test]
fn output_that_nobody_takes() {
    let verbs: &[&[&str]] = &[
        &["build", "tree", "out:v2"],
        &["inspect", "out:v1"],
        &["inspect", "--json", "out:v1"],
        &["inspect", "--dump", "out:v1"],
        &["ls", "-R", "out:v1"],
        &["cat", "out:v1", "/f"],
        &["extract", "--json", "out:v1", "target"],
        &["fsck", "--json", "out"],
    ];
    let outputs = [
        Row {
            name: "a full disk",
            shell: r#""$@" > /dev/full"#,
            verdict: |run| run.refused(1, "No space left"),
        },
        Row {
            name: "a full disk, also for errors",
            shell: r#""$@" > /dev/full 2>&1"#,
            verdict: |run| run.failed_silently(),
        },
        Row {
            name: "a reader that stops",
            shell: r#""$@" | true"#,
            verdict: |run| run.succeeded(),
        },
        Row { name: "a closed output", shell: r#""$@" >&-"#, verdict: |run| run.succeeded() },
    ];
    let rows = verbs.iter().flat_map(|args| outputs.iter().map(move |output| (args, output)));
    each(rows, |(args, Row { name, shell: text, verdict })| {
        let scratch = scratch();
        let dir = scratch.path();
        fs::create_dir(dir.join("tree")).expect("mkdir");
        sample().write(&dir.join("out"), "v1");
        verdict(&wrapped(dir, &shell(text), args))
            .map_err(named(&format!("{name}: {}", args.join(" "))))
    });
}

/// Who looks at something that is too long, or stuck, need not ask twice for it to end.
#[test]
fn one_signal_ends_what_only_looks() {
    let scratch = scratch();
    let dir = scratch.path();
    sample().write(&dir.join("out"), "v1");
    let mut child = Command::new(PUZZLEFS)
        .args(["cat", "out:v1", "/f"])
        .current_dir(dir)
        .stdout(Stdio::piped())
        .spawn()
        .expect("start a cat");
    // More than a pipe holds is still to come.
    let mut output = child.stdout.take().expect("a pipe");
    output.read_exact(&mut [0]).expect("read a byte");
    let kill = Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
    assert!(kill.expect("run kill").success());
    assert_eq!(child.wait().expect("wait").signal(), Some(libc::SIGTERM));
}
