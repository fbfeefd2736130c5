//! Runs the thread that assembles layers, with the lowest priority.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::PoisonError;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use imgsync_oci::ext::assemble::AssemblyState;
use imgsync_oci::{Descriptor, Digest, Repository};

use super::jobs::AssemblyKey;
use super::run::{AssemblyFailure, PreparedAssembly};
use crate::registry::Registry;
use crate::registry::uploads::SealedUpload;

/// The lowest priority of a Unix process (nice 19).
const WORKER_NICENESS: i32 = 19;
/// How long [`AssemblyWorker::stop`] waits. The worker may be in the middle of a long read.
const MAX_STOP_TIME: Duration = Duration::from_secs(2);

/// The thread that assembles layers. On drop it is told to stop, without waiting.
pub(crate) struct AssemblyWorker {
    registry: Registry,
    /// Disconnected when the thread ends.
    thread_end: Receiver<()>,
}

impl Registry {
    /// Starts assembling the layers that clients ask for. Must be called only once.
    ///
    /// # Errors
    /// Returns the error of creating the thread.
    pub(crate) fn start_assembly_worker(&self) -> std::io::Result<AssemblyWorker> {
        if self.store.is_writable() {
            self.assemblies.jobs().open();
        }
        let registry = self.clone();
        let (end_sender, thread_end) = mpsc::channel();
        std::thread::Builder::new()
            .name("assembly".to_owned())
            .spawn(move || {
                let _end_sender = end_sender;
                run(&registry);
            })?;
        Ok(AssemblyWorker {
            registry: self.clone(),
            thread_end,
        })
    }

    fn close_assemblies(&self) {
        let waiting = self.assemblies.jobs().close();
        self.assemblies.changed.notify_all();
        // The sessions stay, for the next start.
        drop(waiting);
    }
}

impl AssemblyWorker {
    /// Stops the worker and waits for its end, for two seconds at most. The sessions of the clients
    /// stay, so that they can ask again after the next start.
    pub(crate) fn stop(self) {
        self.registry.close_assemblies();
        if let Err(RecvTimeoutError::Timeout) = self.thread_end.recv_timeout(MAX_STOP_TIME) {
            tracing::warn!("the thread that assembles layers did not stop in time");
        }
    }
}

impl Drop for AssemblyWorker {
    fn drop(&mut self) {
        self.registry.close_assemblies();
    }
}

fn run(registry: &Registry) {
    // The threads that compress inherit it.
    if let Err(error) = rustix::process::setpriority_process(None, WORKER_NICENESS) {
        tracing::debug!(%error, "cannot lower the priority of the thread that assembles layers");
    }
    while run_next(registry) {}
}

/// Waits for the next job and runs it. Returns false if the worker must stop.
pub(super) fn run_next(registry: &Registry) -> bool {
    let Some((key, job)) = wait_for_job(registry) else {
        return false;
    };
    run_job(registry, key, job);
    true
}

/// Runs a job, and records how it ended.
pub(super) fn run_job(registry: &Registry, key: AssemblyKey, job: PreparedAssembly) {
    let (repository, diff_id) = &key;
    if let Some(blob) = find_arrived_layer(registry, repository, diff_id) {
        tracing::info!(%repository, %diff_id, "the layer was pushed while its assembly waited");
        remove_delta(&key, job.delta);
        registry
            .assemblies
            .jobs()
            .insert_held(key, blob, Instant::now());
        return;
    }
    let result = run_logged(registry, &key, job);
    let mut jobs = registry.assemblies.jobs();
    jobs.finish(key, result, Instant::now());
}

/// Waits for the next job; `None` if the worker must stop.
fn wait_for_job(registry: &Registry) -> Option<(AssemblyKey, PreparedAssembly)> {
    let assemblies = &registry.assemblies;
    let jobs = assemblies
        .changed
        .wait_while(assemblies.jobs(), |jobs| jobs.is_open() && jobs.is_empty());
    jobs.unwrap_or_else(PoisonError::into_inner).take()
}

/// Runs a job, logs it, and returns what its client is told; `None` if the job was stopped.
fn run_logged(
    registry: &Registry,
    key: &AssemblyKey,
    mut job: PreparedAssembly,
) -> Option<AssemblyState> {
    let (repository, diff_id) = key;
    let (started_at, delta_bytes) = (Instant::now(), job.delta.size());
    let raw_bytes = job.plan.raw_size;
    let bases = job.bases.len();
    tracing::info!(%repository, %diff_id, delta_bytes, raw_bytes, bases, "assembling a layer");
    let result = run_catching_panics(registry, &mut job);
    if !matches!(result, Err(AssemblyFailure::Stopped)) {
        remove_delta(key, job.delta);
    }
    let milliseconds = started_at.elapsed().as_millis();
    let reason = match result {
        Ok(blob) => {
            let (digest, bytes) = (&blob.digest, blob.size);
            tracing::info!(
                %repository, %diff_id, %digest, delta_bytes, bytes, milliseconds,
                "assembled a layer"
            );
            return Some(AssemblyState::Held { blob });
        }
        Err(AssemblyFailure::Stopped) => {
            tracing::info!(%repository, %diff_id, "stopped assembling a layer; its session stays");
            return None;
        }
        Err(AssemblyFailure::Cancelled) => {
            tracing::info!(%repository, %diff_id, "stopped assembling a layer: it was cancelled");
            return None;
        }
        Err(AssemblyFailure::Rejected(reason)) => reason,
        Err(AssemblyFailure::Internal(error)) => {
            tracing::error!(%repository, %diff_id, %error, "the registry failed to assemble a layer");
            "the registry failed".to_owned()
        }
    };
    tracing::warn!(%repository, %diff_id, reason, milliseconds, "cannot assemble a layer");
    Some(AssemblyState::Failed { reason })
}

/// Removes a delta with its session.
fn remove_delta((repository, diff_id): &AssemblyKey, delta: SealedUpload) {
    if let Err(error) = delta.remove() {
        tracing::warn!(%repository, %diff_id, %error, "cannot remove a delta");
    }
}

/// Returns the layer of a job if the repository holds it meanwhile.
fn find_arrived_layer(
    registry: &Registry,
    repository: &Repository,
    diff_id: &Digest,
) -> Option<Descriptor> {
    if !registry.is_assembly_enabled() {
        return None;
    }
    let found = registry.find_held_layer(repository, diff_id);
    found.unwrap_or_else(|error| {
        tracing::warn!(%repository, %diff_id, %error, "cannot find out whether a layer is held");
        None
    })
}

/// Runs a job and catches a panic: if it ended the thread, no layer could be assembled any more. The
/// panic hook has logged the message already.
fn run_catching_panics(
    registry: &Registry,
    job: &mut PreparedAssembly,
) -> Result<Descriptor, AssemblyFailure> {
    let result = catch_unwind(AssertUnwindSafe(|| job.run(registry)));
    result.unwrap_or_else(|_| {
        let reason = "the registry failed; this is a bug".to_owned();
        Err(AssemblyFailure::Rejected(reason))
    })
}
