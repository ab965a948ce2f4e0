//! What a user gets wrong first: the message names the path, and what to do next.

use std::fs;
use std::os::unix::fs::chown;
use std::path::Path;

use serde_json::json;

use crate::check::{each, named, nothing_written, puzzlefs, scratch, wrapped};
use crate::forge::{MANIFEST_TYPE, add_to_index, store};
use crate::images::sample;

const TAR: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const ORDINARY_USER: [&str; 4] = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];

/// A tree, a file, a directory that is not empty, a layout `out` with `v1`, and an ordinary image
/// in `oci`.
fn stage(dir: &Path) {
    for folder in ["tree", "plain", "empty"] {
        fs::create_dir(dir.join(folder)).expect("mkdir");
    }
    for file in ["tree/f", "plain/f", "file"] {
        fs::write(dir.join(file), "content").expect("write");
    }
    sample().write(&dir.join("out"), "v1");
    sample().write(&dir.join("oci"), "puzzlefs");
    let layer = store(&dir.join("oci"), TAR, b"layer");
    let config = store(&dir.join("oci"), "application/vnd.oci.image.config.v1+json", b"{}");
    let manifest = json!({"schemaVersion": 2, "config": config, "layers": [layer]}).to_string();
    let mut entry = store(&dir.join("oci"), MANIFEST_TYPE, manifest.as_bytes());
    entry["annotations"] = json!({"org.opencontainers.image.ref.name": "v1"});
    add_to_index(&dir.join("oci"), entry);
}

#[test]
fn what_to_do_next() {
    type Row = (i32, &'static [&'static str], &'static str);
    let rows: &[Row] = &[
        // The image's name.
        (
            2,
            &["ls", "out"],
            "'out' names no image: expected LAYOUT:TAG or LAYOUT@sha256:HEX; `puzzlefs tags out` lists its tags",
        ),
        (2, &["inspect", "out"], "`puzzlefs tags out` lists its tags"),
        (
            2,
            &["build", "out:v2", "tree"],
            "'tree' names no image: expected LAYOUT:TAG or LAYOUT@sha256:HEX; it is a directory: --help tells which argument comes first",
        ),
        (
            2,
            &["delta", "--base", "out:v1", "out:v2", "tree"],
            "--help tells which argument comes first",
        ),
        (2, &["build", "tree", "oci:out:v2"], "what skopeo calls oci:out:v2 is out:v2 here"),
        (
            2,
            &["convert", "docker://debian:12", "out:v2"],
            "`skopeo copy docker://debian:12 oci:LAYOUT:TAG` puts it into one",
        ),
        (1, &["ls", "out:v2"], "no image tagged 'v2' in layout 'out' (it has: v1)"),
        // The layout.
        (1, &["tags", "out:v1"], "there is no layout 'out:v1'; the layout alone is 'out'"),
        (1, &["gc", "out:v1"], "there is no layout 'out:v1'; the layout alone is 'out'"),
        (1, &["tags", "nowhere:v1"], "there is no layout 'nowhere:v1'"),
        (1, &["ls", "file:v1"], "'file' is not an OCI image layout: it is not a directory"),
        (
            1,
            &["build", "tree", "file:v1"],
            "'file' is not an OCI image layout: it is not a directory",
        ),
        (
            1,
            &["build", "tree", "plain:v1"],
            "'plain' is not an OCI image layout: it has no file 'oci-layout'; a layout is made in a folder that is new or empty",
        ),
        // An image of another kind.
        (2, &["ls", "oci:v1"], "'oci:v1' is not in a layout"),
        (1, &["ls", "./oci:v1"], "'./oci:v1': the manifest sha256:"),
        (
            1,
            &["ls", "./oci:v1"],
            "its first layer is of type 'application/vnd.oci.image.layer.v1.tar+gzip'; `puzzlefs convert` makes one of it",
        ),
        (
            1,
            &["build", "--base", "./oci:v1", "tree", "out:v2"],
            "`puzzlefs convert` makes one of it",
        ),
        // Where something is written.
        (
            1,
            &["extract", "out:v1", "plain"],
            "'plain' is not empty; extract into a new or an empty one",
        ),
        (
            1,
            &["export", "out:v1", "-o", "no/x.tar"],
            "cannot write 'no/x.tar': No such file or directory",
        ),
        (
            1,
            &["build", "--config", "no.json", "tree", "out:v2"],
            "cannot read 'no.json': No such file or directory",
        ),
        (
            1,
            &["config", "out:v1"],
            "nothing is to be changed; `puzzlefs inspect` shows the configuration",
        ),
        // Mounts.
        (
            1,
            &["mount", "out:v1", "nowhere"],
            "there is no directory 'nowhere' to mount on; make it first",
        ),
        (1, &["mount", "out:v1", "file"], "'file' is not a directory"),
        (
            1,
            &["mount", "-o", "fast", "out:v1", "empty"],
            "there is no option 'fast'; `puzzlefs mount --help` lists them",
        ),
        (1, &["mount", "-d", ABSENT, "out:v1", "empty"], "the image in 'out' is sha256:"),
        (1, &["umount", "empty"], "nothing is mounted on '"),
    ];
    let scratch = scratch();
    let dir = scratch.path();
    stage(dir);
    each(rows, |(code, args, message)| {
        let refused = || puzzlefs(dir, args).refused(*code, message);
        nothing_written(dir, refused).map_err(named(&args.join(" ")))
    });
}

const ABSENT: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";

/// What is done, and may not be what was meant.
#[test]
fn what_is_done_with_a_word_on_it() {
    type Row = (&'static [&'static str], &'static str);
    let rows: &[Row] = &[
        (
            &["delta", "--base", "out:v1", "kept", "out:v2"],
            "warning: 'kept' looks like what `mount --persist` keeps; the upperdir is 'kept/upper'",
        ),
        (&["delta", "--base", "out:v1", "kept/upper", "out:v2"], ""),
        (&["gc", "--quiet", "out"], ""),
        (&["gc", "out"], "that no tag needs, since they are younger than --grace says"),
        (&["gc", "--grace", "0", "out"], ""),
    ];
    let scratch = scratch();
    let dir = scratch.path();
    stage(dir);
    for folder in ["kept/upper", "kept/work/work"] {
        fs::create_dir_all(dir.join(folder)).expect("mkdir");
    }
    store(&dir.join("out"), TAR, b"that no tag needs");
    each(rows, |(args, message)| {
        let run = puzzlefs(dir, args);
        run.succeeded()?;
        let said = run.stderr();
        match said.contains(message) && said.is_empty() == message.is_empty() {
            true => Ok(()),
            false => Err(named(&args.join(" "))(format!("said '{said}'"))),
        }
    });
}

#[test]
fn what_is_not_permitted() {
    let scratch = scratch();
    let dir = scratch.path();
    stage(dir);
    let refused = wrapped(dir, &ORDINARY_USER, &["build", "tree", "out:v2"])
        .refused(1, "cannot make a folder in 'out': Permission denied\n");
    refused.unwrap();
    wrapped(dir, &ORDINARY_USER, &["mount", "out:v1", "empty"])
        .refused(1, "no write access to mountpoint")
        .unwrap();
    chown(dir.join("empty"), Some(65534), None).expect("chown");
    wrapped(dir, &ORDINARY_USER, &["mount", "-w", "out:v1", "empty"])
        .refused(1, "`unshare --user --map-root-user --mount` makes one")
        .unwrap();
}

/// A machine, or a container, without FUSE.
#[test]
fn no_device() {
    let scratch = scratch();
    let dir = scratch.path();
    stage(dir);
    let without = r#"
        set -e
        mkdir dev
        touch dev/null
        mount --bind /dev/null dev/null
        mount --rbind dev /dev
        exec "$@"
    "#;
    wrapped(dir, &["unshare", "--mount", "sh", "-c", without, "sh"], &["mount", "out:v1", "empty"])
        .refused(1, "cannot open '/dev/fuse': No such file or directory; `modprobe fuse`")
        .unwrap();
}
