//! Marks: small files that tell content from an upstream apart from pushed content.
//!
//! Cached content has a mark beside its link; pushed content has none. A mark is written before its
//! link and removed after it. A crash can therefore leave a mark without content, which has no
//! effect. It never leaves cached content that seems to be pushed. This module only reads and writes
//! marks; their content is up to `registry::cache`.

use std::path::Path;
use std::time::SystemTime;

use imgsync_oci::{Digest, Repository, Tag};

use super::error::Result;
use super::{LinkKind, MarkKey, Store};

/// Bounds how much of the list of pending evictions is read; real ones are far shorter.
const MAX_PENDING_EVICTIONS_BYTES: usize = 64 * 1024 * 1024;

impl Store {
    /// Writes a mark, replacing the one that was there, and sets its modification time to `time`.
    /// The mark is durable when this returns.
    pub(crate) fn put_mark(&self, mark: MarkKey<'_>, bytes: &[u8], time: SystemTime) -> Result<()> {
        let path = self.paths.mark(mark);
        self.put_file(path.clone(), bytes)?;
        self.disk.touch(&path, time)
    }

    /// Reads a mark, at most its first `limit` bytes; `None` if there is no such mark.
    pub(crate) fn read_mark(&self, mark: MarkKey<'_>, limit: usize) -> Result<Option<Vec<u8>>> {
        self.read_file(&self.paths.mark(mark), limit)
    }

    /// Returns the modification time of a mark; `None` if there is no such mark.
    pub(crate) fn mark_time(&self, mark: MarkKey<'_>) -> Result<Option<SystemTime>> {
        self.disk.modified(&self.paths.mark(mark))
    }

    /// Sets the modification time of a mark, if there is one. Not durably.
    pub(crate) fn touch_mark(&self, mark: MarkKey<'_>, time: SystemTime) -> Result<()> {
        self.disk.touch(&self.paths.mark(mark), time)
    }

    /// Returns whether a repository has, or had, marks.
    pub(crate) fn has_marks(&self, repository: &Repository) -> Result<bool> {
        self.disk
            .is_folder(&self.paths.repository_marks(repository))
    }

    /// Removes those of the marks that are there, durably.
    pub(crate) fn delete_marks(&self, marks: &[MarkKey<'_>]) -> Result<()> {
        let mut folders = std::collections::BTreeSet::new();
        for mark in marks {
            let path = self.paths.mark(*mark);
            if self.disk.is_file(&path)? {
                self.disk.unlink(&path)?;
                self.note_link_change();
                folders.extend(path.parent().map(Path::to_owned));
            }
        }
        for folder in folders {
            self.disk.sync_folder(&folder)?;
        }
        Ok(())
    }

    /// Iterates over the digests of a repository that have a mark.
    pub(crate) fn marked_links(
        &self,
        repository: &Repository,
        links: LinkKind,
    ) -> impl Iterator<Item = Result<Digest>> + use<> {
        self.digest_files(&self.paths.link_marks(repository, links))
    }

    /// Iterates over the tags of a repository that have a mark.
    pub(crate) fn marked_tags(
        &self,
        repository: &Repository,
    ) -> impl Iterator<Item = Result<Tag>> + use<> {
        self.parsed_entries(&self.paths.tag_marks(repository), |name, _| {
            name.parse().ok()
        })
    }

    /// Stores the digests of the blobs that are about to be evicted, durably, replacing the earlier
    /// list.
    pub(crate) fn save_pending_evictions(&self, digests: &[&Digest]) -> Result<()> {
        let lines: String = digests.iter().map(|digest| format!("{digest}\n")).collect();
        self.put_file(self.paths.pending_evictions(), lines.as_bytes())
    }

    /// Returns the digests that [`Store::save_pending_evictions`] stored last.
    pub(crate) fn pending_evictions(&self) -> Result<Vec<Digest>> {
        let text = self.read_file(&self.paths.pending_evictions(), MAX_PENDING_EVICTIONS_BYTES)?;
        let text = String::from_utf8(text.unwrap_or_default()).unwrap_or_default();
        Ok(text.lines().filter_map(|line| line.parse().ok()).collect())
    }

    /// Removes the list of pending evictions. Not durably.
    pub(crate) fn clear_pending_evictions(&self) -> Result<()> {
        self.disk.unlink(&self.paths.pending_evictions())
    }
}
