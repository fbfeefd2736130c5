//! Counts the changes of links that only a new count of the links shows.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{ObjectKey, Store};

/// How many changes were not counted.
#[derive(Debug, Default)]
pub(super) struct LinkChanges(AtomicU64);

impl Store {
    /// Returns a number that changes when a repository has lost content, when cached content of a
    /// repository has become pushed content, and when it is not known what was added.
    pub(crate) fn uncounted_link_changes(&self) -> u64 {
        self.link_changes.0.load(Ordering::Relaxed)
    }

    /// Records that an object was removed.
    pub(super) fn note_removed(&self, key: ObjectKey<'_>) {
        if let ObjectKey::LayerLink(..) | ObjectKey::RevisionLink(..) = key {
            self.note_link_change();
        }
    }

    /// Records a change of links that is not added to a count.
    pub(crate) fn note_link_change(&self) {
        self.link_changes.0.fetch_add(1, Ordering::Relaxed);
    }
}
