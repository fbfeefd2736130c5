//! Marks: what came from an upstream has one beside its link; what has none was pushed.
//!
//! A mark is made before its link and removed after it. So a crash can leave a mark without
//! content, which means nothing, but no cached content that seems to be pushed.

use std::ops::ControlFlow;
use std::path::Path;
use std::time::SystemTime;

use imgsync_oci::{Digest, Repository, Tag};

use super::error::{Doing, Result};
use super::keys::unflat;
use super::{Links, Mark, Store};

/// More than is ever noted as going.
const MAX_GOING_BYTES: usize = 64 * 1024 * 1024;

impl Store {
    /// Makes a mark, over the one that is there; durable when this returns. It says that it was
    /// made at `time`.
    pub(crate) fn mark(&self, mark: Mark<'_>, bytes: &[u8], time: SystemTime) -> Result<()> {
        let path = self.keys.mark(mark);
        self.put_at(path.clone(), bytes)?;
        self.disk.touch(&path, time).doing("write", &path)
    }

    /// What a mark says, at most `limit` bytes of it; `None` where there is none.
    pub(crate) fn read_mark(&self, mark: Mark<'_>, limit: usize) -> Result<Option<Vec<u8>>> {
        self.read_at(&self.keys.mark(mark), limit)
    }

    /// The moment that a mark was made or last touched; `None` where there is none.
    pub(crate) fn marked_at(&self, mark: Mark<'_>) -> Result<Option<SystemTime>> {
        let path = self.keys.mark(mark);
        self.disk.modified(&path).doing("look at", &path)
    }

    /// Notes another moment in a mark, if it is there. Not durably.
    pub(crate) fn touch_mark(&self, mark: Mark<'_>, time: SystemTime) -> Result<()> {
        let path = self.keys.mark(mark);
        self.disk.touch(&path, time).doing("write", &path)
    }

    /// Whether a repository has, or had, any mark.
    pub(crate) fn has_marks(&self, repository: &Repository) -> Result<bool> {
        let folder = self.keys.all_marks(repository);
        self.disk.is_folder(&folder).doing("look at", &folder)
    }

    /// Removes marks, durably, as far as they are there.
    pub(crate) fn unmark(&self, marks: &[Mark<'_>]) -> Result<()> {
        let mut folders = std::collections::BTreeSet::new();
        for mark in marks {
            let path = self.keys.mark(*mark);
            if self.disk.modified(&path).doing("look at", &path)?.is_some() {
                self.disk.unlink(&path).doing("remove", &path)?;
                folders.extend(path.parent().map(Path::to_owned));
            }
        }
        for folder in folders {
            self.disk
                .sync_folder(&folder)
                .doing("sync the folder", &folder)?;
        }
        Ok(())
    }

    /// The digests of a repository that have marks, until `look` breaks off.
    pub(crate) fn each_marked(
        &self,
        repository: &Repository,
        links: Links,
        look: &mut dyn FnMut(Digest) -> ControlFlow<()>,
    ) -> Result<()> {
        let folder = self.keys.marks(repository, links);
        let mut look = |name: &str, _: bool| match unflat(name) {
            Some(digest) => look(digest),
            None => ControlFlow::Continue(()),
        };
        self.disk.each(&folder, &mut look).doing("list", &folder)
    }

    /// The tags of a repository that have marks, until `look` breaks off.
    pub(crate) fn each_marked_tag(
        &self,
        repository: &Repository,
        look: &mut dyn FnMut(Tag) -> ControlFlow<()>,
    ) -> Result<()> {
        let folder = self.keys.tag_marks(repository);
        let mut look = |name: &str, _: bool| match name.parse() {
            Ok(tag) => look(tag),
            Err(_) => ControlFlow::Continue(()),
        };
        self.disk.each(&folder, &mut look).doing("list", &folder)
    }

    /// Notes the digests whose bytes are about to be removed, over those that were noted; durably.
    pub(crate) fn note_going(&self, digests: &[&Digest]) -> Result<()> {
        let lines: String = digests.iter().map(|digest| format!("{digest}\n")).collect();
        self.put_at(self.keys.going(), lines.as_bytes())
    }

    /// The digests that were noted last.
    pub(crate) fn going(&self) -> Result<Vec<Digest>> {
        let text = self.read_at(&self.keys.going(), MAX_GOING_BYTES)?;
        let text = String::from_utf8(text.unwrap_or_default()).unwrap_or_default();
        Ok(text.lines().filter_map(|line| line.parse().ok()).collect())
    }

    /// Forgets what was noted. Not durably.
    pub(crate) fn forget_going(&self) -> Result<()> {
        let path = self.keys.going();
        self.disk.unlink(&path).doing("remove", &path)
    }
}
