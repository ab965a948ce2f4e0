//! `index.json`, of which everything that is not ours is kept as it is.

use std::path::Path;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Descriptor, Name, VALUES_MAX, invalid_json, parse_document, to_bytes};
use crate::error::{Error, ErrorKind, Result};

/// The annotation that holds a tag (OCI image-spec, annotations.md).
pub const TAG: &str = "org.opencontainers.image.ref.name";

/// The largest `index.json` that is read, in bytes: thousands of tags.
pub(super) const SIZE_MAX: u64 = 4 * 1024 * 1024;

/// The index of a layout.
#[derive(Debug, Clone, PartialEq)]
pub struct Index {
    document: Value,
}

impl Index {
    /// Reads the document; `path` is for messages.
    pub fn parse(bytes: &[u8], path: &Path) -> Result<Self> {
        let mut document = parse_document(bytes, VALUES_MAX).map_err(|e| invalid_json(e, path))?;
        // Go's programs may write an empty list so.
        if let Some(manifests @ Value::Null) = document.get_mut("manifests") {
            *manifests = json!([]);
        }
        check(&mut document).map_err(|e| invalid_json(e, path))?;
        match document["schemaVersion"].as_u64() {
            Some(2) => Ok(Index { document }),
            _ => Err(Error::new(
                ErrorKind::Unsupported,
                format!("'{}' is not of schemaVersion 2", path.display()),
            )
            .with_path(path)),
        }
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        to_bytes(&self.document)
    }

    fn manifests(&self) -> &[Value] {
        self.document["manifests"].as_array().map_or(&[], Vec::as_slice)
    }

    /// The descriptors of the index with their tags; one may have none.
    pub fn entries(&self) -> impl Iterator<Item = (Option<&str>, Result<Descriptor>)> {
        self.manifests().iter().map(|value| (tag_of(value), descriptor_of(value)))
    }

    /// The descriptors as they are in the document.
    pub(super) fn raw_entries(&self) -> impl Iterator<Item = &Value> {
        self.manifests().iter()
    }

    /// The descriptor that `name` names, as it is in the document.
    pub(super) fn entry(&self, name: &Name) -> Option<&Value> {
        self.manifests().iter().find(|value| is_named(value, name))
    }

    /// The tags, in the order of the index.
    pub fn tags(&self) -> impl Iterator<Item = &str> {
        self.manifests().iter().filter_map(tag_of)
    }

    /// What `tag` refers to.
    pub fn find(&self, tag: &str) -> Option<Result<Descriptor>> {
        self.entries().find(|(name, _)| *name == Some(tag)).map(|(_, descriptor)| descriptor)
    }

    /// Makes `tag` refer to `descriptor`, instead of what it referred to.
    pub fn set(&mut self, tag: &str, descriptor: Value) {
        let mut entry = descriptor;
        entry["annotations"][TAG] = json!(tag);
        let manifests = self.document["manifests"].as_array_mut().expect("checked when parsed");
        let first = manifests.iter().position(|value| tag_of(value) == Some(tag));
        manifests.retain(|value| tag_of(value) != Some(tag));
        manifests.insert(first.unwrap_or(manifests.len()), entry);
    }

    /// Takes away the entries that `name` names; tells whether there were any.
    pub fn remove(&mut self, name: &Name) -> bool {
        let manifests = self.document["manifests"].as_array_mut().expect("checked when parsed");
        let before = manifests.len();
        manifests.retain(|value| !is_named(value, name));
        manifests.len() < before
    }
}

/// Checks that the document is an index. Its descriptors are looked at one by one: all of them would
/// take more memory than the document does.
fn check(document: &mut Value) -> serde_json::Result<()> {
    let mut list = Value::Null;
    if let Some(manifests @ Value::Array(_)) = document.get_mut("manifests") {
        list = std::mem::replace(manifests, json!([]));
    }
    oci_spec::image::ImageIndex::deserialize(&*document)?;
    for descriptor in list.as_array().into_iter().flatten() {
        oci_spec::image::Descriptor::deserialize(descriptor)?;
    }
    document["manifests"] = list;
    Ok(())
}

fn is_named(descriptor: &Value, name: &Name) -> bool {
    match name {
        Name::Tag(tag) => tag_of(descriptor) == Some(tag),
        Name::Digest(digest) => descriptor["digest"].as_str() == Some(&digest.to_string()),
    }
}

pub(super) fn tag_of(descriptor: &Value) -> Option<&str> {
    descriptor["annotations"][TAG].as_str()
}

fn descriptor_of(value: &Value) -> Result<Descriptor> {
    let descriptor = oci_spec::image::Descriptor::deserialize(value)
        .map_err(|error| Error::corrupt(format!("a descriptor in index.json: {error}")))?;
    Descriptor::of(&descriptor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_ours_stays() {
        let document = json!({
            "schemaVersion": 2,
            "x": {"z": 1, "a": [null]},
            "manifests": [
                {"mediaType": "t", "size": 1, "digest": format!("sha256:{}", "0".repeat(64)),
                 "y": 3, "annotations": {"b": "c", TAG: "old"}},
                {"mediaType": "t", "size": 1, "digest": format!("sha256:{}", "1".repeat(64))},
            ],
            "annotations": {"k": "v"},
        });
        let bytes = to_bytes(&document);
        let mut index = Index::parse(&bytes, Path::new("i")).unwrap();
        assert_eq!(index.to_bytes(), bytes);
        assert_eq!(index.tags().collect::<Vec<_>>(), ["old"]);
        assert_eq!(index.entries().count(), 2);

        let new =
            json!({"mediaType": "m", "size": 2, "digest": format!("sha256:{}", "2".repeat(64))});
        index.set("new", new.clone());
        index.set("new", new);
        let mut expected = document;
        expected["manifests"].as_array_mut().unwrap().push(json!({
            "mediaType": "m", "size": 2, "digest": format!("sha256:{}", "2".repeat(64)),
            "annotations": {TAG: "new"},
        }));
        assert_eq!(index.document, expected);
        assert_eq!(index.find("new").unwrap().unwrap().size, 2);
        assert!(index.find("none").is_none());

        // Another tool may have left a tag twice, which makes it ambiguous for some.
        let manifests = index.document["manifests"].as_array_mut().unwrap();
        manifests.push(manifests[0].clone());
        index.set(
            "old",
            json!({"mediaType": "m", "size": 3, "digest": format!("sha256:{}", "3".repeat(64))}),
        );
        assert_eq!(index.tags().collect::<Vec<_>>(), ["old", "new"]);
        assert_eq!(index.find("old").unwrap().unwrap().size, 3);
        let tag = Name::Tag("old".to_owned());
        assert!(index.remove(&tag) && !index.remove(&tag));
        assert_eq!(index.tags().collect::<Vec<_>>(), ["new"]);
        assert_eq!(index.entries().count(), 2);
        let digest = Name::Digest(crate::digest::Digest::from_hex(&"1".repeat(64)).unwrap());
        assert!(index.remove(&digest) && !index.remove(&digest));
        assert_eq!(index.entries().count(), 1);
    }

    #[test]
    fn an_empty_list_may_be_null() {
        let bytes = b"{\"schemaVersion\":2,\"manifests\":null}";
        let mut index = Index::parse(bytes, Path::new("i")).unwrap();
        assert_eq!(index.entries().count(), 0);
        index.set("new", json!({"annotations": null}));
        assert_eq!(index.tags().collect::<Vec<_>>(), ["new"]);
    }

    #[test]
    fn what_is_no_index_is_refused() {
        let deep = "[".repeat(100_000);
        for text in [
            "",
            "junk",
            "[]",
            "{}",
            "{\"schemaVersion\":1,\"manifests\":[]}",
            "{\"schemaVersion\":2,\"manifests\":{}}",
            "{\"schemaVersion\":2,\"manifests\":[null]}",
            "{\"schemaVersion\":2}",
            "{\"schemaVersion\":2,\"manifests\":[{\"digest\":\"x\"}]}",
            &deep,
        ] {
            assert!(Index::parse(text.as_bytes(), Path::new("i")).is_err(), "{text}");
        }
    }
}
