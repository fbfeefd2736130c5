//! A repository that has an upstream: its requests, and the failures that are reported for it.
//!
//! This module does not decide when an upstream is asked. Start reading at [`UpstreamRepository`].

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use imgsync_oci::client::{self, BlobDownload, Client};
use imgsync_oci::{Digest, Repository};

use super::error::{Error, UpstreamFailure, UpstreamFailureKind};
use super::singleflight::SingleFlightError;
use super::upstream_client::UpstreamClient;
use crate::registry;

/// Time limit from a request for a blob, or for its size, to the headers of the response.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(30);

/// A repository of this registry that has an upstream.
#[derive(Clone)]
pub(crate) struct UpstreamRepository {
    pub(super) upstream: Arc<UpstreamClient>,
    /// The name of the repository at the upstream.
    pub(super) upstream_name: Repository,
    /// The name of the repository in this registry.
    pub(super) repository: Repository,
    /// Whether the storage is read-only. Then the upstream is not asked, because nothing can be
    /// stored.
    pub(super) is_read_only: bool,
}

impl UpstreamRepository {
    /// Reports whether the configuration allows fetching this repository.
    pub(super) fn is_allowed(&self) -> bool {
        self.upstream.is_allowed(&self.upstream_name)
    }

    pub(super) fn not_allowed_error(&self) -> Error {
        Error::NotAllowed {
            upstream: self.upstream.settings.name().to_owned(),
            repository: self.upstream_name.clone(),
        }
    }

    /// Returns the failure to report if the upstream must not be asked because the storage is
    /// read-only.
    pub(super) fn read_only_failure(&self) -> Option<UpstreamFailure> {
        let message = "not contacted, because this registry is read-only";
        self.is_read_only
            .then(|| self.failure(UpstreamFailureKind::Busy, message))
    }

    /// Returns the failure to report if the upstream must not be asked now for content that can
    /// also be served without it.
    pub(super) fn current_failure(&self) -> Option<UpstreamFailure> {
        self.read_only_failure()
            .or_else(|| self.upstream.breaker.current_failure())
    }

    /// Checks that this repository may be fetched from its upstream.
    ///
    /// # Errors
    /// Returns an error if the storage is read-only, or if the configuration excludes the
    /// repository.
    pub(super) fn check_fetch_allowed(&self) -> Result<(), Error> {
        if let Some(failure) = self.read_only_failure() {
            return Err(failure.into());
        }
        if !self.is_allowed() {
            return Err(self.not_allowed_error());
        }
        Ok(())
    }

    /// Sends a request for this repository, as [`UpstreamClient::request`] does.
    ///
    /// # Errors
    /// Returns the failure, which is already counted and reported to the circuit breaker.
    pub(super) async fn request<'a, T, F>(
        &'a self,
        time_limit: Duration,
        mut send: impl FnMut(&'a Client, &'a Repository) -> F,
    ) -> Result<T, UpstreamFailure>
    where
        F: Future<Output = Result<T, client::Error>>,
    {
        let send = || send(self.upstream.client(), &self.upstream_name);
        self.upstream.request(time_limit, send).await
    }

    /// Asks the upstream for the size of a blob. Returns `None` if the upstream does not have it.
    ///
    /// # Errors
    /// As [`UpstreamRepository::request`].
    pub(super) async fn head_blob(&self, digest: &Digest) -> Result<Option<u64>, UpstreamFailure> {
        let head = self.request(RESPONSE_TIMEOUT, |client, name| {
            client.head_blob(name, digest)
        });
        let size = head.await?;
        size.map(|size| self.check_size(digest, size)).transpose()
    }

    /// Requests a blob from `offset` on. Returns the response and the size of the whole blob, or
    /// `None` if the upstream does not have it.
    ///
    /// # Errors
    /// As [`UpstreamRepository::request`].
    pub(super) async fn open_blob(
        &self,
        digest: &Digest,
        offset: u64,
    ) -> Result<Option<(BlobDownload, u64)>, UpstreamFailure> {
        let response = self.request(RESPONSE_TIMEOUT, |client, name| {
            client.open_blob(name, digest, offset)
        });
        let Some(response) = response.await? else {
            return Ok(None);
        };
        let size = match response.size {
            Some(size) => Some(size),
            None => self.head_blob(digest).await?,
        };
        let size = size.map(|size| self.check_size(digest, size)).transpose()?;
        Ok(size.map(|size| (response, size)))
    }

    /// Checks the announced size of a blob. An empty blob has no last byte that could be withheld
    /// until the digest is verified.
    fn check_size(&self, digest: &Digest, size: u64) -> Result<u64, UpstreamFailure> {
        if size > 0 || *digest == Digest::of_with(digest.algorithm(), b"") {
            return Ok(size);
        }
        let message = "it says that the blob is empty, which does not match the digest";
        Err(self.record_failure(self.failure(UpstreamFailureKind::InvalidResponse, message)))
    }

    pub(super) fn failure(&self, kind: UpstreamFailureKind, message: &str) -> UpstreamFailure {
        UpstreamFailure::new(self.upstream.settings.name(), kind, message)
    }

    /// Counts a failure, updates the circuit breaker, and returns the failure.
    pub(super) fn record_failure(&self, failure: UpstreamFailure) -> UpstreamFailure {
        self.upstream.record_failure(&failure);
        failure
    }

    pub(super) fn shutdown_failure(&self) -> UpstreamFailure {
        let message = "not contacted, because this server is shutting down";
        self.failure(UpstreamFailureKind::Busy, message)
    }

    pub(super) fn singleflight_failure(&self, error: SingleFlightError) -> UpstreamFailure {
        match error {
            SingleFlightError::TooMany => {
                let message = "too many requests are in progress; try again later";
                self.failure(UpstreamFailureKind::Busy, message)
            }
            SingleFlightError::Panicked => {
                self.failure(UpstreamFailureKind::Store, "internal error of this server")
            }
        }
    }

    /// Converts an error of the store into a failure, and records it. The fetched content could not
    /// be stored, or failed verification.
    pub(super) fn store_failure(&self, error: &registry::Error) -> UpstreamFailure {
        self.record_failure(UpstreamFailure::from_store(
            self.upstream.settings.name(),
            error,
        ))
    }

    /// Counts bytes received from the upstream.
    pub(super) fn count_received_bytes(&self, bytes: u64) {
        self.upstream
            .metrics
            .fetched_bytes
            .fetch_add(bytes, Relaxed);
    }
}
