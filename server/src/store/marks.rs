//! Marks: small files that tell content from an upstream apart from pushed content.
//!
//! Cached content has a mark beside its link; pushed content has none. A mark is written before its
//! link and removed after it. A crash can therefore leave a mark without content, which means
//! nothing, but no cached content that seems to be pushed. This module only reads and writes marks;
//! what they contain is up to `registry::cache`.

use std::ops::ControlFlow;
use std::path::Path;
use std::time::SystemTime;

use imgsync_oci::{Digest, Repository, Tag};

use super::error::{IoContext, Result};
use super::paths::digest_from_file_name;
use super::{LinkKind, MarkKey, Store};

/// Bounds how much of the list of pending evictions is read; real ones are far shorter.
const MAX_PENDING_EVICTIONS_BYTES: usize = 64 * 1024 * 1024;

impl Store {
    /// Writes a mark, replacing the one that was there, and sets its modification time to `time`.
    /// The mark is durable when this returns.
    pub(crate) fn put_mark(&self, mark: MarkKey<'_>, bytes: &[u8], time: SystemTime) -> Result<()> {
        let path = self.paths.mark(mark);
        self.put_file(path.clone(), bytes)?;
        self.disk.touch(&path, time).context("write", &path)
    }

    /// Reads a mark, at most its first `limit` bytes; `None` if there is no such mark.
    pub(crate) fn read_mark(&self, mark: MarkKey<'_>, limit: usize) -> Result<Option<Vec<u8>>> {
        self.read_file(&self.paths.mark(mark), limit)
    }

    /// Returns the modification time of a mark; `None` if there is no such mark.
    pub(crate) fn mark_time(&self, mark: MarkKey<'_>) -> Result<Option<SystemTime>> {
        let path = self.paths.mark(mark);
        self.disk.modified(&path).context("stat", &path)
    }

    /// Sets the modification time of a mark, if there is one. Not durably.
    pub(crate) fn touch_mark(&self, mark: MarkKey<'_>, time: SystemTime) -> Result<()> {
        let path = self.paths.mark(mark);
        self.disk.touch(&path, time).context("write", &path)
    }

    /// Whether a repository has, or had, marks.
    pub(crate) fn has_marks(&self, repository: &Repository) -> Result<bool> {
        let folder = self.paths.repository_marks(repository);
        self.disk.is_folder(&folder).context("stat", &folder)
    }

    /// Removes those of the marks that are there, durably.
    pub(crate) fn delete_marks(&self, marks: &[MarkKey<'_>]) -> Result<()> {
        let mut folders = std::collections::BTreeSet::new();
        for mark in marks {
            let path = self.paths.mark(*mark);
            let modified_at = self.disk.modified(&path).context("stat", &path)?;
            if modified_at.is_some() {
                self.disk.unlink(&path).context("remove", &path)?;
                folders.extend(path.parent().map(Path::to_owned));
            }
        }
        for folder in folders {
            self.sync_folder(&folder)?;
        }
        Ok(())
    }

    /// Calls `visit` with each digest of a repository that has a mark, until it breaks.
    pub(crate) fn for_each_marked_link(
        &self,
        repository: &Repository,
        links: LinkKind,
        visit: &mut dyn FnMut(Digest) -> ControlFlow<()>,
    ) -> Result<()> {
        let folder = self.paths.link_marks(repository, links);
        let mut visit_name = |name: &str, _: bool| match digest_from_file_name(name) {
            Some(digest) => visit(digest),
            None => ControlFlow::Continue(()),
        };
        self.disk
            .for_each_entry(&folder, &mut visit_name)
            .context("list", &folder)
    }

    /// Calls `visit` with each tag of a repository that has a mark, until it breaks.
    pub(crate) fn for_each_marked_tag(
        &self,
        repository: &Repository,
        visit: &mut dyn FnMut(Tag) -> ControlFlow<()>,
    ) -> Result<()> {
        let folder = self.paths.tag_marks(repository);
        let mut visit_name = |name: &str, _: bool| match name.parse() {
            Ok(tag) => visit(tag),
            Err(_) => ControlFlow::Continue(()),
        };
        self.disk
            .for_each_entry(&folder, &mut visit_name)
            .context("list", &folder)
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
        let path = self.paths.pending_evictions();
        self.disk.unlink(&path).context("remove", &path)
    }
}
