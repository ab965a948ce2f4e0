//! The image configuration (OCI image-spec, config.md).

use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{CONFIG_VALUES_MAX, Descriptor, Layout, media_type, parse_document, to_bytes};
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
#[derive(Debug, Clone, Default, PartialEq, Eq)]
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

/// What the caller gave, and what the base image has, in messages.
const GIVEN: &str = "the configuration to start from";
const BASE: &str = "the image's configuration";

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
        let document = parse_document(bytes, CONFIG_VALUES_MAX).map_err(|error| {
            let how = if error.is_data() { "valid" } else { "JSON" };
            Error::corrupt(format!("{what} is not {how}: {error}"))
        })?;
        if !document.is_object() {
            return Err(Error::corrupt(format!("{what} is not a JSON object")));
        }
        Ok(ImageConfig { document })
    }

    /// The configuration after a step that was made of an image with the configuration `base`, and
    /// left an image whose layers have these digests.
    ///
    /// All of the base's configuration is carried on, or all of what the options start from; the
    /// history is always the base's, with one entry more, which is one of an empty layer unless
    /// the step `adds_layer`. The diff IDs are the layers' digests themselves: there is nothing to
    /// unpack.
    ///
    /// Each entry of the history has a time, and those that are not of an empty layer are not
    /// more than there are layers, since other tools rely on both: where the base has more, its
    /// oldest ones become such of an empty layer.
    pub fn step(
        base: Option<&ImageConfig>,
        options: &ConfigOptions,
        entry: &HistoryEntry,
        layers: &[Digest],
        adds_layer: bool,
    ) -> Result<Self> {
        Self::start(base, options)?.into_step(base, options, entry, layers, adds_layer)
    }

    /// The configuration that a step begins with: the one that is given, else the base's.
    pub(crate) fn start(base: Option<&ImageConfig>, options: &ConfigOptions) -> Result<Self> {
        for (what, text) in
            [("architecture", &options.architecture), ("operating system", &options.os)]
        {
            if text.as_ref().is_some_and(String::is_empty) {
                return Err(Error::invalid(format!("an empty {what}")));
            }
        }
        match (&options.start, base) {
            (Some(bytes), _) => {
                Self::parse(bytes, GIVEN).map_err(|e| Error::invalid(e.to_string()))
            }
            (None, Some(base)) => Ok(base.clone()),
            (None, None) => Ok(ImageConfig { document: json!({}) }),
        }
    }

    /// As [`step`](Self::step), for a configuration that was begun with and changed since.
    pub(crate) fn into_step(
        mut self,
        base: Option<&ImageConfig>,
        options: &ConfigOptions,
        entry: &HistoryEntry,
        layers: &[Digest],
        adds_layer: bool,
    ) -> Result<Self> {
        let mut history = base.map_or(Ok(Vec::new()), Self::history)?;
        history.push(entry.json(adds_layer));
        limit_layers(&mut history, layers.len());
        let document = &mut self.document;
        let mut set = |key: &str, value: Option<&str>, otherwise: Option<&str>| {
            let kept = document.get(key).filter(|kept| !kept.is_null()).is_some();
            let value = value.or(otherwise.filter(|_| !kept));
            if let Some(value) = value {
                document[key] = json!(value);
            }
        };
        set("created", Some(&time_of(entry.created)), None);
        set("author", entry.author.as_deref(), None);
        let host = super::manifest::host_architecture();
        set("architecture", options.architecture.as_deref(), Some(host));
        set("os", options.os.as_deref(), Some("linux"));
        let diff_ids: Vec<String> = layers.iter().map(Digest::to_string).collect();
        document["rootfs"] = json!({ "type": "layers", "diff_ids": diff_ids });
        document["history"] = Value::Array(history);
        self.check().map_err(|error| match (&options.start, base) {
            (None, Some(_)) => Error::corrupt(format!("{BASE} is not valid: {error}")),
            _ => Error::invalid(format!("{GIVEN} is not valid: {error}")),
        })?;
        Ok(self)
    }

    /// The entries of the history, the oldest first. One without a time gets that of the image,
    /// or 1970: other tools rely on it.
    pub fn history(&self) -> Result<Vec<Value>> {
        let wrong = || Error::corrupt(format!("{BASE} has a history that is no list of objects"));
        let mut history = match self.document.get("history") {
            None | Some(Value::Null) => Vec::new(),
            Some(history) => history.as_array().ok_or_else(wrong)?.clone(),
        };
        let created = self.created().map_or_else(|| time_of(0), str::to_owned);
        for entry in &mut history {
            let entry = entry.as_object_mut().ok_or_else(wrong)?;
            if !entry.get("created").is_some_and(Value::is_string) {
                entry.insert("created".to_owned(), json!(created));
            }
        }
        Ok(history)
    }

    /// When the image was created, as RFC 3339 has it; `None` if that is not said, or not so.
    pub fn created(&self) -> Option<&str> {
        let created = self.document.get("created")?.as_str()?;
        parse_rfc3339(created).map(|_| created)
    }

    /// When the image was created, in seconds since 1970; `None` if that is not said, or not so.
    pub(crate) fn created_time(&self) -> Option<i64> {
        self.created().and_then(parse_rfc3339)
    }

    /// The digests of the layers when they are not compressed.
    pub(crate) fn diff_ids(&self) -> Result<Vec<Digest>> {
        let wrong = || Error::corrupt(format!("{BASE} has no list of diff IDs that are SHA-256"));
        let ids = self.document["rootfs"]["diff_ids"].as_array().ok_or_else(wrong)?;
        let parse = |id: &Value| id.as_str().and_then(|id| id.parse().ok()).ok_or_else(wrong);
        ids.iter().map(parse).collect()
    }

    /// The same configuration, no entry of whose history stands for a layer.
    pub(crate) fn without_layers(&self) -> Result<Self> {
        let mut history = self.history()?;
        for entry in &mut history {
            entry["empty_layer"] = json!(true);
        }
        let mut config = self.clone();
        config.document["history"] = Value::Array(history);
        Ok(config)
    }

    /// Whether the document is what the image-spec says. Go's programs write `null` for what is
    /// not there.
    fn check(&self) -> Result<(), serde_json::Error> {
        let _: oci_spec::image::ImageConfiguration =
            serde_json::from_value(without_nulls(&self.document))?;
        Ok(())
    }

    /// The whole document.
    pub fn document(&self) -> &Value {
        &self.document
    }

    pub(crate) fn document_mut(&mut self) -> &mut Value {
        &mut self.document
    }

    /// The document as it is stored.
    pub fn to_bytes(&self) -> Vec<u8> {
        to_bytes(&self.document)
    }
}

impl HistoryEntry {
    fn json(&self, adds_layer: bool) -> Value {
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
        if !adds_layer {
            entry["empty_layer"] = json!(true);
        }
        entry
    }
}

/// Makes the oldest entries such of an empty layer, until the others are not more than `layers`.
fn limit_layers(history: &mut [Value], layers: usize) {
    let is_empty = |entry: &Value| entry["empty_layer"].as_bool() == Some(true);
    let count = history.iter().filter(|entry| !is_empty(entry)).count();
    let full = history.iter_mut().filter(|entry| !is_empty(entry));
    for entry in full.take(count.saturating_sub(layers)) {
        entry["empty_layer"] = json!(true);
    }
}

/// The document without what is `null` in its objects.
fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(object) => {
            let there = object.iter().filter(|(_, value)| !value.is_null());
            there.map(|(key, value)| (key.clone(), without_nulls(value))).collect()
        }
        Value::Array(array) => array.iter().map(without_nulls).collect(),
        other => other.clone(),
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
    parse_rfc3339(text).ok_or_else(|| {
        Error::invalid(format!(
            "'{text}' is no time: expected one as 2024-05-31T12:00:00Z, or seconds since 1970"
        ))
    })
}

fn parse_rfc3339(text: &str) -> Option<i64> {
    OffsetDateTime::parse(text, &Rfc3339).ok().map(OffsetDateTime::unix_timestamp)
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
        let config = ImageConfig::step(None, &options, &history, &[Digest::of(b"")], true).unwrap();
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
            assert!(ImageConfig::step(None, &options, &history, &[], true).is_err(), "{bad}");
        }
    }

    fn parse(text: &str) -> ImageConfig {
        ImageConfig::parse(text.as_bytes(), "it").unwrap()
    }

    #[test]
    fn a_step_carries_the_base_on() {
        let base = parse(
            r#"{"created":"2020-01-01T00:00:00.5Z","author":"a","architecture":"s390x","os":"linux",
            "config":{"Env":["A=b"],"ExposedPorts":null,"Cmd":null,"x":12345678901234567890123.50},
            "rootfs":{"type":"layers","diff_ids":["sha256:00"]},
            "history":[{"created":"2019-01-01T00:00:00Z","z":1},{"comment":"c","created":null}]}"#,
        );
        let entry =
            HistoryEntry { created: 0, comment: Some("n".to_owned()), ..Default::default() };
        let layers = [Digest::of(b"1"), Digest::of(b"2")];
        let config =
            ImageConfig::step(Some(&base), &ConfigOptions::default(), &entry, &layers, true);
        let config = String::from_utf8(config.unwrap().to_bytes()).unwrap();
        let [first, second] = layers;
        let expected = format!(
            r#"{{"created":"1970-01-01T00:00:00Z","author":"a","architecture":"s390x","os":"linux",
            "config":{{"Env":["A=b"],"ExposedPorts":null,"Cmd":null,"x":12345678901234567890123.50}},
            "rootfs":{{"type":"layers","diff_ids":["{first}","{second}"]}},
            "history":[{{"created":"2019-01-01T00:00:00Z","z":1,"empty_layer":true}},
            {{"comment":"c","created":"2020-01-01T00:00:00.5Z"}},
            {{"created":"1970-01-01T00:00:00Z","comment":"n"}}]}}"#
        );
        let lines: Vec<_> = expected.lines().map(str::trim_start).collect();
        assert_eq!(config, lines.concat());

        // What the caller starts from replaces all but the history.
        let options = ConfigOptions { start: Some(b"{\"x\":1}".to_vec()), ..Default::default() };
        let config = ImageConfig::step(Some(&base), &options, &entry, &layers, false).unwrap();
        assert_eq!(config.document["config"], Value::Null);
        assert_eq!(config.document["x"].as_u64(), Some(1));
        assert_eq!(config.document["history"].as_array().unwrap().len(), 3);
        assert_eq!(config.document["history"][2]["empty_layer"].as_bool(), Some(true));
    }

    #[test]
    fn histories() {
        let layers = |count| vec![Digest::of(b""); count];
        let entry = HistoryEntry::default();
        // The base's history, layers, whether one is added; which entries are of empty layers.
        let cases: [(&str, usize, bool, &[bool]); 9] = [
            ("null", 1, true, &[false]),
            ("[]", 1, false, &[true]),
            ("[{}]", 1, true, &[true, false]),
            ("[{}]", 1, false, &[false, true]),
            ("[{},{}]", 3, true, &[false, false, false]),
            ("[{},{},{}]", 3, true, &[true, false, false, false]),
            (r#"[{"empty_layer":true},{},{}]"#, 2, true, &[true, true, false, false]),
            (r#"[{"empty_layer":false},{}]"#, 1, false, &[true, false, true]),
            ("[{},{}]", 0, false, &[true, true, true]),
        ];
        for (history, count, adds_layer, expected) in cases {
            let base = parse(&format!("{{\"history\":{history}}}"));
            let options = ConfigOptions::default();
            let layers = layers(count);
            let config = ImageConfig::step(Some(&base), &options, &entry, &layers, adds_layer);
            let history = config.unwrap().history().unwrap();
            let empty = |entry: &Value| entry["empty_layer"].as_bool().unwrap_or(false);
            let seen: Vec<_> = history.iter().map(empty).collect();
            assert_eq!(seen, expected, "{base:?}");
            assert!(history.iter().all(|entry| entry["created"] == "1970-01-01T00:00:00Z"));
        }
        for bad in ["3", "{}", "[1]", "[[]]", "[{\"author\":3}]"] {
            let base = parse(&format!("{{\"history\":{bad}}}"));
            let options = ConfigOptions::default();
            let error = ImageConfig::step(Some(&base), &options, &entry, &layers(1), true);
            assert_eq!(error.unwrap_err().kind(), crate::ErrorKind::Corrupt, "{bad}");
        }
    }
}
