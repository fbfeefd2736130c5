//! Cached tags: what the upstream said that they point at, and when it said so last.

use imgsync_oci::{Digest, Repository, Tag};
use serde::{Deserialize, Serialize};

use super::super::Registry;
use super::super::error::Result;
use super::super::locks::{LockKey, lock_shared};
use super::from_unix_seconds;
use crate::store::{MarkKey, ObjectKey};

/// How a tag's mark begins that we can read.
const TAG_MARK_FORMAT: &str = "imgsync-cached-tag-1";
/// More than a mark ever has.
const MAX_TAG_MARK_BYTES: usize = 4096;
/// What the upstream confirms again within so many seconds is not noted again.
const CONFIRM_INTERVAL_SECONDS: u64 = 10;

/// Whose a tag is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TagState {
    /// The repository has no such tag.
    Absent,
    /// It was pushed here.
    Pushed,
    /// It came from an upstream.
    Cached {
        /// What it points at.
        digest: Digest,
        /// When the upstream last said so, in unix seconds.
        confirmed_at: u64,
        /// The upstream's name, as it was given when the tag was kept.
        upstream: String,
    },
}

/// What a tag's mark says.
#[derive(Serialize, Deserialize)]
pub(super) struct TagMark {
    format: String,
    /// What the upstream said that the tag points at; before that, what it said earlier, since the
    /// mark is made before the tag moves.
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
    /// Whether a repository has a tag, and whose it is.
    ///
    /// # Errors
    /// Those of the store.
    pub(crate) fn tag_state(&self, repository: &Repository, tag: &Tag) -> Result<TagState> {
        // A tag that is just moving, or just goes, would seem to be pushed.
        let thing = LockKey::Tag(repository.clone(), tag.clone());
        let _hold = lock_shared(&self.locks, thing);
        self.tag_state_locked(repository, tag)
    }

    /// The same, of a tag that the caller holds.
    pub(super) fn tag_state_locked(&self, repository: &Repository, tag: &Tag) -> Result<TagState> {
        let current = ObjectKey::TagCurrent(repository, tag);
        let mark = self.read_tag_mark(repository, tag)?;
        let Some(digest) = self.read_link(current)? else {
            // A damaged link may have been a pushed tag's.
            let is_there = self.store.len(current)?.is_some();
            return Ok(match is_there && mark.is_none() {
                true => TagState::Pushed,
                false => TagState::Absent,
            });
        };
        Ok(match mark {
            Some(mark) if mark.digests.contains(&digest) => TagState::Cached {
                digest,
                confirmed_at: mark.confirmed,
                upstream: mark.upstream,
            },
            Some(_) | None => TagState::Pushed,
        })
    }

    /// What a tag's mark says; one that cannot be read is none.
    fn read_tag_mark(&self, repository: &Repository, tag: &Tag) -> Result<Option<TagMark>> {
        let mark = MarkKey::Tag(repository, tag);
        let json = self.store.read_mark(mark, MAX_TAG_MARK_BYTES)?;
        let mark = json.and_then(|json| serde_json::from_slice::<TagMark>(&json).ok());
        Ok(mark.filter(|mark| mark.format == TAG_MARK_FORMAT))
    }

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

    /// Notes that the upstream says `now` (unix seconds) that a cached tag points at `digest`;
    /// false where the tag is not cached, or points at something else.
    ///
    /// # Errors
    /// Those of the store.
    pub(crate) fn confirm_tag(
        &self,
        repository: &Repository,
        tag: &Tag,
        digest: &Digest,
        now: u64,
    ) -> Result<bool> {
        let _hold = self.lock_keys([LockKey::Tag(repository.clone(), tag.clone())]);
        match self.tag_state_locked(repository, tag)? {
            TagState::Cached {
                digest: current,
                confirmed_at: confirmed,
                upstream,
            } if current == *digest => {
                if confirmed.abs_diff(now) >= CONFIRM_INTERVAL_SECONDS {
                    let mark = TagMark::new(vec![current], now, &upstream);
                    self.put_tag_mark(repository, tag, &mark)?;
                }
                Ok(true)
            }
            TagState::Cached { .. } | TagState::Pushed | TagState::Absent => Ok(false),
        }
    }

    /// Takes a cached tag away, the upstream having none of that name; false where it is not
    /// cached. What it pointed at stays until it is evicted.
    ///
    /// # Errors
    /// Those of the store.
    pub(crate) fn remove_cached_tag(&self, repository: &Repository, tag: &Tag) -> Result<bool> {
        let _hold = self.lock_keys([LockKey::Tag(repository.clone(), tag.clone())]);
        match self.tag_state_locked(repository, tag)? {
            TagState::Cached { .. } => {
                self.remove_tag(repository, tag)?;
                Ok(true)
            }
            TagState::Pushed | TagState::Absent => Ok(false),
        }
    }

    /// Takes a tag away, and then its mark. The caller holds it.
    pub(in crate::registry) fn remove_tag(&self, repository: &Repository, tag: &Tag) -> Result<()> {
        self.store.delete_tag(repository, tag)?;
        Ok(self.store.delete_marks(&[MarkKey::Tag(repository, tag)])?)
    }
}
