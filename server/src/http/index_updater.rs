//! Limits how many requests complete the index of a repository's manifests: one per repository
//! reads the disk, and the others wait without using a blocking thread.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;

use imgsync_oci::Repository;
use tokio::sync::Mutex;

use super::blocking::try_blocking;
use super::client_presence::ClientPresence;
use super::error_response::ErrorResponse;
use super::walks::WalkPool;
use crate::registry::{Registry, Walk};

/// The most repositories whose index is completed at a time: a third of the blocking threads.
const MAX_CONCURRENT_UPDATES: usize = 8;

/// A striped lock: each repository always uses the same stripe.
#[derive(Default)]
pub(super) struct IndexUpdater {
    stripes: [Arc<Mutex<()>>; MAX_CONCURRENT_UPDATES],
    hasher: RandomState,
}

impl IndexUpdater {
    /// Waits until the index of a repository has all of its manifests.
    ///
    /// # Errors
    /// Fails if the manifests cannot be read.
    pub(super) async fn update(
        &self,
        registry: &Registry,
        walks: &WalkPool,
        client: &ClientPresence,
        repository: &Repository,
    ) -> Result<(), ErrorResponse> {
        let (registry, repository) = (registry.clone(), repository.clone());
        let (asked, name) = (registry.clone(), repository.clone());
        if try_blocking(move || asked.is_index_complete(&name)).await? {
            return Ok(());
        }
        let stripe = self.hasher.hash_one(&repository) % MAX_CONCURRENT_UPDATES as u64;
        let stripe = usize::try_from(stripe).map_err(|error| ErrorResponse::internal(&error))?;
        let guard = Arc::clone(&self.stripes[stripe]).lock_owned().await;
        let update = move |walk: &Walk<'_>| {
            // The lock is held until the work ends, even if the client disconnects.
            let _guard = &guard;
            registry.update_index(&repository, walk).map(drop)
        };
        walks.run(client, update).await
    }
}
