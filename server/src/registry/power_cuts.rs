//! A day's work, and every moment at which the power may go in it.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use super::{Error, Registry};
use crate::store::Store;
use crate::store::testing::{DiskSnapshot, Recording};

/// What can be seen from outside, by name.
pub(super) type VisibleState = BTreeMap<String, String>;

/// One acknowledged call, in some work.
pub(super) type WorkloadStep<Work> = fn(&Work, &Registry) -> Result<(), Error>;

/// A day: what was done to the disk, where each step ended, and what could be seen then.
pub(super) struct RecordedWorkload {
    recording: Recording,
    step_ends: Vec<usize>,
    /// Before the first step, and after each.
    pub(super) views: Vec<VisibleState>,
}

impl RecordedWorkload {
    /// Does all the steps in a new registry in this folder.
    pub(super) fn record<Work>(
        root: &Path,
        work: &Work,
        steps: &[WorkloadStep<Work>],
        view: impl Fn(&Registry) -> VisibleState,
    ) -> Self {
        let (store, recording) = Store::open_recorded(root).unwrap();
        let registry = Registry::with_store(store);
        let (mut step_ends, mut views) = (vec![0], vec![view(&registry)]);
        for (number, step) in steps.iter().enumerate() {
            step(work, &registry).unwrap_or_else(|error| panic!("step {number}: {error}"));
            step_ends.push(recording.len());
            views.push(view(&registry));
        }
        Self {
            recording,
            step_ends,
            views,
        }
    }

    /// Lets the power go at every moment: `after` gets the number of acknowledged steps, and what
    /// may be left.
    pub(super) fn check_every_power_cut(&self, after: impl Fn(usize, &DiskSnapshot) + Sync) {
        let mut seen = HashSet::new();
        let mut cases = Vec::new();
        for count in 0..=self.recording.len() {
            let done = self
                .step_ends
                .iter()
                .rposition(|end| *end <= count)
                .unwrap();
            for remains in self.recording.states_after_power_cut(count) {
                if seen.insert((done, remains.clone())) {
                    cases.push((done, remains));
                }
            }
        }
        assert!(cases.len() > 1000, "only {} cases", cases.len());
        let workers = std::thread::available_parallelism().map_or(1, usize::from);
        std::thread::scope(|scope| {
            for part in cases.chunks(cases.len().div_ceil(workers)) {
                let after = &after;
                scope.spawn(move || {
                    for (done, remains) in part {
                        after(*done, remains);
                    }
                });
            }
        });
    }
}
