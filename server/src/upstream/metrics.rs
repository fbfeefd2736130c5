//! Counts cache and upstream activity, for the metrics.
//!
//! Start reading at [`CacheMetrics`].

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use imgsync_oci::client::RateLimit;

use super::error::UpstreamFailure;
use crate::wall_clock::unix_now;

/// How a request for upstream content was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CacheStatus {
    /// Served from the cache.
    Hit,
    /// Fetched from the upstream.
    Miss,
    /// Served from the cache without revalidation, because the upstream could not be asked.
    Stale,
    /// The upstream does not have the content.
    Absent,
    /// The request failed.
    Failed,
}

/// The kind of the requested content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ContentKind {
    /// A manifest, by tag or digest.
    Manifest,
    /// A blob.
    Blob,
}

const CACHE_STATUS_LABELS: [&str; 5] = ["hit", "miss", "stale", "absent", "failed"];
const CONTENT_KIND_LABELS: [&str; 2] = ["manifest", "blob"];
const FAILURE_KIND_LABELS: [&str; 7] =
    ["down", "slow", "limited", "refused", "odd", "busy", "store"];

/// Counters of the cache as a whole.
#[derive(Debug, Default)]
pub(crate) struct CacheMetrics {
    requests: [[AtomicU64; 5]; 2],
    /// Blob bytes sent to clients from repositories with an upstream.
    pub(crate) served_bytes: AtomicU64,
    /// Bytes freed by eviction.
    pub(crate) evicted_bytes: AtomicU64,
    /// Images removed by eviction.
    pub(crate) evicted_images: AtomicU64,
    /// Bytes in the cache when they were last counted.
    pub(crate) cached_bytes: AtomicU64,
}

/// Counters of one upstream.
#[derive(Debug, Default)]
pub(super) struct UpstreamMetrics {
    /// Requests sent to the upstream.
    pub(super) requests: AtomicU64,
    failures: [AtomicU64; 7],
    /// Bytes of blobs and manifests received from the upstream.
    pub(super) fetched_bytes: AtomicU64,
    last_outcome: Mutex<Option<UpstreamOutcome>>,
}

/// The outcome of a request to an upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UpstreamOutcome {
    /// When the request ended, in Unix seconds.
    pub(crate) at: u64,
    /// Why the request failed; `None` if it succeeded.
    pub(crate) error: Option<String>,
}

/// The values of all counters at one time.
#[derive(Debug, Default)]
pub(crate) struct CacheFigures {
    /// The kind of content, how requests for it were answered, and their number.
    pub(crate) requests: Vec<(&'static str, &'static str, u64)>,
    /// Blob bytes sent to clients from repositories with an upstream.
    pub(crate) served_bytes: u64,
    /// Bytes freed by eviction.
    pub(crate) evicted_bytes: u64,
    /// Images removed by eviction.
    pub(crate) evicted_images: u64,
    /// Bytes in the cache when they were last counted.
    pub(crate) cached_bytes: u64,
    /// The figures of the configured upstreams, in the order of the configuration.
    pub(crate) upstreams: Vec<UpstreamFigures>,
}

/// The values of the counters of an upstream at one time.
#[derive(Debug, Default)]
pub(crate) struct UpstreamFigures {
    /// The name in the configuration.
    pub(crate) name: String,
    /// Requests sent to the upstream.
    pub(crate) requests: u64,
    /// The kind of failure, and the number of failures.
    pub(crate) failures: Vec<(&'static str, u64)>,
    /// Bytes of blobs and manifests received from the upstream.
    pub(crate) fetched_bytes: u64,
    /// Requests that the upstream allows in a window, as last reported.
    pub(crate) rate_limit: Option<u64>,
    /// Requests that remain in the window, as last reported.
    pub(crate) rate_limit_remaining: Option<u64>,
    /// The outcome of the last request; `None` before the first one.
    pub(crate) last_outcome: Option<UpstreamOutcome>,
}

impl CacheMetrics {
    /// Counts a client's request.
    pub(super) fn record_request(&self, kind: ContentKind, status: CacheStatus) {
        self.requests[kind as usize][status as usize].fetch_add(1, Relaxed);
    }

    /// Returns the values of all counters, with those of the upstreams.
    pub(super) fn figures(&self, upstreams: Vec<UpstreamFigures>) -> CacheFigures {
        let requests = CONTENT_KIND_LABELS.iter().zip(&self.requests);
        let requests = requests.flat_map(|(kind, counts)| {
            let counts = CACHE_STATUS_LABELS.iter().zip(counts);
            counts.map(|(status, count)| (*kind, *status, count.load(Relaxed)))
        });
        CacheFigures {
            requests: requests.collect(),
            served_bytes: self.served_bytes.load(Relaxed),
            evicted_bytes: self.evicted_bytes.load(Relaxed),
            evicted_images: self.evicted_images.load(Relaxed),
            cached_bytes: self.cached_bytes.load(Relaxed),
            upstreams,
        }
    }
}

impl UpstreamMetrics {
    /// Records that a request succeeded.
    pub(super) fn record_success(&self) {
        self.set_last_outcome(None);
    }

    /// Returns the values of the counters of the upstream with this name.
    pub(super) fn figures(&self, name: &str, limit: Option<&RateLimit>) -> UpstreamFigures {
        let failures = FAILURE_KIND_LABELS.iter().zip(&self.failures);
        UpstreamFigures {
            name: name.to_owned(),
            requests: self.requests.load(Relaxed),
            failures: failures
                .map(|(kind, count)| (*kind, count.load(Relaxed)))
                .collect(),
            fetched_bytes: self.fetched_bytes.load(Relaxed),
            rate_limit: limit.and_then(|limit| limit.limit),
            rate_limit_remaining: limit.and_then(|limit| limit.remaining),
            last_outcome: self.last_outcome(),
        }
    }

    /// Returns the outcome of the last request; `None` before the first one.
    pub(super) fn last_outcome(&self) -> Option<UpstreamOutcome> {
        let outcome = self.last_outcome.lock();
        outcome.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_last_outcome(&self, error: Option<String>) {
        let outcome = self.last_outcome.lock();
        *outcome.unwrap_or_else(PoisonError::into_inner) = Some(UpstreamOutcome {
            at: unix_now(),
            error,
        });
    }

    /// Counts a failed request. A full disk counts as a store failure, because both have the same
    /// label.
    pub(super) fn record_failure(&self, failure: &UpstreamFailure) {
        self.set_last_outcome(Some(failure.to_string()));
        let index = FAILURE_KIND_LABELS
            .iter()
            .position(|label| *label == failure.kind.as_str());
        if let Some(count) = index.and_then(|index| self.failures.get(index)) {
            count.fetch_add(1, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::UpstreamFailureKind;

    #[test]
    fn requests_and_failures_are_counted_by_their_kind() {
        let (cache, upstream) = (CacheMetrics::default(), UpstreamMetrics::default());
        cache.record_request(ContentKind::Blob, CacheStatus::Miss);
        for kind in [
            UpstreamFailureKind::RateLimited,
            UpstreamFailureKind::DiskFull,
        ] {
            upstream.record_failure(&UpstreamFailure::new("u", kind, "x"));
        }
        let limit = RateLimit {
            limit: Some(100),
            remaining: None,
            window: None,
        };
        let upstream = upstream.figures("docker.io", Some(&limit));
        let figures = cache.figures(vec![upstream]);
        assert!(figures.requests.contains(&("blob", "miss", 1)));
        assert!(figures.requests.contains(&("manifest", "miss", 0)));
        let upstream = &figures.upstreams[0];
        for failure in [("limited", 1), ("store", 1), ("down", 0)] {
            assert!(upstream.failures.contains(&failure), "{failure:?}");
        }
        assert_eq!(upstream.rate_limit, Some(100));
        assert_eq!(upstream.rate_limit_remaining, None);
    }
}
