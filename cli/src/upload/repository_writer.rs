//! The state that all uploads of one push share: the client, the journal, the chunk size, the
//! concurrency limit and the byte count.
//!
//! This module sends no blob itself; see [`upload_blob`](super::upload_blob). Start reading at
//! [`RepositoryWriter`].

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use imgsync_oci::client::Client;
use imgsync_oci::client::upload::UploadSession;
use imgsync_oci::{Digest, Repository};

use super::concurrency_limiter::ConcurrencyLimiter;
use super::host_profile::HostProfile;
use super::journal::JournalEntry;
use super::rate_limiter::RateLimiter;
use super::{BlobSource, ChunkSizer, Journal};
use crate::cache::blob_locations;

/// Uploads to one repository, with the limits and counters that all uploads share.
#[derive(Debug)]
pub struct RepositoryWriter {
    /// The client of the registry.
    pub client: Client,
    /// The repository to upload to.
    pub repository: Repository,
    pub(super) journal: Journal,
    chunk_sizer: Mutex<ChunkSizer>,
    pub(super) rate_limiter: Arc<RateLimiter>,
    pub(super) limiter: ConcurrencyLimiter,
    pub(super) host_profile: HostProfile,
    /// Upload sessions that the registry opened instead of mounting a blob. Any blob can use one.
    spare_sessions: Mutex<Vec<UploadSession>>,
    pub(super) bytes_sent: Arc<AtomicU64>,
}

/// The limits of a transfer.
#[derive(Debug, Clone, Copy)]
pub struct TransferOptions {
    /// The number of concurrent uploads; `None` adapts the number to the measured throughput.
    pub max_uploads: Option<usize>,
    /// The size of the first chunk in bytes.
    pub chunk_bytes: u64,
    /// The limit in bytes a second for all uploads together; `None` for no limit.
    pub max_bytes_per_second: Option<u64>,
}

/// A blob to upload.
#[derive(Debug, Clone)]
pub struct PendingBlob {
    /// The digest of the blob.
    pub digest: Digest,
    /// The size of the blob in bytes.
    pub size: u64,
    /// The name to show in messages, for example the number of a layer.
    pub label: String,
    /// The bytes of the blob.
    pub source: BlobSource,
    /// A repository of the same registry that has the blob, to mount the blob from.
    pub mount: Option<Repository>,
}

impl RepositoryWriter {
    /// Creates a writer for a repository, and loads the host profile of its registry.
    pub fn new(
        client: Client,
        repository: Repository,
        journal: Journal,
        manner: TransferOptions,
    ) -> Self {
        let host_profile = HostProfile::load(&journal.cache, client.scheme(), client.registry());
        Self {
            client,
            repository,
            journal,
            chunk_sizer: Mutex::new(
                ChunkSizer::new(manner.chunk_bytes).within(host_profile.max_body()),
            ),
            rate_limiter: Arc::new(RateLimiter::new(manner.max_bytes_per_second)),
            limiter: ConcurrencyLimiter::new(manner.max_uploads),
            host_profile,
            spare_sessions: Mutex::default(),
            bytes_sent: Arc::default(),
        }
    }

    /// Returns the number of blob bytes passed to the network so far, repeated ones included.
    pub fn bytes_sent(&self) -> u64 {
        self.bytes_sent.load(Ordering::Relaxed)
    }

    /// Records in the cache that the repository has a blob.
    pub(super) fn remember(&self, blob: &Digest) {
        let registry = self.client.registry();
        blob_locations::remember(&self.journal.cache, registry, blob, &self.repository);
    }

    /// Locks the journal entry of a blob. Returns `None` while another push is uploading the blob.
    pub(super) fn try_lock(&self, blob: &PendingBlob) -> Option<JournalEntry> {
        self.journal
            .try_lock(self.client.registry(), &self.repository, &blob.digest)
    }

    /// Locks the journal entry of a blob, and waits while another push is uploading the blob.
    ///
    /// Gives up waiting, and returns an entry that stores nothing, when the other push writes
    /// nothing to its entry for ten times the stall timeout. A push that was suspended would
    /// otherwise block all later ones. A chunk takes seconds, so ten times the stall timeout is
    /// long enough.
    pub(super) async fn lock(&self, blob: &PendingBlob) -> JournalEntry {
        const POLL_INTERVAL: Duration = Duration::from_millis(200);
        let longest = self.client.stall_timeout().saturating_mul(10);
        let (registry, repository) = (self.client.registry(), &self.repository);
        let written = || {
            self.journal
                .last_written(registry, repository, &blob.digest)
        };
        let (mut seen, mut since) = (written(), Instant::now());
        while since.elapsed() < longest {
            if let Some(entry) = self.try_lock(blob) {
                return entry;
            }
            tokio::time::sleep(POLL_INTERVAL).await;
            let now = written();
            if now != seen {
                (seen, since) = (now, Instant::now());
            }
        }
        JournalEntry::default()
    }

    /// Keeps an open session for a blob that will need one.
    pub fn add_spare_session(&self, session: UploadSession) {
        self.spare_sessions().push(session);
    }

    /// Returns an open session that was kept, if there is one.
    pub(super) fn take_spare_session(&self) -> Option<UploadSession> {
        self.spare_sessions().pop()
    }

    /// Cancels the sessions that no blob has used. Errors are ignored, because the registry removes
    /// unused sessions itself.
    pub async fn cancel_spare_sessions(&self) {
        let sessions = std::mem::take(&mut *self.spare_sessions());
        let cancelled = sessions
            .into_iter()
            .map(|session| self.client.cancel_upload(session));
        futures::future::join_all(cancelled).await;
    }

    fn spare_sessions(&self) -> MutexGuard<'_, Vec<UploadSession>> {
        self.spare_sessions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn chunk_sizer(&self) -> MutexGuard<'_, ChunkSizer> {
        self.chunk_sizer
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
