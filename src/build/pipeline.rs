//! Content on its way from the files into packs.
//!
//! ```text
//! readers ──batches──▶ assembler ──frames──▶ compressors ──▶ pack writer ──▶ staging
//! ```
//!
//! Readers take streams in order, and pass on batches of chunks; the assembler takes the batches
//! stream by stream, keeps the chunks that are new, and lays them into frames; compressors make
//! them small in any order; the pack writer takes them in order again. So the result does not
//! depend on how many threads there are. All that lies between two of them is bounded.
//!
//! With a base, chunks are looked for in its packs too; and at the end the assembler stores anew
//! what is still used of packs that are left behind.

use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::base::Base;
use super::memory::{self, Pace};
use super::repack::{self, Moves, Usage};
use crate::chunk::{
    Batch, CHUNK_MAX, Chunk, Cutter, Extent, ExtentMapper, Segment, Stream, Zeros, append,
    read_stream,
};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::fault;
use crate::layout::Staging;
use crate::pack::{
    Compression, Compressor, FRAME_SIZE, Frame, PackSize, PackWriter, SealedPack, zeros,
};
use crate::progress::{Monitor, Progress, Stage};
use crate::source::Source;
use crate::sys::thread;
use crate::tree::Ino;

/// The number that stands for the zeros until it is known how many packs there are.
const ZEROS: u32 = u32::MAX;

/// How the content is stored.
pub struct Settings {
    pub compression: Compression,
    /// How large packs are; a blob a chunk if none.
    pub packs: Option<PackSize>,
    pub pace: Pace,
    /// How many distinct chunks there is memory for; as many as there are if not given.
    pub chunks_max: Option<u64>,
    /// The sum of the files' sizes, for the progress.
    pub bytes: u64,
}

/// A data blob that is staged.
#[derive(Debug, Clone, Copy)]
pub struct StoredPack {
    pub digest: Digest,
    pub verity: [u8; 32],
    pub size: u64,
    pub compressed: bool,
    /// Whether the layout had it before.
    pub existed: bool,
}

/// What happened to the content.
pub struct Stored {
    /// The extents of each file, by the index of its inode. Their blobs are those of the base,
    /// then those of `packs`, then a larger number for the zeros.
    pub extents: Vec<Vec<Extent>>,
    pub packs: Vec<StoredPack>,
    /// The pack of zeros, if there are holes.
    pub zeros: Option<StoredPack>,
    pub stats: Stats,
}

#[derive(Debug, Clone, Copy, Default)]
pub struct Stats {
    pub chunks: u64,
    pub new_chunks: u64,
    pub bytes_read: u64,
    pub bytes_new: u64,
    /// Bytes of the base that were stored anew, since their packs are left behind.
    pub bytes_moved: u64,
}

impl Stats {
    /// Adds what an earlier step of the same build did.
    pub fn add(&mut self, earlier: &Stats) {
        self.chunks += earlier.chunks;
        self.new_chunks += earlier.new_chunks;
        self.bytes_read += earlier.bytes_read;
        self.bytes_new += earlier.bytes_new;
        self.bytes_moved += earlier.bytes_moved;
    }
}

/// What is stored.
pub struct Content<'a, S> {
    pub source: &'a S,
    pub base: Option<Base<'a>>,
    /// The files of the base whose content the source's have, by the index of their inodes.
    pub unchanged: Vec<Option<Ino>>,
    /// All other files.
    pub streams: Vec<Stream>,
}

/// Stages the content as packs.
pub fn store<S: Source>(
    content: Content<'_, S>,
    settings: &Settings,
    staging: &mut Staging,
    monitor: &Monitor<'_>,
) -> Result<Stored> {
    let Pace { threads, streams_ahead, frames_ahead } = settings.pace;
    let (todo, todo_receiver) = bounded(streams_ahead * threads);
    let (jobs, job_receiver) = bounded(frames_ahead * threads);
    let (events, event_receiver) = bounded(frames_ahead * threads);

    let stop = &AtomicBool::new(false);
    let Content { source, base, unchanged, streams } = content;

    // All that others wait for belongs to this function's own part: when it returns, for whatever
    // reason, they find their counterpart gone, and end.
    std::thread::scope(|scope| {
        for _ in 0..threads {
            let (todo, jobs) = (todo_receiver.clone(), job_receiver.clone());
            thread::spawn(scope, move || read(source, &todo))?;
            thread::spawn(scope, move || compress(settings.compression, &jobs, stop))?;
        }
        drop((todo_receiver, job_receiver));
        let writer = thread::spawn(scope, || write(event_receiver, settings.compression, staging))?;

        let streams = Streams { left: streams.into_iter(), read: VecDeque::new(), todo };
        let assembled =
            Assembler::new(base, unchanged, settings, jobs, events).run(streams, monitor);
        stop.store(assembled.is_err(), Ordering::Relaxed);
        let written = writer.join().unwrap_or_else(|panic| resume_unwind(panic));
        match (assembled, written) {
            (Ok((extents, stats)), Ok((packs, zeros))) => {
                Ok(Stored { extents, packs, zeros, stats })
            }
            // One of the two may only have seen that the other is gone.
            (Err(error), Err(reason)) if error.kind() == ErrorKind::Cancelled => Err(reason),
            (Err(error), _) | (_, Err(error)) => Err(error),
        }
    })
}

/// A stream to be read, and where its batches go.
type Todo = (Stream, Sender<Result<Batch>>);

/// The streams in their order, some of them being read ahead.
struct Streams {
    left: std::vec::IntoIter<Stream>,
    read: VecDeque<Receiver<Result<Batch>>>,
    /// Has room for all that are read ahead.
    todo: Sender<Todo>,
}

impl Iterator for Streams {
    type Item = Receiver<Result<Batch>>;

    /// The batches of the next stream.
    fn next(&mut self) -> Option<Self::Item> {
        let ahead = self.todo.capacity().unwrap_or(1);
        while self.read.len() < ahead
            && let Some(stream) = self.left.next()
        {
            // Two batches a stream: one that is made, one that waits.
            let (sender, receiver) = bounded(1);
            // If no reader is left, the stream's batches end before they begin.
            drop(self.todo.send((stream, sender)));
            self.read.push_back(receiver);
        }
        self.read.pop_front()
    }
}

/// What a thread says that finds its counterpart gone; the counterpart knows the reason.
fn stopped<T>(_: T) -> Error {
    Error::cancelled()
}

/// Reads streams until there are none.
fn read(source: &impl Source, todo: &Receiver<Todo>) {
    let mut opener = None;
    for (stream, batches) in todo {
        let read = || {
            fault::point!("read");
            let opener = match &mut opener {
                Some(opener) => opener,
                none => none.insert(source.opener()?),
            };
            let mut emit = |batch| batches.send(Ok(batch)).map_err(stopped);
            read_stream(&stream, source.tree(), &mut **opener, &mut emit)
        };
        let result = catch_unwind(AssertUnwindSafe(read));
        // The assembler stops at the first error; if it has stopped, nobody listens.
        match result {
            Ok(Ok(())) => {}
            Ok(Err(error)) => drop(batches.send(Err(error))),
            // Streams that wait in the channel keep it waiting for theirs: it has to be told.
            Err(panic) => {
                drop(batches.send(Err(Error::cancelled())));
                resume_unwind(panic);
            }
        }
    }
}

/// A frame to be compressed, and who waits for it.
struct Job {
    raw: Vec<u8>,
    done: Sender<Result<Frame>>,
}

/// Compresses frames until there are no more, or nobody needs them.
fn compress(compression: Compression, jobs: &Receiver<Job>, stop: &AtomicBool) {
    let mut compressor = None;
    for Job { raw, done } in jobs {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let compress = || {
            let compressor = match &mut compressor {
                Some(compressor) => compressor,
                none => none.insert(Compressor::new(compression)?),
            };
            fault::point!("compress");
            compressor.frame(raw)
        };
        // If the writer has failed, nobody waits any more.
        drop(done.send({ compress }()));
    }
}

/// What the pack writer is told.
enum Event {
    Frame(Receiver<Result<Frame>>),
    /// The pack is complete, and consists of these chunks.
    End(Vec<Chunk>),
    Zeros,
}

/// Makes packs of frames.
fn write(
    events: Receiver<Event>,
    compression: Compression,
    staging: &mut Staging,
) -> Result<(Vec<StoredPack>, Option<StoredPack>)> {
    let mut packs = Vec::new();
    let mut zeros = None;
    let mut writer = PackWriter::default();
    for event in events {
        match event {
            Event::Frame(frame) => writer.push(frame.recv().map_err(stopped)??),
            Event::End(chunks) => {
                packs.push(stage(&writer.seal(&chunks, compression)?, staging)?);
            }
            Event::Zeros => zeros = Some(stage(&zeros::PACK, staging)?),
        }
    }
    Ok((packs, zeros))
}

fn stage(pack: &SealedPack, staging: &mut Staging) -> Result<StoredPack> {
    let SealedPack { digest, verity, size, compressed, ref parts } = *pack;
    fault::point!("stage");
    let existed = staging.put(digest, size, parts)?.existed;
    Ok(StoredPack { digest, verity, size, compressed, existed })
}

/// Where a chunk stands.
#[derive(Clone, Copy)]
struct Place {
    blob: u32,
    offset: u64,
}

impl Place {
    fn extent(self, chunk: &Chunk) -> Extent {
        Extent { blob: self.blob, offset: self.offset, length: chunk.length.into() }
    }
}

/// Decides which chunks are stored, and in which pack.
struct Assembler<'a> {
    settings: &'a Settings,
    base: Option<Base<'a>>,
    jobs: Sender<Job>,
    events: Sender<Event>,
    known: HashMap<Digest, Place>,
    /// Where the base's packs say that chunks stand; read when the first is looked for.
    claimed: Option<HashMap<Digest, Place>>,
    /// Where the next new chunk will stand.
    next: Place,
    /// The chunks of the pack that is not complete yet.
    pack: Vec<Chunk>,
    /// The bytes of the frame that is not complete yet.
    frame: Vec<u8>,
    mapper: ExtentMapper,
    extents: Vec<Vec<Extent>>,
    has_zeros: bool,
    done: u64,
    stats: Stats,
}

impl<'a> Assembler<'a> {
    fn new(
        base: Option<Base<'a>>,
        unchanged: Vec<Option<Ino>>,
        settings: &'a Settings,
        jobs: Sender<Job>,
        events: Sender<Event>,
    ) -> Self {
        let of_base = |ino: Ino| base.and_then(|base| base.rootfs.tree.inode(ino).file());
        let extents = unchanged
            .into_iter()
            .map(|ino| ino.and_then(of_base).map(|extents| extents.to_vec()).unwrap_or_default());
        Assembler {
            settings,
            base,
            jobs,
            events,
            known: HashMap::new(),
            claimed: None,
            next: Place { blob: base.map_or(0, |base| base.rootfs.blobs.len() as u32), offset: 0 },
            pack: Vec::new(),
            frame: Vec::with_capacity(FRAME_SIZE),
            mapper: ExtentMapper::default(),
            extents: extents.collect(),
            has_zeros: false,
            done: 0,
            stats: Stats::default(),
        }
    }

    fn run(mut self, streams: Streams, monitor: &Monitor<'_>) -> Result<(Vec<Vec<Extent>>, Stats)> {
        for stream in streams {
            for batch in stream {
                self.batch(batch?)?;
                let (done, total) = (self.done, self.settings.bytes);
                monitor.report(Progress { stage: Stage::Store, done, total })?;
            }
            let extents = &mut self.extents;
            self.mapper.finish(ZERO_EXTENTS, &mut |ino, extent| {
                append(&mut extents[ino.index()], extent);
            });
        }
        if let Some(base) = self.base {
            self.repack(base, monitor)?;
        }
        self.end_pack()?;
        if self.has_zeros {
            self.events.send(Event::Zeros).map_err(stopped)?;
        }
        Ok((self.extents, self.stats))
    }

    fn batch(&mut self, batch: Batch) -> Result<()> {
        for segment in batch.segments {
            self.mapper.segment(segment);
            let (Segment::Data { length, .. } | Segment::Hole { length, .. }) = segment;
            self.done += length;
            self.has_zeros |= matches!(segment, Segment::Hole { .. });
        }
        let mut rest = &batch.data[..];
        self.stats.bytes_read += rest.len() as u64;
        self.stats.chunks += batch.chunks.len() as u64;
        for chunk in &batch.chunks {
            let (bytes, after) = rest.split_at(chunk.length as usize);
            rest = after;
            let place = match self.find(chunk, bytes)? {
                Some(place) => place,
                None => {
                    self.stats.new_chunks += 1;
                    self.stats.bytes_new += u64::from(chunk.length);
                    self.add(chunk, bytes)?
                }
            };
            let extents = &mut self.extents;
            self.mapper.chunk(place.extent(chunk), ZERO_EXTENTS, &mut |ino, extent| {
                append(&mut extents[ino.index()], extent);
            });
        }
        Ok(())
    }

    /// Where the chunk stands already.
    fn find(&mut self, chunk: &Chunk, bytes: &[u8]) -> Result<Option<Place>> {
        if let Some(&place) = self.known.get(&chunk.digest) {
            return Ok(Some(place));
        }
        let Some(base) = self.base else { return Ok(None) };
        let claimed = match &mut self.claimed {
            Some(claimed) => claimed,
            none => none.insert(claimed_chunks(base)?),
        };
        let Some(&place) = claimed.get(&chunk.digest) else { return Ok(None) };
        // What a base says of its chunks may be a lie: only the bytes count.
        let mut there = vec![0; bytes.len()];
        let is_there = base.blobs.read(place.blob, &mut there, place.offset).is_ok();
        if !is_there || there != bytes {
            return Ok(None);
        }
        self.known.insert(chunk.digest, place);
        Ok(Some(place))
    }

    /// Stores a chunk; tells where.
    fn add(&mut self, chunk: &Chunk, bytes: &[u8]) -> Result<Place> {
        let place = self.next;
        self.known.insert(chunk.digest, place);
        self.check_memory()?;
        let mut rest = bytes;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(FRAME_SIZE - self.frame.len()));
            self.frame.extend_from_slice(now);
            rest = later;
            if self.frame.len() == FRAME_SIZE {
                self.end_frame()?;
            }
        }
        self.pack.push(*chunk);
        self.next.offset += u64::from(chunk.length);
        let length = self.next.offset;
        if self.settings.packs.is_none_or(|size| size.ends(length, chunk)) {
            self.end_pack()?;
        }
        Ok(place)
    }

    /// Fails if there are more chunks than there is memory for.
    fn check_memory(&self) -> Result<()> {
        let claimed = self.claimed.as_ref().map_or(0, HashMap::len);
        match self.settings.chunks_max {
            Some(max) if (self.known.len() + claimed) as u64 > max => Err(memory::unusual(max)),
            _ => Ok(()),
        }
    }

    /// Leaves packs of the base behind, and stores anew what is still used of them.
    fn repack(&mut self, base: Base<'_>, monitor: &Monitor<'_>) -> Result<()> {
        let ranges = self.used_ranges(base);
        let mut usage = Vec::with_capacity(ranges.len());
        for (number, ranges) in (0..).zip(&ranges) {
            let used = ranges.iter().map(|range| range.end - range.start).sum();
            let content = if used == 0 { 0 } else { base.blobs.chunks_length(number)? };
            usage.push(Usage { content, used });
        }
        let new = self.next.blob as usize - ranges.len() + usize::from(self.next.offset > 0);
        let zeros = (0..).zip(&base.rootfs.blobs).any(|(blob, _)| base.blobs.is_zeros(blob));
        let others = 1 + new + usize::from(self.has_zeros || zeros);
        let mean = self.settings.packs.map(|size| size.mean());
        let left = repack::left_behind(&usage, others, mean);
        let mut moves: HashMap<u32, Moves> = HashMap::new();
        for number in (0..).zip(&left).filter(|(_, left)| **left).map(|(number, _)| number) {
            monitor.report(Progress {
                stage: Stage::Store,
                done: self.done,
                total: self.settings.bytes,
            })?;
            moves.insert(number, self.move_pack(base, number, &ranges[number as usize])?);
        }
        if moves.is_empty() {
            return Ok(());
        }
        for extents in &mut self.extents {
            if extents.iter().any(|extent| moves.contains_key(&extent.blob)) {
                for extent in std::mem::take(extents) {
                    match moves.get(&extent.blob) {
                        Some(moves) => moves.follow(extent, &mut |extent| append(extents, extent)),
                        None => append(extents, extent),
                    }
                }
            }
        }
        Ok(())
    }

    /// What files refer to of each of the base's packs; nothing of the zeros.
    fn used_ranges(&self, base: Base<'_>) -> Vec<Vec<std::ops::Range<u64>>> {
        let mut ranges = vec![Vec::new(); base.rootfs.blobs.len()];
        for extent in self.extents.iter().flatten() {
            let Some(ranges) = ranges.get_mut(extent.blob as usize) else { continue };
            if !base.blobs.is_hole(extent) {
                ranges.push(extent.offset..extent.offset + extent.length);
            }
        }
        ranges.into_iter().map(repack::merge_ranges).collect()
    }

    /// Stores the chunks of a pack anew that have to do with these ranges.
    fn move_pack(
        &mut self,
        base: Base<'_>,
        number: u32,
        ranges: &[std::ops::Range<u64>],
    ) -> Result<Moves> {
        let mut moves = Moves::default();
        let mut buffer = vec![0; CHUNK_MAX];
        match base.blobs.chunks(number)? {
            Some(chunks) => {
                let mut start = 0;
                let mut ranges = ranges.iter().peekable();
                for chunk in chunks {
                    let end = start + u64::from(chunk.length);
                    while ranges.next_if(|range| range.end <= start).is_some() {}
                    if ranges.peek().is_some_and(|range| range.start < end) {
                        let bytes = &mut buffer[..chunk.length as usize];
                        base.blobs.read(number, bytes, start)?;
                        moves.push(start, self.move_chunk(bytes)?);
                    }
                    start = end;
                }
            }
            None => {
                let cutter = Cutter::default();
                for range in ranges {
                    let mut start = range.start;
                    while start < range.end {
                        let length = (range.end - start).min(CHUNK_MAX as u64) as usize;
                        base.blobs.read(number, &mut buffer[..length], start)?;
                        let length = cutter.cut(&buffer[..length]);
                        moves.push(start, self.move_chunk(&buffer[..length])?);
                        start += length as u64;
                    }
                }
            }
        }
        Ok(moves)
    }

    fn move_chunk(&mut self, bytes: &[u8]) -> Result<Extent> {
        let chunk = Chunk { length: bytes.len() as u32, digest: Digest::of(bytes) };
        // It must not be looked for in the base, which is where it comes from.
        let first_new = self.base.map_or(0, |base| base.rootfs.blobs.len() as u32);
        let place = match self.known.get(&chunk.digest) {
            Some(place) if place.blob >= first_new => *place,
            _ => {
                self.stats.bytes_moved += bytes.len() as u64;
                self.add(&chunk, bytes)?
            }
        };
        Ok(place.extent(&chunk))
    }

    fn end_frame(&mut self) -> Result<()> {
        if self.frame.is_empty() {
            return Ok(());
        }
        let raw = std::mem::replace(&mut self.frame, Vec::with_capacity(FRAME_SIZE));
        let (done, frame) = bounded(1);
        self.jobs.send(Job { raw, done }).map_err(stopped)?;
        self.events.send(Event::Frame(frame)).map_err(stopped)
    }

    fn end_pack(&mut self) -> Result<()> {
        self.end_frame()?;
        if self.pack.is_empty() {
            return Ok(());
        }
        let chunks = std::mem::take(&mut self.pack);
        self.events.send(Event::End(chunks)).map_err(stopped)?;
        let blob = self.next.blob + 1;
        assert!(blob < ZEROS, "2^32 packs would be more than 2^64 bytes");
        self.next = Place { blob, offset: 0 };
        Ok(())
    }
}

/// The chunks that the base's packs claim to hold; of two that are the same the first.
fn claimed_chunks(base: Base<'_>) -> Result<HashMap<Digest, Place>> {
    let mut claimed = HashMap::new();
    for number in 0..base.rootfs.blobs.len() as u32 {
        let mut offset = 0;
        for chunk in base.blobs.chunks(number)?.unwrap_or_default() {
            claimed.entry(chunk.digest).or_insert(Place { blob: number, offset });
            offset += u64::from(chunk.length);
        }
    }
    Ok(claimed)
}

const ZERO_EXTENTS: Zeros = Zeros { blob: ZEROS, length: zeros::LENGTH };
