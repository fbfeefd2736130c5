//! What all that one run asks of a registry shares: how much at a time, and how long it waits when
//! it was too much.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use imgsync_oci::Registry;
use imgsync_oci::client::{RateLimit, RetryPolicy};
use tokio::sync::Semaphore;

use crate::report::Report;

/// Small requests to one registry at a time.
const MAX_CONCURRENT_REQUESTS: usize = 8;
/// Blobs that are read from one registry at a time.
const MAX_CONCURRENT_READS: usize = 6;
/// Who is told to come back later than that should, in another run.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(15 * 60);

/// One registry, for one run.
#[derive(Debug)]
pub(crate) struct RegistryThrottle {
    pub(super) quota: Arc<RetryPolicy>,
    pub(super) request_permits: Semaphore,
    pub(super) read_permits: Arc<Semaphore>,
}

/// All registries that a run speaks to.
pub(crate) struct RegistryThrottles {
    report: Arc<dyn Report>,
    throttles: Mutex<BTreeMap<Registry, Arc<RegistryThrottle>>>,
}

impl RegistryThrottles {
    pub(crate) fn new(report: Arc<dyn Report>) -> Self {
        Self {
            report,
            throttles: Mutex::default(),
        }
    }

    /// What is shared for a registry.
    pub(crate) fn for_registry(&self, registry: &Registry) -> Arc<RegistryThrottle> {
        let mut known = self
            .throttles
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let host = known.entry(registry.clone()).or_insert_with(|| {
            let (report, name) = (Arc::clone(&self.report), registry.clone());
            let quota = RetryPolicy::waiting_up_to(MAX_RETRY_AFTER, move |error, pause| {
                let seconds = pause.as_secs();
                let why = match error.status() {
                    Some(status) => format!("{name} says {status}"),
                    None => error.to_string(),
                };
                report.note(&format!("{why}: waiting for {seconds} s, as it asks"));
            });
            Arc::new(RegistryThrottle {
                quota: Arc::new(quota),
                request_permits: Semaphore::new(MAX_CONCURRENT_REQUESTS),
                read_permits: Arc::new(Semaphore::new(MAX_CONCURRENT_READS)),
            })
        });
        Arc::clone(host)
    }

    /// What the registries last said of their limits, for those that did.
    pub(crate) fn rate_limits(&self) -> Vec<(Registry, RateLimit)> {
        let known = self
            .throttles
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let said = known.iter();
        said.filter_map(|(name, host)| Some((name.clone(), host.quota.rate_limit()?)))
            .collect()
    }
}
