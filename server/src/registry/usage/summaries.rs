//! Sums up upload sessions and the trash.

use std::time::{Duration, SystemTime};

use super::super::Registry;
use super::super::error::Result;
use crate::store::{ListScope, Walk};

/// The open upload sessions.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct OpenUploadsSummary {
    pub(crate) count: u64,
    /// The bytes that were received.
    pub(crate) bytes: u64,
    /// When the oldest session was opened.
    pub(crate) oldest: Option<SystemTime>,
}

/// The content of the trash.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct TrashSummary {
    /// Number of tags, manifests and blobs that were removed.
    pub(crate) entries: u64,
    /// The size of the blobs in the trash in bytes.
    pub(crate) bytes: u64,
    /// When the oldest part of it is deleted, in Unix seconds.
    pub(crate) first_expiry: Option<u64>,
    /// When the latest part of it is deleted, in Unix seconds.
    pub(crate) last_expiry: Option<u64>,
}

impl Registry {
    /// Sums up the open upload sessions.
    ///
    /// # Errors
    /// The errors of the store and of the walk.
    pub(crate) fn summarize_uploads(&self, walk: &Walk<'_>) -> Result<OpenUploadsSummary> {
        let mut summary = OpenUploadsSummary::default();
        for repository in self.repositories(ListScope::RepositoriesWithUploads, walk) {
            let repository = repository?;
            for id in self.store.uploads(&repository) {
                walk.step()?;
                let id = id?;
                let Some(started_at) = self.store.upload_started_at(&repository, id)? else {
                    continue;
                };
                summary.count += 1;
                summary.bytes += self.store.upload_len(&repository, id)?;
                let oldest = summary.oldest.unwrap_or(started_at);
                summary.oldest = Some(oldest.min(started_at));
            }
        }
        Ok(summary)
    }

    /// Sums up the trash, whose content is kept for `undo`.
    ///
    /// # Errors
    /// The errors of the store and of the walk.
    pub(crate) fn summarize_trash(&self, undo: Duration, walk: &Walk<'_>) -> Result<TrashSummary> {
        let mut summary = TrashSummary::default();
        for part in self.store.trash_parts()? {
            let expiry = part.expires_at(undo.as_secs());
            summary.first_expiry.get_or_insert(expiry);
            summary.last_expiry = Some(expiry);
            self.store.for_each_trash_entry(part, &mut |_| {
                summary.entries += 1;
                walk.step()
            })?;
            summary.bytes += self.store.trash_part_len(part, walk)?;
        }
        Ok(summary)
    }
}
