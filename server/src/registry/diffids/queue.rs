//! Queues the blobs that the worker has yet to examine.
//!
//! The queue is bounded: if a job does not fit, the worker walks all repositories once more. The
//! queue does not run jobs; [`super::worker`] does. Start reading at [`DiffIdQueue`].

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use imgsync_oci::{Digest, Repository};

/// Maximum number of queued jobs.
const MAX_QUEUED_JOBS: usize = 4096;

/// A new blob in a repository, which the worker has to examine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::registry) struct DiffIdJob(
    pub(in crate::registry) Repository,
    pub(in crate::registry) Digest,
);

/// The next task of the worker.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum WorkerTask {
    /// Run one job.
    Job(DiffIdJob),
    /// Walk all repositories.
    Walk,
    /// Do what can wait: there has been nothing else for a while.
    Idle,
    /// Exit.
    Stop,
}

/// Passes jobs from requests to the worker.
#[derive(Default)]
pub(in crate::registry) struct DiffIdQueue {
    state: Mutex<QueueState>,
    changed: Condvar,
}

#[derive(Default)]
struct QueueState {
    jobs: VecDeque<DiffIdJob>,
    /// Whether a worker is running.
    is_open: bool,
    /// Whether a walk was requested and has not started.
    is_walk_pending: bool,
    /// Whether a walk has started and is not finished.
    is_walking: bool,
    /// Whether a job was taken and is not finished.
    is_working: bool,
}

impl DiffIdQueue {
    fn lock(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens the queue for a worker, with a walk as its first task.
    pub(super) fn open(&self) {
        let mut state = self.lock();
        state.is_open = true;
        state.is_walk_pending = true;
    }

    /// Tells the worker to exit.
    pub(super) fn close(&self) {
        self.lock().is_open = false;
        self.changed.notify_all();
    }

    /// Reports whether the worker should keep running.
    pub(super) fn is_open(&self) -> bool {
        self.lock().is_open
    }

    /// Reports whether a job or walk is pending or running.
    pub(super) fn is_busy(&self) -> bool {
        let state = self.lock();
        let is_walk = state.is_walk_pending || state.is_walking;
        state.is_open && (is_walk || state.is_working || !state.jobs.is_empty())
    }

    /// Adds a job, without blocking. Does nothing if there is no worker.
    pub(in crate::registry) fn push(&self, job: DiffIdJob) {
        let mut state = self.lock();
        if !state.is_open {
            return;
        }
        if state.jobs.len() >= MAX_QUEUED_JOBS {
            state.is_walk_pending = true;
        } else {
            state.jobs.push_back(job);
        }
        self.changed.notify_all();
    }

    /// Adds a job as [`DiffIdQueue::push`] does, unless it is queued already.
    pub(super) fn push_once(&self, job: DiffIdJob) {
        if !self.lock().jobs.contains(&job) {
            self.push(job);
        }
    }

    /// Marks the job that was taken last as finished.
    pub(super) fn finish_job(&self) {
        self.lock().is_working = false;
    }

    /// Marks the walk as finished.
    pub(super) fn finish_walk(&self) {
        self.lock().is_walking = false;
    }

    /// Takes a job, if one is queued. It counts as running until [`DiffIdQueue::finish_job`].
    pub(super) fn try_take_job(&self) -> Option<DiffIdJob> {
        let mut state = self.lock();
        let job = state.jobs.pop_front();
        state.is_working = job.is_some();
        job
    }

    /// Waits for the next task, up to `max_wait`. Jobs come before a walk.
    pub(super) fn wait_for_task(&self, max_wait: Duration) -> WorkerTask {
        let (mut state, wait) = self
            .changed
            .wait_timeout_while(self.lock(), max_wait, |state| {
                state.is_open && state.jobs.is_empty() && !state.is_walk_pending
            })
            .unwrap_or_else(PoisonError::into_inner);
        if !state.is_open {
            return WorkerTask::Stop;
        }
        if wait.timed_out() {
            return WorkerTask::Idle;
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

    const WAIT: Duration = Duration::from_secs(60);

    fn job(number: usize) -> DiffIdJob {
        let digest = Digest::of(number.to_string().as_bytes());
        DiffIdJob("a".parse().unwrap(), digest)
    }

    #[test]
    fn a_queue_is_busy_until_all_jobs_and_walks_are_finished() {
        let queue = DiffIdQueue::default();
        queue.push(job(0));
        assert!(!queue.is_busy(), "there is no worker");
        queue.open();
        assert!(queue.is_busy());
        assert_eq!(queue.wait_for_task(WAIT), WorkerTask::Walk);
        queue.push(job(1));
        assert_eq!(queue.try_take_job(), Some(job(1)));
        queue.finish_job();
        assert!(queue.is_busy());
        queue.finish_walk();
        assert!(!queue.is_busy());
        queue.push(job(2));
        assert!(queue.is_busy());
        assert_eq!(queue.wait_for_task(WAIT), WorkerTask::Job(job(2)));
        assert!(queue.is_busy());
        queue.finish_job();
        assert!(!queue.is_busy());
        assert_eq!(queue.wait_for_task(Duration::ZERO), WorkerTask::Idle);
        assert!(!queue.is_busy());
        queue.close();
        assert_eq!(queue.wait_for_task(WAIT), WorkerTask::Stop);
    }

    #[test]
    fn jobs_that_do_not_fit_cause_another_walk() {
        let queue = DiffIdQueue::default();
        queue.open();
        assert_eq!(queue.wait_for_task(WAIT), WorkerTask::Walk);
        queue.finish_walk();
        for number in 0..MAX_QUEUED_JOBS + 10 {
            queue.push(job(number));
        }
        for number in 0..MAX_QUEUED_JOBS {
            assert_eq!(queue.wait_for_task(WAIT), WorkerTask::Job(job(number)));
            queue.finish_job();
        }
        assert_eq!(queue.wait_for_task(WAIT), WorkerTask::Walk);
    }
}
