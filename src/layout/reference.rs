//! `LAYOUT:TAG` and `LAYOUT@sha256:HEX`.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::digest::Digest;
use crate::error::{Error, Result};

/// What names an image in a layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Name {
    /// A tag: the annotation `org.opencontainers.image.ref.name` in `index.json`.
    Tag(String),
    /// The digest of a manifest.
    Digest(Digest),
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Name::Tag(tag) => write!(f, ":{tag}"),
            Name::Digest(digest) => write!(f, "@{digest}"),
        }
    }
}

/// An image in a layout on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// The folder of the layout.
    pub layout: PathBuf,
    /// Which image of it.
    pub name: Name,
}

/// The longest tag, in bytes; OCI's distribution-spec allows 128.
pub(crate) const TAG_MAX: usize = 128;

impl Reference {
    /// Reads `LAYOUT:TAG` or `LAYOUT@sha256:HEX`. The layout's path may hold any bytes, `:` and
    /// `@` too.
    ///
    /// A tag is what the OCI image-spec (annotations.md) allows, without `/`, so that a path is
    /// never taken for one.
    pub fn parse(text: &Path) -> Result<Self> {
        use std::os::unix::ffi::OsStrExt;
        let bytes = text.as_os_str().as_bytes();
        let shown = text.display();
        let missing = || {
            Error::invalid(format!(
                "'{shown}' names no image: expected LAYOUT:TAG or LAYOUT@sha256:HEX"
            ))
        };
        let layout = |bytes: &[u8]| match bytes {
            b"" => Err(Error::invalid(format!("'{shown}' names no layout: expected LAYOUT:TAG"))),
            _ => Ok(PathBuf::from(std::ffi::OsStr::from_bytes(bytes))),
        };
        let colon = bytes.iter().rposition(|&byte| byte == b':').ok_or_else(missing)?;
        let (before, after) = (&bytes[..colon], &bytes[colon + 1..]);
        if let Some(path) = before.strip_suffix(b"@sha256") {
            let digest = std::str::from_utf8(after).ok().and_then(Digest::from_hex);
            let digest = digest.ok_or_else(|| {
                Error::invalid(format!(
                    "'{shown}' ends with no SHA-256 digest: expected 64 digits of 0-9a-f"
                ))
            })?;
            return Ok(Reference { layout: layout(path)?, name: Name::Digest(digest) });
        }
        if after.contains(&b'/') {
            return Err(missing());
        }
        let tag = std::str::from_utf8(after).ok().filter(|tag| is_tag(tag));
        let tag = tag.ok_or_else(|| no_tag(after))?;
        Ok(Reference { layout: layout(before)?, name: Name::Tag(tag.to_owned()) })
    }

    /// The tag under which an image is to be stored.
    pub fn tag(&self) -> Result<&str> {
        match &self.name {
            Name::Tag(tag) => Ok(tag),
            Name::Digest(_) => Err(Error::invalid(format!(
                "'{self}': an image is stored under a tag: expected LAYOUT:TAG"
            ))),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.layout.display(), self.name)
    }
}

/// Checks that `text` is a tag: what the OCI image-spec (annotations.md) allows, without `/`.
pub fn check_tag(text: &str) -> Result<()> {
    if is_tag(text) { Ok(()) } else { Err(no_tag(text.as_bytes())) }
}

fn no_tag(bytes: &[u8]) -> Error {
    Error::invalid(format!(
        "'{}' is no tag: expected 1 to {TAG_MAX} letters, digits and . _ + -, not one of these first",
        bytes.escape_ascii()
    ))
}

fn is_tag(text: &str) -> bool {
    let first = |byte: &u8| byte.is_ascii_alphanumeric();
    let other = |byte: &u8| first(byte) || b"._+-".contains(byte);
    text.as_bytes().first().is_some_and(first)
        && text.as_bytes().iter().all(other)
        && text.len() <= TAG_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references() {
        let hex = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let digest = Name::Digest(Digest::of(b""));
        let tag = |tag: &str| Name::Tag(tag.to_owned());
        let cases = [
            ("out:v1".to_owned(), "out", tag("v1")),
            ("/a:b/out:1.0-rc_1+x".to_owned(), "/a:b/out", tag("1.0-rc_1+x")),
            ("a@b:c".to_owned(), "a@b", tag("c")),
            (format!("out@sha256:{hex}"), "out", digest.clone()),
            (format!("a:b@sha256:{hex}"), "a:b", digest),
        ];
        for (text, layout, name) in cases {
            let reference = Reference::parse(Path::new(&text)).expect(&text);
            assert_eq!(reference, Reference { layout: layout.into(), name });
            assert_eq!(reference.to_string(), text);
        }
    }

    #[test]
    fn bad_references() {
        let cases = [
            ("", "names no image"),
            ("out", "names no image"),
            ("a:b/out", "names no image"),
            (":v1", "names no layout"),
            ("out:", "is no tag"),
            ("out:a b", "is no tag"),
            ("out:.a", "is no tag"),
            ("out@sha256:12", "no SHA-256 digest"),
        ];
        for (text, expected) in cases {
            let error = Reference::parse(Path::new(text)).expect_err(text).to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
        let long = format!("out:{}", "a".repeat(129));
        assert!(Reference::parse(Path::new(&long)).is_err());
    }
}
