//! Progress of long work, and its cancellation.

use std::ops::ControlFlow;

use crate::error::{Error, Result};

/// What a long piece of work is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stage {
    /// Reading the directories of the source; counted in directories, without a total.
    Scan,
    /// Comparing the files of the source with the base's; counted in bytes.
    Compare,
    /// Reading the files of the source and storing their content; counted in bytes.
    Store,
    /// Reading the layers of an ordinary image; counted in bytes as they are stored.
    Unpack,
    /// Writing files out; counted in bytes.
    Extract,
    /// Checking digests; counted in bytes.
    Check,
    /// Deleting what nothing refers to; counted in blobs looked at.
    Delete,
    /// Waiting for somebody else who locks the layout; nothing is counted.
    Wait,
}

/// How far the work is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// What is being done.
    pub stage: Stage,
    /// How much of it is done, in the stage's unit.
    pub done: u64,
    /// How much there is; 0 if that is not known.
    pub total: u64,
}

/// A function that is told of progress and may stop the work by returning
/// [`ControlFlow::Break`]. It may be called from any thread, but never from two at once, many
/// times a second.
pub type ProgressFn<'a> = dyn Fn(Progress) -> ControlFlow<()> + Send + Sync + 'a;

/// The caller's progress function, if there is one.
#[derive(Clone, Copy, Default)]
pub struct Monitor<'a>(Option<&'a ProgressFn<'a>>);

impl<'a> Monitor<'a> {
    /// A monitor that calls `report`.
    pub fn new(report: &'a ProgressFn<'a>) -> Self {
        Monitor(Some(report))
    }

    /// A monitor that nobody looks at.
    pub fn silent() -> Self {
        Monitor(None)
    }

    /// Tells that `done` of an unknown total is done.
    pub fn count(&self, stage: Stage, done: u64) -> Result<()> {
        self.report(Progress { stage, done, total: 0 })
    }

    /// Tells the progress; fails with [`Cancelled`](crate::ErrorKind::Cancelled) if the caller
    /// wants no more.
    pub fn report(&self, progress: Progress) -> Result<()> {
        match self.0.map(|report| report(progress)) {
            Some(ControlFlow::Break(())) => Err(Error::cancelled()),
            Some(ControlFlow::Continue(())) | None => Ok(()),
        }
    }
}
