//! Limits the reconciling of referrers: one request per repository reads the disk, and the others
//! wait without using a blocking thread.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;

use imgsync_oci::Repository;
use tokio::sync::Mutex;

use super::blocking::try_blocking;
use super::error_response::ErrorResponse;
use crate::registry::Registry;

/// The most repositories that are reconciled at a time: a third of the blocking threads.
const MAX_CONCURRENT_RECONCILES: usize = 8;

/// A striped lock: each repository always uses the same stripe.
#[derive(Default)]
pub(super) struct ReferrersReconciler {
    stripes: [Arc<Mutex<()>>; MAX_CONCURRENT_RECONCILES],
    hasher: RandomState,
}

impl ReferrersReconciler {
    /// Waits until the list of a repository's referrers matches its manifests. On a full disk that
    /// cannot be, and the manifests are read at each request.
    ///
    /// # Errors
    /// Fails if the manifests cannot be read.
    pub(super) async fn reconcile(
        &self,
        registry: &Registry,
        repository: &Repository,
    ) -> Result<(), ErrorResponse> {
        if registry.has_reconciled_referrers(repository) {
            return Ok(());
        }
        let stripe = self.hasher.hash_one(repository) % MAX_CONCURRENT_RECONCILES as u64;
        let stripe = usize::try_from(stripe).map_err(|error| ErrorResponse::internal(&error))?;
        let guard = Arc::clone(&self.stripes[stripe]).lock_owned().await;
        let (registry, repository) = (registry.clone(), repository.clone());
        try_blocking(move || {
            // The lock is held until the work ends, even if the client disconnects.
            let _guard = guard;
            match registry.reconcile_referrers(&repository) {
                Err(error) if error.is_storage_full() => Ok(()),
                reconciled => reconciled,
            }
        })
        .await
    }
}
