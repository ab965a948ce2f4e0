//! The name of a directory entry.

use std::cmp::Ordering;
use std::fmt;
use std::ops::Deref;

/// So many bytes take no more room than a pointer to them, their length, and what tells the two
/// apart. Nearly all names are as short, and need no allocation of their own.
const SHORT_MAX: usize = 22;

/// The name of a directory entry: bytes.
#[derive(Clone)]
pub struct EntryName(Bytes);

#[derive(Clone)]
enum Bytes {
    Short { length: u8, bytes: [u8; SHORT_MAX] },
    Long(Box<[u8]>),
}

/// The empty name, which the root has.
impl Default for EntryName {
    fn default() -> Self {
        EntryName::from(&b""[..])
    }
}

impl From<&[u8]> for EntryName {
    fn from(name: &[u8]) -> Self {
        if name.len() > SHORT_MAX {
            return EntryName(Bytes::Long(name.into()));
        }
        let mut bytes = [0; SHORT_MAX];
        bytes[..name.len()].copy_from_slice(name);
        EntryName(Bytes::Short { length: name.len() as u8, bytes })
    }
}

impl Deref for EntryName {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Bytes::Short { length, bytes } => &bytes[..usize::from(*length)],
            Bytes::Long(bytes) => bytes,
        }
    }
}

impl PartialEq for EntryName {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for EntryName {}

impl PartialOrd for EntryName {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for EntryName {
    fn cmp(&self, other: &Self) -> Ordering {
        (**self).cmp(&**other)
    }
}

impl fmt::Debug for EntryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_all_lengths_are_what_they_were() {
        let bytes: Vec<u8> = (1..=255).collect();
        let names: Vec<EntryName> = (0..=255).map(|length| bytes[..length].into()).collect();
        for (length, name) in names.iter().enumerate() {
            assert_eq!(**name, bytes[..length]);
            assert_eq!(*name, name.clone());
        }
        assert!(names.is_sorted());
        assert!(EntryName::from(&b"b"[..]) > names[255]);
        assert_eq!(size_of::<EntryName>(), 24);
    }
}
