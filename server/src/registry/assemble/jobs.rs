//! The table of assemblies: which ones wait, which one runs, and how the others ended. No I/O.
//!
//! Start reading at [`AssemblyJobs`].

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use imgsync_oci::endpoint::UploadId;
use imgsync_oci::ext::assemble::AssemblyState;
use imgsync_oci::{Descriptor, Digest, Repository};

/// How many assemblies wait, at most.
const MAX_WAITING_JOBS: usize = 8;
/// How many of them are of one user, at most.
const MAX_WAITING_JOBS_OF_USER: usize = 2;
/// How long it is remembered how an assembly ended.
const RESULT_AGE: Duration = Duration::from_secs(3600);
/// How many results are remembered.
const MAX_RESULTS: usize = 1000;

/// Names an assembly: the repository, and the diffID of the layer.
pub(super) type AssemblyKey = (Repository, Digest);

/// The number of bytes of an uncompressed layer that are done, for those who ask.
#[derive(Debug, Clone)]
pub(super) struct AssemblyProgress {
    done: Arc<AtomicU64>,
    of: u64,
}

impl AssemblyProgress {
    pub(super) fn new(of: u64) -> Self {
        let done = Arc::default();
        Self { done, of }
    }

    /// Records that `bytes` more bytes are done.
    pub(super) fn add(&self, bytes: u64) {
        self.done.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Returns the state of the assembly.
    pub(super) fn state(&self) -> AssemblyState {
        AssemblyState::Working {
            done: self.done.load(Ordering::Relaxed),
            of: self.of,
        }
    }
}

/// An assembly that waits or runs.
#[derive(Debug)]
pub(super) struct WorkingAssembly {
    pub(super) progress: AssemblyProgress,
    /// The session with the delta.
    pub(super) session: UploadId,
    /// The one who asked, if known.
    pub(super) user: Option<String>,
    pub(super) bases: Vec<Digest>,
}

/// How an assembly ended.
#[derive(Debug)]
struct AssemblyResult {
    state: AssemblyState,
    ended_at: Instant,
    /// Whether [`AssemblyJobs::report`] must not return true any more.
    is_reported: bool,
}

/// The assemblies. `T` is what the worker needs for one.
#[derive(Debug)]
pub(super) struct AssemblyJobs<T> {
    /// Whether a worker is running.
    is_open: bool,
    queue: VecDeque<(AssemblyKey, T)>,
    /// The assemblies whose requests are being checked, each with the one who asked, if known.
    reserved: HashMap<AssemblyKey, (AssemblyProgress, Option<String>)>,
    working: HashMap<AssemblyKey, WorkingAssembly>,
    /// How the last assemblies ended.
    results: HashMap<AssemblyKey, AssemblyResult>,
}

impl<T> Default for AssemblyJobs<T> {
    fn default() -> Self {
        Self {
            is_open: false,
            queue: VecDeque::new(),
            reserved: HashMap::new(),
            working: HashMap::new(),
            results: HashMap::new(),
        }
    }
}

impl<T> AssemblyJobs<T> {
    /// Accepts jobs from now on.
    pub(super) fn open(&mut self) {
        self.is_open = true;
    }

    /// Accepts no more jobs, and forgets those that wait. Returns them.
    pub(super) fn close(&mut self) -> VecDeque<(AssemblyKey, T)> {
        self.is_open = false;
        self.working.clear();
        std::mem::take(&mut self.queue)
    }

    /// Returns whether the worker should keep running.
    pub(super) fn is_open(&self) -> bool {
        self.is_open
    }

    /// Returns whether one more job can be queued, of this user.
    pub(super) fn has_room(&self, user: Option<&str>) -> bool {
        let is_own = |(key, _): &&(AssemblyKey, T)| {
            let working = self.working.get(key);
            user.is_some() && working.is_some_and(|working| working.user.as_deref() == user)
        };
        let reserved = self.reserved.values();
        let reserved = reserved.filter(|(_, owner)| user.is_some() && owner.as_deref() == user);
        let own = self.queue.iter().filter(is_own).count() + reserved.count();
        self.is_open
            && self.queue.len() + self.reserved.len() < MAX_WAITING_JOBS
            && own < MAX_WAITING_JOBS_OF_USER
    }

    /// Counts an assembly as waiting while its request is checked.
    pub(super) fn reserve(
        &mut self,
        key: AssemblyKey,
        progress: AssemblyProgress,
        user: Option<&str>,
    ) {
        let user = user.map(str::to_owned);
        self.reserved.insert(key, (progress, user));
    }

    /// Ends the reservation of an assembly, which was queued or refused.
    pub(super) fn release(&mut self, key: &AssemblyKey) {
        self.reserved.remove(key);
    }

    /// Returns whether no job waits.
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Queues a job, instead of an earlier result.
    pub(super) fn push(&mut self, key: AssemblyKey, working: WorkingAssembly, job: T) {
        self.results.remove(&key);
        self.working.insert(key.clone(), working);
        self.queue.push_back((key, job));
    }

    /// Takes the job that waited for the longest. It counts as running until it is finished.
    pub(super) fn take(&mut self) -> Option<(AssemblyKey, T)> {
        self.queue.pop_front()
    }

    /// Forgets the jobs that wait and for which `is_dropped` is true. Returns them.
    pub(super) fn drop_waiting(&mut self, is_dropped: impl Fn(&T) -> bool) -> Vec<T> {
        let (dropped, kept) = std::mem::take(&mut self.queue)
            .into_iter()
            .partition::<VecDeque<_>, _>(|(_, job)| is_dropped(job));
        self.queue = kept;
        for (key, _) in &dropped {
            self.working.remove(key);
        }
        dropped.into_iter().map(|(_, job)| job).collect()
    }

    /// Returns the sessions of the assemblies for which `is_wanted`, with their repositories.
    pub(super) fn sessions(
        &self,
        is_wanted: impl Fn(&Repository, &WorkingAssembly) -> bool,
    ) -> Vec<(Repository, UploadId)> {
        let found = self.working.iter();
        let found = found.filter(|((repository, _), working)| is_wanted(repository, working));
        let session = |((repository, _), working): (&AssemblyKey, &WorkingAssembly)| {
            (repository.clone(), working.session)
        };
        found.map(session).collect()
    }

    /// Records how a job ended at `now`; `None` if nobody should be told.
    pub(super) fn finish(&mut self, key: AssemblyKey, result: Option<AssemblyState>, now: Instant) {
        self.working.remove(&key);
        let age = |ended_at: Instant| now.saturating_duration_since(ended_at);
        self.results
            .retain(|_, result| age(result.ended_at) < RESULT_AGE);
        if self.results.len() >= MAX_RESULTS {
            let results = self.results.iter();
            let oldest = results.min_by_key(|(_, result)| result.ended_at);
            let oldest = oldest.map(|(key, _)| key.clone());
            oldest.map(|key| self.results.remove(&key));
        }
        if let Some(state) = result {
            let result = AssemblyResult {
                state,
                ended_at: now,
                is_reported: false,
            };
            self.results.insert(key, result);
        }
    }

    /// Records that the repository holds a layer that was not assembled.
    pub(super) fn insert_held(&mut self, key: AssemblyKey, blob: Descriptor, now: Instant) {
        self.finish(key.clone(), Some(AssemblyState::Held { blob }), now);
        self.report(&key);
    }

    /// Returns whether the layer was assembled, and this is called for the first time since.
    pub(super) fn report(&mut self, key: &AssemblyKey) -> bool {
        let result = self.results.get_mut(key);
        let assembled = result.filter(|result| matches!(result.state, AssemblyState::Held { .. }));
        assembled.is_some_and(|result| !std::mem::replace(&mut result.is_reported, true))
    }

    /// Forgets how a job ended.
    pub(super) fn forget(&mut self, key: &AssemblyKey) {
        self.results.remove(key);
    }

    /// Returns the state of an assembly, if it is known.
    pub(super) fn state(&self, key: &AssemblyKey) -> Option<AssemblyState> {
        let working = self.working.get(key).map(|working| &working.progress);
        let reserved = || self.reserved.get(key).map(|(progress, _)| progress);
        let working = working.or_else(reserved).map(AssemblyProgress::state);
        working.or_else(|| Some(self.results.get(key)?.state.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: usize) -> AssemblyKey {
        let digest = Digest::of(number.to_string().as_bytes());
        ("a".parse().unwrap(), digest)
    }

    fn working(of: u64) -> WorkingAssembly {
        WorkingAssembly {
            progress: AssemblyProgress::new(of),
            session: UploadId::random(),
            user: None,
            bases: vec![Digest::of(&of.to_le_bytes())],
        }
    }

    fn failed(reason: &str) -> AssemblyState {
        let reason = reason.to_owned();
        AssemblyState::Failed { reason }
    }

    #[test]
    fn jobs_run_in_order_and_their_results_are_remembered() {
        let mut jobs = AssemblyJobs::default();
        assert!(!jobs.has_room(None));
        jobs.open();
        for number in 0..MAX_WAITING_JOBS {
            assert!(jobs.has_room(None));
            jobs.push(key(number), working(7), number);
        }
        assert!(!jobs.has_room(None));
        let waiting = AssemblyState::Working { done: 0, of: 7 };
        assert_eq!(jobs.take(), Some((key(0), 0)));
        assert!(jobs.has_room(None));
        for number in [0, 1] {
            assert_eq!(jobs.state(&key(number)), Some(waiting.clone()));
        }
        let now = Instant::now();
        jobs.finish(key(0), Some(failed("why")), now);
        assert_eq!(jobs.state(&key(0)), Some(failed("why")));
        let another = ("b".parse().unwrap(), key(0).1);
        assert_eq!(jobs.state(&another), None);
        // A new job replaces the result.
        jobs.push(key(0), working(8), 0);
        let again = AssemblyState::Working { done: 0, of: 8 };
        assert_eq!(jobs.state(&key(0)), Some(again));
        let bases = [7, 8, 9].map(|of: u64| Digest::of(&of.to_le_bytes()));
        for (base, count) in bases.iter().zip([7, 1, 0]) {
            let sessions = jobs.sessions(|_, working| working.bases.contains(base));
            assert_eq!(sessions.len(), count);
        }
        assert_eq!(jobs.drop_waiting(|job| *job == 3), [3]);
        assert_eq!(jobs.state(&key(3)), None);
        let dropped: Vec<_> = jobs.close().into_iter().map(|(_, job)| job).collect();
        assert_eq!(dropped, [1, 2, 4, 5, 6, 7, 0]);
        assert_eq!(jobs.state(&key(1)), None);
        assert!(!jobs.has_room(None) && jobs.is_empty());
    }

    #[test]
    fn a_user_takes_two_places_of_the_queue() {
        let mut jobs = AssemblyJobs::default();
        jobs.open();
        let user = Some("alice");
        for number in 0..3 {
            assert!(jobs.has_room(user));
            let working = WorkingAssembly {
                user: user.map(str::to_owned),
                ..working(7)
            };
            jobs.push(key(number), working, number);
            // One that runs does not wait.
            if number == 0 {
                jobs.take();
            }
        }
        assert!(!jobs.has_room(user));
        assert!(jobs.has_room(Some("bob")) && jobs.has_room(None));
    }

    #[test]
    fn a_reservation_counts_as_a_waiting_job() {
        let mut jobs = AssemblyJobs::<usize>::default();
        jobs.open();
        let user = Some("alice");
        for number in 0..MAX_WAITING_JOBS_OF_USER {
            assert!(jobs.has_room(user));
            jobs.reserve(key(number), AssemblyProgress::new(7), user);
        }
        assert!(!jobs.has_room(user) && jobs.has_room(None));
        let waiting = AssemblyState::Working { done: 0, of: 7 };
        assert_eq!(jobs.state(&key(0)), Some(waiting));
        for number in MAX_WAITING_JOBS_OF_USER..MAX_WAITING_JOBS {
            jobs.reserve(key(number), AssemblyProgress::new(7), None);
        }
        assert!(!jobs.has_room(None));
        jobs.release(&key(0));
        assert!(jobs.has_room(user) && jobs.state(&key(0)).is_none());
    }

    #[test]
    fn a_layer_is_reported_once_and_only_if_it_was_assembled() {
        let (mut jobs, now) = (AssemblyJobs::<()>::default(), Instant::now());
        let blob = || Descriptor::new("m/t", Digest::of(b"layer"), 5);
        let held = || AssemblyState::Held { blob: blob() };
        assert!(!jobs.report(&key(0)));
        jobs.finish(key(0), Some(held()), now);
        assert_eq!([(); 3].map(|()| jobs.report(&key(0))), [true, false, false]);
        jobs.finish(key(1), Some(failed("why")), now);
        jobs.insert_held(key(2), blob(), now);
        assert!(!jobs.report(&key(1)) && !jobs.report(&key(2)));
        assert_eq!(jobs.state(&key(2)), Some(held()));
    }

    #[test]
    fn results_are_bounded_in_number_and_in_time() {
        let (mut jobs, start) = (AssemblyJobs::<()>::default(), Instant::now());
        let second = Duration::from_secs(1);
        for number in 0..=MAX_RESULTS {
            jobs.finish(key(number), Some(failed("x")), start + second);
            if number == 0 {
                jobs.finish(key(0), Some(failed("oldest")), start);
            }
        }
        assert_eq!(jobs.results.len(), MAX_RESULTS);
        assert_eq!(jobs.state(&key(0)), None);
        jobs.finish(key(0), None, start + RESULT_AGE + second);
        assert!(jobs.results.is_empty());
    }
}
