//! What pins an image: a digest of its manifest, and through that all the others.

use std::fs::File;
use std::io::Read;
use std::str::FromStr;

use super::Image;
use crate::digest::{Digest, FsVerity};
use crate::error::{Error, ErrorKind, Result};
use crate::sys::verity;

/// What an image must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pin {
    /// The digest of its manifest, `sha256:HEX`.
    Digest(Digest),
    /// The fs-verity digest of its manifest, `HEX`.
    Verity([u8; 32]),
}

impl FromStr for Pin {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if let Ok(digest) = text.parse() {
            return Ok(Pin::Digest(digest));
        }
        match Digest::from_hex(text) {
            Some(Digest(digest)) => Ok(Pin::Verity(digest)),
            None => Err(Error::invalid(format!(
                "'{text}' is neither a digest, sha256:HEX, nor an fs-verity digest, 64 digits of 0-9a-f"
            ))),
        }
    }
}

impl Image {
    /// Checks that the image is this one.
    ///
    /// By its fs-verity digest, the metadata and each data blob must have those that are listed,
    /// too: the kernel's where it has them, else they are computed, for which all is read.
    pub fn check_pin(&self, pin: &Pin) -> Result<()> {
        let Pin::Verity(expected) = pin else {
            return self.check_digest(pin);
        };
        self.each_blob(Some(*expected), |file, digest, expected| {
            let found = match verity::measure(file) {
                Ok(Some(found)) => found,
                Ok(None) => self.compute(file, digest)?,
                Err(error) => {
                    return Err(Error::io(
                        "measure the blob",
                        self.layout.blob_path(digest),
                        error,
                    ));
                }
            };
            self.compare(digest, found, expected)
        })
    }

    /// Has the kernel protect all blobs of the image by fs-verity, and checks that their digests
    /// are those that are listed, and the manifest's the given one.
    ///
    /// Fails if the file system has no fs-verity.
    pub fn enable_verity(&self, manifest: Option<[u8; 32]>) -> Result<()> {
        self.each_blob(manifest, |file, digest, expected| {
            let path = self.layout.blob_path(digest);
            verity::enable(file).map_err(|error| match verity::is_unknown(&error) {
                true => Error::new(
                    ErrorKind::Unsupported,
                    format!(
                        "the file system of '{}' has no fs-verity, or it is not enabled there \
                         (ext4: tune2fs -O verity DEVICE)",
                        self.layout.path().display()
                    ),
                )
                .with_path(&path),
                false => Error::io("enable fs-verity for", &path, error),
            })?;
            match verity::measure(file) {
                Ok(Some(found)) => self.compare(digest, found, expected),
                Ok(None) => Err(Error::corrupt(format!(
                    "fs-verity is enabled for '{}' in another way than images have it",
                    path.display()
                ))
                .with_path(path)),
                Err(error) => Err(Error::io("measure the blob", path, error)),
            }
        })
    }

    fn check_digest(&self, pin: &Pin) -> Result<()> {
        let found = self.manifest.descriptor.digest;
        match pin {
            Pin::Digest(expected) if *expected != found => {
                let layout = self.layout.path();
                let shown = layout.display();
                let message = format!("the image in '{shown}' is {found}, and must be {expected}");
                Err(Error::corrupt(message).with_path(layout))
            }
            _ => Ok(()),
        }
    }

    /// Calls `work` with each blob, its name, and the digest that it must have, if that is known.
    fn each_blob(
        &self,
        manifest: Option<[u8; 32]>,
        work: impl Fn(&File, &Digest, Option<[u8; 32]>) -> Result<()>,
    ) -> Result<()> {
        let open = |digest: &Digest, expected| {
            let (file, _) = self.layout.open_blob(digest)?;
            work(&file, digest, expected)
        };
        open(&self.manifest.descriptor.digest, manifest)?;
        let rootfs = &self.manifest.rootfs.digest;
        let listed = self.manifest.rootfs_verity.as_deref().and_then(Digest::from_hex);
        let listed = listed.ok_or_else(|| {
            Error::corrupt(format!("the manifest lists no fs-verity digest of the rootfs {rootfs}"))
        })?;
        open(rootfs, Some(listed.0))?;
        for blob in &self.rootfs.blobs {
            let listed = self.rootfs.verity.get(&blob.digest).ok_or_else(|| {
                Error::corrupt(format!(
                    "the metadata lists no fs-verity digest of the data blob {}",
                    blob.digest
                ))
            })?;
            open(&blob.digest, Some(*listed))?;
        }
        Ok(())
    }

    fn compute(&self, mut file: &File, digest: &Digest) -> Result<[u8; 32]> {
        let mut verity = FsVerity::default();
        let mut buffer = vec![0; 256 * 1024];
        loop {
            match file.read(&mut buffer) {
                Ok(0) => return Ok(verity.finish()),
                Ok(length) => verity.update(&buffer[..length]),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => {
                    return Err(Error::io("read the blob", self.layout.blob_path(digest), error));
                }
            }
        }
    }

    fn compare(&self, digest: &Digest, found: [u8; 32], expected: Option<[u8; 32]>) -> Result<()> {
        match expected {
            Some(expected) if expected != found => Err(Error::corrupt(format!(
                "the blob {digest} has the fs-verity digest {}, and must have {}",
                hex::encode(found),
                hex::encode(expected)
            ))
            .with_path(self.layout.blob_path(digest))),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins() {
        let hex = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let digest = Digest::of(b"");
        assert_eq!(format!("sha256:{hex}").parse::<Pin>().unwrap(), Pin::Digest(digest));
        assert_eq!(hex.parse::<Pin>().unwrap(), Pin::Verity(digest.0));
        let bad = ["", "sha256:", &hex[1..], &hex.to_uppercase(), "md5:00", "sha512:00"];
        for text in bad {
            assert!(text.parse::<Pin>().is_err(), "{text}");
        }
    }
}
