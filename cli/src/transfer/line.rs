//! What all uploads of one push share: the registry, the pace, the slots, the count.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use imgsync_oci::client::Client;
use imgsync_oci::{Digest, Repository};
use tokio::sync::Semaphore;

use super::journal::Entry;
use super::limit::Limit;
use super::{Body, Journal, Pace};
use crate::exit::Failure;

/// The way to one repository.
#[derive(Debug)]
pub struct Line {
    /// The registry.
    pub client: Client,
    /// The repository that the blobs go to.
    pub repository: Repository,
    pub(super) journal: Journal,
    pace: Mutex<Pace>,
    pub(super) limit: Arc<Limit>,
    pub(super) slots: Semaphore,
    pub(super) sent: Arc<AtomicU64>,
}

/// How a line is used.
#[derive(Debug, Clone, Copy)]
pub struct Manner {
    /// How many blobs are sent at a time.
    pub jobs: usize,
    /// The first chunk's size in bytes.
    pub chunk: u64,
    /// The most bytes a second, all blobs together; `None` is no limit.
    pub rate: Option<u64>,
}

/// A blob to send.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// What people call it: a layer's number, for instance.
    pub label: String,
    /// Its bytes.
    pub body: Body,
    /// Another repository of the same registry that holds it, from where it can be linked.
    pub mount: Option<Repository>,
}

impl Line {
    /// A line to a repository.
    pub fn new(client: Client, repository: Repository, journal: Journal, manner: Manner) -> Self {
        Self {
            client,
            repository,
            journal,
            pace: Mutex::new(Pace::new(manner.chunk)),
            limit: Arc::new(Limit::new(manner.rate)),
            slots: Semaphore::new(manner.jobs),
            sent: Arc::default(),
        }
    }

    /// Bytes of blobs that were handed to the network so far, repeated ones included.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Whether the registry holds the blob already.
    ///
    /// # Errors
    /// It could not be asked.
    pub async fn holds(&self, blob: &Outgoing) -> Result<bool, Failure> {
        let size = self
            .client
            .head_blob(&self.repository, &blob.digest)
            .await?;
        Ok(size == Some(blob.size))
    }

    /// The blob's place in the journal; `None` while another push is sending it.
    pub(super) fn try_lock(&self, blob: &Outgoing) -> Option<Entry> {
        self.journal
            .try_lock(self.client.registry(), &self.repository, &blob.digest)
    }

    /// The blob's place in the journal; waits while another push is sending it, but not for ever:
    /// a push that was stopped and not ended would hold up all others.
    pub(super) async fn lock(&self, blob: &Outgoing) -> Entry {
        const LOOK: Duration = Duration::from_millis(200);
        const LONGEST: Duration = Duration::from_secs(600);
        let began = Instant::now();
        while began.elapsed() < LONGEST {
            if let Some(entry) = self.try_lock(blob) {
                return entry;
            }
            tokio::time::sleep(LOOK).await;
        }
        Entry::default()
    }

    pub(super) fn pace(&self) -> MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
