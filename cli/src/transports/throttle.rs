//! The limits that all requests of a run to one registry share: how many run at a time, and how
//! long to wait after a rate limit.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use imgsync_oci::Registry;
use imgsync_oci::client::{RateLimit, RetryPolicy};
use tokio::sync::Semaphore;

use crate::report::Report;

/// The most small requests to one registry at a time.
const MAX_CONCURRENT_REQUESTS: usize = 8;
/// The most blobs that are read from one registry at a time.
const MAX_CONCURRENT_READS: usize = 6;
/// The longest `Retry-After` that is waited for; beyond it the run fails.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(15 * 60);

/// The limits of one registry.
#[derive(Debug)]
pub(crate) struct RegistryThrottle {
    pub(super) quota: Arc<RetryPolicy>,
    pub(super) request_permits: Semaphore,
    pub(super) read_permits: Arc<Semaphore>,
}

/// The limits of all registries of a run.
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

    /// Returns the limits of a registry.
    pub(crate) fn for_registry(&self, registry: &Registry) -> Arc<RegistryThrottle> {
        let mut throttles = self.lock();
        let throttle = throttles.entry(registry.clone()).or_insert_with(|| {
            let (report, name) = (Arc::clone(&self.report), registry.clone());
            let quota = RetryPolicy::waiting_up_to(MAX_RETRY_AFTER, move |error, pause| {
                let seconds = pause.as_secs();
                let why = match error.status() {
                    Some(status) => format!("{name} answered {status}"),
                    None => error.to_string(),
                };
                report.note(&format!("{why}: waiting for {seconds} s (Retry-After)"));
            });
            Arc::new(RegistryThrottle {
                quota: Arc::new(quota),
                request_permits: Semaphore::new(MAX_CONCURRENT_REQUESTS),
                read_permits: Arc::new(Semaphore::new(MAX_CONCURRENT_READS)),
            })
        });
        Arc::clone(throttle)
    }

    /// Returns the rate limits that registries reported last.
    pub(crate) fn rate_limits(&self) -> Vec<(Registry, RateLimit)> {
        let throttles = self.lock();
        let limits = throttles.iter();
        let limits = limits
            .filter_map(|(name, throttle)| Some((name.clone(), throttle.quota.rate_limit()?)));
        limits.collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Registry, Arc<RegistryThrottle>>> {
        self.throttles
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
