//! Who waits until what is known of a repository's referrers is right: on the disk one of all that
//! ask, so that the others take no thread from requests that have nothing to do with it.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;

use imgsync_oci::Repository;
use tokio::sync::Mutex;

use super::error_response::ErrorResponse;
use super::try_blocking;
use crate::registry::Registry;

/// How many may wait on the disk at a time: a third of the threads there.
const MAX_CONCURRENT_RECONCILES: usize = 8;

/// A few lanes; each repository always takes the same one.
#[derive(Default)]
pub(super) struct ReferrersReconciler {
    stripes: [Arc<Mutex<()>>; MAX_CONCURRENT_RECONCILES],
    hasher: RandomState,
}

impl ReferrersReconciler {
    /// Waits until what is known of a repository's referrers is right.
    ///
    /// # Errors
    /// Those of reading its manifests.
    pub(super) async fn reconcile(
        &self,
        registry: &Registry,
        repository: &Repository,
    ) -> Result<(), ErrorResponse> {
        if registry.has_reconciled_referrers(repository) {
            return Ok(());
        }
        let lane = self.hasher.hash_one(repository) % MAX_CONCURRENT_RECONCILES as u64;
        let lane = usize::try_from(lane).map_err(|error| ErrorResponse::internal(&error))?;
        let turn = Arc::clone(&self.stripes[lane]).lock_owned().await;
        let (registry, repository) = (registry.clone(), repository.clone());
        try_blocking(move || {
            // Until the work ends, also when nobody waits for it any more.
            let _turn = turn;
            registry.reconcile_referrers(&repository)
        })
        .await
    }
}
