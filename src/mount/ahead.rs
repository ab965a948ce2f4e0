//! Reading ahead of who reads on: decompressing what comes next in a large file, and giving the
//! kernel the small files that come next in a directory before anybody asks for them.
//!
//! Whoever answers requests must not wait for the kernel, which may wait for an answer; so that is
//! done by threads that answer none. All of it is only about speed: what fails here fails again,
//! and is told, when somebody reads it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender};
use fuser::{INodeNo, Notifier};

use super::marks::Marks;
use crate::error::Result;
use crate::image::Image;
use crate::sys::thread;
use crate::tree::Ino;

/// Up to this size, a file is given to the kernel as a whole.
const SMALL: u64 = 128 * 1024;
/// How far ahead of a reader large files are decompressed, in bytes.
const DISTANCE: u64 = 4 * 1024 * 1024;
/// How much of that is one piece of work, in bytes.
const PIECE: u64 = 512 * 1024;
/// How many bytes are given to the kernel at once that it did not ask for, at first and at most.
const FIRST: u64 = 128 * 1024;
const MOST: u64 = 2 * 1024 * 1024;
/// How many inodes a reader may leave out and still be one who reads on.
const GAP: u32 = 64;
/// How many readers are told from each other.
const READERS: usize = 16;
/// How many parts are remembered that the kernel was given around what was read here and there.
const AROUND: usize = 64;
/// How many pieces of work wait; what is more is left undone.
const WAITING: usize = 64;

/// What is to be done.
enum Job {
    /// Decompress a part of a file.
    Decompress(Part),
    /// Give the kernel a part of a file that is decompressed.
    Around(Part),
    /// Give the kernel the small files with these numbers.
    Files { first: u32, end: u32 },
}

/// A part of a file.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Part {
    ino: Ino,
    offset: u64,
    length: u64,
}

/// The threads that read ahead, and what they know of the readers.
pub struct Ahead {
    image: Arc<Image>,
    waiting: Receiver<Job>,
    notifier: OnceLock<Notifier>,
    over: AtomicBool,
    readers: Mutex<Readers>,
    /// The files of which the kernel knows: to others it takes no content.
    known: Marks,
    /// The files that the kernel was given.
    given: Marks,
}

struct Readers {
    /// Goes when all is over.
    jobs: Option<Sender<Job>>,
    /// The last one that was seen comes last.
    large: Vec<Large>,
    small: Vec<Small>,
    /// What the kernel was given around what was read here and there.
    around: Vec<Part>,
}

/// Who reads a large file.
struct Large {
    ino: Ino,
    /// Where it read up to, and where it is read ahead up to.
    next: u64,
    done: u64,
    /// How far it is read ahead next time, in bytes.
    window: u64,
}

/// Who reads one small file after the other.
struct Small {
    last: u32,
    /// The files before this one are given to the kernel.
    done: u32,
    /// How many bytes it is given next time.
    window: u64,
}

impl Ahead {
    pub fn new(image: Arc<Image>) -> Self {
        let (jobs, waiting) = crossbeam_channel::bounded(WAITING);
        let count = image.tree().inodes().len();
        Ahead {
            known: Marks::new(count),
            given: Marks::new(count),
            image,
            waiting,
            notifier: OnceLock::new(),
            over: AtomicBool::new(false),
            readers: Mutex::new(Readers {
                jobs: Some(jobs),
                large: Vec::new(),
                small: Vec::new(),
                around: Vec::new(),
            }),
        }
    }

    /// Starts the threads, which give files to the kernel by `notifier`.
    pub fn start(self: &Arc<Self>, threads: usize, notifier: Notifier) -> Result<Workers> {
        let mut workers = Workers { ahead: self.clone(), threads: Vec::new() };
        self.notifier.get_or_init(|| notifier);
        for _ in 0..threads {
            let ahead = self.clone();
            workers.threads.push(thread::start(move || ahead.work())?);
        }
        Ok(workers)
    }

    /// The kernel learns of an inode, or forgets it, with all that it was given.
    pub fn knows(&self, ino: Ino, known: bool) {
        self.known.set(ino, known);
        if !known {
            self.given.set(ino, false);
        }
    }

    /// Somebody reads a part of a file of this size.
    pub fn saw(&self, ino: Ino, offset: u64, length: u64, size: u64) {
        let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        let Readers { jobs: Some(jobs), large, small, around } = &mut *readers else { return };
        // What there is no room for is left undone.
        let mut ask = |job| jobs.try_send(job).is_ok();
        if size <= SMALL {
            if offset == 0 {
                self.saw_small(small, ino.get(), &mut ask);
            }
        } else if !saw_large(large, Part { ino, offset, length }, size, &mut ask)
            && length <= SMALL
            && let Some((offset, length)) = self.image.around(ino, offset)
        {
            // The frame is decompressed for what was asked for; the rest of it may be next.
            let part = Part { ino, offset, length };
            if length <= MOST && !around.contains(&part) && ask(Job::Around(part)) {
                remember(around, part, AROUND);
            }
        }
    }

    fn saw_small(&self, readers: &mut Vec<Small>, number: u32, ask: &mut dyn FnMut(Job) -> bool) {
        let goes_on = |reader: &Small| {
            number > reader.last && number <= reader.last.max(reader.done).saturating_add(GAP)
        };
        let Some(place) = readers.iter().position(goes_on) else {
            remember(readers, Small { last: number, done: number, window: FIRST }, READERS);
            return;
        };
        let mut reader = readers.remove(place);
        let first = number + 1;
        let end = self.small_files(first, reader.window);
        if let Some(ino) = self.image.tree().get(number.into())
            && self.given.has(ino)
        {
            // The kernel has dropped it, and likely the next ones too.
            for ino in (number..end).filter_map(|number| self.image.tree().get(number.into())) {
                self.given.set(ino, false);
            }
        }
        let half = first + (end - first) / 2;
        // Two halves, for two threads.
        for (first, end) in [(first, half), (half, end)] {
            if first < end {
                ask(Job::Files { first, end });
            }
        }
        reader.last = number;
        reader.done = end;
        reader.window = (reader.window * 2).min(MOST);
        remember(readers, reader, READERS);
    }

    /// Up to which number small files from `first` on have this many bytes.
    fn small_files(&self, first: u32, bytes: u64) -> u32 {
        let tree = self.image.tree();
        let mut sum = 0;
        let mut number = first;
        while let Some(ino) = tree.get(number.into()) {
            let size = self.image.size(ino);
            sum += if size <= SMALL { size } else { 0 };
            if sum > bytes || number - first > GAP * 16 {
                break;
            }
            number += 1;
        }
        number
    }

    fn work(&self) {
        let mut buffer = Vec::new();
        while let Ok(job) = self.waiting.recv() {
            if self.over.load(Ordering::Acquire) {
                return;
            }
            match job {
                Job::Decompress(Part { ino, offset, length }) => {
                    // See above: an error is for who reads it.
                    let _ = self.image.prefetch(ino, offset, length);
                }
                Job::Around(part) => self.store(part, &mut buffer),
                Job::Files { first, end } => {
                    for number in first..end {
                        self.give(number, &mut buffer);
                    }
                }
            }
        }
    }

    fn give(&self, number: u32, buffer: &mut Vec<u8>) {
        let Some(ino) = self.image.tree().get(number.into()) else { return };
        let size = self.image.size(ino);
        if size == 0 || size > SMALL || self.over.load(Ordering::Acquire) {
            return;
        }
        if !self.known.has(ino) || self.given.has(ino) {
            return;
        }
        self.store(Part { ino, offset: 0, length: size }, buffer);
        self.given.set(ino, true);
    }

    fn store(&self, Part { ino, offset, length }: Part, buffer: &mut Vec<u8>) {
        let Some(notifier) = self.notifier.get() else { return };
        let store = |bytes: &[u8]| {
            // Where the kernel has just forgotten it, or is gone, nobody misses it.
            let _ = notifier.store(INodeNo(ino.get().into()), offset, bytes);
        };
        // See above: an error is for who reads it.
        let _ = self.image.with_content(ino, offset, length as usize, buffer, store);
    }
}

/// Whether somebody reads on here.
fn saw_large(
    readers: &mut Vec<Large>,
    Part { ino, offset, length }: Part,
    size: u64,
    ask: &mut dyn FnMut(Job) -> bool,
) -> bool {
    // The kernel asks for several parts at once, which come in any order.
    let slack = 2 * length.max(SMALL);
    let end = offset + length;
    let goes_on = |reader: &Large| {
        reader.ino == ino
            && offset + slack >= reader.next
            && offset <= reader.next.max(reader.done.min(reader.next + DISTANCE)) + slack
    };
    let Some(place) = readers.iter().position(goes_on) else {
        remember(readers, Large { ino, next: end, done: end, window: PIECE }, READERS);
        return false;
    };
    let mut reader = readers.remove(place);
    reader.next = reader.next.max(end);
    reader.done = reader.done.max(end);
    let target = (reader.next + reader.window).min(size);
    reader.window = (reader.window * 2).min(DISTANCE);
    while reader.done + PIECE <= target || (reader.done < target && target == size) {
        let length = PIECE.min(target - reader.done);
        if !ask(Job::Decompress(Part { ino, offset: reader.done, length })) {
            break;
        }
        reader.done += length;
    }
    remember(readers, reader, READERS);
    true
}

/// Adds to what is remembered, of which there may be so much.
fn remember<T>(all: &mut Vec<T>, new: T, most: usize) {
    if all.len() == most {
        all.remove(0);
    }
    all.push(new);
}

/// The running threads, which end with the value.
pub struct Workers {
    ahead: Arc<Ahead>,
    threads: Vec<JoinHandle<()>>,
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.ahead.over.store(true, Ordering::Release);
        self.ahead.readers.lock().unwrap_or_else(PoisonError::into_inner).jobs = None;
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread that reads ahead panicked");
            }
        }
    }
}
