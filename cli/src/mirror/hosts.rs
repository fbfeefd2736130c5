//! What all that one run asks of a registry shares: how much at a time, and how long it waits when
//! it was too much.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use imgsync_oci::Registry;
use imgsync_oci::client::{Quota, RateLimit};
use tokio::sync::Semaphore;

use crate::report::Report;

/// Small requests to one registry at a time.
const REQUESTS: usize = 8;
/// Blobs that are read from one registry at a time.
const READS: usize = 6;
/// Who is told to come back later than that should, in another run.
const LONGEST_WAIT: Duration = Duration::from_secs(15 * 60);

/// One registry, for one run.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) quota: Arc<Quota>,
    pub(super) requests: Semaphore,
    pub(super) reads: Arc<Semaphore>,
}

/// All registries that a run speaks to.
pub(super) struct Hosts {
    report: Arc<dyn Report>,
    known: Mutex<BTreeMap<Registry, Arc<Host>>>,
}

impl Hosts {
    pub(super) fn new(report: Arc<dyn Report>) -> Self {
        Self {
            report,
            known: Mutex::default(),
        }
    }

    /// What is shared for a registry.
    pub(super) fn of(&self, registry: &Registry) -> Arc<Host> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let host = known.entry(registry.clone()).or_insert_with(|| {
            let (report, name) = (Arc::clone(&self.report), registry.clone());
            let quota = Quota::patient(LONGEST_WAIT, move |error, pause| {
                let seconds = pause.as_secs();
                let why = match error.status() {
                    Some(status) => format!("{name} says {status}"),
                    None => error.to_string(),
                };
                report.note(&format!("{why}: waiting for {seconds} s, as it asks"));
            });
            Arc::new(Host {
                quota: Arc::new(quota),
                requests: Semaphore::new(REQUESTS),
                reads: Arc::new(Semaphore::new(READS)),
            })
        });
        Arc::clone(host)
    }

    /// What the registries last said of their limits, for those that did.
    pub(super) fn limits(&self) -> Vec<(Registry, RateLimit)> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let said = known.iter();
        said.filter_map(|(name, host)| Some((name.clone(), host.quota.rate_limit()?)))
            .collect()
    }
}
