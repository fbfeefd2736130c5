//! Stores for each cached tag which digest the upstream reported, and when it last confirmed it.
//!
//! Start reading at [`TagState`].

use imgsync_oci::{Digest, Repository, Tag};
use serde::{Deserialize, Serialize};

use super::super::Registry;
use super::super::error::Result;
use super::super::locks::{LockKey, lock_shared};
use super::from_unix_seconds;
use crate::store::{MarkKey, ObjectKey};

/// Format of a tag's mark. A mark in another format counts as absent.
const TAG_MARK_FORMAT: &str = "imgsync-cached-tag-1";
/// Size limit when reading a mark; real marks are smaller.
const MAX_TAG_MARK_BYTES: usize = 4096;
/// Minimum time between two saved confirmations of a tag.
const CONFIRM_INTERVAL_SECONDS: u64 = 10;

/// Whether a repository has a tag, and where it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TagState {
    /// The repository has no such tag.
    Absent,
    /// The tag was pushed to this registry.
    Pushed,
    /// The tag was cached from an upstream.
    Cached {
        /// The digest that the tag points at.
        digest: Digest,
        /// When the upstream last confirmed the tag, in Unix seconds.
        confirmed_at: u64,
        /// The address of the upstream from which the tag was cached.
        upstream: String,
    },
}

/// The content of a tag's mark.
#[derive(Serialize, Deserialize)]
pub(super) struct TagMark {
    format: String,
    /// The digest that the upstream reported, and the previous one: the mark is written before the
    /// tag moves, so it must match the tag before and after.
    digests: Vec<Digest>,
    confirmed: u64,
    upstream: String,
}

impl TagMark {
    pub(super) fn new(digests: Vec<Digest>, confirmed: u64, upstream: &str) -> Self {
        Self {
            format: TAG_MARK_FORMAT.to_owned(),
            digests,
            confirmed,
            upstream: upstream.to_owned(),
        }
    }
}

impl Registry {
    /// Returns whether a repository has a tag, and where it came from.
    ///
    /// # Errors
    /// Returns the errors of the store.
    pub(crate) fn tag_state(&self, repository: &Repository, tag: &Tag) -> Result<TagState> {
        // Without the lock, a tag that is being moved or deleted could look like a pushed tag.
        let _lock = lock_shared(&self.locks, LockKey::Tag(repository.clone(), tag.clone()));
        self.tag_state_locked(repository, tag)
    }

    /// Returns the state of a tag. The caller holds the lock of the tag.
    pub(super) fn tag_state_locked(&self, repository: &Repository, tag: &Tag) -> Result<TagState> {
        let current = ObjectKey::TagCurrent(repository, tag);
        let mark = self.read_tag_mark(repository, tag)?;
        let Some(digest) = self.read_link(current)? else {
            // A damaged link without a mark may have been a pushed tag.
            let has_link = self.store.len(current)?.is_some();
            return Ok(if has_link && mark.is_none() {
                TagState::Pushed
            } else {
                TagState::Absent
            });
        };
        Ok(match mark {
            Some(mark) if mark.digests.contains(&digest) => TagState::Cached {
                digest,
                confirmed_at: mark.confirmed,
                upstream: mark.upstream,
            },
            _ => TagState::Pushed,
        })
    }

    /// Reads the mark of a tag. An unreadable mark counts as absent.
    fn read_tag_mark(&self, repository: &Repository, tag: &Tag) -> Result<Option<TagMark>> {
        let mark = MarkKey::Tag(repository, tag);
        let json = self.store.read_mark(mark, MAX_TAG_MARK_BYTES)?;
        let mark = json.and_then(|json| serde_json::from_slice::<TagMark>(&json).ok());
        Ok(mark.filter(|mark| mark.format == TAG_MARK_FORMAT))
    }

    /// Writes the mark of a tag.
    pub(super) fn put_tag_mark(
        &self,
        repository: &Repository,
        tag: &Tag,
        mark: &TagMark,
    ) -> Result<()> {
        let json = serde_json::json!(mark).to_string();
        let time = from_unix_seconds(mark.confirmed);
        let tag = MarkKey::Tag(repository, tag);
        Ok(self.store.put_mark(tag, json.as_bytes(), time)?)
    }

    /// Records that the upstream confirmed at `now` (Unix seconds) that a cached tag points at
    /// `digest`. Returns false if the tag is not cached or points elsewhere.
    ///
    /// # Errors
    /// Returns the errors of the store.
    pub(crate) fn confirm_tag(
        &self,
        repository: &Repository,
        tag: &Tag,
        digest: &Digest,
        now: u64,
    ) -> Result<bool> {
        let _lock = self.lock_keys([LockKey::Tag(repository.clone(), tag.clone())]);
        match self.tag_state_locked(repository, tag)? {
            TagState::Cached {
                digest: current,
                confirmed_at,
                upstream,
            } if current == *digest => {
                if confirmed_at.abs_diff(now) >= CONFIRM_INTERVAL_SECONDS {
                    let mark = TagMark::new(vec![current], now, &upstream);
                    self.put_tag_mark(repository, tag, &mark)?;
                }
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// Deletes a cached tag, because the upstream no longer has it. Returns false if the tag is not
    /// cached. The manifest stays until it is evicted.
    ///
    /// # Errors
    /// Returns the errors of the store.
    pub(crate) fn remove_cached_tag(&self, repository: &Repository, tag: &Tag) -> Result<bool> {
        let _lock = self.lock_keys([LockKey::Tag(repository.clone(), tag.clone())]);
        match self.tag_state_locked(repository, tag)? {
            TagState::Cached { .. } => {
                self.remove_tag(repository, tag)?;
                Ok(true)
            }
            TagState::Pushed | TagState::Absent => Ok(false),
        }
    }

    /// Deletes a tag, and then its mark. The caller holds the lock of the tag.
    pub(in crate::registry) fn remove_tag(&self, repository: &Repository, tag: &Tag) -> Result<()> {
        self.store.delete_tag(repository, tag)?;
        Ok(self.store.delete_marks(&[MarkKey::Tag(repository, tag)])?)
    }
}
