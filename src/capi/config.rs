//! Changing the configuration of an image.

use std::ffi::{c_char, c_void};

use super::progress::{puzzlefs_progress_fn, reporter};
use super::{puzzlefs_error, puzzlefs_status};
use super::{ret, symbol_version, utils};
use crate::config::{Clear, ConfigChange, Configured, configure};
use crate::error::{Error, Result};
use crate::layout::{ConfigOptions, Platform, Reference};
use crate::progress::Monitor;

symbol_version!("LIBPUZZLEFS_0.1": puzzlefs_config);

/// Bits of `flags` in `puzzlefs_config_options`.
#[repr(u64)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum puzzlefs_config_flags {
    /// `created` is given.
    PUZZLEFS_CONFIG_HAS_CREATED = 1 << 0,
}
use puzzlefs_config_flags::PUZZLEFS_CONFIG_HAS_CREATED;

/// What of a configuration is changed. Zeros, but for `size`, leave everything as it is. A number
/// that a flag must announce is refused without it.
///
/// Strings are UTF-8. All of it is the caller's, and used during the call only.
#[repr(C)]
pub struct puzzlefs_config_options {
    /// `sizeof(puzzlefs_config_options)`.
    pub size: usize,
    /// Bits of `puzzlefs_config_flags`.
    pub flags: u64,
    /// The tag under which the result is stored; NULL for the image's own.
    pub tag: *const c_char,
    /// Which image, where the tag is that of an index: `OS/ARCHITECTURE[/VARIANT]`; NULL for this
    /// machine's, or the only one.
    pub platform: *const c_char,
    /// What is cleared before anything is set, with NULL behind the last: `config.cmd`,
    /// `config.entrypoint`, `config.env`, `config.exposedports`, `config.labels`,
    /// `config.stopsignal`, `config.user`, `config.volume`, `config.workingdir`,
    /// `manifest.annotations`; NULL for nothing.
    pub clear: *const *const c_char,
    /// What is executed, with NULL behind the last argument; NULL leaves it as it is.
    pub entrypoint: *const *const c_char,
    /// The arguments to the entry point, with NULL behind the last; NULL leaves them as they are.
    pub cmd: *const *const c_char,
    /// Variables of the environment to be set, as `NAME=VALUE`, with NULL behind the last; NULL
    /// for none.
    pub env: *const *const c_char,
    /// Labels to be set: a key, its value, the next key, its value, and so on, with NULL behind
    /// the last; NULL for none.
    pub labels: *const *const c_char,
    /// Volumes to be added: paths, with NULL behind the last; NULL for none.
    pub volumes: *const *const c_char,
    /// Ports to be added, as `PORT`, `PORT/tcp` or `PORT/udp`, with NULL behind the last; NULL for
    /// none.
    pub exposed_ports: *const *const c_char,
    /// The manifest's annotations to be set, as `labels`.
    pub annotations: *const *const c_char,
    /// The user, as `USER[:GROUP]`, by names or numbers; NULL leaves it as it is.
    pub user: *const c_char,
    /// The working directory; NULL leaves it as it is.
    pub working_dir: *const c_char,
    /// The signal that stops a container; NULL leaves it as it is.
    pub stop_signal: *const c_char,
    /// An OCI image configuration to start from instead of the image's, as JSON; the history stays
    /// the image's. It need not end with a NUL. NULL for none.
    pub config: *const u8,
    /// The length of `config` in bytes.
    pub config_length: usize,
    /// The image's architecture, as Go's GOARCH; NULL leaves it as it is.
    pub architecture: *const c_char,
    /// The image's operating system, as Go's GOOS; NULL leaves it as it is.
    pub os: *const c_char,
    /// Who made the image; NULL leaves it as it is.
    pub author: *const c_char,
    /// What made the change, for the history; NULL for `puzzlefs config`.
    pub created_by: *const c_char,
    /// A remark for the history; NULL for none.
    pub comment: *const c_char,
    /// When the change was made, in seconds since 1970, if `PUZZLEFS_CONFIG_HAS_CREATED`; else the
    /// environment's `SOURCE_DATE_EPOCH`, else when the image was created.
    pub created: i64,
    /// Is told while others lock the layout, and may cancel; NULL for nobody.
    pub progress: puzzlefs_progress_fn,
    /// Passed to `progress`.
    pub data: *mut c_void,
}

// SAFETY: `repr(C)`, the size comes first, numbers and pointers may be 0.
unsafe impl utils::Versioned for puzzlefs_config_options {
    const FIRST_SIZE: usize = size_of::<Self>();
}

/// What came out. The caller sets `size`, and the library fills in the rest.
#[repr(C)]
pub struct puzzlefs_config_result {
    /// `sizeof(puzzlefs_config_result)`.
    pub size: usize,
    /// The digest of the new manifest: `sha256:` and 64 digits of 0-9a-f.
    pub digest: [c_char; 72],
    /// The fs-verity digest of the new manifest: 64 digits of 0-9a-f.
    pub verity: [c_char; 72],
    /// The size of the new manifest in bytes.
    pub manifest_size: u64,
}

// SAFETY: `repr(C)`, the size comes first, numbers may be 0.
unsafe impl utils::Versioned for puzzlefs_config_result {
    const FIRST_SIZE: usize = size_of::<Self>();
}

/// Changes the configuration of an image, as a step of its history that adds no layer.
///
/// The file system is the same, and everything in configuration, manifest and index that is not
/// told to change stays, whether the library knows it or not.
///
/// Parameters:
/// - `image`: the image: `LAYOUT:TAG`, or `LAYOUT@sha256:HEX` if `options` say under which tag the
///   result is stored.
/// - `options`: what is changed; NULL for nothing but the history.
/// - `result`: what came out, with its `size` set; NULL if that is of no interest. Nothing is
///   filled in when it fails.
/// - `error`: see `puzzlefs_error`.
///
/// Returns `PUZZLEFS_OK`, or among others `PUZZLEFS_ERR_INVALID_INPUT` for options that make no
/// sense or an image that is not one of puzzlefs, `PUZZLEFS_ERR_NOT_FOUND` without the image,
/// `PUZZLEFS_ERR_CANCELLED`.
///
/// Threads: any. No other thread may change the environment (`setenv`) meanwhile.
///
/// ```c
/// const char *const entrypoint[] = { "/bin/sh", "-c", NULL };
/// puzzlefs_config_options options = { .size = sizeof(options), .entrypoint = entrypoint };
/// if (puzzlefs_config("images:v1", &options, NULL, &error) != PUZZLEFS_OK)
///     return fail(error);
/// ```
#[unsafe(no_mangle)]
pub unsafe extern "C" fn puzzlefs_config(
    image: *const c_char,
    options: *const puzzlefs_config_options,
    result: *mut puzzlefs_config_result,
    error: *mut *mut puzzlefs_error,
) -> puzzlefs_status {
    // SAFETY: the caller passes pointers as the header asks for.
    unsafe {
        ret::call(error, || {
            let image = Reference::parse(utils::path(image, "image")?)?;
            let options = utils::options(options, "options")?;
            let result = utils::optional_slot(result, "result")?;
            let tag = utils::text(options.tag, "options.tag")?;
            let platform = utils::text(options.platform, "options.platform")?;
            let platform = platform.map(|text| Platform::parse(&text)).transpose()?;
            let change = options.to_core()?;
            let report = reporter(options.progress, options.data);
            let monitor = Monitor::new(&report);
            let configured =
                configure(&image, platform.as_ref(), tag.as_deref(), &change, &monitor)?;
            if let Some(slot) = result {
                slot.fill(configured.into());
            }
            Ok(())
        })
    }
}

impl puzzlefs_config_options {
    /// # Safety
    ///
    /// The pointers are as the header asks for.
    unsafe fn to_core(&self) -> Result<ConfigChange> {
        let has_created = PUZZLEFS_CONFIG_HAS_CREATED as u64;
        utils::flags(self.flags, has_created, "options.flags")?;
        // SAFETY: the caller promises what is needed.
        unsafe {
            Ok(ConfigChange {
                options: ConfigOptions {
                    start: utils::bytes(self.config, self.config_length, "options.config")?
                        .map(<[u8]>::to_vec),
                    architecture: utils::text(self.architecture, "options.architecture")?,
                    os: utils::text(self.os, "options.os")?,
                },
                clear: utils::texts(self.clear, "options.clear")?
                    .iter()
                    .map(|text| Clear::parse(text))
                    .collect::<Result<_>>()?,
                entrypoint: utils::optional_texts(self.entrypoint, "options.entrypoint")?,
                cmd: utils::optional_texts(self.cmd, "options.cmd")?,
                env: utils::texts(self.env, "options.env")?
                    .iter()
                    .map(|text| variable(text))
                    .collect::<Result<_>>()?,
                labels: utils::pairs(self.labels, "options.labels")?,
                user: utils::text(self.user, "options.user")?,
                working_dir: utils::text(self.working_dir, "options.working_dir")?,
                stop_signal: utils::text(self.stop_signal, "options.stop_signal")?,
                volumes: utils::texts(self.volumes, "options.volumes")?,
                exposed_ports: utils::texts(self.exposed_ports, "options.exposed_ports")?,
                annotations: utils::pairs(self.annotations, "options.annotations")?
                    .into_iter()
                    .collect(),
                created: utils::given(
                    self.flags & has_created != 0,
                    self.created,
                    "options.created",
                )?,
                author: utils::text(self.author, "options.author")?,
                created_by: utils::text(self.created_by, "options.created_by")?,
                comment: utils::text(self.comment, "options.comment")?,
            })
        }
    }
}

fn variable(text: &str) -> Result<(String, String)> {
    let pair = text.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
    pair.ok_or_else(|| Error::invalid(format!("'options.env' has '{text}': expected NAME=VALUE")))
}

impl From<Configured> for puzzlefs_config_result {
    fn from(configured: Configured) -> Self {
        puzzlefs_config_result {
            size: size_of::<Self>(),
            digest: utils::chars(configured.descriptor.digest.to_string().as_bytes()),
            verity: utils::chars(hex::encode(configured.verity).as_bytes()),
            manifest_size: configured.descriptor.size,
        }
    }
}
