//! Good copies of broken blobs, from other layouts.

use std::collections::HashSet;
use std::path::PathBuf;

use super::{Check, Severity, State};
use crate::digest::Digest;
use crate::error::{ErrorKind, Result};
use crate::layout::{BlobId, Layout, Staging};
use crate::progress::Monitor;

/// The repair of a layout.
pub(super) struct Repair<'a> {
    layout: &'a Layout,
    sources: Vec<Layout>,
    /// Begun with the first blob that is taken: to what is whole, nothing is written.
    staging: Option<Staging>,
    /// The blobs that were looked for, each once.
    tried: HashSet<BlobId>,
    /// What was repaired, and how.
    repaired: Vec<(BlobId, String)>,
}

impl<'a> Repair<'a> {
    pub fn new(layout: &'a Layout, sources: &[PathBuf]) -> Result<Self> {
        let sources = sources.iter().map(|path| Layout::open(path)).collect::<Result<_>>()?;
        let (tried, repaired) = Default::default();
        Ok(Repair { layout, sources, staging: None, tried, repaired })
    }

    /// Replaces those of the broken blobs of which there is a good copy; tells which these are.
    pub fn run(&mut self, check: &mut Check<'_>, broken: Vec<BlobId>) -> Result<HashSet<BlobId>> {
        let (alive, monitor) = (check.alive(), check.monitor);
        let mut repaired = HashSet::new();
        for blob in broken {
            let digest = check.documents.digest(blob);
            let State::Broken(why) = &mut check.blobs[blob].state else { continue };
            // A directory cannot be replaced by a file, and is somebody's.
            if self.layout.blob_path(digest).is_dir() || !self.tried.insert(blob) {
                continue;
            }
            if let Some(source) = self.take(digest, why, &alive, monitor)? {
                let message = format!("{why}; a good copy is taken from '{source}'");
                self.repaired.push((blob, message));
                repaired.insert(blob);
            }
        }
        if let Some(staging) = &mut self.staging {
            staging.commit()?;
        }
        Ok(repaired)
    }

    /// Tells what was repaired.
    pub fn report(self, check: &mut Check<'_>) -> Result<()> {
        for (blob, message) in self.repaired {
            check.blame(blob, [(Severity::Repaired, message)])?;
        }
        Ok(())
    }

    /// Stages a good copy of a blob, and tells where it is from; adds to `why` where there is none.
    fn take(
        &mut self,
        digest: &Digest,
        why: &mut String,
        alive: &dyn Fn() -> Result<()>,
        monitor: &Monitor<'_>,
    ) -> Result<Option<String>> {
        for source in &self.sources {
            let shown = source.path().display();
            let good = source.open_blob(digest).and_then(|(file, _)| {
                source.measure(digest, &file, &mut |_| alive()).map(|_| file)
            });
            match good {
                Ok(file) => {
                    let staging = match &mut self.staging {
                        Some(staging) => staging,
                        none => none.insert(Staging::begin(self.layout, monitor)?),
                    };
                    staging.take(*digest, source, &file, &mut |_| alive())?;
                    return Ok(Some(shown.to_string()));
                }
                Err(error) if error.kind() == ErrorKind::Cancelled => return Err(error),
                Err(error) => *why += &format!("; no good copy in '{shown}': {error}"),
            }
        }
        Ok(None)
    }
}
