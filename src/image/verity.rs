//! What pins an image: a digest of its manifest, and through that all the others.

use std::fs::File;
use std::str::FromStr;

use super::Image;
use crate::digest::{Digest, FsVerity, read_parts};
use crate::error::{Error, ErrorKind, Result};
use crate::progress::{Monitor, Progress, Stage};
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
    pub fn check_pin(&self, pin: &Pin, monitor: &Monitor<'_>) -> Result<()> {
        let Pin::Verity(expected) = pin else {
            return self.check_digest(pin);
        };
        self.each_blob(Some(*expected), monitor, |blob, file, report| {
            let path = || self.layout.blob_path(&blob.digest);
            let found = match verity::measure(file) {
                Ok(Some(found)) => found,
                Ok(None) => self.compute(&blob.digest, file, report)?,
                Err(error) => return Err(Error::io("measure the blob", path(), error)),
            };
            self.compare(blob, found)
        })
    }

    /// Has the kernel protect all blobs of the image by fs-verity, and checks that their digests
    /// are those that are listed, and the manifest's the given one.
    ///
    /// Fails if the file system has no fs-verity.
    pub fn enable_verity(&self, manifest: Option<[u8; 32]>, monitor: &Monitor<'_>) -> Result<()> {
        self.each_blob(manifest, monitor, |blob, file, _| {
            let path = self.layout.blob_path(&blob.digest);
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
                Ok(Some(found)) => self.compare(blob, found),
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

    /// Calls `work` with each blob, and the digest that it must have if that is known, and tells
    /// how many bytes are behind it.
    fn each_blob(
        &self,
        manifest: Option<[u8; 32]>,
        monitor: &Monitor<'_>,
        work: impl Fn(&ListedBlob, &File, &mut dyn FnMut(u64) -> Result<()>) -> Result<()>,
    ) -> Result<()> {
        let listed = self.listed(manifest)?;
        let sizes = listed.iter().map(|blob| Ok(self.layout.open_blob(&blob.digest)?.1));
        let total = sizes.sum::<Result<u64>>()?;
        let mut behind = 0;
        for blob in &listed {
            let (file, size) = self.layout.open_blob(&blob.digest)?;
            let mut report = |within: u64| {
                let done = (behind + within).min(total);
                monitor.report(Progress { stage: Stage::Check, done, total })
            };
            work(blob, &file, &mut report)?;
            report(size)?;
            behind += size;
        }
        Ok(())
    }

    /// All blobs but the configuration, with the fs-verity digests that are listed.
    fn listed(&self, manifest: Option<[u8; 32]>) -> Result<Vec<ListedBlob>> {
        let rootfs = self.manifest.rootfs.digest;
        let expected = self.manifest.rootfs_verity.as_deref().and_then(Digest::from_hex);
        let expected = expected.ok_or_else(|| {
            Error::corrupt(format!("the manifest lists no fs-verity digest of the rootfs {rootfs}"))
        })?;
        let mut listed = vec![
            ListedBlob { digest: self.manifest.descriptor.digest, verity: manifest },
            ListedBlob { digest: rootfs, verity: Some(expected.0) },
        ];
        for blob in &self.rootfs.blobs {
            let digest = blob.digest;
            let expected = self.rootfs.verity.get(&digest).ok_or_else(|| {
                Error::corrupt(format!(
                    "the metadata lists no fs-verity digest of the data blob {digest}"
                ))
            })?;
            listed.push(ListedBlob { digest, verity: Some(*expected) });
        }
        Ok(listed)
    }

    fn compute(
        &self,
        digest: &Digest,
        mut file: &File,
        report: &mut dyn FnMut(u64) -> Result<()>,
    ) -> Result<[u8; 32]> {
        let mut verity = FsVerity::default();
        let mut done = 0;
        let failed = |error| Error::io("read the blob", self.layout.blob_path(digest), error);
        read_parts(&mut file, failed, |part| {
            verity.update(part);
            done += part.len() as u64;
            report(done)
        })?;
        Ok(verity.finish())
    }

    fn compare(&self, blob: &ListedBlob, found: [u8; 32]) -> Result<()> {
        let ListedBlob { digest, verity } = blob;
        match *verity {
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

/// A blob, and the fs-verity digest that it must have, if that is known.
struct ListedBlob {
    digest: Digest,
    verity: Option<[u8; 32]>,
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
