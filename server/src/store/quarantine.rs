//! Damaged bytes of blobs, which are kept in a folder of their own until the operator deletes them.

use std::path::PathBuf;

use imgsync_oci::Digest;

use super::error::{IoContext as _, Result};
use super::{ObjectKey, Store};

impl Store {
    /// Moves the bytes of a blob to the quarantine, durably, where they stay until the operator
    /// deletes them. Does nothing if there is no such blob. The caller holds the lock of the digest.
    pub(crate) fn quarantine_blob(&self, digest: &Digest) -> Result<()> {
        let from = self.paths.object(ObjectKey::Blob(digest));
        let Some(parent) = from.parent() else {
            return Ok(());
        };
        if !self.disk.is_file(&from)? {
            return Ok(());
        }
        let mut to = self.paths.quarantined_blob(digest, 0);
        for path in self.quarantined_files(digest) {
            to = path;
            if !self.disk.is_file(&to)? {
                break;
            }
        }
        let quarantine = to.parent().unwrap_or(&to);
        self.folders.ensure(quarantine)?;
        self.disk.rename(&from, &to).context("move", &from)?;
        self.disk.sync_folder(quarantine)?;
        self.disk.sync_folder(parent)?;
        // Best effort: the stock registry leaves the empty folder behind, too.
        if let Err(error) = self.disk.remove_folder(parent) {
            tracing::debug!(?parent, %error, "did not remove an empty folder");
        }
        Ok(())
    }

    /// Returns how many bytes of a blob are in the quarantine, in all its files together; `None`
    /// without any.
    pub(crate) fn quarantined_len(&self, digest: &Digest) -> Result<Option<u64>> {
        let mut total = None;
        for path in self.quarantined_files(digest) {
            let Some(len) = self.disk.len(&path)? else {
                break;
            };
            total = Some(total.unwrap_or(0) + len);
        }
        Ok(total)
    }

    /// Removes a blob from the quarantine, durably. The caller holds the lock of the digest.
    pub(crate) fn delete_quarantined_blob(&self, digest: &Digest) -> Result<()> {
        let mut files = Vec::new();
        for path in self.quarantined_files(digest) {
            if !self.disk.is_file(&path)? {
                break;
            }
            files.push(path);
        }
        // The last file first: a gap would hide the files after it from the next run.
        for path in files.iter().rev() {
            self.disk.unlink(path)?;
        }
        match files.first().and_then(|path| path.parent()) {
            Some(folder) => self.disk.sync_folder(folder),
            None => Ok(()),
        }
    }

    fn quarantined_files(&self, digest: &Digest) -> impl Iterator<Item = PathBuf> {
        (0..).map(|number| self.paths.quarantined_blob(digest, number))
    }
}
