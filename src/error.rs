//! The one error type of the library.

use std::fmt::{self, Display, Write as _};
use std::io;
use std::path::{Path, PathBuf};

/// A result whose error is [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What kind of thing went wrong: what a program decides by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// An argument or an option makes no sense, whatever is on disk.
    InvalidInput,
    /// A path, layout, tag or blob that was asked for is not there.
    NotFound,
    /// Something is in the way, such as a folder that is not empty.
    AlreadyExists,
    /// The system refused access.
    PermissionDenied,
    /// Data in a layout or an image is not what its format or its digest says.
    Corrupt,
    /// Well-formed, but of a version or a type that this library does not know.
    Unsupported,
    /// The source changed while it was read, or the target while it was written.
    Changed,
    /// The file system is full, or a quota is used up.
    NoSpace,
    /// A function of the caller asked to stop.
    Cancelled,
    /// Another failure of the system.
    Io,
    /// A defect of this library.
    Internal,
}

/// An error: its kind, the path it is about, and a sentence that a user can act on.
#[derive(Debug, thiserror::Error)]
#[error("{}", OneLine(message))]
pub struct Error {
    kind: ErrorKind,
    message: String,
    path: Option<PathBuf>,
    errno: Option<i32>,
}

/// A message as one line of a sensible length, without what a terminal would take for a command:
/// what is wrong with an image is told in words of the image.
pub(crate) struct OneLine<'a>(pub &'a str);

impl OneLine<'_> {
    /// How many bytes of a text are shown at most.
    pub const LONGEST: usize = 8 * 1024;

    /// The text as one line, which it mostly is.
    pub fn of(text: String) -> String {
        match text.len() < Self::LONGEST && !text.contains(char::is_control) {
            true => text,
            false => OneLine(&text).to_string(),
        }
    }
}

impl Display for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, character) in self.0.char_indices() {
            if at >= Self::LONGEST {
                return f.write_str("…");
            }
            match character.is_control() {
                true => write!(f, "{}", character.escape_debug())?,
                false => f.write_char(character)?,
            }
        }
        Ok(())
    }
}

impl Error {
    /// An error of `kind` that says `message`, one line without a full stop.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Error { kind, message: message.into(), path: None, errno: None }
    }

    /// The same error, about `path`. The path is not added to the message.
    pub fn with_path(mut self, path: impl Into<PathBuf>) -> Self {
        self.path = Some(path.into());
        self
    }

    /// A failed system call: `cannot WHAT 'PATH': REASON`.
    pub fn io(what: &str, path: impl AsRef<Path>, error: impl Into<io::Error>) -> Self {
        let path = path.as_ref();
        let error = error.into();
        Error {
            kind: kind_of(&error),
            message: format!("cannot {what} '{}': {}", path.display(), reason(&error)),
            path: Some(path.to_owned()),
            errno: error.raw_os_error(),
        }
    }

    /// A failed system call that is about no path: `cannot WHAT: REASON`.
    pub(crate) fn system(what: &str, error: io::Error) -> Self {
        Error {
            kind: kind_of(&error),
            message: format!("cannot {what}: {}", reason(&error)),
            path: None,
            errno: error.raw_os_error(),
        }
    }

    pub(crate) fn corrupt(message: impl Into<String>) -> Self {
        Error::new(ErrorKind::Corrupt, message)
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Error::new(ErrorKind::InvalidInput, message)
    }

    pub(crate) fn cancelled() -> Self {
        Error::new(ErrorKind::Cancelled, "cancelled")
    }

    /// The same error with `what: ` ahead of its message.
    pub(crate) fn context(mut self, what: impl Display) -> Self {
        self.message = format!("{what}: {}", self.message);
        self
    }

    /// The same error with `; what_next` behind its message.
    pub(crate) fn advice(mut self, what_next: impl Display) -> Self {
        self.message = format!("{}; {what_next}", self.message);
        self
    }

    /// What a program decides by.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The path that the error is about, where it is about one.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// The system's error number behind the error, where there is one.
    pub fn errno(&self) -> Option<i32> {
        self.errno
    }
}

fn kind_of(error: &io::Error) -> ErrorKind {
    match error.kind() {
        io::ErrorKind::NotFound => ErrorKind::NotFound,
        io::ErrorKind::AlreadyExists => ErrorKind::AlreadyExists,
        io::ErrorKind::DirectoryNotEmpty => ErrorKind::AlreadyExists,
        io::ErrorKind::PermissionDenied => ErrorKind::PermissionDenied,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::NoSpace,
        io::ErrorKind::Unsupported => ErrorKind::Unsupported,
        _ => ErrorKind::Io,
    }
}

/// The system's words for the error, without Rust's ` (os error N)`, and without the path that
/// `tempfile` puts behind that.
fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    match text.split_once(" (os error ") {
        Some((words, _)) => words.to_owned(),
        None => text,
    }
}
