//! `puzzlefs config`.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::ExitCode;

use puzzlefs::config::{ConfigChange, Configured, configure};
use puzzlefs::layout::ConfigOptions;
use puzzlefs::progress::Monitor;
use puzzlefs::{Error, ErrorKind};
use serde_json::json;

use crate::args::Config;
use crate::interrupt;
use crate::look;
use crate::output::Failure;

pub fn run(args: Config) -> Result<ExitCode, Failure> {
    let change = change(&args)?;
    if change == ConfigChange::default() {
        let message = "nothing is to be changed; `puzzlefs inspect` shows the configuration";
        return Err(Error::new(ErrorKind::InvalidInput, message).into());
    }
    let (image, platform) = (&args.image.reference, args.image.platform.as_ref());
    let report = |_| interrupt::flow();
    let Configured { descriptor, verity } =
        configure(image, platform, args.tag.as_deref(), &change, &Monitor::new(&report))?;
    if args.json {
        look::print_json(&json!({
            "descriptor": {
                "mediaType": descriptor.media_type,
                "digest": descriptor.digest.to_string(),
                "size": descriptor.size,
            },
            "verity": hex::encode(verity),
        }))?;
    } else {
        look::print(&format!("{}\n", descriptor.digest))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Reads a configuration to start from.
pub fn read(path: Option<&Path>) -> Result<Option<Vec<u8>>, Error> {
    /// How long a configuration in a layout may be, in bytes.
    const MAX: u64 = 4 * 1024 * 1024;
    let Some(path) = path else { return Ok(None) };
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX + 1).read_to_end(&mut bytes))
        .map_err(|error| Error::io("read", path, error))?;
    if bytes.len() as u64 > MAX {
        let message = format!("'{}' has more than 4 MiB: it is no configuration", path.display());
        return Err(Error::new(ErrorKind::InvalidInput, message).with_path(path));
    }
    Ok(Some(bytes))
}

fn change(args: &Config) -> Result<ConfigChange, Error> {
    let given = |list: &Vec<String>| (!list.is_empty()).then(|| list.clone());
    Ok(ConfigChange {
        options: ConfigOptions {
            start: read(args.config.as_deref())?,
            architecture: args.architecture.clone(),
            os: args.os.clone(),
        },
        clear: args.clear.clone(),
        entrypoint: given(&args.entrypoint),
        cmd: given(&args.cmd),
        env: args.env.clone(),
        labels: args.label.clone(),
        user: args.user.clone(),
        working_dir: args.workdir.clone(),
        stop_signal: args.stop_signal.clone(),
        volumes: args.volume.clone(),
        exposed_ports: args.expose.clone(),
        annotations: args.annotation.iter().cloned().collect(),
        created: args.created,
        author: args.author.clone(),
        created_by: args.created_by.clone(),
        comment: args.comment.clone(),
    })
}
