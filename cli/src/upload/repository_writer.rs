//! What all uploads of one push share: the registry, the pace, the slots, the count.

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

/// The way to one repository.
#[derive(Debug)]
pub struct RepositoryWriter {
    /// The registry.
    pub client: Client,
    /// The repository that the blobs go to.
    pub repository: Repository,
    pub(super) journal: Journal,
    chunk_sizer: Mutex<ChunkSizer>,
    pub(super) rate_limiter: Arc<RateLimiter>,
    pub(super) limiter: ConcurrencyLimiter,
    pub(super) host_profile: HostProfile,
    /// Sessions that a mount was answered with, for whichever blob needs one next.
    spare_sessions: Mutex<Vec<UploadSession>>,
    pub(super) bytes_sent: Arc<AtomicU64>,
}

/// How a line is used.
#[derive(Debug, Clone, Copy)]
pub struct TransferOptions {
    /// How many blobs are sent at a time; `None` for as many as the line is worth.
    pub max_uploads: Option<usize>,
    /// The first chunk's size in bytes.
    pub chunk_bytes: u64,
    /// The most bytes a second, all blobs together; `None` is no limit.
    pub max_bytes_per_second: Option<u64>,
}

/// A blob to send.
#[derive(Debug, Clone)]
pub struct PendingBlob {
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// What people call it: a layer's number, for instance.
    pub label: String,
    /// Its bytes.
    pub source: BlobSource,
    /// Another repository of the same registry that holds it, from where it can be linked.
    pub mount: Option<Repository>,
}

impl RepositoryWriter {
    /// A line to a repository.
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

    /// Bytes of blobs that were handed to the network so far, repeated ones included.
    pub fn bytes_sent(&self) -> u64 {
        self.bytes_sent.load(Ordering::Relaxed)
    }

    /// Keeps for later runs that the repository holds a blob.
    pub(super) fn remember(&self, blob: &Digest) {
        let registry = self.client.registry();
        blob_locations::remember(&self.journal.cache, registry, blob, &self.repository);
    }

    /// The blob's place in the journal; `None` while another push is sending it.
    pub(super) fn try_lock(&self, blob: &PendingBlob) -> Option<JournalEntry> {
        self.journal
            .try_lock(self.client.registry(), &self.repository, &blob.digest)
    }

    /// The blob's place in the journal; waits while another push is sending it, as long as that
    /// gets on: one that was stopped and not ended would hold up all others. A chunk takes seconds,
    /// and ten times the stall timeout is far more.
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

    /// Keeps a session that was opened on the way, for a blob that will need one.
    pub fn add_spare_session(&self, session: UploadSession) {
        self.spare_sessions().push(session);
    }

    /// A session that was opened on the way, if there is one left.
    pub(super) fn take_spare_session(&self) -> Option<UploadSession> {
        self.spare_sessions().pop()
    }

    /// Gives up the sessions that nobody needed. A courtesy: the registry would clear them away.
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
