//! Counts cache and upstream activity, and renders the metrics in the Prometheus text format.
//!
//! Labels are configured upstream names and fixed words, so the number of time series is bounded.
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

/// An upstream whose counters are rendered: its name, its counters, and its last rate limit.
type NamedMetrics<'a> = (&'a str, &'a UpstreamMetrics, Option<RateLimit>);

/// A metric: its name, its type, its help text, and the labels and value of each time series.
type Metric = (&'static str, &'static str, &'static str, Vec<(String, u64)>);

impl CacheMetrics {
    /// Counts a client's request.
    pub(super) fn record_request(&self, kind: ContentKind, status: CacheStatus) {
        self.requests[kind as usize][status as usize].fetch_add(1, Relaxed);
    }

    /// Renders all metrics in the Prometheus text format (version 0.0.4).
    pub(super) fn render(&self, upstreams: &[NamedMetrics<'_>]) -> String {
        let mut text = String::new();
        for (name, kind, help, series) in self.table(upstreams) {
            text += &format!("# HELP {name} {help}.\n# TYPE {name} {kind}\n");
            for (labels, value) in series {
                text += &format!("{name}{labels} {value}\n");
            }
        }
        text
    }

    #[rustfmt::skip]
    fn table(&self, upstreams: &[NamedMetrics<'_>]) -> [Metric; 10] {
        let of_cache = |value: &AtomicU64| vec![(String::new(), value.load(Relaxed))];
        let of_upstreams = |value: fn(&NamedMetrics<'_>) -> Option<u64>| {
            let series = upstreams.iter().filter_map(|upstream| {
                Some((format!("{{upstream=\"{}\"}}", upstream.0), value(upstream)?))
            });
            series.collect()
        };
        let requests = CONTENT_KIND_LABELS.iter().zip(&self.requests);
        let requests = requests.flat_map(|(kind, counts)| {
            let counts = CACHE_STATUS_LABELS.iter().zip(counts);
            counts.map(move |(status, count)| {
                let labels = format!("{{subject=\"{kind}\",answer=\"{status}\"}}");
                (labels, count.load(Relaxed))
            })
        });
        let failures = upstreams.iter().flat_map(|(name, metrics, _)| {
            let counts = FAILURE_KIND_LABELS.iter().zip(&metrics.failures);
            counts.map(move |(kind, count)| {
                let labels = format!("{{upstream=\"{name}\",kind=\"{kind}\"}}");
                (labels, count.load(Relaxed))
            })
        });
        [
            ("imgsync_cache_requests_total", "counter", "Requests for content of upstreams", requests.collect()),
            ("imgsync_cache_served_bytes_total", "counter", "Bytes of blobs sent to clients from repositories with an upstream", of_cache(&self.served_bytes)),
            ("imgsync_cache_evicted_bytes_total", "counter", "Bytes freed by eviction", of_cache(&self.evicted_bytes)),
            ("imgsync_cache_evicted_images_total", "counter", "Images removed by eviction", of_cache(&self.evicted_images)),
            ("imgsync_cache_held_bytes", "gauge", "Bytes in the cache when they were last counted", of_cache(&self.cached_bytes)),
            ("imgsync_upstream_requests_total", "counter", "Requests sent to upstreams", of_upstreams(|(_, metrics, _)| Some(metrics.requests.load(Relaxed)))),
            ("imgsync_upstream_failures_total", "counter", "Failed requests to upstreams, by kind of failure", failures.collect()),
            ("imgsync_upstream_bytes_total", "counter", "Bytes of manifests and blobs received from upstreams", of_upstreams(|(_, metrics, _)| Some(metrics.fetched_bytes.load(Relaxed)))),
            ("imgsync_upstream_ratelimit_limit", "gauge", "Requests that the upstream allows in a window, as last reported", of_upstreams(|(_, _, limit)| limit.as_ref()?.limit)),
            ("imgsync_upstream_ratelimit_remaining", "gauge", "Requests that remain in the window, as last reported", of_upstreams(|(_, _, limit)| limit.as_ref()?.remaining)),
        ]
    }
}

impl UpstreamMetrics {
    /// Records that a request succeeded.
    pub(super) fn record_success(&self) {
        self.set_last_outcome(None);
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
    fn counters_are_rendered_with_their_labels() {
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
        let text = cache.render(&[("docker.io", &upstream, Some(limit))]);
        for line in [
            "imgsync_cache_requests_total{subject=\"blob\",answer=\"miss\"} 1",
            "imgsync_upstream_failures_total{upstream=\"docker.io\",kind=\"limited\"} 1",
            "imgsync_upstream_failures_total{upstream=\"docker.io\",kind=\"store\"} 1",
            "imgsync_upstream_ratelimit_limit{upstream=\"docker.io\"} 100",
            "imgsync_cache_held_bytes 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        assert!(!text.contains("remaining{"));
    }
}
