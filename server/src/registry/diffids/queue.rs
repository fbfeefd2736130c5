//! What is still to be looked at. Bounded: what does not fit is found by another walk.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use imgsync_oci::{Digest, Repository};

/// How many things wait by name.
const MOST_JOBS: usize = 4096;

/// Something new in a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::registry) enum Job {
    /// A link to a blob.
    Blob(Repository, Digest),
    /// A manifest.
    Manifest(Repository, Digest),
}

/// What the worker does next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// This.
    Job(Job),
    /// Look through everything.
    Walk,
    /// Nothing more at all.
    Stop,
}

/// The way from requests to the worker.
#[derive(Default)]
pub(in crate::registry) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    /// Whether there is a worker.
    is_served: bool,
    is_walk_wanted: bool,
    is_walking: bool,
    /// Whether a job was taken and is not done.
    is_working: bool,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A worker begins, with a walk.
    pub(super) fn open(&self) {
        let mut state = self.lock();
        state.is_served = true;
        state.is_walk_wanted = true;
    }

    /// The worker is to end.
    pub(super) fn close(&self) {
        self.lock().is_served = false;
        self.changed.notify_all();
    }

    /// Whether the worker is to go on.
    pub(super) fn is_open(&self) -> bool {
        self.lock().is_served
    }

    /// Whether something is still to be looked at, or is being looked at.
    pub(super) fn is_busy(&self) -> bool {
        let state = self.lock();
        let is_walk = state.is_walk_wanted || state.is_walking;
        state.is_served && (is_walk || state.is_working || !state.jobs.is_empty())
    }

    /// Takes note of something new. Never waits.
    pub(in crate::registry) fn note(&self, job: Job) {
        let mut state = self.lock();
        if !state.is_served {
            return;
        }
        match &job {
            _ if state.jobs.len() >= MOST_JOBS => state.is_walk_wanted = true,
            // Soon done, where a blob may take a while.
            Job::Manifest(..) => state.jobs.push_front(job),
            Job::Blob(..) => state.jobs.push_back(job),
        }
        self.changed.notify_all();
    }

    /// The last job is done.
    pub(super) fn done(&self) {
        self.lock().is_working = false;
    }

    /// The walk is done.
    pub(super) fn walked(&self) {
        self.lock().is_walking = false;
    }

    /// A job that waits, if any. Until [`Queue::done`], it counts as being looked at.
    pub(super) fn take(&self) -> Option<Job> {
        let mut state = self.lock();
        let job = state.jobs.pop_front();
        state.is_working = job.is_some();
        job
    }

    /// Waits for something to do. Jobs come before a walk.
    pub(super) fn next(&self) -> Next {
        let mut state = self
            .changed
            .wait_while(self.lock(), |state| {
                state.is_served && state.jobs.is_empty() && !state.is_walk_wanted
            })
            .unwrap_or_else(PoisonError::into_inner);
        if !state.is_served {
            return Next::Stop;
        }
        if let Some(job) = state.jobs.pop_front() {
            state.is_working = true;
            return Next::Job(job);
        }
        state.is_walk_wanted = false;
        state.is_walking = true;
        Next::Walk
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(number: usize) -> Job {
        let digest = Digest::of(number.to_string().as_bytes());
        Job::Blob("a".parse().unwrap(), digest)
    }

    #[test]
    fn it_is_busy_until_everything_was_looked_at() {
        let queue = Queue::default();
        queue.note(job(0));
        assert!(!queue.is_busy(), "nobody serves it");
        queue.open();
        assert!(queue.is_busy());
        assert_eq!(queue.next(), Next::Walk);
        queue.note(job(1));
        assert_eq!(queue.take(), Some(job(1)));
        queue.done();
        assert!(queue.is_busy());
        queue.walked();
        assert!(!queue.is_busy());
        queue.note(job(2));
        assert!(queue.is_busy());
        assert_eq!(queue.next(), Next::Job(job(2)));
        assert!(queue.is_busy());
        queue.done();
        assert!(!queue.is_busy());
        queue.close();
        assert_eq!(queue.next(), Next::Stop);
    }

    #[test]
    fn what_does_not_fit_is_found_by_another_walk() {
        let queue = Queue::default();
        queue.open();
        assert_eq!(queue.next(), Next::Walk);
        queue.walked();
        for number in 0..MOST_JOBS + 10 {
            queue.note(job(number));
        }
        for number in 0..MOST_JOBS {
            assert_eq!(queue.next(), Next::Job(job(number)));
            queue.done();
        }
        assert_eq!(queue.next(), Next::Walk);
    }
}
