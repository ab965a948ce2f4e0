//! Progress, and what cancels.

use std::ffi::{c_int, c_void};
use std::ops::ControlFlow;

use crate::progress::{Progress, Stage};

/// What a long piece of work is doing. A later version may have others than these.
#[repr(u32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum puzzlefs_stage {
    /// Reading the directories of the source; counted in directories, without a total.
    PUZZLEFS_STAGE_SCAN = 1,
    /// Reading the files of the source and storing their content; counted in bytes.
    PUZZLEFS_STAGE_STORE = 2,
    /// Writing files out; counted in bytes.
    PUZZLEFS_STAGE_EXTRACT = 3,
    /// Checking digests; counted in bytes.
    PUZZLEFS_STAGE_CHECK = 4,
    /// Comparing the files of the source with the base's; counted in bytes.
    PUZZLEFS_STAGE_COMPARE = 5,
    /// Reading the layers of an ordinary image; counted in bytes as they are stored.
    PUZZLEFS_STAGE_UNPACK = 6,
    /// Deleting what nothing refers to; counted in blobs looked at.
    PUZZLEFS_STAGE_DELETE = 7,
    /// Waiting for somebody else who locks the layout; nothing is counted.
    PUZZLEFS_STAGE_WAIT = 8,
}

impl From<Stage> for puzzlefs_stage {
    fn from(stage: Stage) -> Self {
        match stage {
            Stage::Scan => Self::PUZZLEFS_STAGE_SCAN,
            Stage::Compare => Self::PUZZLEFS_STAGE_COMPARE,
            Stage::Unpack => Self::PUZZLEFS_STAGE_UNPACK,
            Stage::Store => Self::PUZZLEFS_STAGE_STORE,
            Stage::Extract => Self::PUZZLEFS_STAGE_EXTRACT,
            Stage::Check => Self::PUZZLEFS_STAGE_CHECK,
            Stage::Delete => Self::PUZZLEFS_STAGE_DELETE,
            Stage::Wait => Self::PUZZLEFS_STAGE_WAIT,
        }
    }
}

/// How far a long piece of work is.
#[repr(C)]
pub struct puzzlefs_progress {
    /// The size of this structure in the library that runs: fields beyond it are not there.
    pub size: usize,
    /// How much is done, in the stage's unit.
    pub done: u64,
    /// How much there is, in the stage's unit; 0 if that is not known.
    pub total: u64,
    /// What is being done.
    pub stage: puzzlefs_stage,
    /// 0.
    pub reserved: u32,
}

/// A function of the caller that is told of progress, many times a second.
///
/// Parameters:
/// - `progress`: how far the work is, valid during the call only.
/// - `data`: the `data` of the options.
///
/// Returns 0 to go on. Anything else stops the work, which undoes what it did, and fails with
/// `PUZZLEFS_ERR_CANCELLED`.
///
/// Threads: it may be called from threads of the library, never from two at once, and not after
/// the function has returned that was given it. The work waits for it, so it may be slow. It may
/// call the library, but nothing that would wait for the work: not `puzzlefs_gc` on a layout that the
/// work writes to, and nothing that writes to a layout of which `puzzlefs_gc` tells it. It must return: no `longjmp`, no C++ exception may leave it.
pub type puzzlefs_progress_fn =
    Option<unsafe extern "C" fn(progress: *const puzzlefs_progress, data: *mut c_void) -> c_int>;

/// The `data` of some options.
#[derive(Clone, Copy)]
pub struct Data(pub *mut c_void);

// SAFETY: the library only hands it to the caller's functions, and the header says that those
// are called from any thread.
unsafe impl Send for Data {}
// SAFETY: as above.
unsafe impl Sync for Data {}

/// The caller's progress function, as the core wants it.
pub fn reporter(
    function: puzzlefs_progress_fn,
    data: *mut c_void,
) -> impl Fn(Progress) -> ControlFlow<()> + Send + Sync {
    let data = Data(data);
    move |Progress { stage, done, total }| {
        // The whole wrapper is captured, not the bare pointer in it.
        let Data(data) = { data };
        let (size, stage) = (size_of::<puzzlefs_progress>(), stage.into());
        let progress = puzzlefs_progress { size, done, total, stage, reserved: 0 };
        // SAFETY: the caller promised a function of this type that takes this `data`.
        match function.map_or(0, |function| unsafe { function(&progress, data) }) {
            0 => ControlFlow::Continue(()),
            _ => ControlFlow::Break(()),
        }
    }
}
