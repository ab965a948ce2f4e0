//! What the user sees: results on standard output, everything else on standard error.

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
    // If standard error is closed, there is no place left where to say so.
    drop(writeln!(io::stderr(), "{text}"));
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
