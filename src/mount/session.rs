//! A mount from its beginning to its end.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::io::Errno;

use super::ahead::{Ahead, Workers};
use super::attach::{self, Connection};
use super::filesystem::FileSystem;
use super::log::Log;
use super::overlay::Kept;
use super::state::State;
use super::table::{self, MountId};
use crate::error::{Error, ErrorKind, Result};
use crate::sys::thread;

/// A function that is told that a mount is over.
pub type EndedFn = Box<dyn FnOnce() + Send>;

/// A file system that answers, but is seen nowhere or not yet for good. Dropped, it goes.
pub struct Running {
    state: Arc<State>,
    log: Arc<Log>,
    thread: Option<JoinHandle<()>>,
    /// Where it is seen; what it is is known to the thread that outlives the others.
    place: Arc<Mutex<Option<Place>>>,
}

#[derive(Clone)]
struct Place {
    id: MountId,
    point: PathBuf,
}

/// Starts the threads that answer the kernel, and as many that read ahead.
pub fn start(
    connection: Connection,
    file_system: FileSystem,
    (ahead, loops): (&Arc<Ahead>, usize),
    log: Arc<Log>,
    ended: Option<EndedFn>,
    kept: Option<Kept>,
) -> Result<(Running, Option<std::os::fd::OwnedFd>)> {
    let mut config = fuser::Config::default();
    config.n_threads = Some(loops);
    config.clone_fd = loops > 1;
    let acl = fuser::SessionACL::All; // The kernel knows who may.
    let session = fuser::Session::from_fd(file_system, connection.device, acl, config)
        .map_err(|error| Error::system("begin the talk with the kernel's FUSE", error))?;
    let workers = ahead.start(loops)?;
    let state = Arc::new(State::default());
    let place = Arc::new(Mutex::new(None));
    let rest =
        Rest { state: state.clone(), log: log.clone(), place: place.clone(), workers, ended, kept };
    let thread = thread::start(move || {
        let result = session.run();
        rest.finish(result);
    })?;
    Ok((Running { state, log, thread: Some(thread), place }, connection.detached))
}

/// What is left to do when the kernel has no more requests.
struct Rest {
    state: Arc<State>,
    log: Arc<Log>,
    place: Arc<Mutex<Option<Place>>>,
    workers: Workers,
    ended: Option<EndedFn>,
    kept: Option<Kept>,
}

impl Rest {
    fn finish(self, result: std::io::Result<()>) {
        if let Err(error) = result {
            self.log.write(&format!("the mount ends: {error}"));
        }
        drop(self.workers);
        // Where the connection was cut, a mount is left that nobody serves.
        let place = self.place.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(Place { id, point }) = place
            && table::is_left_at(id, &point)
            && let Err(error) = attach::detach(&point, true)
        {
            self.log.write(&error.to_string());
        }
        drop(self.kept);
        let by_itself = !self.state.unwanted.load(Ordering::SeqCst);
        self.state.end();
        if let Some(ended) = self.ended.filter(|_| by_itself) {
            // It is the caller's, and what becomes of this thread is of no interest to it.
            drop(catch_unwind(AssertUnwindSafe(ended)));
        }
    }
}

impl Running {
    /// It is seen at `point` now: what is there is this mount.
    pub fn settle(&self, id: MountId, point: &Path) {
        let place = Place { id, point: point.to_owned() };
        *self.place.lock().unwrap_or_else(PoisonError::into_inner) = Some(place);
    }

    pub fn wait(&self, timeout: Option<Duration>) -> bool {
        self.state.wait(timeout)
    }

    /// Unmounts; waits for the end unless `lazy`.
    pub fn unmount(&self, lazy: bool) -> Result<()> {
        /// How long it takes at most to end if nobody else holds the file system. Another mount
        /// namespace may have a copy of the mount, which is not ours to take away.
        const END: Duration = Duration::from_secs(10);
        if self.wait(Some(Duration::ZERO)) {
            return Ok(());
        }
        let place = self.place.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let was_unwanted = self.state.unwanted.swap(true, Ordering::SeqCst);
        let result = match &place {
            // Seen nowhere, it goes with its descriptor, which is closed.
            None => Ok(()),
            Some(Place { id, point }) if table::is_at(*id, point) => attach::detach(point, lazy),
            // Unmounted just now, or out of reach.
            Some(Place { point, .. }) => match self.wait(Some(END)) {
                true => Ok(()),
                false => Err(covered(point)),
            },
        };
        if result.is_err() {
            self.state.unwanted.store(was_unwanted, Ordering::SeqCst);
        } else if !lazy {
            self.wait(Some(END));
        }
        result
    }
}

fn covered(point: &Path) -> Error {
    let message = format!("what is seen on '{}' is not the mount any more", point.display());
    Error::new(ErrorKind::NotFound, message).with_path(point)
}

impl Drop for Running {
    fn drop(&mut self) {
        self.state.unwanted.store(true, Ordering::SeqCst);
        let result = match self.unmount(false) {
            Err(error) if error.errno() == Some(Errno::BUSY.raw_os_error()) => self.unmount(true),
            result => result,
        };
        if let Err(error) = result {
            self.log.write(&error.to_string());
        }
        // From now on, nothing of the caller's is called any more.
        self.log.forget();
        let own = |thread: &JoinHandle<()>| thread.thread().id() == std::thread::current().id();
        // Who has a file open keeps the threads until it is closed.
        if self.wait(Some(Duration::ZERO))
            && let Some(thread) = self.thread.take().filter(|thread| !own(thread))
            && thread.join().is_err()
        {
            tracing::error!("the thread of a mount panicked");
        }
    }
}
