//! Owners and groups as a user namespace has them.

use std::str::FromStr;

use crate::error::{Error, Result};

/// Whom that belongs to which nobody in the map is: the kernel's default for it.
const NOBODY: u32 = 65534;

/// How the numbers of owners, or of groups, in the image become those of the mount; empty for
/// unchanged.
///
/// Written as `INSIDE:OUTSIDE:COUNT`, several with `+` between them: a number from `INSIDE` on is
/// shown as one from `OUTSIDE` on, as `/proc/PID/uid_map` has it. What is in no range belongs to
/// nobody, 65534.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IdMap(Vec<Range>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range {
    inside: u32,
    outside: u32,
    count: u32,
}

impl IdMap {
    /// What the number of the image is in the mount.
    pub fn map(&self, id: u32) -> u32 {
        if self.0.is_empty() {
            return id;
        }
        let within = |range: &Range| {
            let offset = id.checked_sub(range.inside)?;
            (offset < range.count).then(|| range.outside + offset)
        };
        self.0.iter().find_map(within).unwrap_or(NOBODY)
    }

    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromStr for IdMap {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || {
            Error::invalid(format!(
                "'{text}' maps no numbers: expected INSIDE:OUTSIDE:COUNT, several with + between them"
            ))
        };
        let range = |text: &str| {
            let numbers: Option<Vec<u32>> = text.split(':').map(|part| part.parse().ok()).collect();
            let Some(&[inside, outside, count]) = numbers.as_deref() else { return Err(wrong()) };
            let fits = |start: u32| u64::from(start) + u64::from(count) <= u64::from(u32::MAX);
            if count == 0 || !fits(inside) || !fits(outside) {
                return Err(wrong());
            }
            Ok(Range { inside, outside, count })
        };
        text.split('+').map(range).collect::<Result<_>>().map(IdMap)
    }
}

/// The value of a POSIX ACL's attribute with its users and groups mapped; `None` if it is none.
///
/// Linux, `include/uapi/linux/posix_acl_xattr.h`: a version, then entries of tag, permissions, id.
pub fn map_acl(value: &[u8], uids: &IdMap, gids: &IdMap) -> Option<Vec<u8>> {
    const HEADER: usize = 4;
    const ENTRY: usize = 8;
    const TAG_USER: u16 = 0x02;
    const TAG_GROUP: u16 = 0x08;
    let entries = value.get(HEADER..)?.chunks_exact(ENTRY);
    if !entries.remainder().is_empty() {
        return None;
    }
    let mut mapped = value[..HEADER].to_vec();
    for entry in entries {
        let id = u32::from_le_bytes(entry[4..].try_into().ok()?);
        let id = match u16::from_le_bytes(entry[..2].try_into().ok()?) {
            TAG_USER => uids.map(id),
            TAG_GROUP => gids.map(id),
            _ => id,
        };
        mapped.extend_from_slice(&entry[..4]);
        mapped.extend_from_slice(&id.to_le_bytes());
    }
    Some(mapped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_mapped() {
        let none = IdMap::default();
        assert_eq!((none.map(0), none.map(u32::MAX)), (0, u32::MAX));
        let map: IdMap = "0:100000:65536+70000:5:1".parse().unwrap();
        for (inside, outside) in
            [(0, 100_000), (65_535, 165_535), (65_536, NOBODY), (70_000, 5), (70_001, NOBODY)]
        {
            assert_eq!(map.map(inside), outside, "{inside}");
        }
    }

    #[test]
    fn what_is_no_map_is_refused() {
        for text in
            ["", "0", "0:1", "0:1:0", "0:1:2:3", "a:1:1", "0:4294967295:1", "0:1:1+", "-1:0:1"]
        {
            assert!(text.parse::<IdMap>().is_err(), "{text}");
        }
    }

    #[test]
    fn acls_are_mapped() {
        let entry = |tag: u16, id: u32| {
            [&tag.to_le_bytes()[..], &6_u16.to_le_bytes(), &id.to_le_bytes()].concat()
        };
        let acl = |user, group| {
            let parts = [entry(1, u32::MAX), entry(2, user), entry(8, group), entry(32, u32::MAX)];
            [&2_u32.to_le_bytes()[..], &parts.concat()].concat()
        };
        let (uids, gids) = ("0:100:10".parse().unwrap(), "0:200:10".parse().unwrap());
        assert_eq!(map_acl(&acl(1, 2), &uids, &gids), Some(acl(101, 202)));
        assert_eq!(map_acl(b"no", &uids, &gids), None);
        assert_eq!(map_acl(b"\x02\0\0\0rest", &uids, &gids), None);
    }
}
