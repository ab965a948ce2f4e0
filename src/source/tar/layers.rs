//! The tree that layers make, one laid on the other (OCI image-spec, layer.md).
//!
//! Where the specification is silent, it is what `umoci unpack` does: paths are taken within the
//! root, through symbolic links within it; what is missing of a path is made; an entry replaces
//! what has its name, but a directory keeps what is in it.

use std::collections::{BTreeMap, HashMap};

use super::archive::{Entry, EntryKind};
use super::spool::Spooled;
use crate::error::{Error, ErrorKind, Result};
use crate::source::{Content, ScanOptions};
use crate::tree::{
    Device, Ino, Inode, Kind, Metadata, NAME_MAX, Timestamp, Tree, TreeBuilder, Xattr, show,
};

/// What a name begins with that stands for what is not there.
const WHITEOUT: &[u8] = b".wh.";
/// The name that hides all of the layers below in its directory.
const OPAQUE: &[u8] = b".wh..wh..opq";
/// The permissions of a directory that no entry tells of.
const IMPLIED: u16 = 0o755;
/// How many symbolic links are followed on the way to an entry.
const LINKS_MAX: usize = 255;
/// The longest target of a symbolic link, in bytes, as Linux has it.
const TARGET_MAX: usize = 4095;
/// The longest name and the largest value of an attribute, in bytes, as Linux has them.
const XATTR_KEY_MAX: usize = 255;
const XATTR_VALUE_MAX: usize = 64 * 1024;

/// The number of a node.
type NodeId = usize;
const ROOT: NodeId = 0;

/// The tree, while layers are laid on it.
#[derive(Debug)]
pub struct Layers {
    nodes: Vec<Node>,
    /// The number of the layer that is being laid on.
    layer: u32,
}

#[derive(Debug)]
struct Node {
    metadata: Metadata,
    kind: NodeKind,
    /// The last layer that has an entry for it or for something in it.
    layer: u32,
}

#[derive(Debug)]
enum NodeKind {
    Directory(BTreeMap<Box<[u8]>, NodeId>),
    Regular(File),
    Symlink(Box<[u8]>),
    Fifo,
    CharDevice(Device),
    BlockDevice(Device),
}

/// Where the bytes of a file are.
#[derive(Debug)]
struct File {
    spooled: Spooled,
    /// The file in the image that the layers so far have become, if they have become one.
    stored: Option<Ino>,
}

/// A tree of layers, and where the content of its new files is.
pub struct Merged {
    pub tree: Tree<Content>,
    pub files: HashMap<Ino, Spooled>,
    /// The node of each inode.
    nodes: Vec<NodeId>,
}

impl Layers {
    /// No layers: an empty root.
    pub fn new() -> Self {
        let metadata = Metadata { permissions: IMPLIED, ..Metadata::default() };
        let root = Node { metadata, kind: NodeKind::Directory(BTreeMap::new()), layer: 0 };
        Layers { nodes: vec![root], layer: 0 }
    }

    /// Begins the next layer.
    pub fn begin_layer(&mut self) {
        self.layer += 1;
    }

    /// Lays an entry of the layer on the tree; `spooled` is the content of a regular file.
    pub fn apply(&mut self, entry: Entry, spooled: Spooled) -> Result<()> {
        let path = entry.path.clone();
        let in_entry = |error: Error| error.context(format_args!("'{}'", path.escape_ascii()));
        self.try_apply(entry, spooled).map_err(in_entry)
    }

    fn try_apply(&mut self, entry: Entry, spooled: Spooled) -> Result<()> {
        let names = clean(&entry.path);
        let Some((name, parents)) = names.split_last() else {
            return match entry.kind {
                EntryKind::Directory => {
                    self.nodes[ROOT].metadata = metadata(&entry)?;
                    Ok(())
                }
                _ => Err(damaged("the root is not a directory")),
            };
        };
        if name == OPAQUE {
            if let Some(dir) = self.find(parents)? {
                self.hide_below(dir);
            }
            return Ok(());
        }
        if let Some(hidden) = name.strip_prefix(WHITEOUT) {
            return self.whiteout(parents, hidden);
        }
        check_name(name)?;
        let parent = self.reach(parents)?;
        let new = match entry.kind {
            EntryKind::Link(ref target) => self.link_target(target)?,
            EntryKind::Directory
                if let Some(existing) = self.child(parent, name)
                    && self.entries(existing).is_some() =>
            {
                self.nodes[existing].metadata = metadata(&entry)?;
                self.nodes[existing].layer = self.layer;
                return Ok(());
            }
            _ => {
                let node = Node {
                    metadata: metadata(&entry)?,
                    kind: kind(entry.kind, spooled)?,
                    layer: self.layer,
                };
                self.nodes.push(node);
                self.nodes.len() - 1
            }
        };
        self.nodes[new].layer = self.layer;
        self.entries_mut(parent).insert(name.as_slice().into(), new);
        Ok(())
    }

    /// Hides a name of the layers below; what this layer has there itself, stays.
    fn whiteout(&mut self, parents: &[Vec<u8>], name: &[u8]) -> Result<()> {
        // Names as `.wh..wh.aufs` are notes of a file system to itself.
        if name.is_empty() || name == b"." || name == b".." || name.starts_with(WHITEOUT) {
            return Ok(());
        }
        let Some(dir) = self.find(parents)? else { return Ok(()) };
        let Some(hidden) = self.child(dir, name) else { return Ok(()) };
        if self.nodes[hidden].layer == self.layer {
            self.hide_below(hidden);
        } else {
            self.entries_mut(dir).remove(name);
        }
        Ok(())
    }

    /// Hides what the layers below have in a directory.
    fn hide_below(&mut self, dir: NodeId) {
        let mut dirs = vec![dir];
        while let Some(dir) = dirs.pop() {
            let Some(entries) = self.entries(dir) else { continue };
            let is_own = |node: &NodeId| self.nodes[*node].layer == self.layer;
            let (own, hidden): (Vec<_>, Vec<_>) = entries
                .iter()
                .map(|(name, node)| (name.clone(), *node))
                .partition(|(_, node)| is_own(node));
            dirs.extend(own.into_iter().map(|(_, node)| node));
            let entries = self.entries_mut(dir);
            for (name, _) in hidden {
                entries.remove(&name);
            }
        }
    }

    fn link_target(&self, target: &[u8]) -> Result<NodeId> {
        let missing = || damaged(format!("a hard link to '{}', which is not there", show(target)));
        let names = clean(target);
        let (name, parents) = names.split_last().ok_or_else(missing)?;
        let parent = self.find(parents)?.ok_or_else(missing)?;
        let node = self.child(parent, name).ok_or_else(missing)?;
        match self.entries(node) {
            Some(_) => Err(damaged(format!("a hard link to the directory '{}'", show(target)))),
            None => Ok(node),
        }
    }

    fn entries(&self, node: NodeId) -> Option<&BTreeMap<Box<[u8]>, NodeId>> {
        match &self.nodes[node].kind {
            NodeKind::Directory(entries) => Some(entries),
            _ => None,
        }
    }

    fn entries_mut(&mut self, dir: NodeId) -> &mut BTreeMap<Box<[u8]>, NodeId> {
        match &mut self.nodes[dir].kind {
            NodeKind::Directory(entries) => entries,
            _ => unreachable!("only directories are walked through"),
        }
    }

    fn child(&self, dir: NodeId, name: &[u8]) -> Option<NodeId> {
        self.entries(dir)?.get(name).copied()
    }

    /// The directory at a path, if there is one.
    fn find(&self, path: &[Vec<u8>]) -> Result<Option<NodeId>> {
        let mut walk = Walk::new(path);
        while let Some(name) = walk.next() {
            match self.step(&mut walk, &name)? {
                Step::Missing(_) => return Ok(None),
                Step::Blocked => return Ok(None),
                Step::Done => {}
            }
        }
        Ok(Some(walk.at()))
    }

    /// The directory at a path; what is missing of it is made.
    fn reach(&mut self, path: &[Vec<u8>]) -> Result<NodeId> {
        let mut walk = Walk::new(path);
        self.nodes[ROOT].layer = self.layer;
        while let Some(name) = walk.next() {
            match self.step(&mut walk, &name)? {
                Step::Done => {}
                Step::Missing(dir) => {
                    check_name(&name)?;
                    let metadata = Metadata { permissions: IMPLIED, ..Metadata::default() };
                    let kind = NodeKind::Directory(BTreeMap::new());
                    self.nodes.push(Node { metadata, kind, layer: self.layer });
                    let new = self.nodes.len() - 1;
                    self.entries_mut(dir).insert(name.into(), new);
                    walk.enter(new);
                }
                Step::Blocked => {
                    let name = show(&name);
                    return Err(damaged(format!("'{name}' on its path is not a directory")));
                }
            }
            let at = walk.at();
            self.nodes[at].layer = self.layer;
        }
        Ok(walk.at())
    }

    fn step(&self, walk: &mut Walk, name: &[u8]) -> Result<Step> {
        if name == b".." {
            walk.leave();
            return Ok(Step::Done);
        }
        let dir = walk.at();
        let Some(node) = self.child(dir, name) else { return Ok(Step::Missing(dir)) };
        match &self.nodes[node].kind {
            NodeKind::Directory(_) => walk.enter(node),
            NodeKind::Symlink(target) => walk.follow(target)?,
            _ => return Ok(Step::Blocked),
        }
        Ok(Step::Done)
    }

    /// What the layers so far are, as far as `options` take it.
    pub fn merge(&self, options: &ScanOptions) -> Result<Merged> {
        let root = Inode::new(self.nodes[ROOT].metadata.clone(), Kind::Directory(Vec::new()));
        let mut builder = TreeBuilder::new(root)?;
        let mut nodes = vec![ROOT];
        let mut numbers: HashMap<NodeId, Ino> = HashMap::new();
        let entries = |node| self.entries(node).into_iter().flatten();
        let mut levels = vec![(Ino::ROOT, entries(ROOT))];
        while let Some((dir, left)) = levels.last_mut() {
            let Some((name, &node)) = left.next() else {
                levels.pop();
                continue;
            };
            if let Some(&known) = numbers.get(&node) {
                builder.link(*dir, name, known)?;
                continue;
            }
            let source = &self.nodes[node];
            let inode = Inode::new(source.metadata.clone(), source.kind.convert());
            let ino = builder.add(*dir, name, inode)?;
            numbers.insert(node, ino);
            nodes.push(node);
            if self.entries(node).is_some() {
                levels.push((ino, entries(node)));
            }
        }
        let (tree, origins) = options.filter(&builder.finish(), |content| *content)?;
        let nodes: Vec<_> = origins.into_iter().map(|ino| nodes[ino.index()]).collect();
        let mut files = HashMap::new();
        for (ino, inode) in tree.iter() {
            if let (Some(Content::New(_)), NodeKind::Regular(file)) =
                (inode.file(), &self.nodes[nodes[ino.index()]].kind)
            {
                files.insert(ino, file.spooled.clone());
            }
        }
        Ok(Merged { tree, files, nodes })
    }

    /// Tells that the merged tree has become an image, with the same numbers of inodes.
    pub fn stored(&mut self, nodes: &[NodeId]) {
        for node in &mut self.nodes {
            if let NodeKind::Regular(file) = &mut node.kind {
                file.stored = None;
            }
        }
        for (ino, &node) in Ino::all().zip(nodes) {
            if let NodeKind::Regular(file) = &mut self.nodes[node].kind {
                file.stored = Some(ino);
            }
        }
    }
}

impl Merged {
    pub fn nodes(&self) -> Vec<NodeId> {
        self.nodes.clone()
    }
}

impl NodeKind {
    fn convert(&self) -> Kind<Content> {
        match self {
            NodeKind::Directory(_) => Kind::Directory(Vec::new()),
            NodeKind::Regular(file) => Kind::Regular(match file.stored {
                Some(ino) => Content::Base(ino),
                None => Content::New(file.spooled.size),
            }),
            NodeKind::Symlink(target) => Kind::Symlink(target.clone()),
            NodeKind::Fifo => Kind::Fifo,
            NodeKind::CharDevice(device) => Kind::CharDevice(*device),
            NodeKind::BlockDevice(device) => Kind::BlockDevice(*device),
        }
    }
}

/// What came of a step on a path.
enum Step {
    Done,
    /// This directory does not have the name.
    Missing(NodeId),
    /// The name is of something that is neither a directory nor a symbolic link.
    Blocked,
}

/// A walk along a path, which cannot leave the root.
struct Walk {
    /// The directories from the root to where the walk is.
    walked: Vec<NodeId>,
    /// The names still to come, the next one last.
    pending: Vec<Vec<u8>>,
    links: usize,
}

impl Walk {
    fn new(path: &[Vec<u8>]) -> Self {
        Walk { walked: vec![ROOT], pending: path.iter().rev().cloned().collect(), links: 0 }
    }

    fn next(&mut self) -> Option<Vec<u8>> {
        self.pending.pop()
    }

    fn at(&self) -> NodeId {
        *self.walked.last().expect("the root stays")
    }

    fn enter(&mut self, dir: NodeId) {
        self.walked.push(dir);
    }

    fn leave(&mut self) {
        self.walked.truncate((self.walked.len() - 1).max(1));
    }

    fn follow(&mut self, target: &[u8]) -> Result<()> {
        self.links += 1;
        if self.links > LINKS_MAX {
            return Err(damaged("too many symbolic links on its path"));
        }
        if target.first() == Some(&b'/') {
            self.walked.truncate(1);
        }
        self.pending.extend(names(target).rev().map(<[u8]>::to_vec));
        Ok(())
    }
}

fn names(path: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    path.split(|&byte| byte == b'/').filter(|name| !name.is_empty() && *name != b".")
}

/// The names of a path within the root, which `..` does not leave.
fn clean(path: &[u8]) -> Vec<Vec<u8>> {
    let mut clean = Vec::new();
    for name in names(path) {
        match name {
            b".." => drop(clean.pop()),
            name => clean.push(name.to_vec()),
        }
    }
    clean
}

fn check_name(name: &[u8]) -> Result<()> {
    match name.len() > NAME_MAX || name.contains(&0) {
        true => Err(damaged(format!("the name '{}' cannot be", show(name)))),
        false => Ok(()),
    }
}

fn kind(kind: EntryKind, spooled: Spooled) -> Result<NodeKind> {
    Ok(match kind {
        EntryKind::Regular => NodeKind::Regular(File { spooled, stored: None }),
        EntryKind::Directory => NodeKind::Directory(BTreeMap::new()),
        EntryKind::Symlink(target) => match target.len() {
            1..=TARGET_MAX if !target.contains(&0) => NodeKind::Symlink(target.into()),
            _ => return Err(damaged("a symbolic link whose target cannot be")),
        },
        EntryKind::Fifo => NodeKind::Fifo,
        EntryKind::CharDevice(device) => NodeKind::CharDevice(device),
        EntryKind::BlockDevice(device) => NodeKind::BlockDevice(device),
        EntryKind::Link(_) => unreachable!("a link is no inode of its own"),
    })
}

fn metadata(entry: &Entry) -> Result<Metadata> {
    let mut xattrs: Vec<Xattr> = entry.xattrs.clone();
    for Xattr { key, value } in &xattrs {
        let is_key = !key.is_empty() && key.len() <= XATTR_KEY_MAX && !key.contains(&0);
        if !is_key || value.len() > XATTR_VALUE_MAX {
            return Err(damaged(format!("an extended attribute '{}' that cannot be", show(key))));
        }
    }
    xattrs.sort();
    let Timestamp { seconds, nanoseconds } = entry.mtime;
    Ok(Metadata {
        permissions: entry.permissions,
        uid: entry.uid,
        gid: entry.gid,
        mtime: Timestamp { seconds, nanoseconds },
        xattrs: xattrs.into(),
    })
}

fn damaged(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::Corrupt, what)
}
