//! The image configuration (OCI image-spec, config.md).

use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{Descriptor, Layout, media_type, to_bytes};
use crate::digest::Digest;
use crate::error::{Error, Result};

/// What a step adds to an image's history.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HistoryEntry {
    /// When the step was made, in seconds since 1970.
    pub created: i64,
    /// The command or program that made it.
    pub created_by: Option<String>,
    /// Who made it.
    pub author: Option<String>,
    /// Anything else about it.
    pub comment: Option<String>,
}

/// What a configuration is made of.
#[derive(Debug, Clone, Default)]
pub struct ConfigOptions {
    /// A configuration to start from, as a JSON document: all of it is kept but its layers and
    /// history.
    pub start: Option<Vec<u8>>,
    /// The architecture, as Go's GOARCH; else the one to start from, else this machine's.
    pub architecture: Option<String>,
    /// The operating system, as Go's GOOS; else the one to start from, else `linux`.
    pub os: Option<String>,
}

/// A configuration, with everything in it that this library does not know.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageConfig {
    document: Value,
}

impl ImageConfig {
    /// Reads the configuration of an image; `None` if it is the empty one, as the reference
    /// implementation's images have it.
    pub(crate) fn read(layout: &Layout, descriptor: &Descriptor) -> Result<Option<Self>> {
        if descriptor.media_type == media_type::EMPTY {
            return Ok(None);
        }
        let bytes = layout.read_config(descriptor)?;
        Self::parse(&bytes, &format!("the config {}", descriptor.digest)).map(Some)
    }

    /// Reads a configuration; `what` names it in messages.
    pub fn parse(bytes: &[u8], what: &str) -> Result<Self> {
        let document: Value = serde_json::from_slice(bytes)
            .map_err(|error| Error::corrupt(format!("{what} is not JSON: {error}")))?;
        if !document.is_object() {
            return Err(Error::corrupt(format!("{what} is not a JSON object")));
        }
        Ok(ImageConfig { document })
    }

    /// The configuration of a new image whose layers have these digests.
    ///
    /// The diff IDs are the layers' digests themselves: there is nothing to unpack.
    pub fn new(options: &ConfigOptions, history: &HistoryEntry, layers: &[Digest]) -> Result<Self> {
        const GIVEN: &str = "the configuration to start from";
        for (what, text) in
            [("architecture", &options.architecture), ("operating system", &options.os)]
        {
            if text.as_ref().is_some_and(String::is_empty) {
                return Err(Error::invalid(format!("an empty {what}")));
            }
        }
        let mut config = match &options.start {
            Some(bytes) => Self::parse(bytes, GIVEN).map_err(|e| Error::invalid(e.to_string()))?,
            None => ImageConfig { document: json!({}) },
        };
        let document = &mut config.document;
        let created = time_of(history.created);
        let mut set = |key: &str, value: Option<&str>, otherwise: Option<&str>| {
            let kept = document.get(key).filter(|kept| !kept.is_null()).is_some();
            let value = value.or(otherwise.filter(|_| !kept));
            if let Some(value) = value {
                document[key] = json!(value);
            }
        };
        set("created", Some(&created), None);
        set("author", history.author.as_deref(), None);
        let host = super::manifest::host_architecture();
        set("architecture", options.architecture.as_deref(), Some(host));
        set("os", options.os.as_deref(), Some("linux"));
        let diff_ids: Vec<String> = layers.iter().map(Digest::to_string).collect();
        document["rootfs"] = json!({ "type": "layers", "diff_ids": diff_ids });
        document["history"] = json!([history.json()]);
        let _: oci_spec::image::ImageConfiguration = serde_json::from_value(document.clone())
            .map_err(|error| Error::invalid(format!("{GIVEN} is not valid: {error}")))?;
        Ok(config)
    }

    /// The whole document.
    pub fn document(&self) -> &Value {
        &self.document
    }

    /// The document as it is stored.
    pub fn to_bytes(&self) -> Vec<u8> {
        to_bytes(&self.document)
    }
}

impl HistoryEntry {
    fn json(&self) -> Value {
        let mut entry = json!({ "created": time_of(self.created) });
        let texts = [
            ("created_by", &self.created_by),
            ("author", &self.author),
            ("comment", &self.comment),
        ];
        for (key, text) in texts {
            if let Some(text) = text {
                entry[key] = json!(text);
            }
        }
        entry
    }
}

/// The seconds since 1970 as RFC 3339 has them; beyond the years 0 to 9999 the nearest there is.
pub fn time_of(seconds: i64) -> String {
    const FIRST: i64 = -62_167_219_200;
    const LAST: i64 = 253_402_300_799;
    let time = OffsetDateTime::from_unix_timestamp(seconds.clamp(FIRST, LAST));
    time.ok().and_then(|time| time.format(&Rfc3339).ok()).expect("a year from 0 to 9999")
}

/// The seconds since 1970 of a time as RFC 3339 has it, or as a number of seconds.
pub fn parse_time(text: &str) -> Result<i64> {
    if let Ok(seconds) = text.parse() {
        return Ok(seconds);
    }
    OffsetDateTime::parse(text, &Rfc3339).map(OffsetDateTime::unix_timestamp).map_err(|_| {
        Error::invalid(format!(
            "'{text}' is no time: expected one as 2024-05-31T12:00:00Z, or seconds since 1970"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (-1, "1969-12-31T23:59:59Z"),
            (1_700_000_000, "2023-11-14T22:13:20Z"),
            (i64::MIN, "0000-01-01T00:00:00Z"),
            (i64::MAX, "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(time_of(seconds), text);
        }
        assert_eq!(parse_time("2023-11-14T23:13:20+01:00").unwrap(), 1_700_000_000);
        assert_eq!(parse_time("-5").unwrap(), -5);
        assert!(parse_time("yesterday").is_err());
    }

    #[test]
    fn a_configuration_keeps_what_it_starts_from() {
        let start = br#"{"os":"plan9","x":[1],"config":{"Env":["A=b"]},"history":[{}],"created":"1999-01-01T00:00:00Z"}"#;
        let options = ConfigOptions {
            start: Some(start.to_vec()),
            architecture: Some("arm64".to_owned()),
            os: None,
        };
        let history =
            HistoryEntry { created: 0, created_by: Some("me".to_owned()), ..Default::default() };
        let config = ImageConfig::new(&options, &history, &[Digest::of(b"")]).unwrap();
        let expected = json!({
            "os": "plan9", "x": [1], "config": {"Env": ["A=b"]},
            "history": [{"created": "1970-01-01T00:00:00Z", "created_by": "me"}],
            "created": "1970-01-01T00:00:00Z",
            "architecture": "arm64",
            "rootfs": {"type": "layers", "diff_ids": [Digest::of(b"").to_string()]},
        });
        assert_eq!(config.document, expected);

        for bad in ["", "[]", "{\"config\":3}", "{\"architecture\":{}}"] {
            let options = ConfigOptions { start: Some(bad.into()), ..Default::default() };
            assert!(ImageConfig::new(&options, &history, &[]).is_err(), "{bad}");
        }
    }
}
