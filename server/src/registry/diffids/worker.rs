//! Runs the thread that computes diffIDs, with the lowest priority.
//!
//! The thread examines all blobs once at the start, then those that are pushed. Start reading at [`Registry::start_diff_id_worker`].

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant, SystemTime};

use imgsync_oci::{Digest, Repository};

use super::compute::{DiffIdLimits, DiffIdOutcome, compute_catching_panics};
use super::queue::{DiffIdJob, DiffIdQueue, WorkerTask};
use super::record::{ComputedLayer, LayerRecord};
use crate::registry::Registry;
use crate::registry::error::{Error, Result};
use crate::store::{self, DerivedKey, LinkKind, ListScope, ObjectKey, Walk};

/// The lowest priority of a Unix process (nice 19).
const WORKER_NICENESS: i32 = 19;

/// How long the worker waits for a task before it does what can wait.
const IDLE_INTERVAL: Duration = Duration::from_secs(5);

/// How long [`DiffIdWorker::stop`] waits. The worker may be in the middle of a long read.
const MAX_STOP_TIME: Duration = Duration::from_secs(2);

/// The background computation of diffIDs. On drop it is told to stop, without waiting.
pub(crate) struct DiffIdWorker {
    registry: Registry,
    /// Disconnected when the thread ends.
    thread_end: Receiver<()>,
}

impl Registry {
    /// Starts computing diffIDs: first of the blobs that are stored, then of those that are pushed.
    /// Must be called only once.
    ///
    /// # Errors
    /// Returns the error of creating the thread.
    pub(crate) fn start_diff_id_worker(&self) -> std::io::Result<DiffIdWorker> {
        self.start_diff_id_worker_with_limits(DiffIdLimits::default())
    }

    pub(super) fn start_diff_id_worker_with_limits(
        &self,
        limits: DiffIdLimits,
    ) -> std::io::Result<DiffIdWorker> {
        // In a read-only store the results could not be stored.
        if self.store.is_writable() {
            self.diff_id_queue.open();
        }
        let worker = WorkerThread {
            registry: self.clone(),
            limits,
            indexes_marked_at: Cell::new(Instant::now()),
        };
        let (end_sender, thread_end) = mpsc::channel();
        std::thread::Builder::new()
            .name("diffids".to_owned())
            .spawn(move || {
                let _end_sender = end_sender;
                worker.run();
            })?;
        Ok(DiffIdWorker {
            registry: self.clone(),
            thread_end,
        })
    }
}

impl DiffIdWorker {
    /// Stops the worker and waits for its end, for two seconds at most: whatever it has not stored
    /// by then is computed again after the next start.
    pub(crate) fn stop(self) {
        self.registry.diff_id_queue.close();
        if let Err(RecvTimeoutError::Timeout) = self.thread_end.recv_timeout(MAX_STOP_TIME) {
            tracing::warn!("the thread that computes diffIDs did not stop in time");
        }
    }
}

impl Drop for DiffIdWorker {
    fn drop(&mut self) {
        self.registry.diff_id_queue.close();
    }
}

/// The facts about one blob.
#[derive(Default)]
struct ExaminedBlob {
    /// The layer; `None` if the blob is no layer.
    layer: Option<ComputedLayer>,
    /// The content of its index file, unless no index is wanted.
    index: Option<Vec<u8>>,
}

struct WorkerThread {
    registry: Registry,
    limits: DiffIdLimits,
    /// When the indexes of manifests were last looked at.
    indexes_marked_at: Cell<Instant>,
}

impl WorkerThread {
    fn queue(&self) -> &DiffIdQueue {
        &self.registry.diff_id_queue
    }

    fn run(&self) {
        if let Err(error) = rustix::process::setpriority_process(None, WORKER_NICENESS) {
            tracing::debug!(%error, "cannot lower the priority of the thread that computes diffIDs");
        }
        loop {
            match self.queue().wait_for_task(IDLE_INTERVAL) {
                WorkerTask::Job(job) => {
                    catch_panic(|| self.run_job(&job));
                    self.queue().finish_job();
                }
                WorkerTask::Walk => {
                    if let Some(Err(error)) = catch_panic(|| self.walk_all())
                        && self.queue().is_open()
                    {
                        tracing::warn!(%error, "cannot compute the diffIDs of all blobs");
                    }
                    // A walk that panicked may have left a job unfinished.
                    self.queue().finish_job();
                    self.queue().finish_walk();
                }
                WorkerTask::Idle => self.mark_idle_indexes(),
                WorkerTask::Stop => return,
            }
        }
    }

    /// Marks the indexes of manifests as complete in which nothing changes any more. A request does
    /// not wait for this thread of low priority.
    fn mark_idle_indexes(&self) {
        if self.indexes_marked_at.get().elapsed() < IDLE_INTERVAL {
            return;
        }
        self.indexes_marked_at.set(Instant::now());
        let is_ended = || !self.queue().is_open() || self.registry.is_index_awaited();
        let walk = Walk::new(u64::MAX, &is_ended);
        let now = (Instant::now(), SystemTime::now());
        catch_panic(|| self.registry.mark_idle_indexes(now, &walk));
    }

    /// Runs the queued jobs, so that a walk does not delay content that was just pushed. Returns
    /// false if the worker must stop.
    fn run_queued_jobs(&self) -> bool {
        self.mark_idle_indexes();
        while self.queue().is_open() {
            let Some(job) = self.queue().try_take_job() else {
                return true;
            };
            catch_panic(|| self.run_job(&job));
            self.queue().finish_job();
        }
        false
    }

    fn run_job(&self, job: &DiffIdJob) {
        let DiffIdJob(repository, digest) = job;
        if let Err(error) = self.record_blob(repository, digest, true) {
            tracing::warn!(?job, %error, "cannot compute a diffID; the next start retries");
        }
    }

    /// Completes the other derived data, removes the records of blobs that are gone, then examines
    /// everything that is linked.
    fn walk_all(&self) -> Result<()> {
        let is_closed = || !self.queue().is_open();
        self.complete_logs(&Walk::new(u64::MAX, &is_closed))?;
        self.delete_stale_records()?;
        let scope = ListScope::RepositoriesWithBlobs;
        for repository in self.registry.repositories(scope, &Walk::unbounded()) {
            if !self.walk_repository(&repository?)? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Completes the links of blobs and the indexes of manifests, so that no request has to do it.
    /// That is quick, compared with examining blobs.
    fn complete_logs(&self, walk: &Walk<'_>) -> Result<()> {
        let warn = |error: Error| {
            // An error of a walk that was stopped says nothing.
            if self.queue().is_open() {
                tracing::warn!(%error, "cannot complete derived data");
            }
        };
        self.registry.complete_link_logs(walk).unwrap_or_else(warn);
        for repository in self.registry.repositories(ListScope::Repositories, walk) {
            let repository = repository?;
            if !self.run_queued_jobs() {
                return Ok(());
            }
            // A request does not wait for this thread of low priority: it goes on where this thread
            // ends.
            let is_ended = || !self.queue().is_open() || self.registry.is_index_awaited();
            match self
                .registry
                .update_index(&repository, &Walk::new(u64::MAX, &is_ended))
            {
                Ok(_) => {}
                // The request may end early, too.
                Err(Error::Store(store::Error::WalkEnded)) => {
                    self.registry.note_manifest_change(&repository);
                }
                Err(error) => warn(error),
            }
        }
        Ok(self.registry.store.delete_old_config_files()?)
    }

    /// Examines everything that a repository links. Returns false if the worker must stop.
    fn walk_repository(&self, repository: &Repository) -> Result<bool> {
        for digest in self.registry.store.links(repository, LinkKind::Layers) {
            let digest = digest?;
            if !self.run_queued_jobs() {
                return Ok(false);
            }
            if let Err(error) = self.record_blob(repository, &digest, false) {
                tracing::warn!(%repository, %digest, %error, "cannot compute a diffID");
            }
        }
        Ok(true)
    }

    /// Computes the layer record of a blob with its index, unless they are there, and adds the
    /// repository to the record.
    ///
    /// With `is_new`, a blob that was recorded as no layer is examined again, because the old bytes
    /// may have been damaged, and one without an index, because an earlier version recorded it.
    fn record_blob(&self, repository: &Repository, digest: &Digest, is_new: bool) -> Result<()> {
        let registry = &self.registry;
        if let Some(record) = registry.read_layer_record(digest)?
            && (record.layer.is_some() || !is_new)
        {
            let is_complete = !is_new
                || registry.has_layer_index(digest)?
                || !registry.is_index_wanted(repository, digest)?;
            if is_complete {
                return registry.add_to_record(repository, digest, record);
            }
        }
        let Some(examined) = self.examine(repository, digest)? else {
            return Ok(());
        };
        if let Some(index) = &examined.index {
            let key = DerivedKey::LayerIndex(digest);
            registry.store.put_intact_derived(key, index)?;
        }
        // Written last: a blob with a record is not examined again.
        match (registry.read_layer_record(digest)?, examined.layer) {
            (Some(record), Some(layer)) if record.layer.is_some() => {
                let layer = Some(layer);
                let record = LayerRecord { layer, ..record };
                registry.put_layer_record(digest, &record)?;
                registry.add_to_record(repository, digest, record)
            }
            (_, layer) => {
                let repositories = layer.iter().map(|_| repository.clone()).collect();
                let record = LayerRecord {
                    layer,
                    repositories,
                };
                registry.put_layer_record(digest, &record)
            }
        }
    }

    /// Examines a blob. `None` means that the result is not final, for example because the blob
    /// cannot be read now.
    fn examine(&self, repository: &Repository, digest: &Digest) -> Result<Option<ExaminedBlob>> {
        let store = &self.registry.store;
        let blob = {
            let _lock = self.registry.lock_digests([digest.clone()]);
            self.registry.find_linked_blob(repository, digest)?
        };
        let Some(blob) = blob else { return Ok(None) };
        let Some((reader, _)) = store.open_object(ObjectKey::Blob(&blob.target))? else {
            return Ok(None);
        };
        let mut limits = self.limits;
        if self.registry.is_index_wanted(repository, digest)? {
            limits.max_indexed_bytes = self.registry.delta_config().max_layer_bytes;
        }
        let read = |offset, len| reader.read(offset, len);
        Ok(
            match compute_catching_panics(digest, read, limits, &|| self.queue().is_open()) {
                DiffIdOutcome::Layer(layer, index) => Some(ExaminedBlob {
                    layer: Some(layer),
                    index,
                }),
                DiffIdOutcome::NotALayer(why) => {
                    tracing::debug!(%digest, why, "a blob is not a layer");
                    Some(ExaminedBlob::default())
                }
                DiffIdOutcome::Damaged => {
                    if blob.target == *digest {
                        self.registry.remove_damaged_blob(digest, &reader)?;
                    } else {
                        // Either the bytes or the link is wrong.
                        let verdict = self.registry.reverify(&blob.target)?;
                        tracing::warn!(%repository, %digest, ?verdict, "a blob does not match its digest");
                    }
                    None
                }
                DiffIdOutcome::Unreadable(error) => {
                    tracing::warn!(%repository, %digest, %error, "cannot read a blob");
                    None
                }
                DiffIdOutcome::Stopped => None,
            },
        )
    }

    /// Removes the records of blobs that another program deleted.
    fn delete_stale_records(&self) -> Result<()> {
        let store = &self.registry.store;
        for digest in store.layer_records() {
            let digest = digest?;
            if !self.run_queued_jobs() {
                return Ok(());
            }
            // After an error the blob may still be there.
            if let Ok(None) = store.len(ObjectKey::Blob(&digest))
                && let Err(error) = self.registry.delete_layer_record(&digest)
            {
                tracing::debug!(%digest, %error, "cannot remove the record of a deleted blob");
            }
        }
        Ok(())
    }
}

/// Runs work and catches a panic, for which it returns `None`. If a panic ended the thread, all
/// layers would stay pending forever. The panic hook has logged the message already.
fn catch_panic<T>(work: impl FnOnce() -> T) -> Option<T> {
    let result = catch_unwind(AssertUnwindSafe(work));
    if result.is_err() {
        tracing::error!("computing a diffID has panicked; this is a bug");
    }
    result.ok()
}
