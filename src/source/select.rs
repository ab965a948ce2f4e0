//! What of a source goes into the tree, and how.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use super::Content;
use crate::error::{Error, Result};
use crate::tree::{Ino, Inode, Metadata, Timestamp, Tree, TreeBuilder};

/// The key of SELinux labels, which belong to the host rather than to the image.
const SELINUX: &[u8] = b"security.selinux";

/// What of a directory goes into the tree, and how.
#[derive(Debug, Clone, Default)]
pub struct ScanOptions {
    /// Patterns of what is left out. One without a slash matches a name at any depth, one with a
    /// slash matches a path from the root of the tree; `*` does not match a slash, `**` does.
    /// What is below a directory that is left out is left out too.
    pub exclude: Vec<String>,
    /// Whether a directory on which another file system is mounted stays empty.
    pub one_file_system: bool,
    /// The owner and group of everything, instead of the ones on disk.
    pub owner: Option<(u32, u32)>,
    /// The newest mtime, in seconds since 1970: what is newer gets this one.
    pub clamp_mtime: Option<i64>,
    /// Whether `security.selinux` is kept.
    pub selinux: bool,
}

impl ScanOptions {
    /// Which extended attributes are kept.
    pub(crate) fn keep_xattr(&self) -> impl Fn(&[u8]) -> bool + use<> {
        let selinux = self.selinux;
        move |key| selinux || key != SELINUX
    }

    /// What goes into the tree of an inode that is `metadata` where it comes from.
    pub(crate) fn adapt(&self, metadata: Metadata) -> Metadata {
        let (uid, gid) = self.owner.unwrap_or((metadata.uid, metadata.gid));
        let newest = self.clamp_mtime.map(|seconds| Timestamp { seconds, nanoseconds: 0 });
        let mtime = newest.map_or(metadata.mtime, |newest| metadata.mtime.min(newest));
        let xattrs = match metadata.xattrs.iter().all(|xattr| self.keep_xattr()(&xattr.key)) {
            true => metadata.xattrs,
            false => {
                let kept = metadata.xattrs.into_iter();
                kept.filter(|xattr| self.keep_xattr()(&xattr.key)).collect()
            }
        };
        Metadata { permissions: metadata.permissions, uid, gid, mtime, xattrs }
    }

    /// What goes into the tree of another tree, with each inode's number there.
    /// `content` tells what its files hold.
    pub(crate) fn filter<F>(
        &self,
        from: &Tree<F>,
        content: impl Fn(&F) -> Content,
    ) -> Result<(Tree<Content>, Vec<Ino>)> {
        let exclude = Exclude::new(&self.exclude)?;
        let convert = |ino| {
            let inode = from.inode(ino);
            let kind = inode.kind.without_entries(&content);
            Inode::new(self.adapt(inode.metadata.clone()), kind)
        };
        let mut builder = TreeBuilder::new(convert(Ino::ROOT))?;
        let mut origins = vec![Ino::ROOT];
        let mut links = HashMap::new();
        // The directories from the root on: number, the entries that are left, path.
        let entries = |dir: Ino| from.inode(dir).entries().unwrap_or_default().iter();
        let mut levels = vec![(Ino::ROOT, entries(Ino::ROOT), PathBuf::new())];
        while let Some((dir, left, path)) = levels.last_mut() {
            let Some(entry) = left.next() else {
                levels.pop();
                continue;
            };
            if !exclude.is_empty() && exclude.matches(path, &entry.name) {
                continue;
            }
            if let Some(&first) = links.get(&entry.ino) {
                builder.link(*dir, &entry.name, first)?;
                continue;
            }
            let ino = builder.add(*dir, &entry.name, convert(entry.ino))?;
            origins.push(entry.ino);
            let inode = from.inode(entry.ino);
            if inode.entries().is_some() {
                let path = path.join(OsStr::from_bytes(&entry.name));
                levels.push((ino, entries(entry.ino), path));
            } else if inode.nlink > 1 {
                links.insert(entry.ino, ino);
            }
        }
        Ok((builder.finish(), origins))
    }
}

/// The patterns of what is left out.
pub(crate) struct Exclude {
    names: GlobSet,
    paths: GlobSet,
}

impl Exclude {
    pub fn new(patterns: &[String]) -> Result<Self> {
        let mut names = GlobSetBuilder::new();
        let mut paths = GlobSetBuilder::new();
        for pattern in patterns {
            let anchored = pattern.trim_matches('/');
            let glob =
                GlobBuilder::new(anchored).literal_separator(true).build().map_err(|error| {
                    Error::invalid(format!("'{pattern}' is no pattern: {}", error.kind()))
                })?;
            if pattern.trim_end_matches('/').contains('/') { &mut paths } else { &mut names }
                .add(glob);
        }
        let build = |set: GlobSetBuilder| {
            set.build().map_err(|error| Error::invalid(format!("bad patterns: {}", error.kind())))
        };
        Ok(Exclude { names: build(names)?, paths: build(paths)? })
    }

    pub fn is_empty(&self) -> bool {
        self.names.is_empty() && self.paths.is_empty()
    }

    pub fn matches(&self, parent: &Path, name: &[u8]) -> bool {
        let name = OsStr::from_bytes(name);
        self.names.is_match(name) || self.paths.is_match(parent.join(name))
    }
}
