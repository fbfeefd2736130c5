//! What is still to be looked at. Bounded: what does not fit is found by another walk.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use imgsync_oci::{Digest, Repository};

/// How many things wait by name.
const MAX_QUEUED_JOBS: usize = 4096;

/// Something new in a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::registry) enum DiffIdJob {
    /// A link to a blob.
    Blob(Repository, Digest),
    /// A manifest.
    Manifest(Repository, Digest),
}

/// What the worker does next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum WorkerTask {
    /// This.
    Job(DiffIdJob),
    /// Look through everything.
    Walk,
    /// Nothing more at all.
    Stop,
}

/// The way from requests to the worker.
#[derive(Default)]
pub(in crate::registry) struct DiffIdQueue {
    state: Mutex<QueueState>,
    changed: Condvar,
}

#[derive(Default)]
struct QueueState {
    jobs: VecDeque<DiffIdJob>,
    /// Whether there is a worker.
    is_open: bool,
    is_walk_pending: bool,
    is_walking: bool,
    /// Whether a job was taken and is not done.
    is_working: bool,
}

impl DiffIdQueue {
    fn lock(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A worker begins, with a walk.
    pub(super) fn open(&self) {
        let mut state = self.lock();
        state.is_open = true;
        state.is_walk_pending = true;
    }

    /// The worker is to end.
    pub(super) fn close(&self) {
        self.lock().is_open = false;
        self.changed.notify_all();
    }

    /// Whether the worker is to go on.
    pub(super) fn is_open(&self) -> bool {
        self.lock().is_open
    }

    /// Whether something is still to be looked at, or is being looked at.
    pub(super) fn is_busy(&self) -> bool {
        let state = self.lock();
        let is_walk = state.is_walk_pending || state.is_walking;
        state.is_open && (is_walk || state.is_working || !state.jobs.is_empty())
    }

    /// Takes note of something new. Never waits.
    pub(in crate::registry) fn push(&self, job: DiffIdJob) {
        let mut state = self.lock();
        if !state.is_open {
            return;
        }
        match &job {
            _ if state.jobs.len() >= MAX_QUEUED_JOBS => state.is_walk_pending = true,
            // Soon done, where a blob may take a while.
            DiffIdJob::Manifest(..) => state.jobs.push_front(job),
            DiffIdJob::Blob(..) => state.jobs.push_back(job),
        }
        self.changed.notify_all();
    }

    /// The last job is done.
    pub(super) fn finish_job(&self) {
        self.lock().is_working = false;
    }

    /// The walk is done.
    pub(super) fn finish_walk(&self) {
        self.lock().is_walking = false;
    }

    /// A job that waits, if any. Until [`Queue::done`], it counts as being looked at.
    pub(super) fn try_take_job(&self) -> Option<DiffIdJob> {
        let mut state = self.lock();
        let job = state.jobs.pop_front();
        state.is_working = job.is_some();
        job
    }

    /// Waits for something to do. Jobs come before a walk.
    pub(super) fn wait_for_task(&self) -> WorkerTask {
        let mut state = self
            .changed
            .wait_while(self.lock(), |state| {
                state.is_open && state.jobs.is_empty() && !state.is_walk_pending
            })
            .unwrap_or_else(PoisonError::into_inner);
        if !state.is_open {
            return WorkerTask::Stop;
        }
        if let Some(job) = state.jobs.pop_front() {
            state.is_working = true;
            return WorkerTask::Job(job);
        }
        state.is_walk_pending = false;
        state.is_walking = true;
        WorkerTask::Walk
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(number: usize) -> DiffIdJob {
        let digest = Digest::of(number.to_string().as_bytes());
        DiffIdJob::Blob("a".parse().unwrap(), digest)
    }

    #[test]
    fn it_is_busy_until_everything_was_looked_at() {
        let queue = DiffIdQueue::default();
        queue.push(job(0));
        assert!(!queue.is_busy(), "nobody serves it");
        queue.open();
        assert!(queue.is_busy());
        assert_eq!(queue.wait_for_task(), WorkerTask::Walk);
        queue.push(job(1));
        assert_eq!(queue.try_take_job(), Some(job(1)));
        queue.finish_job();
        assert!(queue.is_busy());
        queue.finish_walk();
        assert!(!queue.is_busy());
        queue.push(job(2));
        assert!(queue.is_busy());
        assert_eq!(queue.wait_for_task(), WorkerTask::Job(job(2)));
        assert!(queue.is_busy());
        queue.finish_job();
        assert!(!queue.is_busy());
        queue.close();
        assert_eq!(queue.wait_for_task(), WorkerTask::Stop);
    }

    #[test]
    fn what_does_not_fit_is_found_by_another_walk() {
        let queue = DiffIdQueue::default();
        queue.open();
        assert_eq!(queue.wait_for_task(), WorkerTask::Walk);
        queue.finish_walk();
        for number in 0..MAX_QUEUED_JOBS + 10 {
            queue.push(job(number));
        }
        for number in 0..MAX_QUEUED_JOBS {
            assert_eq!(queue.wait_for_task(), WorkerTask::Job(job(number)));
            queue.finish_job();
        }
        assert_eq!(queue.wait_for_task(), WorkerTask::Walk);
    }
}
