//! The state that all uploads of one push share: the client, the journal, the chunk size, the
//! concurrency limit and the byte count.
//!
//! This module sends no blob itself; see [`upload_blob`](super::upload_blob). Start reading at
//! [`RepositoryWriter`].

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use imgsync_oci::client::upload::{UploadSession, UploadStart};
use imgsync_oci::client::{Client, Error};
use imgsync_oci::endpoint::Mount;
use imgsync_oci::{Digest, Reference, Repository};

use super::concurrency_limiter::ConcurrencyLimiter;
use super::host_profile::{HostProfile, UploadMode};
use super::journal::{JournalEntry, last_written};
use super::rate_limiter::RateLimiter;
use super::{BlobSource, ChunkSizer, Journal, lock};
use crate::cache::{BlobRef, blob_locations};
use crate::image::VerifiedManifest;
use crate::plan::TransferRates;

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
    max_bytes_per_second: Option<u64>,
    /// Upload sessions that the registry opened instead of mounting a blob. Any blob can use one.
    spare_sessions: Mutex<Vec<UploadSession>>,
    /// The digests of blobs, and the diffIDs of layers, that the registry was asked for and lacks.
    missing: Mutex<HashSet<Digest>>,
    /// The diffIDs of layers that the registry may hold as a blob which somebody claims.
    claimed: Mutex<HashSet<Digest>>,
    pub(super) bytes_sent: Arc<AtomicU64>,
    bytes_resent: AtomicU64,
    bytes_resumed: AtomicU64,
    /// Whether the registry has lost an upload session that held bytes.
    has_lost_upload: AtomicBool,
    /// Whether the user knows that a proxy limits the size of requests.
    has_noted_limit: AtomicBool,
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
    /// Whether the target was asked for this blob, and did not have it.
    pub is_known_missing: bool,
}

impl PendingBlob {
    /// Returns the digest and the size.
    pub(super) fn blob_ref(&self) -> BlobRef {
        BlobRef {
            digest: self.digest.clone(),
            size: self.size,
        }
    }
}

/// Returns the rates of earlier transfers with a registry. No upload is faster than the user allows.
pub fn transfer_rates(
    cache: &Path,
    client: &Client,
    max_bytes_per_second: Option<u64>,
) -> TransferRates {
    let profile = HostProfile::load(cache, client.scheme(), client.registry());
    limit_rates(profile.rates(), max_bytes_per_second)
}

fn limit_rates(rates: TransferRates, max_bytes_per_second: Option<u64>) -> TransferRates {
    let limits = rates.sent.into_iter().chain(max_bytes_per_second);
    TransferRates {
        sent: limits.min(),
        ..rates
    }
}

impl RepositoryWriter {
    /// Creates a writer for a repository, and loads the host profile of its registry.
    pub fn new(
        client: Client,
        repository: Repository,
        journal: Journal,
        options: TransferOptions,
    ) -> Self {
        let host_profile = HostProfile::load(&journal.cache, client.scheme(), client.registry());
        let chunk_sizer = ChunkSizer::new(options.chunk_bytes).within(host_profile.max_body());
        Self {
            client,
            repository,
            journal,
            chunk_sizer: Mutex::new(chunk_sizer),
            rate_limiter: Arc::new(RateLimiter::new(options.max_bytes_per_second)),
            limiter: ConcurrencyLimiter::new(options.max_uploads),
            host_profile,
            max_bytes_per_second: options.max_bytes_per_second,
            spare_sessions: Mutex::default(),
            missing: Mutex::default(),
            claimed: Mutex::default(),
            bytes_sent: Arc::default(),
            bytes_resent: AtomicU64::new(0),
            bytes_resumed: AtomicU64::new(0),
            has_lost_upload: AtomicBool::new(false),
            has_noted_limit: AtomicBool::new(false),
        }
    }

    /// Returns the number of blob bytes passed to the network so far, repeated ones included.
    pub fn bytes_sent(&self) -> u64 {
        self.bytes_sent.load(Ordering::Relaxed)
    }

    /// Returns the number of those bytes that were sent again, as far as their blobs are complete.
    pub fn bytes_resent(&self) -> u64 {
        self.bytes_resent.load(Ordering::Relaxed)
    }

    /// Returns the number of blob bytes that earlier pushes sent to sessions which this one finished.
    pub fn bytes_resumed(&self) -> u64 {
        self.bytes_resumed.load(Ordering::Relaxed)
    }

    /// Counts bytes of a finished blob that an earlier push sent.
    pub(super) fn record_resumed(&self, bytes: u64) {
        self.bytes_resumed.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Records that the registry has lost an upload session that held bytes.
    pub(super) fn record_lost_upload(&self) {
        self.has_lost_upload.store(true, Ordering::Relaxed);
    }

    /// Returns whether the registry has lost an upload session that held bytes, as the stock registry
    /// does when a connection breaks within a chunk.
    pub fn has_lost_upload(&self) -> bool {
        self.has_lost_upload.load(Ordering::Relaxed)
    }

    /// Counts bytes of a blob that were sent again.
    pub(super) fn record_resent(&self, bytes: u64) {
        self.bytes_resent.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Returns whether this is the first limit of a proxy that the user is told.
    pub(super) fn is_first_limit(&self) -> bool {
        !self.has_noted_limit.swap(true, Ordering::Relaxed)
    }

    /// Returns whether blobs are sent in chunks, as far as is known: the registry may refuse it.
    pub fn sends_chunks(&self) -> bool {
        self.host_profile.mode() == UploadMode::Chunks
    }

    /// Returns the rates of earlier transfers with the registry, as [`transfer_rates`] does.
    pub fn transfer_rates(&self) -> TransferRates {
        limit_rates(self.host_profile.rates(), self.max_bytes_per_second)
    }

    /// Records how long it took to send bytes to the registry, from reading the layers on.
    pub(super) fn record_sent(&self, bytes: u64, duration: Duration) {
        self.host_profile.record_sent(bytes, duration);
    }

    /// Records how long it took to receive bytes from the registry.
    pub fn record_received(&self, bytes: u64, duration: Duration) {
        self.host_profile.record_received(bytes, duration);
    }

    /// Records in the cache that the repository has a blob.
    pub(super) fn remember(&self, blob: &Digest) {
        let registry = self.client.registry();
        blob_locations::remember(&self.journal.cache, registry, blob, &self.repository);
    }

    /// Returns whether a push of this user has recorded that the repository has a blob.
    pub(super) fn is_recorded(&self, blob: &Digest) -> bool {
        let registry = self.client.registry();
        let repositories = blob_locations::lookup(&self.journal.cache, registry, blob);
        repositories.contains(&self.repository)
    }

    /// Records that the registry was asked for these blobs, by digest, or for these layers, by diffID,
    /// and has none of them. It is not asked again.
    pub fn record_missing(&self, digests: impl IntoIterator<Item = Digest>) {
        lock(&self.missing).extend(digests);
    }

    /// Returns whether the registry was asked for a blob or a layer with this digest, and lacks it.
    pub fn is_missing(&self, digest: &Digest) -> bool {
        lock(&self.missing).contains(digest)
    }

    /// Records that the registry may hold these layers, by diffID, as blobs that somebody claims. They
    /// are not sent before the digests of their blobs are known.
    pub fn record_claimed(&self, diff_ids: impl IntoIterator<Item = Digest>) {
        lock(&self.claimed).extend(diff_ids);
    }

    /// Returns whether the registry may hold a layer.
    pub(super) fn is_claimed(&self, diff_id: &Digest) -> bool {
        lock(&self.claimed).contains(diff_id)
    }

    /// Returns the path of a blob's journal entry.
    pub(super) fn journal_path(&self, journal_name: &str) -> PathBuf {
        let registry = self.client.registry();
        self.journal.path(registry, &self.repository, journal_name)
    }

    /// Locks the journal entry at a path, and waits while another push is uploading the blob.
    ///
    /// Gives up waiting, and returns an entry that stores nothing, when the other push writes
    /// nothing to its entry for ten times the stall timeout. A push that was suspended would
    /// otherwise block all later ones. A chunk takes seconds, so ten times the stall timeout is
    /// long enough.
    pub(super) async fn lock(&self, path: &Path) -> JournalEntry {
        const POLL_INTERVAL: Duration = Duration::from_millis(200);
        let max_pause = self.client.stall_timeout().saturating_mul(10);
        let (mut written, mut since) = (last_written(path), Instant::now());
        while since.elapsed() < max_pause {
            if let Some(entry) = JournalEntry::try_lock(path) {
                return entry;
            }
            tokio::time::sleep(POLL_INTERVAL).await;
            let now = last_written(path);
            if now != written {
                (written, since) = (now, Instant::now());
            }
        }
        JournalEntry::default()
    }

    /// Cancels the session that an upload of the blob has left open, unless another push continues
    /// it. An error of the request is ignored, because the registry removes unused sessions itself.
    pub(super) async fn discard_session(&self, journal_name: &str) {
        let Some(mut entry) = JournalEntry::try_lock(&self.journal_path(journal_name)) else {
            return;
        };
        if let Some(session) = entry.session() {
            let _ = self.client.cancel_upload(session).await;
        }
        entry.remove();
    }

    /// Opens an upload session for a blob, or mounts the blob from `from` if the registry does.
    /// Returns `None` if the registry refuses, because the blob can still be sent. A registry may
    /// report a mount, and not hold the blob afterwards.
    ///
    /// # Errors
    /// The request failed for another reason.
    pub async fn try_mount(
        &self,
        digest: &Digest,
        from: &Repository,
    ) -> Result<Option<UploadStart>, Error> {
        let mount = Mount {
            digest: digest.clone(),
            from: Some(from.clone()),
        };
        let start = self.client.start_upload(&self.repository, Some(mount));
        match start.await {
            Ok(start) => Ok(Some(start)),
            Err(error) => match error.status() {
                Some(status) if status.is_client_error() => Ok(None),
                _ => Err(error),
            },
        }
    }

    /// Puts a manifest under a tag or its digest.
    ///
    /// # Errors
    /// As [`Client::put_manifest`].
    pub async fn put_manifest(
        &self,
        manifest: &VerifiedManifest,
        reference: &Reference,
    ) -> Result<(), Error> {
        let (client, bytes) = (&self.client, manifest.bytes.clone());
        let put = client.put_manifest(&self.repository, reference, &manifest.media_type, bytes);
        put.await
    }

    /// Keeps an open session for a blob that will need one.
    pub fn add_spare_session(&self, session: UploadSession) {
        lock(&self.spare_sessions).push(session);
    }

    /// Returns an open session that was kept, if there is one.
    pub(super) fn take_spare_session(&self) -> Option<UploadSession> {
        lock(&self.spare_sessions).pop()
    }

    /// Cancels the sessions that no blob has used. Errors are ignored, because the registry removes
    /// unused sessions itself.
    pub async fn cancel_spare_sessions(&self) {
        let sessions = std::mem::take(&mut *lock(&self.spare_sessions)).into_iter();
        let requests = sessions.map(|session| self.client.cancel_upload(session));
        futures::future::join_all(requests).await;
    }

    pub(super) fn chunk_sizer(&self) -> MutexGuard<'_, ChunkSizer> {
        lock(&self.chunk_sizer)
    }
}
