//! The marks that overlayfs leaves in an upperdir (Linux, Documentation/filesystems/overlayfs.rst).
//!
//! - A *whiteout* hides what is below its name: a character device 0:0, or an empty file with the
//!   attribute `overlay.whiteout` in a directory whose `overlay.opaque` is `x`.
//! - An *opaque* directory, with `overlay.opaque` `y`, hides all that is below it.
//! - Content of the overlay that itself has attributes named `overlay.*` has them stored as
//!   `overlay.overlay.*`.
//!
//! The attributes are in the namespace `trusted.`, or `user.` if the overlay was mounted with
//! `userxattr`; those of the other namespace mean nothing.

use std::path::PathBuf;

use crate::error::{Error, ErrorKind, Result};
use crate::tree::{Xattr, show};

/// Which extended attributes are overlayfs's marks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MarkNamespace {
    /// Those in the namespace that is met first; both in one upperdir are an error.
    #[default]
    Auto,
    /// `trusted.overlay.*`
    Trusted,
    /// `user.overlay.*`: overlays mounted with `userxattr`, as in user namespaces.
    User,
}

/// What a directory hides of what is below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Opaque {
    /// Nothing.
    #[default]
    No,
    /// Nothing, but files in it may be whiteouts.
    HasWhiteouts,
    /// Everything.
    Yes,
}

/// The marks of one inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Marks {
    /// Whether the inode is a whiteout if it is an empty file where whiteouts may be.
    pub whiteout: bool,
    /// What the inode hides if it is a directory.
    pub opaque: Opaque,
}

/// Reads marks, all of one namespace.
#[derive(Debug)]
pub struct MarkReader {
    /// What was asked for.
    asked: MarkNamespace,
    /// The namespace of the marks; none while it is still to be found.
    known: Option<&'static str>,
}

impl MarkReader {
    /// A reader of the marks in this namespace.
    pub fn new(asked: MarkNamespace) -> Self {
        let known = match asked {
            MarkNamespace::Auto => None,
            MarkNamespace::Trusted => Some(TRUSTED),
            MarkNamespace::User => Some(USER),
        };
        MarkReader { asked, known }
    }

    /// Takes the marks out of an inode's attributes; the others stay, as the overlay shows them.
    /// `path` is for messages.
    ///
    /// Fails on marks of content that is not in the upperdir, and where the namespace is to be
    /// found and is not sure.
    pub fn take(
        &mut self,
        xattrs: Box<[Xattr]>,
        path: impl Fn() -> PathBuf,
    ) -> Result<(Box<[Xattr]>, Marks)> {
        let mut marks = Marks::default();
        if !xattrs.iter().any(|xattr| split(&xattr.key).is_some()) {
            return Ok((xattrs, marks));
        }
        let mut kept = Vec::with_capacity(xattrs.len());
        for mut xattr in xattrs {
            match split(&xattr.key) {
                Some((namespace, name)) if self.is_mark(namespace, &path)? => match name {
                    b"whiteout" => marks.whiteout = true,
                    b"opaque" => marks.opaque = Opaque::of(&xattr.value),
                    b"redirect" | b"metacopy" | b"nlink" => return Err(refused(name, path())),
                    _ => {
                        if let Some(inner) = name.strip_prefix(ESCAPE) {
                            let key = [namespace.as_bytes(), INFIX, inner].concat();
                            xattr.key = key.into();
                            kept.push(xattr);
                        }
                    }
                },
                _ => kept.push(xattr),
            }
        }
        kept.sort();
        Ok((kept.into(), marks))
    }

    fn is_mark(&mut self, namespace: &'static str, path: &impl Fn() -> PathBuf) -> Result<bool> {
        let known = *self.known.get_or_insert(namespace);
        if known != namespace && self.asked == MarkNamespace::Auto {
            let path = path();
            let message = format!(
                "'{}' has attributes {namespace}.overlay.*, and others have {known}.overlay.*: \
                 say which of them are the overlay's marks",
                path.display()
            );
            return Err(Error::invalid(message).with_path(path));
        }
        Ok(known == namespace)
    }
}

const TRUSTED: &str = "trusted";
const USER: &str = "user";
const INFIX: &[u8] = b".overlay.";
/// What names begin with that are content of the overlay.
const ESCAPE: &[u8] = b"overlay.";

impl Opaque {
    fn of(value: &[u8]) -> Self {
        match value {
            b"y" => Opaque::Yes,
            b"x" => Opaque::HasWhiteouts,
            _ => Opaque::No,
        }
    }
}

/// The namespace of an attribute of overlayfs, and the rest of its name.
fn split(key: &[u8]) -> Option<(&'static str, &[u8])> {
    [TRUSTED, USER].into_iter().find_map(|namespace| {
        let name = key.strip_prefix(namespace.as_bytes())?.strip_prefix(INFIX)?;
        Some((namespace, name))
    })
}

fn refused(name: &[u8], path: PathBuf) -> Error {
    let (option, why) = match name {
        b"redirect" => ("redirect_dir=off", "it stands for a directory that was elsewhere"),
        b"metacopy" => ("metacopy=off", "its content is not in the upperdir"),
        _ => ("index=off", "its hard links cannot be told"),
    };
    let message = format!(
        "'{}' has the overlay mark '{}': {why}; mount the overlay with {option}",
        path.display(),
        show(name)
    );
    Error::new(ErrorKind::Unsupported, message).with_path(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `KEY=VALUE` each.
    fn xattrs(texts: &[&str]) -> Box<[Xattr]> {
        let xattr = |text: &&str| {
            let (key, value) = text.split_once('=').unwrap();
            Xattr { key: key.as_bytes().into(), value: value.as_bytes().into() }
        };
        texts.iter().map(xattr).collect()
    }

    #[test]
    fn marks_are_taken_out() {
        use MarkNamespace::{Auto, Trusted, User};
        let none = Marks::default();
        let opaque = |opaque| Marks { opaque, ..none };
        let whiteout = Marks { whiteout: true, ..none };
        type Case = (MarkNamespace, &'static [&'static str], &'static [&'static str], Marks);
        let cases: [Case; 9] = [
            (Auto, &["user.a=1"], &["user.a=1"], none),
            (Auto, &["trusted.overlay.opaque=y"], &[], opaque(Opaque::Yes)),
            (Auto, &["user.overlay.opaque=x"], &[], opaque(Opaque::HasWhiteouts)),
            (User, &["user.overlay.whiteout="], &[], whiteout),
            (Auto, &["trusted.overlay.origin=1", "trusted.overlay.impure=y"], &[], none),
            (
                Trusted,
                &["trusted.overlay.opaque=y", "user.overlay.opaque=y"],
                &["user.overlay.opaque=y"],
                opaque(Opaque::Yes),
            ),
            (User, &["trusted.overlay.redirect=/a"], &["trusted.overlay.redirect=/a"], none),
            (
                Auto,
                &["trusted.overlay.overlay.opaque=y", "trusted.z=1"],
                &["trusted.overlay.opaque=y", "trusted.z=1"],
                none,
            ),
            (
                Auto,
                &["trusted.overlay.overlay.overlay.whiteout="],
                &["trusted.overlay.overlay.whiteout="],
                none,
            ),
        ];
        for (namespace, given, kept, marks) in cases {
            let taken = MarkReader::new(namespace).take(xattrs(given), PathBuf::new).unwrap();
            assert_eq!(taken, (xattrs(kept), marks), "{namespace:?} {given:?}");
        }
    }

    #[test]
    fn what_an_upperdir_does_not_tell_is_refused() {
        let cases: [(&[&str], &str); 4] = [
            (&["trusted.overlay.redirect=/a"], "mount the overlay with redirect_dir=off"),
            (&["user.overlay.metacopy="], "mount the overlay with metacopy=off"),
            (&["trusted.overlay.nlink=U+1"], "mount the overlay with index=off"),
            (
                &["trusted.overlay.opaque=y", "user.overlay.opaque=y"],
                "say which of them are the overlay's marks",
            ),
        ];
        for (given, expected) in cases {
            let mut reader = MarkReader::new(MarkNamespace::Auto);
            let error = reader.take(xattrs(given), || "up/a".into()).unwrap_err();
            assert!(error.to_string().ends_with(expected), "{given:?}: {error}");
            assert!(error.to_string().starts_with("'up/a' has "), "{given:?}: {error}");
        }
    }
}
