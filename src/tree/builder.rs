//! Making a tree that keeps its promises.

use super::{Entry, Ino, Inode, Kind, Tree};
use crate::error::{Error, ErrorKind, Result};

/// The longest name of a directory entry, as Linux has it (`NAME_MAX`).
pub const NAME_MAX: usize = 255;

/// Takes the inodes of a tree in the order of the walk that numbers them: depth first, the
/// entries of each directory by name.
#[derive(Debug)]
pub struct TreeBuilder<F> {
    inodes: Vec<Inode<F>>,
}

impl<F> TreeBuilder<F> {
    /// A tree of just its root.
    ///
    /// Fails if `root` is not a directory without entries.
    pub fn new(root: Inode<F>) -> Result<Self> {
        match root.entries() {
            Some([]) => Ok(TreeBuilder { inodes: vec![root] }),
            _ => Err(Error::corrupt("the root of the tree is not a directory")),
        }
    }

    /// Makes room for `count` inodes in all, so that a large tree need not be moved as it grows.
    pub fn reserve(&mut self, count: usize) {
        self.inodes.reserve_exact(count.saturating_sub(self.inodes.len()));
    }

    /// Adds an inode under `name` in `parent`, and tells its number.
    ///
    /// Fails if the name is not valid or does not come after the directory's last one.
    pub fn add(&mut self, parent: Ino, name: &[u8], inode: Inode<F>) -> Result<Ino> {
        let ino = Ino::from_index(self.inodes.len())
            .ok_or_else(|| Error::new(ErrorKind::Unsupported, "more than 2^32 inodes"))?;
        let is_directory = matches!(inode.kind, Kind::Directory(_));
        self.inodes.push(inode);
        self.name(parent, name, ino, is_directory)?;
        Ok(ino)
    }

    /// Adds `name` in `parent` for an inode that was added before: a hard link.
    ///
    /// Fails as [`add`](Self::add) does, and if that inode is a directory.
    pub fn link(&mut self, parent: Ino, name: &[u8], ino: Ino) -> Result<()> {
        if self.inodes[ino.index()].entries().is_some() {
            return Err(Error::corrupt(format!("the directory '{}' has two parents", show(name))));
        }
        self.name(parent, name, ino, false)
    }

    fn name(&mut self, parent: Ino, name: &[u8], ino: Ino, is_directory: bool) -> Result<()> {
        check_name(name)?;
        let parent = &mut self.inodes[parent.index()];
        let Kind::Directory(entries) = &mut parent.kind else {
            return Err(Error::corrupt(format!(
                "the parent of '{}' is not a directory",
                show(name)
            )));
        };
        match entries.last().map(|last| (*last.name).cmp(name)) {
            None | Some(std::cmp::Ordering::Less) => {}
            Some(std::cmp::Ordering::Equal) => {
                return Err(Error::corrupt(format!("the name '{}' occurs twice", show(name))));
            }
            Some(std::cmp::Ordering::Greater) => {
                return Err(Error::corrupt(format!("the name '{}' is out of order", show(name))));
            }
        }
        entries.push(Entry { name: name.into(), ino });
        let counted = if is_directory { parent } else { &mut self.inodes[ino.index()] };
        counted.nlink = counted.nlink.saturating_add(1);
        Ok(())
    }

    /// The inodes added so far; what a caller may still fill in is a file's content.
    pub fn inode(&self, ino: Ino) -> &Inode<F> {
        &self.inodes[ino.index()]
    }

    /// The whole tree.
    pub fn finish(mut self) -> Tree<F> {
        for inode in &mut self.inodes {
            if let Kind::Directory(entries) = &mut inode.kind {
                entries.shrink_to_fit();
            }
        }
        self.inodes.shrink_to_fit();
        Tree { inodes: self.inodes }
    }
}

fn check_name(name: &[u8]) -> Result<()> {
    let wrong = match name {
        b"" => "is empty",
        b"." | b".." => "is '.' or '..'",
        _ if name.len() > NAME_MAX => "is longer than 255 bytes",
        _ if name.contains(&b'/') => "has a '/'",
        _ if name.contains(&0) => "has a NUL",
        _ => return Ok(()),
    };
    Err(Error::corrupt(format!("the name '{}' {wrong}", show(name))))
}

/// A name for a message: bytes that are not printable are escaped, and a long one is cut.
pub(crate) fn show(name: &[u8]) -> String {
    const LONGEST: usize = 64;
    let shown = name[..name.len().min(LONGEST)].escape_ascii().to_string();
    if name.len() > LONGEST { shown + "…" } else { shown }
}
