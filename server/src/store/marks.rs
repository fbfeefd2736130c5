//! Marks: what came from an upstream has one beside its link; what has none was pushed.
//!
//! A mark is made before its link and removed after it. So a crash can leave a mark without
//! content, which means nothing, but no cached content that seems to be pushed.

use std::ops::ControlFlow;
use std::path::Path;
use std::time::SystemTime;

use imgsync_oci::{Digest, Repository, Tag};

use super::error::{IoContext, Result};
use super::paths::digest_from_file_name;
use super::{LinkKind, MarkKey, Store};

/// More than is ever noted as going.
const MAX_PENDING_EVICTIONS_BYTES: usize = 64 * 1024 * 1024;

impl Store {
    /// Makes a mark, over the one that is there; durable when this returns. It says that it was
    /// made at `time`.
    pub(crate) fn put_mark(&self, mark: MarkKey<'_>, bytes: &[u8], time: SystemTime) -> Result<()> {
        let path = self.paths.mark(mark);
        self.put_file(path.clone(), bytes)?;
        self.disk.touch(&path, time).context("write", &path)
    }

    /// What a mark says, at most `limit` bytes of it; `None` where there is none.
    pub(crate) fn read_mark(&self, mark: MarkKey<'_>, limit: usize) -> Result<Option<Vec<u8>>> {
        self.read_file(&self.paths.mark(mark), limit)
    }

    /// The moment that a mark was made or last touched; `None` where there is none.
    pub(crate) fn mark_time(&self, mark: MarkKey<'_>) -> Result<Option<SystemTime>> {
        let path = self.paths.mark(mark);
        self.disk.modified(&path).context("look at", &path)
    }

    /// Notes another moment in a mark, if it is there. Not durably.
    pub(crate) fn touch_mark(&self, mark: MarkKey<'_>, time: SystemTime) -> Result<()> {
        let path = self.paths.mark(mark);
        self.disk.touch(&path, time).context("write", &path)
    }

    /// Whether a repository has, or had, any mark.
    pub(crate) fn has_marks(&self, repository: &Repository) -> Result<bool> {
        let folder = self.paths.repository_marks(repository);
        self.disk.is_folder(&folder).context("look at", &folder)
    }

    /// Removes marks, durably, as far as they are there.
    pub(crate) fn delete_marks(&self, marks: &[MarkKey<'_>]) -> Result<()> {
        let mut folders = std::collections::BTreeSet::new();
        for mark in marks {
            let path = self.paths.mark(*mark);
            if self
                .disk
                .modified(&path)
                .context("look at", &path)?
                .is_some()
            {
                self.disk.unlink(&path).context("remove", &path)?;
                folders.extend(path.parent().map(Path::to_owned));
            }
        }
        for folder in folders {
            self.disk
                .sync_folder(&folder)
                .context("sync the folder", &folder)?;
        }
        Ok(())
    }

    /// The digests of a repository that have marks, until `look` breaks off.
    pub(crate) fn for_each_marked_link(
        &self,
        repository: &Repository,
        links: LinkKind,
        look: &mut dyn FnMut(Digest) -> ControlFlow<()>,
    ) -> Result<()> {
        let folder = self.paths.link_marks(repository, links);
        let mut look = |name: &str, _: bool| match digest_from_file_name(name) {
            Some(digest) => look(digest),
            None => ControlFlow::Continue(()),
        };
        self.disk
            .for_each_entry(&folder, &mut look)
            .context("list", &folder)
    }

    /// The tags of a repository that have marks, until `look` breaks off.
    pub(crate) fn for_each_marked_tag(
        &self,
        repository: &Repository,
        look: &mut dyn FnMut(Tag) -> ControlFlow<()>,
    ) -> Result<()> {
        let folder = self.paths.tag_marks(repository);
        let mut look = |name: &str, _: bool| match name.parse() {
            Ok(tag) => look(tag),
            Err(_) => ControlFlow::Continue(()),
        };
        self.disk
            .for_each_entry(&folder, &mut look)
            .context("list", &folder)
    }

    /// Notes the digests whose bytes are about to be removed, over those that were noted; durably.
    pub(crate) fn save_pending_evictions(&self, digests: &[&Digest]) -> Result<()> {
        let lines: String = digests.iter().map(|digest| format!("{digest}\n")).collect();
        self.put_file(self.paths.pending_evictions(), lines.as_bytes())
    }

    /// The digests that were noted last.
    pub(crate) fn pending_evictions(&self) -> Result<Vec<Digest>> {
        let text = self.read_file(&self.paths.pending_evictions(), MAX_PENDING_EVICTIONS_BYTES)?;
        let text = String::from_utf8(text.unwrap_or_default()).unwrap_or_default();
        Ok(text.lines().filter_map(|line| line.parse().ok()).collect())
    }

    /// Forgets what was noted. Not durably.
    pub(crate) fn clear_pending_evictions(&self) -> Result<()> {
        let path = self.paths.pending_evictions();
        self.disk.unlink(&path).context("remove", &path)
    }
}
