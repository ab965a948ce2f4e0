//! The image that a step starts from.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crossbeam_channel::{Sender, unbounded};

use crate::error::{Error, Result};
use crate::fault;
use crate::format::{Rootfs, file_size};
use crate::image::Blobs;
use crate::progress::{Monitor, Progress, Stage};
use crate::source::image::ImageFile;
use crate::source::{Content, Contents, Opener, Source};
use crate::sys::thread;
use crate::tree::{Ino, Inode, Tree};

/// How many files a thread takes at once: neighbours, whose content stands together in the base.
const BLOCK: usize = 64;
/// How many bytes are compared at once.
const WINDOW: usize = 128 * 1024;

/// The image that a step starts from: its metadata, and its data blobs open for reading.
#[derive(Clone, Copy)]
pub struct Base<'a> {
    pub rootfs: &'a Rootfs,
    pub blobs: &'a Blobs,
}

/// A file that may be just the base's file of the same path.
#[derive(Clone, Copy)]
struct Candidate {
    ino: Ino,
    base: Ino,
    size: u64,
}

impl Base<'_> {
    /// The files of `source` that hold what the base's file of the same path holds, with that
    /// file's number, by index: for each inode of the source, if it is one.
    ///
    /// Files that the source has to read are compared byte by byte; unless `trust_mtime` is set
    /// and type, size, mode, owner and mtime are the same.
    pub fn unchanged<S: Source>(
        &self,
        source: &S,
        trust_mtime: bool,
        threads: usize,
        monitor: &Monitor<'_>,
    ) -> Result<Vec<Option<Ino>>> {
        let tree = source.tree();
        let mut unchanged = vec![None; tree.inodes().len()];
        let same_path = self.same_path(tree);
        let mut candidates = Vec::new();
        for (ino, inode) in tree.iter() {
            let Some(content) = inode.file() else { continue };
            match (*content, same_path[ino.index()]) {
                (Content::Base(base), _) => unchanged[ino.index()] = Some(base),
                (Content::New(size), Some(base)) if self.size(base) == Some(size) => {
                    if size == 0 || (trust_mtime && self.looks_like(base, inode)) {
                        unchanged[ino.index()] = Some(base);
                    } else {
                        candidates.push(Candidate { ino, base, size });
                    }
                }
                _ => {}
            }
        }
        for Candidate { ino, base, .. } in self.compare(source, candidates, threads, monitor)? {
            unchanged[ino.index()] = Some(base);
        }
        Ok(unchanged)
    }

    /// How many inodes it has.
    pub fn inodes(&self) -> usize {
        self.rootfs.tree.inodes().len()
    }

    /// How many bytes of its packs files refer to, and what lies between them.
    pub fn packs_bytes(&self) -> u64 {
        let mut ends = vec![0; self.rootfs.blobs.len()];
        let files = self.rootfs.tree.inodes().iter().filter_map(|inode| inode.file());
        for extent in files.flatten().filter(|extent| !self.blobs.is_zeros(extent.blob)) {
            let end = &mut ends[extent.blob as usize];
            *end = extent.offset.saturating_add(extent.length).max(*end);
        }
        ends.into_iter().fold(0, u64::saturating_add)
    }

    /// For each inode of `tree` the base's inode of the same path, that of its first name.
    fn same_path<F>(&self, tree: &Tree<F>) -> Vec<Option<Ino>> {
        let locations = tree.locations();
        let mut found = vec![None; tree.inodes().len()];
        found[Ino::ROOT.index()] = Some(Ino::ROOT);
        for (dir, inode) in tree.iter() {
            let Some(base) = found[dir.index()] else { continue };
            let mut below = self.rootfs.tree.inode(base).entries().unwrap_or_default().iter();
            let mut next = below.next();
            for (index, entry) in inode.entries().unwrap_or_default().iter().enumerate() {
                while next.is_some_and(|below| below.name < entry.name) {
                    next = below.next();
                }
                if let Some(same) = next.filter(|below| below.name == entry.name)
                    && locations.is_first(entry.ino, dir, index)
                {
                    found[entry.ino.index()] = Some(same.ino);
                }
            }
        }
        found
    }

    fn size(&self, ino: Ino) -> Option<u64> {
        self.rootfs.tree.inode(ino).file().map(|extents| file_size(extents))
    }

    fn looks_like<F>(&self, base: Ino, inode: &Inode<F>) -> bool {
        let (then, now) = (&self.rootfs.tree.inode(base).metadata, &inode.metadata);
        (then.permissions, then.uid, then.gid, then.mtime)
            == (now.permissions, now.uid, now.gid, now.mtime)
    }

    /// The candidates whose content is the base's.
    fn compare<S: Source>(
        &self,
        source: &S,
        candidates: Vec<Candidate>,
        threads: usize,
        monitor: &Monitor<'_>,
    ) -> Result<Vec<Candidate>> {
        let total = candidates.iter().map(|candidate| candidate.size).sum();
        let work = Comparison {
            base: self,
            candidates: &candidates,
            same: candidates.iter().map(|_| AtomicBool::new(false)).collect(),
            next: AtomicUsize::new(0),
            error: Mutex::new(None),
        };
        std::thread::scope(|scope| {
            let (done, progress) = unbounded();
            for _ in 0..threads.min(candidates.len().div_ceil(BLOCK)) {
                let (work, done) = (&work, done.clone());
                thread::spawn(scope, move || work.run(source, &done))?;
            }
            drop(done);
            let mut sum = 0;
            for bytes in progress {
                sum += bytes;
                let reported = Progress { stage: Stage::Compare, done: sum, total };
                monitor.report(reported).inspect_err(|_| work.stop())?;
            }
            Ok(())
        })?;
        if let Some(error) = work.error.into_inner().unwrap_or_default() {
            return Err(error);
        }
        let same = work.same.into_iter().map(AtomicBool::into_inner);
        Ok(candidates.iter().zip(same).filter(|(_, same)| *same).map(|(c, _)| *c).collect())
    }
}

/// Candidates that several threads compare.
struct Comparison<'a> {
    base: &'a Base<'a>,
    candidates: &'a [Candidate],
    /// What was found out, by candidate.
    same: Vec<AtomicBool>,
    next: AtomicUsize,
    error: Mutex<Option<Error>>,
}

impl Comparison<'_> {
    fn stop(&self) {
        self.next.store(self.candidates.len(), Ordering::Relaxed);
    }

    /// Compares candidates until there are none; tells how many bytes that were.
    fn run<S: Source>(&self, source: &S, done: &Sender<u64>) {
        if let Err(error) = self.try_run(source, done) {
            self.stop();
            if let Ok(mut first) = self.error.lock() {
                first.get_or_insert(error);
            }
        }
    }

    fn try_run<S: Source>(&self, source: &S, done: &Sender<u64>) -> Result<()> {
        let mut opener = source.opener()?;
        let mut windows = [vec![0; WINDOW], vec![0; WINDOW]];
        loop {
            // A stop that comes now is overtaken by at most one block a thread.
            let start = self.next.fetch_add(BLOCK, Ordering::Relaxed).min(self.candidates.len());
            let end = (start + BLOCK).min(self.candidates.len());
            if start == end {
                return Ok(());
            }
            for (candidate, same) in self.candidates[start..end].iter().zip(&self.same[start..end])
            {
                fault::point!("compare");
                let is_same = self.base.is_same(&mut *opener, candidate, &mut windows)?;
                same.store(is_same, Ordering::Relaxed);
                // Whoever counts is gone if the work was cancelled.
                if done.send(candidate.size).is_err() {
                    return Ok(());
                }
            }
        }
    }
}

impl Base<'_> {
    fn is_same(
        &self,
        opener: &mut dyn Opener,
        candidate: &Candidate,
        windows: &mut [Vec<u8>; 2],
    ) -> Result<bool> {
        let extents = self.rootfs.tree.inode(candidate.base).file();
        let mut contents = opener.open(candidate.ino)?;
        let mut base = ImageFile::new(self.blobs, extents.map_or(&[][..], |extents| extents));
        let mut offset = 0;
        let [left, right] = windows;
        while offset < candidate.size {
            let data = contents.data_from(offset)?.min(base.data_from(offset)?);
            if data > offset {
                offset = data;
                continue;
            }
            let length = WINDOW.min((candidate.size - offset).try_into().unwrap_or(WINDOW));
            contents.read_exact_at(&mut left[..length], offset)?;
            base.read_exact_at(&mut right[..length], offset)?;
            if left[..length] != right[..length] {
                return Ok(false);
            }
            offset += length as u64;
        }
        contents.finish()?;
        Ok(true)
    }
}
