//! What all uploads of one push share: the registry, the pace, the slots, the count.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use imgsync_oci::client::Client;
use imgsync_oci::client::upload::Session;
use imgsync_oci::{Digest, Repository};

use super::host::Host;
use super::journal::Entry;
use super::limit::Limit;
use super::slots::Slots;
use super::{Body, Journal, Pace};
use crate::cache::places;

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
    pub(super) slots: Slots,
    pub(super) host: Host,
    /// Sessions that a mount was answered with, for whichever blob needs one next.
    opened: Mutex<Vec<Session>>,
    pub(super) sent: Arc<AtomicU64>,
}

/// How a line is used.
#[derive(Debug, Clone, Copy)]
pub struct Manner {
    /// How many blobs are sent at a time; `None` for as many as the line is worth.
    pub jobs: Option<usize>,
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
        let host = Host::load(&journal.cache, client.scheme(), client.registry());
        Self {
            client,
            repository,
            journal,
            pace: Mutex::new(Pace::new(manner.chunk).within(host.body())),
            limit: Arc::new(Limit::new(manner.rate)),
            slots: Slots::new(manner.jobs),
            host,
            opened: Mutex::default(),
            sent: Arc::default(),
        }
    }

    /// Bytes of blobs that were handed to the network so far, repeated ones included.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Keeps for later runs that the repository holds a blob.
    pub(super) fn remember(&self, blob: &Digest) {
        let registry = self.client.registry();
        places::remember(&self.journal.cache, registry, blob, &self.repository);
    }

    /// The blob's place in the journal; `None` while another push is sending it.
    pub(super) fn try_lock(&self, blob: &Outgoing) -> Option<Entry> {
        self.journal
            .try_lock(self.client.registry(), &self.repository, &blob.digest)
    }

    /// The blob's place in the journal; waits while another push is sending it, as long as that
    /// gets on: one that was stopped and not ended would hold up all others. A chunk takes seconds,
    /// and ten times the stall timeout is far more.
    pub(super) async fn lock(&self, blob: &Outgoing) -> Entry {
        const LOOK: Duration = Duration::from_millis(200);
        let longest = self.client.stall().saturating_mul(10);
        let (registry, repository) = (self.client.registry(), &self.repository);
        let written = || self.journal.written(registry, repository, &blob.digest);
        let (mut seen, mut since) = (written(), Instant::now());
        while since.elapsed() < longest {
            if let Some(entry) = self.try_lock(blob) {
                return entry;
            }
            tokio::time::sleep(LOOK).await;
            let now = written();
            if now != seen {
                (seen, since) = (now, Instant::now());
            }
        }
        Entry::default()
    }

    /// Keeps a session that was opened on the way, for a blob that will need one.
    pub fn keep_session(&self, session: Session) {
        self.opened().push(session);
    }

    /// A session that was opened on the way, if there is one left.
    pub(super) fn take_session(&self) -> Option<Session> {
        self.opened().pop()
    }

    /// Gives up the sessions that nobody needed. A courtesy: the registry would clear them away.
    pub async fn cancel_sessions(&self) {
        let sessions = std::mem::take(&mut *self.opened());
        let cancelled = sessions
            .into_iter()
            .map(|session| self.client.cancel_upload(session));
        futures::future::join_all(cancelled).await;
    }

    fn opened(&self) -> MutexGuard<'_, Vec<Session>> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn pace(&self) -> MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
