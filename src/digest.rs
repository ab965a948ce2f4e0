//! SHA-256 digests, and the fs-verity digests that the format lists beside them.

use std::fmt;
use std::io::{self, Read};
use std::str::FromStr;

use sha2::{Digest as _, Sha256};

use crate::error::{Error, Result};

/// A SHA-256 digest: of a blob as stored, or of a chunk's raw bytes. Shown as `sha256:HEX`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Digest(Sha256::digest(bytes).into())
    }

    /// The digest of everything that `reader` gives.
    pub fn of_reader(reader: &mut impl Read) -> io::Result<Self> {
        let mut hasher = Hasher::default();
        read_parts(
            reader,
            |error| error,
            |part| {
                hasher.update(part);
                Ok(())
            },
        )?;
        Ok(hasher.finish())
    }

    /// The 64 hexadecimal digits: the blob's file name.
    pub fn hex(&self) -> String {
        hex::encode(self.0)
    }

    /// The digest of these 64 lower-case hexadecimal digits.
    pub fn from_hex(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        let lower_case = !text.bytes().any(|byte| byte.is_ascii_uppercase());
        (lower_case && hex::decode_to_slice(text, &mut bytes).is_ok()).then_some(Digest(bytes))
    }

    /// The first 64 bits, evenly distributed: what content-defined decisions are made by.
    pub fn prefix(&self) -> u64 {
        u64::from_be_bytes(self.0[..8].try_into().expect("8 of 32 bytes"))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        text.strip_prefix("sha256:")
            .and_then(Digest::from_hex)
            .ok_or_else(|| Error::invalid(format!("'{text}' is not a digest, sha256:HEX")))
    }
}

/// Makes a [`Digest`] of bytes that come in parts.
#[derive(Clone, Default)]
pub struct Hasher(Sha256);

impl Hasher {
    /// The next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of all bytes seen.
    pub fn finish(self) -> Digest {
        Digest(self.0.finalize().into())
    }
}

/// Calls `work` with everything that `reader` gives, part by part; `failed` says what it means when
/// that cannot be read.
pub(crate) fn read_parts<E>(
    reader: &mut impl Read,
    failed: impl FnOnce(io::Error) -> E,
    mut work: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(length) => work(&buffer[..length])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(failed(error)),
        }
    }
}

/// The fs-verity digest of a file with this content, as the kernel computes it for SHA-256 and
/// blocks of 4 KiB without a salt.
pub fn fs_verity(content: &[u8]) -> [u8; 32] {
    let mut verity = FsVerity::default();
    verity.update(content);
    verity.finish()
}

/// Makes an fs-verity digest of bytes that come in parts.
#[derive(Default)]
pub struct FsVerity(::fs_verity::FsVeritySha256<[u8; 0]>);

impl FsVerity {
    /// The next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        sha2::digest::Update::update(&mut self.0, bytes);
    }

    /// The digest of all bytes seen.
    pub fn finish(self) -> [u8; 32] {
        sha2::digest::FixedOutput::finalize_fixed(self.0).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_read_as_they_are_shown() {
        let digest = Digest::of(b"");
        let text = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(digest.to_string(), text);
        assert_eq!(text.parse::<Digest>().unwrap(), digest);
        for bad in ["", "sha256:", "sha256:E3", "md5:00", &text[..70], &text.to_uppercase()] {
            assert!(bad.parse::<Digest>().is_err(), "{bad}");
        }
    }

    /// Against `fsverity digest` of fsverity-utils 1.5.
    #[test]
    fn verity_digests_are_the_kernels() {
        let empty = "3d248ca542a24fc62d1c43b916eae5016878e2533c88238480b26128a1f1af95";
        assert_eq!(hex::encode(fs_verity(b"")), empty);
    }
}
