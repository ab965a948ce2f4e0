//! Changing the configuration of an image: a step of its history that adds no layer.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::build::source_date_epoch;
use crate::digest::{self, Digest};
use crate::error::{Error, Result};
use crate::layout::{
    ConfigOptions, Descriptor, HistoryEntry, ImageConfig, Layout, Manifest, Name, PACK_SIZE,
    Platform, Reference, Staging, VALUES_MAX, check_tag, media_type, parse_document, parse_time,
};
use crate::progress::Monitor;

/// What the history says of a step when the caller does not.
const CREATED_BY: &str = "puzzlefs config";

/// What can be cleared, with the names that umoci has for it where it has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Clear {
    /// The arguments to the entry point.
    Cmd,
    /// What is executed.
    Entrypoint,
    /// The environment.
    Env,
    /// The ports.
    ExposedPorts,
    /// The labels.
    Labels,
    /// The signal that stops a container.
    StopSignal,
    /// The user.
    User,
    /// The volumes.
    Volumes,
    /// The working directory.
    WorkingDir,
    /// The manifest's annotations, but for the one that is this library's own.
    Annotations,
}

impl Clear {
    /// All of them, with their names and, but for the annotations, their keys in the document.
    const ALL: [(Clear, &'static str, &'static str); 10] = [
        (Clear::Cmd, "config.cmd", "Cmd"),
        (Clear::Entrypoint, "config.entrypoint", "Entrypoint"),
        (Clear::Env, "config.env", "Env"),
        (Clear::ExposedPorts, "config.exposedports", "ExposedPorts"),
        (Clear::Labels, "config.labels", "Labels"),
        (Clear::StopSignal, "config.stopsignal", "StopSignal"),
        (Clear::User, "config.user", "User"),
        (Clear::Volumes, "config.volume", "Volumes"),
        (Clear::WorkingDir, "config.workingdir", "WorkingDir"),
        (Clear::Annotations, "manifest.annotations", ""),
    ];

    /// Reads a name, such as `config.env`.
    pub fn parse(text: &str) -> Result<Self> {
        let found = Self::ALL.iter().find(|(_, name, _)| *name == text);
        found.map(|(clear, ..)| *clear).ok_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(|(_, name, _)| *name).collect();
            Error::invalid(format!(
                "'{text}' is nothing to be cleared: expected one of {}",
                names.join(", ")
            ))
        })
    }

    fn key(self) -> &'static str {
        let found = Self::ALL.iter().find(|(clear, ..)| *clear == self);
        found.map_or("", |(_, _, key)| key)
    }
}

/// What is changed; what is not given stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConfigChange {
    /// A configuration to start from instead of the image's, and the platform.
    pub options: ConfigOptions,
    /// What is cleared before anything is set.
    pub clear: Vec<Clear>,
    /// What is executed.
    pub entrypoint: Option<Vec<String>>,
    /// The arguments to it.
    pub cmd: Option<Vec<String>>,
    /// Variables of the environment: name and value.
    pub env: Vec<(String, String)>,
    /// Labels: key and value.
    pub labels: Vec<(String, String)>,
    /// The user, as `USER[:GROUP]`, by names or numbers.
    pub user: Option<String>,
    /// The working directory.
    pub working_dir: Option<String>,
    /// The signal that stops a container, such as `SIGTERM`.
    pub stop_signal: Option<String>,
    /// Volumes to be added: paths.
    pub volumes: Vec<String>,
    /// Ports to be added: `PORT`, `PORT/tcp` or `PORT/udp`.
    pub exposed_ports: Vec<String>,
    /// The manifest's annotations to be set.
    pub annotations: BTreeMap<String, String>,
    /// When the change was made, in seconds since 1970: else the environment's
    /// `SOURCE_DATE_EPOCH`, else when the image was created.
    pub created: Option<i64>,
    /// Who made it; the image's author from now on.
    pub author: Option<String>,
    /// What made it.
    pub created_by: Option<String>,
    /// A remark in the history.
    pub comment: Option<String>,
}

/// What came out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Configured {
    /// The manifest.
    pub descriptor: Descriptor,
    /// The fs-verity digest of the manifest.
    pub verity: [u8; 32],
}

/// Changes the configuration of the image that `image` names, and stores the result under `tag`,
/// else under the image's own.
///
/// The file system is the same, and everything in configuration, manifest and index that is not
/// told to change stays, whether this library knows it or not. The history grows by an entry of an
/// empty layer. Waits while others lock the layout, until `monitor` says to stop.
///
/// Fails if there is no such image, it is not one of puzzlefs, or the change makes no sense.
pub fn configure(
    image: &Reference,
    platform: Option<&Platform>,
    tag: Option<&str>,
    change: &ConfigChange,
    monitor: &Monitor<'_>,
) -> Result<Configured> {
    let tag = tag.map_or_else(|| image.tag(), Ok)?;
    check_tag(tag)?;
    change.check()?;
    let layout = Layout::open(&image.layout)?;
    // From here on nothing goes that the image needs.
    let mut staging = Staging::begin(&layout, monitor)?;
    let manifest = Manifest::find(&layout, &image.name, platform)?;
    let entry = entry(&layout, image, tag, &manifest)?;
    let base = ImageConfig::read(&layout, &manifest.config)?;
    let config = change.config(base.as_ref(), &manifest)?;
    let stored = put(&mut staging, &config.to_bytes(), media_type::CONFIG)?;
    let bytes = change.manifest(&layout, &manifest, &stored)?;
    let descriptor = put(&mut staging, &bytes, &manifest.descriptor.media_type)?;
    let entry = renewed(entry, &descriptor, &config);
    staging.publish(monitor, |index| index.set(tag, entry))?;
    Ok(Configured { descriptor, verity: digest::fs_verity(&bytes) })
}

fn put(staging: &mut Staging, bytes: &[u8], media_type: &str) -> Result<Descriptor> {
    let (digest, size) = (Digest::of(bytes), bytes.len() as u64);
    staging.put(digest, size, &[bytes])?;
    Ok(Descriptor { media_type: media_type.to_owned().into(), digest, size })
}

/// The entry of the index that the new one is made of. That of an index of several images cannot
/// be: the others would be lost.
fn entry(layout: &Layout, image: &Reference, tag: &str, manifest: &Manifest) -> Result<Value> {
    let entry = layout.entry(&layout.index()?, &image.name)?;
    if entry["digest"].as_str() == Some(&manifest.descriptor.digest.to_string()) {
        return Ok(entry);
    }
    if image.name == Name::Tag(tag.to_owned()) {
        return Err(Error::invalid(format!(
            "'{image}' is an index of images, which one changed image would replace: give it a tag of its own"
        )));
    }
    Ok(manifest.descriptor.json())
}

/// The entry with another manifest.
fn renewed(mut entry: Value, descriptor: &Descriptor, config: &ImageConfig) -> Value {
    renew(&mut entry, descriptor);
    if let Some(Value::Object(platform)) = entry.get_mut("platform") {
        let new = ["architecture", "os"].map(|key| (key, &config.document()[key]));
        // What is said beyond these two, is said of them.
        if new.iter().any(|(key, value)| platform.get(*key) != Some(*value)) {
            platform.clear();
            platform.extend(new.map(|(key, value)| (key.to_owned(), value.clone())));
        }
    }
    entry
}

/// Makes a descriptor, as it is in a document, refer to something else. All that is said of the
/// old blob itself goes.
fn renew(value: &mut Value, descriptor: &Descriptor) {
    let Value::Object(object) = value else { return };
    object.retain(|key, _| key != "data" && key != "urls");
    if let Value::Object(new) = descriptor.json() {
        object.extend(new);
    }
}

impl ConfigChange {
    /// Finds what is wrong before anything is read or written.
    fn check(&self) -> Result<()> {
        if self.annotations.contains_key("") {
            return Err(Error::invalid("an annotation without a key"));
        }
        if self.labels.iter().any(|(key, _)| key.is_empty()) {
            return Err(Error::invalid("a label without a key"));
        }
        let is_name = |name: &str| !name.is_empty() && !name.contains('=');
        if let Some((name, _)) = self.env.iter().find(|(name, _)| !is_name(name)) {
            return Err(Error::invalid(format!("'{name}' is no name of a variable")));
        }
        if self.volumes.iter().any(String::is_empty) {
            return Err(Error::invalid("a volume without a path"));
        }
        match self.exposed_ports.iter().find(|port| !is_port(port)) {
            None => Ok(()),
            Some(port) => Err(Error::invalid(format!(
                "'{port}' is no port: expected PORT, PORT/tcp or PORT/udp"
            ))),
        }
    }

    /// The new configuration.
    fn config(&self, base: Option<&ImageConfig>, manifest: &Manifest) -> Result<ImageConfig> {
        let mut config = ImageConfig::start(base, &self.options)?;
        self.apply(config.document_mut())?;
        let created = match self.created.map_or_else(source_date_epoch, |given| Ok(Some(given)))? {
            Some(created) => created,
            None => match base.and_then(ImageConfig::created) {
                Some(created) => parse_time(created)?,
                None => 0,
            },
        };
        let entry = HistoryEntry {
            created,
            created_by: Some(self.created_by.clone().unwrap_or_else(|| CREATED_BY.to_owned())),
            author: self.author.clone(),
            comment: self.comment.clone(),
        };
        let data = manifest.data.iter().map(|layer| layer.digest);
        let layers: Vec<_> = std::iter::once(manifest.rootfs.digest).chain(data).collect();
        config.into_step(base, &self.options, &entry, &layers, false)
    }

    /// Changes the part of the document that says how a container runs.
    fn apply(&self, document: &mut Value) -> Result<()> {
        let known = self.clear.iter().filter(|clear| **clear != Clear::Annotations);
        let mut config = Part::of(document)?;
        for clear in known {
            config.object.shift_remove(clear.key());
        }
        config.set_list(Clear::Entrypoint, self.entrypoint.as_deref());
        config.set_list(Clear::Cmd, self.cmd.as_deref());
        config.set_text(Clear::User, self.user.as_deref());
        config.set_text(Clear::WorkingDir, self.working_dir.as_deref());
        config.set_text(Clear::StopSignal, self.stop_signal.as_deref());
        for (name, value) in &self.env {
            set_variable(config.list(Clear::Env)?, name, value);
        }
        for (key, value) in &self.labels {
            config.map(Clear::Labels)?.insert(key.clone(), json!(value));
        }
        for path in &self.volumes {
            config.map(Clear::Volumes)?.insert(path.clone(), json!({}));
        }
        for port in &self.exposed_ports {
            config.map(Clear::ExposedPorts)?.insert(port.clone(), json!({}));
        }
        Ok(())
    }

    /// The new manifest as it is stored.
    fn manifest(
        &self,
        layout: &Layout,
        manifest: &Manifest,
        config: &Descriptor,
    ) -> Result<Vec<u8>> {
        let bytes = layout.read_document(&manifest.descriptor, "manifest")?;
        let wrong = |why: String| {
            Error::corrupt(format!("the manifest {} {why}", manifest.descriptor.digest))
        };
        let mut document =
            parse_document(&bytes, VALUES_MAX).map_err(|e| wrong(format!("is not valid: {e}")))?;
        renew(&mut document["config"], config);
        if self.clear.contains(&Clear::Annotations)
            && let Some(Value::Object(annotations)) = document.get_mut("annotations")
        {
            annotations.retain(|key, _| key == PACK_SIZE);
        }
        for (key, value) in &self.annotations {
            document["annotations"][key] = json!(value);
        }
        Ok(serde_json::to_vec(&document).expect("a JSON value can be written"))
    }
}

/// The part of a configuration that says how a container runs.
struct Part<'a> {
    object: &'a mut Map<String, Value>,
}

impl<'a> Part<'a> {
    fn of(document: &'a mut Value) -> Result<Self> {
        let part = &mut document["config"];
        if part.is_null() {
            *part = json!({});
        }
        match part {
            Value::Object(object) => Ok(Part { object }),
            _ => Err(Error::corrupt("the image's configuration has a 'config' that is no object")),
        }
    }

    fn set_list(&mut self, what: Clear, list: Option<&[String]>) {
        if let Some(list) = list {
            self.object.insert(what.key().to_owned(), json!(list));
        }
    }

    fn set_text(&mut self, what: Clear, text: Option<&str>) {
        if let Some(text) = text {
            self.object.insert(what.key().to_owned(), json!(text));
        }
    }

    fn list(&mut self, what: Clear) -> Result<&mut Vec<Value>> {
        match self.value(what, json!([])) {
            Value::Array(list) => Ok(list),
            _ => Err(wrong(what, "list")),
        }
    }

    fn map(&mut self, what: Clear) -> Result<&mut Map<String, Value>> {
        match self.value(what, json!({})) {
            Value::Object(map) => Ok(map),
            _ => Err(wrong(what, "object")),
        }
    }

    fn value(&mut self, what: Clear, empty: Value) -> &mut Value {
        let value = self.object.entry(what.key()).or_insert(Value::Null);
        if value.is_null() {
            *value = empty;
        }
        value
    }
}

fn wrong(what: Clear, expected: &str) -> Error {
    let key = what.key();
    Error::corrupt(format!("the image's configuration has a '{key}' that is no {expected}"))
}

/// Sets a variable in its place, or behind the others.
fn set_variable(list: &mut Vec<Value>, name: &str, value: &str) {
    let named =
        |entry: &Value| entry.as_str().is_some_and(|entry| entry.split('=').next() == Some(name));
    let first = list.iter().position(named).unwrap_or(list.len());
    list.retain(|entry| !named(entry));
    list.insert(first, json!(format!("{name}={value}")));
}

fn is_port(text: &str) -> bool {
    let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    digits
        && number.parse::<u16>().is_ok_and(|port| port != 0)
        && ["tcp", "udp", "sctp"].contains(&protocol)
}
