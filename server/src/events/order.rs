//! Keeps the order of the changes of a repository.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;

use imgsync_oci::Repository;
use tokio::sync::{Mutex, OwnedMutexGuard};

/// How many locks the repositories share.
const LOCKS: usize = 64;

/// Locks for the order of changes.
pub(super) struct OrderLocks {
    hasher: RandomState,
    locks: [Arc<Mutex<()>>; LOCKS],
}

/// While this is held, no other change of the repository is made.
#[derive(Clone)]
pub(crate) struct OrderGuard {
    _lock: Arc<OwnedMutexGuard<()>>,
}

impl Default for OrderLocks {
    fn default() -> Self {
        Self {
            hasher: RandomState::new(),
            locks: std::array::from_fn(|_| Arc::default()),
        }
    }
}

impl OrderLocks {
    pub(super) async fn lock(&self, repository: &Repository) -> OrderGuard {
        let hash = self.hasher.hash_one(repository);
        let index = usize::try_from(hash % LOCKS as u64).unwrap_or_default();
        let lock = Arc::clone(&self.locks[index]).lock_owned().await;
        OrderGuard {
            _lock: Arc::new(lock),
        }
    }
}
