//! The tree that layers make, one laid on the other (OCI image-spec, layer.md).
//!
//! Where the specification is silent, it is what `umoci unpack` does: paths are taken within the
//! root, through symbolic links within it; what is missing of a path is made; an entry replaces
//! what has its name, but a directory keeps what is in it.

use std::collections::{BTreeMap, HashMap};

use super::archive::{Entry, EntryKind, show_path};
use super::spool::Spooled;
use crate::error::{Error, ErrorKind, Result};
use crate::source::{Content, ScanOptions};
use crate::tree::{Device, Ino, Inode, Kind, Metadata, NAME_MAX, Tree, TreeBuilder, Xattr, show};

/// What a name begins with that stands for what is not there.
const WHITEOUT: &[u8] = b".wh.";
/// The name that hides all of the layers below in its directory.
const OPAQUE: &[u8] = b".wh..wh..opq";
/// The permissions of a directory that no entry tells of.
const IMPLIED: u16 = 0o755;
/// How many symbolic links are followed on the way to an entry.
const LINKS_MAX: usize = 255;
/// How much memory the metadata of all layers may take, in bytes: room for some five million
/// inodes. A small compressed layer could ask for any amount.
const MEMORY_MAX: usize = 1024 * 1024 * 1024;
/// What an inode takes of it beside its names and attributes, and a directory more.
const INODE_MEMORY: usize = 200;
const DIRECTORY_MEMORY: usize = 400;
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
    /// The memory that all entries have taken so far, in bytes.
    memory: usize,
}

#[derive(Debug)]
struct Node {
    metadata: Metadata,
    kind: NodeKind,
}

#[derive(Debug)]
enum NodeKind {
    Directory(Directory),
    Regular(File),
    Symlink(Box<[u8]>),
    Fifo,
    CharDevice(Device),
    BlockDevice(Device),
}

#[derive(Debug, Default)]
struct Directory {
    names: BTreeMap<Box<[u8]>, Name>,
    /// The last layer that hid all that layers below have in it: there is no more of that.
    cleared: u32,
}

/// What a name stands for.
#[derive(Debug, Clone, Copy)]
struct Name {
    node: NodeId,
    /// The last layer that has an entry of this path, or one below it. An inode may have a name
    /// from one layer and another from the next.
    layer: u32,
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
        Layers { nodes: vec![implied()], layer: 0, memory: 0 }
    }

    /// Begins the next layer.
    pub fn begin_layer(&mut self) {
        self.layer += 1;
    }

    /// Lays an entry of the layer on the tree; `spooled` is the content of a regular file.
    pub fn apply(&mut self, mut entry: Entry, spooled: Spooled) -> Result<()> {
        let path = std::mem::take(&mut entry.path);
        self.try_apply(&path, entry, spooled)
            .map_err(|error| error.context(format_args!("'{}'", show_path(&path))))
    }

    fn try_apply(&mut self, path: &[u8], entry: Entry, spooled: Spooled) -> Result<()> {
        let names = clean(path);
        let Some((name, parents)) = names.split_last() else {
            return match entry.kind {
                EntryKind::Directory => {
                    self.take_memory(&entry, b"")?;
                    self.nodes[ROOT].metadata = metadata(entry)?;
                    Ok(())
                }
                _ => Err(damaged("the root is not a directory")),
            };
        };
        let parents = self.resolve(parents)?;
        if *name == OPAQUE {
            if let Some(dir) = self.find(&parents) {
                self.hide_below(dir);
            }
            return Ok(());
        }
        if let Some(hidden) = name.strip_prefix(WHITEOUT) {
            return self.whiteout(&parents, hidden);
        }
        check_name(name)?;
        self.take_memory(&entry, name)?;
        let parent = self.reach(&parents)?;
        let existing = self.child(parent, name);
        let is_directory = |node: &NodeId| matches!(self.nodes[*node].kind, NodeKind::Directory(_));
        let node = match (&entry.kind, existing.filter(is_directory)) {
            (EntryKind::Directory, Some(existing)) => {
                self.nodes[existing].metadata = metadata(entry)?;
                existing
            }
            (EntryKind::Link(target), _) => {
                // It might be a link to what it replaces.
                self.names_mut(parent).remove(*name);
                self.link_target(target)?
            }
            _ => self.add(kind(&entry.kind, spooled)?, metadata(entry)?),
        };
        let layer = self.layer;
        self.names_mut(parent).insert((*name).into(), Name { node, layer });
        Ok(())
    }

    fn add(&mut self, kind: NodeKind, metadata: Metadata) -> NodeId {
        self.nodes.push(Node { metadata, kind });
        self.nodes.len() - 1
    }

    /// Counts the memory that an entry takes.
    fn take_memory(&mut self, entry: &Entry, name: &[u8]) -> Result<()> {
        let xattr = |xattr: &Xattr| size_of::<Xattr>() + xattr.key.len() + xattr.value.len();
        let kind = match &entry.kind {
            EntryKind::Symlink(target) => target.len(),
            EntryKind::Directory => DIRECTORY_MEMORY,
            _ => 0,
        };
        let pieces = size_of_val(entry.pieces.as_slice());
        let xattrs = entry.xattrs.iter().map(xattr).sum::<usize>();
        self.take(INODE_MEMORY + name.len() + kind + pieces + xattrs)
    }

    fn take(&mut self, memory: usize) -> Result<()> {
        self.memory += memory;
        match self.memory > MEMORY_MAX {
            true => Err(Error::new(
                ErrorKind::Unsupported,
                format!("the layers' metadata takes more than {MEMORY_MAX} bytes of memory"),
            )),
            false => Ok(()),
        }
    }

    /// Hides a name of the layers below; what this layer has there itself, stays.
    fn whiteout(&mut self, parents: &[Vec<u8>], name: &[u8]) -> Result<()> {
        if [&b""[..], b".", b".."].contains(&name) {
            return Err(damaged("a whiteout of no name"));
        }
        let Some(dir) = self.find(parents) else { return Ok(()) };
        let Some(&hidden) = self.names(dir).and_then(|names| names.get(name)) else {
            return Ok(());
        };
        if hidden.layer == self.layer {
            self.hide_below(hidden.node);
        } else {
            self.names_mut(dir).remove(name);
        }
        Ok(())
    }

    /// Hides what the layers below have in a directory.
    fn hide_below(&mut self, dir: NodeId) {
        let layer = self.layer;
        let mut dirs = vec![dir];
        while let Some(dir) = dirs.pop() {
            let NodeKind::Directory(Directory { names, cleared }) = &mut self.nodes[dir].kind
            else {
                continue;
            };
            if std::mem::replace(cleared, layer) != layer {
                names.retain(|_, name| name.layer == layer);
                dirs.extend(names.values().map(|name| name.node));
            }
        }
    }

    fn link_target(&self, target: &[u8]) -> Result<NodeId> {
        let missing =
            || damaged(format!("a hard link to '{}', which is not there", show_path(target)));
        let names = clean(target);
        let (name, parents) = names.split_last().ok_or_else(missing)?;
        let parent = self.find(&self.resolve(parents)?).ok_or_else(missing)?;
        let node = self.child(parent, name).ok_or_else(missing)?;
        match self.names(node) {
            Some(_) => {
                let target = show_path(target);
                Err(damaged(format!("a hard link to the directory '{target}'")))
            }
            None => Ok(node),
        }
    }

    fn names(&self, node: NodeId) -> Option<&BTreeMap<Box<[u8]>, Name>> {
        match &self.nodes[node].kind {
            NodeKind::Directory(directory) => Some(&directory.names),
            _ => None,
        }
    }

    fn names_mut(&mut self, dir: NodeId) -> &mut BTreeMap<Box<[u8]>, Name> {
        match &mut self.nodes[dir].kind {
            NodeKind::Directory(directory) => &mut directory.names,
            _ => unreachable!("only directories are walked through"),
        }
    }

    fn child(&self, dir: NodeId, name: &[u8]) -> Option<NodeId> {
        Some(self.names(dir)?.get(name)?.node)
    }

    /// The names of a path from the root that leads to the same place and through no symbolic
    /// link. Not all of it need be there: `..` takes back whatever name is ahead of it.
    fn resolve(&self, path: &[&[u8]]) -> Result<Vec<Vec<u8>>> {
        let mut resolved: Vec<&[u8]> = Vec::new();
        // What is there of the path so far, from the root on.
        let mut nodes = vec![Some(ROOT)];
        let mut pending: Vec<&[u8]> = path.iter().rev().copied().collect();
        let mut links = 0;
        while let Some(name) = pending.pop() {
            if name == b".." {
                resolved.pop();
                nodes.truncate(nodes.len().saturating_sub(1).max(1));
                continue;
            }
            let dir = nodes.last().copied().flatten();
            let node = dir.and_then(|dir| self.child(dir, name));
            match node.map(|node| &self.nodes[node].kind) {
                Some(NodeKind::Symlink(target)) => {
                    links += 1;
                    if links > LINKS_MAX {
                        return Err(damaged("too many symbolic links on its path"));
                    }
                    if target.first() == Some(&b'/') {
                        resolved.clear();
                        nodes.truncate(1);
                    }
                    pending.extend(components(target).rev());
                }
                _ => {
                    resolved.push(name);
                    nodes.push(node);
                }
            }
        }
        Ok(resolved.into_iter().map(<[u8]>::to_vec).collect())
    }

    /// The directory at a resolved path, if there is one.
    fn find(&self, path: &[Vec<u8>]) -> Option<NodeId> {
        let found = path.iter().try_fold(ROOT, |dir, name| self.child(dir, name))?;
        self.names(found).map(|_| found)
    }

    /// The directory at a resolved path, all of which is this layer's now; what is missing of it
    /// is made.
    fn reach(&mut self, path: &[Vec<u8>]) -> Result<NodeId> {
        let mut dir = ROOT;
        for name in path {
            let layer = self.layer;
            let node = match self.names_mut(dir).get_mut(name.as_slice()) {
                Some(found) => {
                    found.layer = layer;
                    found.node
                }
                None => {
                    check_name(name)?;
                    self.take(INODE_MEMORY + DIRECTORY_MEMORY + name.len())?;
                    self.nodes.push(implied());
                    let node = self.nodes.len() - 1;
                    self.names_mut(dir).insert(name.as_slice().into(), Name { node, layer });
                    node
                }
            };
            if self.names(node).is_none() {
                let name = show(name);
                return Err(damaged(format!("'{name}' on its path is not a directory")));
            }
            dir = node;
        }
        Ok(dir)
    }

    /// What the layers so far are, as far as `options` take it.
    pub fn merge(&self, options: &ScanOptions) -> Result<Merged> {
        let root = Inode::new(self.nodes[ROOT].metadata.clone(), Kind::Directory(Vec::new()));
        let mut builder = TreeBuilder::new(root)?;
        let mut nodes = vec![ROOT];
        let mut numbers: HashMap<NodeId, Ino> = HashMap::new();
        let entries = |node| self.names(node).into_iter().flatten();
        let mut levels = vec![(Ino::ROOT, entries(ROOT))];
        while let Some((dir, left)) = levels.last_mut() {
            let Some((name, &Name { node, .. })) = left.next() else {
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
            nodes.push(node);
            if self.names(node).is_some() {
                levels.push((ino, entries(node)));
            } else {
                numbers.insert(node, ino);
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

/// A directory that no entry tells of.
fn implied() -> Node {
    let metadata = Metadata { permissions: IMPLIED, ..Metadata::default() };
    Node { metadata, kind: NodeKind::Directory(Directory::default()) }
}

fn components(path: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    path.split(|&byte| byte == b'/').filter(|name| !name.is_empty() && *name != b".")
}

/// The names of a path within the root, which `..` does not leave.
fn clean(path: &[u8]) -> Vec<&[u8]> {
    let mut clean = Vec::new();
    for name in components(path) {
        match name {
            b".." => drop(clean.pop()),
            name => clean.push(name),
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

fn kind(kind: &EntryKind, spooled: Spooled) -> Result<NodeKind> {
    Ok(match kind {
        EntryKind::Regular => NodeKind::Regular(File { spooled, stored: None }),
        EntryKind::Directory => NodeKind::Directory(Directory::default()),
        EntryKind::Symlink(target) => match target.len() {
            1..=TARGET_MAX if !target.contains(&0) => NodeKind::Symlink(target.as_slice().into()),
            _ => return Err(damaged("a symbolic link whose target cannot be")),
        },
        EntryKind::Fifo => NodeKind::Fifo,
        EntryKind::CharDevice(device) => NodeKind::CharDevice(*device),
        EntryKind::BlockDevice(device) => NodeKind::BlockDevice(*device),
        EntryKind::Link(_) => unreachable!("a link is no inode of its own"),
    })
}

fn metadata(entry: Entry) -> Result<Metadata> {
    let may_be_users = matches!(entry.kind, EntryKind::Regular | EntryKind::Directory);
    let mut xattrs = Vec::with_capacity(entry.xattrs.len());
    for xattr in entry.xattrs {
        let Xattr { key, value } = &xattr;
        let is_key = !key.is_empty() && key.len() <= XATTR_KEY_MAX && !key.contains(&0);
        if !is_key || value.len() > XATTR_VALUE_MAX {
            return Err(damaged(format!("an extended attribute '{}' that cannot be", show(key))));
        }
        if key.starts_with(b"user.") && !may_be_users {
            let key = show(key);
            let message = format!("the attribute '{key}' of what is neither file nor directory");
            return Err(damaged(message));
        }
        if is_kept(key) {
            xattrs.push(xattr);
        }
    }
    xattrs.sort();
    let Entry { permissions, uid, gid, mtime, .. } = entry;
    Ok(Metadata { permissions, uid, gid, mtime, xattrs: xattrs.into() })
}

/// Whether an attribute is one that Linux has in all file systems; what `umoci unpack` leaves out
/// of these, which would be a mark for an overlay that lies on the tree, is left out too.
fn is_kept(key: &[u8]) -> bool {
    const NAMESPACES: [&[u8]; 4] = [b"security.", b"system.posix_acl_", b"trusted.", b"user."];
    const MARK: &[u8] = b"trusted.overlay.opaque";
    key != MARK && NAMESPACES.iter().any(|namespace| key.starts_with(namespace))
}

fn damaged(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::Corrupt, what)
}
