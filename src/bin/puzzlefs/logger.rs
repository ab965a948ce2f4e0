//! Where a mount in the background says what goes wrong.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use puzzlefs::layout::time_of;
use puzzlefs::{Error, ErrorKind};

use crate::output::Escaped;

/// Where it is said.
pub enum Logger {
    StandardError,
    File(File),
    /// RFC 3164, to where the C library sends it.
    Syslog,
}

/// The facility of daemons with the severities of errors and of information.
const DAEMON_ERROR: u8 = 3 << 3 | 3;
const DAEMON_INFO: u8 = 3 << 3 | 6;

impl Logger {
    pub fn standard_error() -> Self {
        Logger::StandardError
    }

    pub fn syslog() -> Self {
        Logger::Syslog
    }

    /// Appends to a file.
    pub fn file(path: &Path) -> Result<Self, Error> {
        File::options().append(true).create(true).open(path).map(Logger::File).map_err(|error| {
            let message = format!("cannot open the log '{}': {error}", path.display());
            Error::new(ErrorKind::Io, message).with_path(path)
        })
    }

    pub fn error(&self, line: &str) {
        self.write(DAEMON_ERROR, line);
    }

    pub fn info(&self, line: &str) {
        self.write(DAEMON_INFO, line);
    }

    fn write(&self, priority: u8, line: &str) {
        let line = Escaped::line(line);
        let process = std::process::id();
        // Where the log cannot be written, there is no place left where to say so.
        let _ = match self {
            Logger::StandardError => {
                io::stderr().write_all(format!("puzzlefs: {line}\n").as_bytes())
            }
            Logger::File(file) => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                let now = time_of(now.as_secs() as i64);
                // At once, so that lines of several processes stay whole.
                let text = format!("{now} puzzlefs[{process}]: {line}\n");
                (&*file).write_all(text.as_bytes())
            }
            Logger::Syslog => syslog(&format!("<{priority}>puzzlefs[{process}]: {line}")),
        };
    }
}

fn syslog(message: &str) -> io::Result<()> {
    const SOCKET: &str = "/dev/log";
    UnixDatagram::unbound()?.send_to(message.as_bytes(), SOCKET).map(drop)
}
