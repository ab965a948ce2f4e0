//! A disk that keeps only what it must: of a file what was there when it was synced last, of a
//! folder the names that it had then. What came later is there after a loss of power or not, each
//! by itself, the names without the data too.

use std::collections::BTreeMap;
use std::fs;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::record::Change;

/// By paths: files, or folders.
pub struct Files(pub BTreeMap<PathBuf, Option<File>>);

/// What is left of a file.
pub struct File {
    pub bytes: Arc<Vec<u8>>,
    /// What it is left of, and whether something in it became zeros: they tell the bytes, as far
    /// as there are any, since files only grow.
    origin: (usize, bool),
}

impl Files {
    pub fn into_bytes(self) -> BTreeMap<PathBuf, Option<Arc<Vec<u8>>>> {
        self.0.into_iter().map(|(path, file)| (path, file.map(|file| file.bytes))).collect()
    }
}

impl Hash for File {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.origin, self.bytes.len()).hash(state);
    }
}

#[derive(Clone)]
enum Node {
    Folder(BTreeMap<PathBuf, usize>),
    File { now: Arc<Vec<u8>>, synced: Arc<Vec<u8>> },
}

/// A name that a folder gets or loses.
type Entry = (usize, PathBuf, Option<usize>);

#[derive(Clone)]
pub struct Disk {
    /// What the system shows, but for the names that folders got and lost since they were synced.
    nodes: Vec<Node>,
    /// What happened to names since then: first the folder that must be synced for it to stay.
    pending: Vec<Vec<Entry>>,
}

/// What is left of bytes that were not synced.
#[derive(Clone, Copy, PartialEq)]
pub enum Data {
    Lost,
    Zeros,
    Kept,
}

impl Disk {
    /// The layout in `root`, for good; the rest of what is there is of no interest.
    pub fn load(root: &Path, layout: &str) -> Disk {
        let mut disk = Disk { nodes: vec![Node::Folder(BTreeMap::new())], pending: Vec::new() };
        if !root.join(layout).exists() {
            return disk;
        }
        let mut folder = 0;
        for name in Path::new(layout) {
            let below = disk.add(Node::Folder(BTreeMap::new()));
            disk.names(folder).insert(name.into(), below);
            folder = below;
        }
        disk.load_into(folder, &root.join(layout));
        disk
    }

    fn load_into(&mut self, folder: usize, dir: &Path) {
        for entry in fs::read_dir(dir).unwrap() {
            let entry = entry.unwrap();
            let is_folder = entry.file_type().unwrap().is_dir();
            let node = if is_folder {
                Node::Folder(BTreeMap::new())
            } else {
                let bytes = Arc::new(fs::read(entry.path()).unwrap());
                Node::File { now: bytes.clone(), synced: bytes }
            };
            let node = self.add(node);
            self.names(folder).insert(entry.file_name().into(), node);
            if is_folder {
                self.load_into(node, &entry.path());
            }
        }
    }

    fn add(&mut self, node: Node) -> usize {
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    fn names(&mut self, folder: usize) -> &mut BTreeMap<PathBuf, usize> {
        match &mut self.nodes[folder] {
            Node::Folder(names) => names,
            Node::File { .. } => panic!("a file has no names"),
        }
    }

    /// The node at a path, as the system shows it; nothing if the model does not know it.
    fn find(&self, path: &Path) -> Option<usize> {
        let mut at = 0;
        for name in path {
            let name = Path::new(name);
            let changes = self.pending.iter().rev().flatten();
            let mut changed =
                changes.filter(|(folder, changed, _)| *folder == at && changed == name);
            at = match (changed.next(), &self.nodes[at]) {
                (Some((_, _, node)), _) => (*node)?,
                (None, Node::Folder(names)) => *names.get(name)?,
                (None, Node::File { .. }) => return None,
            };
        }
        Some(at)
    }

    fn entry(&self, path: &Path, node: Option<usize>) -> Option<Entry> {
        let folder = self.find(path.parent()?)?;
        Some((folder, PathBuf::from(path.file_name()?), node))
    }

    /// Does what a call did; nothing where that is outside of what was loaded.
    pub fn apply(&mut self, change: &Change) -> Option<()> {
        match change {
            Change::MakeFile(path) | Change::MakeFolder(path) => {
                let node = match change {
                    Change::MakeFile(_) => {
                        Node::File { now: Arc::default(), synced: Arc::default() }
                    }
                    _ => Node::Folder(BTreeMap::new()),
                };
                let node = self.add(node);
                self.pending.push(vec![self.entry(path, Some(node))?]);
            }
            Change::Write(path, bytes) => {
                let node = self.find(path)?;
                let Node::File { now, .. } = &mut self.nodes[node] else { panic!("a folder") };
                Arc::make_mut(now).extend_from_slice(bytes);
            }
            Change::Rename(from, to) => {
                let node = self.find(from);
                self.pending.push(vec![self.entry(to, node)?, self.entry(from, None)?]);
            }
            Change::Remove(path) => self.pending.push(vec![self.entry(path, None)?]),
            Change::Sync(path) => {
                let node = self.find(path)?;
                match &mut self.nodes[node] {
                    Node::File { now, synced } => synced.clone_from(now),
                    Node::Folder(_) => {
                        let all = std::mem::take(&mut self.pending);
                        let of_it = |entries: &Vec<Entry>| entries[0].0 == node;
                        let (stay, rest) = all.into_iter().partition(of_it);
                        self.pending = rest;
                        self.settle(stay);
                    }
                }
            }
        }
        Some(())
    }

    fn settle(&mut self, changes: Vec<Vec<Entry>>) {
        for (folder, name, node) in changes.into_iter().flatten() {
            match node {
                Some(node) => self.names(folder).insert(name, node),
                None => self.names(folder).remove(&name),
            };
        }
    }

    /// What is there when power comes back: of the names that are not synced those of which
    /// `stays` says so.
    pub fn after_loss(&self, data: Data, stays: impl Fn(usize) -> bool) -> Files {
        let mut disk = self.clone();
        let pending = std::mem::take(&mut disk.pending);
        let stay = pending.into_iter().enumerate().filter(|(number, _)| stays(*number));
        disk.settle(stay.map(|(_, entries)| entries).collect());
        let mut files = Files(BTreeMap::new());
        disk.list(0, Path::new(""), data, &mut files);
        files
    }

    fn list(&self, folder: usize, path: &Path, data: Data, files: &mut Files) {
        let Node::Folder(names) = &self.nodes[folder] else { panic!("a file has no names") };
        for (name, node) in names {
            let path = path.join(name);
            match &self.nodes[*node] {
                Node::Folder(_) => {
                    files.0.insert(path.clone(), None);
                    self.list(*node, &path, data, files);
                }
                Node::File { now, synced } => {
                    let zeros = data == Data::Zeros && now.len() > synced.len();
                    let bytes = match data {
                        Data::Kept => now.clone(),
                        Data::Zeros if zeros => {
                            let lost = vec![0; now.len() - synced.len()];
                            Arc::new([&synced[..], &lost].concat())
                        }
                        Data::Lost | Data::Zeros => synced.clone(),
                    };
                    files.0.insert(path, Some(File { bytes, origin: (*node, zeros) }));
                }
            }
        }
    }

    /// All states that are tried.
    pub fn losses(&self) -> Vec<Files> {
        let count = self.pending.len();
        let mut states = vec![self.after_loss(Data::Lost, |_| false)];
        for data in [Data::Lost, Data::Zeros, Data::Kept] {
            states.push(self.after_loss(data, |_| true));
        }
        for number in 0..count {
            states.push(self.after_loss(Data::Lost, |other| other == number));
            states.push(self.after_loss(Data::Lost, |other| other != number));
            states.push(self.after_loss(Data::Kept, |other| other != number));
        }
        states
    }
}
