//! OCI image layouts, read as plain JSON and plain files.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::command::{puzzlefs, succeed};

pub const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// The ways in which an image can be stored.
pub struct Variant {
    pub layout: &'static str,
    pub compression: &'static str,
}

pub const VARIANTS: [Variant; 4] = [
    Variant { layout: "packs", compression: "zstd" },
    Variant { layout: "packs", compression: "none" },
    Variant { layout: "blob-per-chunk", compression: "zstd" },
    Variant { layout: "blob-per-chunk", compression: "none" },
];

impl Variant {
    pub fn name(&self) -> String {
        format!("{}-{}", self.layout, self.compression)
    }

    /// The command that builds `image` of `tree` in this form.
    pub fn command(&self, tree: &Path, image: &OsStr, options: &[&str]) -> Command {
        let mut command = puzzlefs();
        command
            .arg("build")
            .args(["--layout", self.layout])
            .arg(format!("--compression={}", self.compression))
            .args(options)
            .arg(tree)
            .arg(image);
        command
    }

    /// Builds an image of `tree` in this form. The layout is in a folder of
    /// `dir` that is named after the variant, so that every message about it
    /// tells which one it is.
    #[track_caller]
    pub fn build(&self, tree: &Path, dir: &Path, tag: &str, options: &[&str]) -> Layout {
        let layout = Layout::new(dir.join(self.name()));
        let digest = succeed(&mut self.command(tree, &layout.image(tag), options));
        assert_eq!(digest.text(), layout.digest(tag), "the digest that build prints");
        layout
    }
}

/// An OCI image layout.
pub struct Layout {
    pub dir: PathBuf,
}

impl Layout {
    pub fn new(dir: impl Into<PathBuf>) -> Layout {
        Layout { dir: dir.into() }
    }

    /// `DIR:TAG`, as puzzlefs takes it.
    pub fn image(&self, tag: &str) -> OsString {
        let mut image = OsString::from(&self.dir);
        image.push(":");
        image.push(tag);
        image
    }

    /// `oci:DIR:TAG`, as skopeo takes it.
    pub fn transport(&self, tag: &str) -> OsString {
        let mut image = OsString::from("oci:");
        image.push(self.image(tag));
        image
    }

    #[track_caller]
    pub fn index(&self) -> Value {
        read_json(&self.dir.join("index.json"))
    }

    /// The descriptors of `index.json` that have this tag.
    #[track_caller]
    pub fn tagged(&self, tag: &str) -> Vec<Value> {
        array(&self.index()["manifests"])
            .iter()
            .filter(|descriptor| descriptor["annotations"][REF_NAME] == tag)
            .cloned()
            .collect()
    }

    /// The digest of the manifest that alone has this tag.
    #[track_caller]
    pub fn digest(&self, tag: &str) -> String {
        let found = self.tagged(tag);
        assert_eq!(found.len(), 1, "images tagged {tag} in {}: {found:?}", self.dir.display());
        text(&found[0]["digest"]).to_owned()
    }

    #[track_caller]
    pub fn manifest(&self, tag: &str) -> Value {
        self.json(&self.digest(tag))
    }

    #[track_caller]
    pub fn config(&self, tag: &str) -> Value {
        self.json(text(&self.manifest(tag)["config"]["digest"]))
    }

    /// The metadata of an image, decoded by Cap'n Proto's own tool.
    #[track_caller]
    pub fn metadata(&self, tag: &str) -> Value {
        let rootfs = self.blob_path(text(&self.manifest(tag)["layers"][0]["digest"]));
        let schema = Path::new(env!("CARGO_MANIFEST_DIR")).join("capnp/metadata.capnp");
        let mut capnp = Command::new("capnp");
        capnp.args(["convert", "binary:json"]).arg(schema).arg("Rootfs");
        succeed(capnp.stdin(File::open(rootfs).unwrap())).json()
    }

    #[track_caller]
    pub fn json(&self, digest: &str) -> Value {
        read_json(&self.blob_path(digest))
    }

    /// The digests of all blobs.
    #[track_caller]
    pub fn blobs(&self) -> BTreeSet<String> {
        let names = fs::read_dir(self.dir.join("blobs/sha256")).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.map(|name| format!("sha256:{name}")).collect()
    }

    /// The bytes of a blob, which must be what its name says.
    #[track_caller]
    pub fn blob(&self, digest: &str) -> Vec<u8> {
        let path = self.blob_path(digest);
        let bytes = fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        assert_eq!(sha256(&bytes), digest, "the bytes of {}", path.display());
        bytes
    }

    #[track_caller]
    pub fn blob_path(&self, digest: &str) -> PathBuf {
        let Some(hex) = digest.strip_prefix("sha256:") else {
            panic!("not a SHA-256 digest: {digest}");
        };
        self.dir.join("blobs/sha256").join(hex)
    }
}

pub fn sha256(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

/// A digest in the metadata: Cap'n Proto's tool writes `Data` as a list of
/// numbers.
#[track_caller]
pub fn data_digest(data: &Value) -> String {
    let byte = |value: &Value| u8::try_from(value.as_u64().unwrap()).unwrap();
    let bytes: Vec<u8> = array(data).iter().map(byte).collect();
    format!("sha256:{}", hex::encode(bytes))
}

#[track_caller]
pub fn read_json(path: &Path) -> Value {
    let bytes = fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_slice(&bytes).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// A JSON value that must be an array.
#[track_caller]
pub fn array(value: &Value) -> &[Value] {
    value.as_array().unwrap_or_else(|| panic!("not an array: {value}"))
}

/// A JSON value that must be a string.
#[track_caller]
pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("not a string: {value}"))
}
