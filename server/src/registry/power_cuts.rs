//! Runs a workload on a recorded disk, and checks the registry after a power cut at every moment of
//! it.
//!
//! Start reading at [`RecordedWorkload`].

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use super::{Error, Registry};
use crate::store::Store;
use crate::store::testing::{DiskSnapshot, Recording};

/// The content that clients can see, by name.
pub(super) type VisibleState = BTreeMap<String, String>;

/// One acknowledged call of a workload.
pub(super) type WorkloadStep<Work> = fn(&Work, &Registry) -> Result<(), Error>;

/// A workload that was run once: the changes to the disk, and what clients saw after each step.
pub(super) struct RecordedWorkload {
    recording: Recording,
    /// How many changes there were before the first step, and after each.
    step_ends: Vec<usize>,
    /// The content that clients saw before the first step, and after each step.
    pub(super) views: Vec<VisibleState>,
}

impl RecordedWorkload {
    /// Runs all steps in a new registry in `root`.
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

    /// Calls `check` for the states of the disk after a power cut at every moment, with the number
    /// of acknowledged steps.
    pub(super) fn check_every_power_cut(&self, check: impl Fn(usize, &DiskSnapshot) + Sync) {
        let mut seen = HashSet::new();
        let mut cases = Vec::new();
        for count in 0..=self.recording.len() {
            let done = self
                .step_ends
                .iter()
                .rposition(|end| *end <= count)
                .unwrap();
            for snapshot in self.recording.states_after_power_cut(count) {
                if seen.insert((done, snapshot.clone())) {
                    cases.push((done, snapshot));
                }
            }
        }
        assert!(cases.len() > 1000, "only {} cases", cases.len());
        let workers = std::thread::available_parallelism().map_or(1, usize::from);
        std::thread::scope(|scope| {
            for part in cases.chunks(cases.len().div_ceil(workers)) {
                let check = &check;
                scope.spawn(move || {
                    for (done, snapshot) in part {
                        check(*done, snapshot);
                    }
                });
            }
        });
    }
}
