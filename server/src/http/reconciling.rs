//! Who waits until what is known of a repository's referrers is right: on the disk one of all that
//! ask, so that the others take no thread from requests that have nothing to do with it.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;

use imgsync_oci::Repository;
use tokio::sync::Mutex;

use super::attempt;
use super::failure::Failure;
use crate::registry::Registry;

/// How many may wait on the disk at a time: a third of the threads there.
const LANES: usize = 8;

/// A few lanes; each repository always takes the same one.
#[derive(Default)]
pub(super) struct Reconciling {
    lanes: [Arc<Mutex<()>>; LANES],
    hasher: RandomState,
}

impl Reconciling {
    /// Waits until what is known of a repository's referrers is right.
    ///
    /// # Errors
    /// Those of reading its manifests.
    pub(super) async fn wait(
        &self,
        registry: &Registry,
        repository: &Repository,
    ) -> Result<(), Failure> {
        if registry.is_reconciled(repository) {
            return Ok(());
        }
        let lane = self.hasher.hash_one(repository) % LANES as u64;
        let lane = usize::try_from(lane).map_err(|error| Failure::internal(&error))?;
        let turn = Arc::clone(&self.lanes[lane]).lock_owned().await;
        let (registry, repository) = (registry.clone(), repository.clone());
        attempt(move || {
            // Until the work ends, also when nobody waits for it any more.
            let _turn = turn;
            registry.reconcile(&repository)
        })
        .await
    }
}
