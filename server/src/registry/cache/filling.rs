//! Blobs that are being fetched.

use std::sync::PoisonError;

use imgsync_oci::{Digest, Repository};

use super::super::Registry;
use super::super::error::{Error, Result};
use crate::store::{self, Key, Partial};

/// The one writer of a blob that is being fetched. Dropped, it leaves what it has for the next one.
pub(crate) struct Filling {
    turn: Turn,
    filling: store::Filling,
}

/// The right to fill, until it is dropped.
struct Turn {
    registry: Registry,
    digest: Digest,
}

impl Drop for Turn {
    fn drop(&mut self) {
        let filling = self.registry.cache.filling.lock();
        let mut filling = filling.unwrap_or_else(PoisonError::into_inner);
        filling.remove(&self.digest);
    }
}

impl Registry {
    /// Begins to fill a blob, or goes on; `None` where another does already.
    ///
    /// # Errors
    /// Those of the store.
    pub(crate) fn fill(&self, digest: &Digest) -> Result<Option<Filling>> {
        let Some(turn) = self.turn_to_fill(digest) else {
            return Ok(None);
        };
        let filling = self.store.open_filling(digest)?;
        Ok(Some(Filling { turn, filling }))
    }

    fn turn_to_fill(&self, digest: &Digest) -> Option<Turn> {
        let filling = self.cache.filling.lock();
        let mut filling = filling.unwrap_or_else(PoisonError::into_inner);
        filling.insert(digest.clone()).then(|| Turn {
            registry: self.clone(),
            digest: digest.clone(),
        })
    }

    /// Removes what is left of a fetch that broke off; false where somebody goes on with it.
    pub(super) fn drop_filling(&self, digest: &Digest) -> Result<bool> {
        let Some(_turn) = self.turn_to_fill(digest) else {
            return Ok(false);
        };
        self.store.discard_filling(digest)?;
        Ok(true)
    }
}

impl Filling {
    /// How many bytes there are: where to go on.
    pub(crate) fn len(&self) -> u64 {
        self.filling.len()
    }

    /// What there is, for those who read it while more comes.
    pub(crate) fn reader(&self) -> Partial {
        self.filling.reader()
    }

    /// Appends bytes, and makes all durable from time to time.
    ///
    /// # Errors
    /// Those of the store; what was not durable is gone then.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.turn.registry.store.fill(&mut self.filling, bytes)?)
    }

    /// Makes durable what was appended, so that the next one can go on from there.
    ///
    /// # Errors
    /// Those of the store; what was not durable is gone then.
    pub(crate) fn keep(&mut self) -> Result<()> {
        Ok(self.turn.registry.store.keep_filling(&mut self.filling)?)
    }

    /// Begins anew.
    ///
    /// # Errors
    /// Those of the store.
    pub(crate) fn restart(&mut self) -> Result<()> {
        let store = &self.turn.registry.store;
        Ok(store.restart_filling(&mut self.filling)?)
    }

    /// Ends it, at `now` (unix seconds): these repositories hold the blob from now on.
    ///
    /// # Errors
    /// [`Error::DigestMismatch`]: the bytes are gone then. Those of the store.
    pub(crate) fn commit(self, repositories: &[Repository], now: u64) -> Result<()> {
        let Self { turn, filling } = self;
        let Turn { registry, digest } = &turn;
        let filled = match registry.store.seal_filling(&filling)? {
            Ok(filled) => filled,
            Err(actual) => {
                registry.store.discard_filling(digest)?;
                return Err(Error::DigestMismatch {
                    expected: digest.clone(),
                    actual,
                });
            }
        };
        let _hold = registry.hold([digest.clone()]);
        let text = digest.to_string();
        let mut links = Vec::new();
        for repository in repositories {
            registry.mark_layer(repository, digest, now)?;
            links.push((Key::Layer(repository, digest), text.as_bytes()));
        }
        registry.store.commit_filled(&filled, &links)?;
        registry.cache.added(filling.len());
        for repository in repositories {
            registry.linked_cached(repository, digest);
        }
        Ok(())
    }

    /// Ends it after an error, which it yields. What came is left for the next one, but for a full
    /// disk: that needs the room for what is pushed.
    pub(crate) fn give_up(self, error: Error) -> Error {
        if matches!(error, Error::Store(store::Error::Full { .. }))
            && let Err(error) = self.discard()
        {
            tracing::warn!(%error, "what was fetched of a blob stays on a full disk");
        }
        error
    }

    /// Ends it without a blob.
    ///
    /// # Errors
    /// Those of the store.
    pub(crate) fn discard(self) -> Result<()> {
        let Turn { registry, digest } = &self.turn;
        Ok(registry.store.discard_filling(digest)?)
    }
}
