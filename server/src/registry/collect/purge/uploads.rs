//! Cancels the upload sessions that hold a copy of content that is purged.
//!
//! Start reading at [`Registry::cancel_uploads_of`].

use imgsync_oci::endpoint::UploadId;
use imgsync_oci::{Digest, Repository};

use super::super::super::Registry;
use super::super::super::error::Result;
use crate::store::{ListScope, ObjectKey, ObjectReader, Walk};

/// Fewer equal bytes do not show that a session holds the same content, unless they are all of it.
const MIN_EQUAL_BYTES: u64 = 512;

impl Registry {
    /// Cancels the sessions of these repositories, every session whose bytes are the beginning of one
    /// of the contents. Returns the number of those that are still being written to.
    pub(super) fn cancel_uploads_of(
        &self,
        contents: &[&Digest],
        repositories: &[Repository],
    ) -> Result<usize> {
        let mut unfinished = 0;
        let walk = Walk::unbounded();
        for repository in self.repositories(ListScope::RepositoriesWithUploads, &walk) {
            let repository = repository?;
            for id in self.store.uploads(&repository) {
                let id = id?;
                if !repositories.contains(&repository)
                    && !self.is_copy(&repository, id, contents)?
                {
                    continue;
                }
                if !self.interrupt_upload(&repository, id)? {
                    tracing::warn!(%repository, %id, "not cancelled: an upload is being written to");
                    unfinished += 1;
                }
            }
        }
        Ok(unfinished)
    }

    /// Returns whether the bytes of a session are the beginning of one of the contents.
    fn is_copy(&self, repository: &Repository, id: UploadId, contents: &[&Digest]) -> Result<bool> {
        let Some((session, len)) = self.store.open_upload_data(repository, id)? else {
            return Ok(false);
        };
        if len == 0 {
            return Ok(false);
        }
        for digest in contents {
            let blob = match self.store.open_object(ObjectKey::Blob(digest))? {
                Some(blob) => Some(blob),
                None => self.open_trashed(digest)?,
            };
            let Some((blob, size)) = blob.filter(|(_, size)| *size >= len) else {
                continue;
            };
            let is_telling = len == size || len >= MIN_EQUAL_BYTES;
            if is_telling && session.has_same_start(&blob, len)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn open_trashed(&self, digest: &Digest) -> Result<Option<(ObjectReader, u64)>> {
        for part in self.store.trash_parts()? {
            if let Some(blob) = self.store.open_trashed_blob(part, digest)? {
                return Ok(Some(blob));
            }
        }
        Ok(None)
    }
}
