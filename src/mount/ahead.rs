//! Reading ahead of who reads on: decompressing what comes next in a large file, and the small files
//! that come next in a directory, before anybody asks for them.
//!
//! That is done by threads that answer no requests. All of it is only about speed: what fails here
//! fails again, and is told, when somebody reads it.
//!
//! Nothing is given to the kernel that it did not ask for (FUSE_NOTIFY_STORE): to take it, the kernel
//! waits for whoever reads the same page, in a way that no signal ends. If we are killed then, nobody
//! answers the reader, and thread, mount and readers stay for ever.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender};

use crate::error::Result;
use crate::image::Image;
use crate::sys::thread;
use crate::tree::Ino;

/// Up to this size, a file is read at once.
const SMALL: u64 = 128 * 1024;
/// How far ahead of a reader large files are decompressed, in bytes.
const DISTANCE: u64 = 4 * 1024 * 1024;
/// How much of that is one piece of work, in bytes.
const PIECE: u64 = 512 * 1024;
/// How many bytes of small files are decompressed ahead of a reader, at first and at most.
const FIRST: u64 = 128 * 1024;
const MOST: u64 = 2 * 1024 * 1024;
/// How many inodes a reader may leave out and still be one who reads on.
const GAP: u32 = 64;
/// How many readers are told from each other.
const READERS: usize = 16;
/// How many pieces of work wait; what is more is left undone.
const WAITING: usize = 64;

/// What is to be decompressed.
enum Job {
    /// A part of a file.
    Part(Part),
    /// The small files with these numbers.
    Files { first: u32, end: u32 },
}

/// A part of a file.
struct Part {
    ino: Ino,
    offset: u64,
    length: u64,
}

/// The threads that read ahead, and what they know of the readers.
pub struct Ahead {
    image: Arc<Image>,
    waiting: Receiver<Job>,
    over: AtomicBool,
    readers: Mutex<Readers>,
}

struct Readers {
    /// Goes when all is over.
    jobs: Option<Sender<Job>>,
    /// The last one that was seen comes last.
    large: Vec<Large>,
    small: Vec<Small>,
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
    /// The files before this one are decompressed, and the next ones when the reader is here.
    done: u32,
    again: u32,
    /// How many bytes are then.
    window: u64,
}

impl Ahead {
    pub fn new(image: Arc<Image>) -> Self {
        let (jobs, waiting) = crossbeam_channel::bounded(WAITING);
        Ahead {
            image,
            waiting,
            over: AtomicBool::new(false),
            readers: Mutex::new(Readers { jobs: Some(jobs), large: Vec::new(), small: Vec::new() }),
        }
    }

    /// Starts the threads.
    pub fn start(self: &Arc<Self>, threads: usize) -> Result<Workers> {
        let mut workers = Workers { ahead: self.clone(), threads: Vec::new() };
        for _ in 0..threads {
            let ahead = self.clone();
            workers.threads.push(thread::start(move || ahead.work())?);
        }
        Ok(workers)
    }

    /// Somebody reads a part of a file of this size.
    pub fn saw(&self, ino: Ino, offset: u64, length: u64, size: u64) {
        let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        let Readers { jobs: Some(jobs), large, small } = &mut *readers else { return };
        // What there is no room for is left undone.
        let mut ask = |job| jobs.try_send(job).is_ok();
        if size <= SMALL {
            if offset == 0 {
                self.saw_small(small, ino.get(), &mut ask);
            }
        } else {
            saw_large(large, Part { ino, offset, length }, size, &mut ask);
        }
    }

    fn saw_small(&self, readers: &mut Vec<Small>, number: u32, ask: &mut dyn FnMut(Job) -> bool) {
        let goes_on = |reader: &Small| {
            number > reader.last && number <= reader.last.max(reader.done).saturating_add(GAP)
        };
        let Some(place) = readers.iter().position(goes_on) else {
            let (done, again) = (number, number);
            remember(readers, Small { last: number, done, again, window: FIRST }, READERS);
            return;
        };
        let mut reader = readers.remove(place);
        reader.last = number;
        if number >= reader.again {
            let first = reader.done.max(number + 1);
            let end = self.small_files(first, reader.window);
            let half = first + (end - first) / 2;
            // Two halves, for two threads.
            for (first, end) in [(first, half), (half, end)] {
                if first < end {
                    ask(Job::Files { first, end });
                }
            }
            (reader.done, reader.again) = (end, half);
            reader.window = (reader.window * 2).min(MOST);
        }
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
        while let Ok(job) = self.waiting.recv() {
            match job {
                Job::Part(Part { ino, offset, length }) => self.decompress(ino, offset, length),
                Job::Files { first, end } => {
                    for ino in
                        (first..end).filter_map(|number| self.image.tree().get(number.into()))
                    {
                        let size = self.image.size(ino);
                        if size <= SMALL {
                            self.decompress(ino, 0, size);
                        }
                    }
                }
            }
        }
    }

    fn decompress(&self, ino: Ino, offset: u64, length: u64) {
        if length > 0 && !self.over.load(Ordering::Acquire) {
            // See above: an error is for who reads it.
            let _ = self.image.prefetch(ino, offset, length);
        }
    }
}

/// Somebody reads a part of a large file of this size.
fn saw_large(
    readers: &mut Vec<Large>,
    Part { ino, offset, length }: Part,
    size: u64,
    ask: &mut dyn FnMut(Job) -> bool,
) {
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
        return;
    };
    let mut reader = readers.remove(place);
    reader.next = reader.next.max(end);
    reader.done = reader.done.max(end);
    let target = (reader.next + reader.window).min(size);
    reader.window = (reader.window * 2).min(DISTANCE);
    while reader.done + PIECE <= target || (reader.done < target && target == size) {
        let length = PIECE.min(target - reader.done);
        if !ask(Job::Part(Part { ino, offset: reader.done, length })) {
            break;
        }
        reader.done += length;
    }
    remember(readers, reader, READERS);
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
