//! What the user sees: results on standard output, everything else on standard error.

use std::fmt::{self, Display, Formatter};
use std::io::{self, IsTerminal, Write};
use std::ops::ControlFlow;
use std::sync::Mutex;

use indicatif::{ProgressBar, ProgressStyle};
use puzzlefs::Error;
use puzzlefs::progress::{Progress, Stage};

/// Why a command stopped.
#[derive(Debug)]
pub enum Failure {
    /// Nobody reads the output any more.
    Closed,
    /// An error to be told.
    Error(Error),
    /// An error that was told.
    Told,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Error(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::Closed,
            _ => Failure::Error(Error::new(
                puzzlefs::ErrorKind::Io,
                format!("cannot write the output: {error}"),
            )),
        }
    }
}

/// Tells an error, in one line.
pub fn error(error: &Error) {
    line(&format!("puzzlefs: {error}"));
}

/// Tells something that is no error.
pub fn warning(text: &str) {
    line(&format!("puzzlefs: warning: {text}"));
}

/// Tells something that the user may want to know.
pub fn note(text: &str) {
    line(&format!("puzzlefs: {text}"));
}

fn line(text: &str) {
    let line = format!("{}\n", Escaped::line(text));
    // If standard error is closed, there is no place left where to say so.
    drop(io::stderr().write_all(line.as_bytes()));
}

/// Text on one line, without what a terminal would take for a command.
pub struct Escaped<'a> {
    bytes: &'a [u8],
    is_special: fn(char) -> bool,
}

impl<'a> Escaped<'a> {
    /// Text from which the bytes can be told.
    pub fn exact(bytes: &'a [u8]) -> Self {
        Escaped { bytes, is_special: |letter| letter.is_control() || letter == '\\' }
    }

    /// Text for people; what is such a line already, as the words of an error are, stays as it is.
    pub fn line(text: &'a str) -> Self {
        Escaped { bytes: text.as_bytes(), is_special: char::is_control }
    }
}

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for chunk in self.bytes.utf8_chunks() {
            for part in chunk.valid().split_inclusive(self.is_special) {
                let plain = part.trim_end_matches(self.is_special);
                f.write_str(plain)?;
                write!(f, "{}", part[plain.len()..].escape_default())?;
            }
            write!(f, "{}", chunk.invalid().escape_ascii())?;
        }
        Ok(())
    }
}

/// Where serde_json writes to: it leaves DEL and what follows it (C1) in strings as they are, which
/// are commands to a terminal.
pub struct JsonWriter<W>(pub W);

impl<W: Write> Write for JsonWriter<W> {
    /// Writes whole characters, as serde_json does.
    fn write(&mut self, json: &[u8]) -> io::Result<usize> {
        let is_special = |letter| matches!(letter, '\u{7f}'..='\u{9f}');
        let text = std::str::from_utf8(json).map_err(io::Error::other)?;
        for part in text.split_inclusive(is_special) {
            let plain = part.trim_end_matches(is_special);
            self.0.write_all(plain.as_bytes())?;
            for letter in part[plain.len()..].chars() {
                write!(self.0, "\\u{:04x}", u32::from(letter))?;
            }
        }
        Ok(json.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// A progress bar on standard error; nothing where that is no terminal.
pub struct Bar(Option<Mutex<(Option<Stage>, ProgressBar)>>);

impl Bar {
    /// A bar, unless it is not wanted.
    pub fn new(quiet: bool) -> Self {
        let shown = !quiet && io::stderr().is_terminal();
        Bar(shown.then(|| Mutex::new((None, ProgressBar::new(0)))))
    }

    /// Shows the progress.
    pub fn show(&self, progress: Progress) -> ControlFlow<()> {
        if let Some(state) = &self.0 {
            let mut state = state.lock().expect("no thread panics with the lock");
            let (stage, bar) = &mut *state;
            if *stage != Some(progress.stage) {
                *stage = Some(progress.stage);
                bar.set_style(style(progress.stage));
                // The speed is that of this stage.
                bar.reset();
            }
            bar.set_length(progress.total);
            bar.set_position(progress.done);
        }
        crate::interrupt::flow()
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(state) = &self.0 {
            state.lock().expect("no thread panics with the lock").1.finish_and_clear();
        }
    }
}

fn style(stage: Stage) -> ProgressStyle {
    let bytes = "[{bar:40}] {bytes}/{total_bytes} {bytes_per_sec} {eta}";
    let template = match stage {
        Stage::Scan => "reading directories: {pos}".to_owned(),
        Stage::Unpack => format!("unpacking  {bytes}"),
        Stage::Compare => format!("comparing  {bytes}"),
        Stage::Store => format!("storing    {bytes}"),
        Stage::Extract => format!("extracting {bytes}"),
        Stage::Wait => "waiting for others".to_owned(),
        Stage::Delete => "looking at blobs: {pos}/{len}".to_owned(),
        _ => format!("checking   {bytes}"),
    };
    ProgressStyle::with_template(&template).expect("the template is valid").progress_chars("=> ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_printable_is_escaped() {
        let cases: [(&[u8], &str); 5] = [
            (b"/plain name", "/plain name"),
            ("/\u{fc}n\u{ef}".as_bytes(), "/\u{fc}n\u{ef}"),
            (b"/new\nline\t\x1b\\", "/new\\nline\\t\\u{1b}\\\\"),
            ("/\u{7f}\u{9b}31m".as_bytes(), "/\\u{7f}\\u{9b}31m"),
            (b"/\xff\xfe", "/\\xff\\xfe"),
        ];
        for (bytes, expected) in cases {
            assert_eq!(Escaped::exact(bytes).to_string(), expected);
        }
    }

    #[test]
    fn a_line_is_escaped_once() {
        for (text, expected) in [
            ("'a \\ b'", "'a \\ b'"),
            ("a\n\u{1b}[2J\u{9b}2J\u{7f}", r"a\n\u{1b}[2J\u{9b}2J\u{7f}"),
        ] {
            let line = Escaped::line(text).to_string();
            assert_eq!(line, expected);
            assert_eq!(Escaped::line(&line).to_string(), expected);
        }
    }

    #[test]
    fn json_means_the_same_without_commands() {
        let text = "\u{1b}a\u{7e}\u{7f}\u{80}\u{9b}2J\u{9f}\u{a0}\u{fc}\\";
        let document = serde_json::json!({ text: [text] });
        let mut json = Vec::new();
        serde_json::to_writer(JsonWriter(&mut json), &document).unwrap();
        let json = String::from_utf8(json).unwrap();
        let escaped = "\\u001ba~\\u007f\\u0080\\u009b2J\\u009f\u{a0}\u{fc}\\\\";
        assert_eq!(json, format!(r#"{{"{escaped}":["{escaped}"]}}"#));
        assert_eq!(serde_json::from_str::<serde_json::Value>(&json).unwrap(), document);
    }
}
