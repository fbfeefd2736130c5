//! Counts cache and upstream activity, and renders the metrics in the Prometheus text format.
//!
//! Labels are configured upstream names and fixed words, so the number of time series is bounded.
//! Start reading at [`CacheMetrics`].

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use imgsync_oci::client::RateLimit;

use super::error::UpstreamFailureKind;

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
const COUNTED_FAILURE_KINDS: [UpstreamFailureKind; 7] = [
    UpstreamFailureKind::Down,
    UpstreamFailureKind::TimedOut,
    UpstreamFailureKind::RateLimited,
    UpstreamFailureKind::Denied,
    UpstreamFailureKind::InvalidResponse,
    UpstreamFailureKind::Busy,
    UpstreamFailureKind::Store,
];

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
}

impl CacheMetrics {
    /// Counts a client's request.
    pub(super) fn record_request(&self, subject: ContentKind, answer: CacheStatus) {
        self.requests[subject as usize][answer as usize].fetch_add(1, Relaxed);
    }

    /// Renders all metrics in the Prometheus text format (version 0.0.4).
    pub(super) fn render<'a>(
        &self,
        remotes: impl Iterator<Item = (&'a str, &'a UpstreamMetrics, Option<RateLimit>)>,
    ) -> String {
        let mut page = MetricsText::default();
        page.begin(
            "imgsync_cache_requests_total",
            "counter",
            "Requests for what upstreams have",
        );
        for (subject, answers) in CONTENT_KIND_LABELS.iter().zip(&self.requests) {
            for (answer, count) in CACHE_STATUS_LABELS.iter().zip(answers) {
                let labels = format!("subject=\"{subject}\",answer=\"{answer}\"");
                page.line("imgsync_cache_requests_total", &labels, count.load(Relaxed));
            }
        }
        for (name, kind, help, value) in [
            (
                "imgsync_cache_served_bytes_total",
                "counter",
                "Bytes of blobs served",
                &self.served_bytes,
            ),
            (
                "imgsync_cache_evicted_bytes_total",
                "counter",
                "Bytes that made room",
                &self.evicted_bytes,
            ),
            (
                "imgsync_cache_evicted_images_total",
                "counter",
                "Images that made room",
                &self.evicted_images,
            ),
            (
                "imgsync_cache_held_bytes",
                "gauge",
                "Bytes kept, as far as known",
                &self.cached_bytes,
            ),
        ] {
            page.begin(name, kind, help);
            page.line(name, "", value.load(Relaxed));
        }
        let remotes: Vec<_> = remotes.collect();
        page.begin(
            "imgsync_upstream_requests_total",
            "counter",
            "Requests made of upstreams",
        );
        for (name, counts, _) in &remotes {
            let labels = format!("upstream=\"{name}\"");
            page.line(
                "imgsync_upstream_requests_total",
                &labels,
                counts.requests.load(Relaxed),
            );
        }
        page.begin(
            "imgsync_upstream_failures_total",
            "counter",
            "Those that failed, and how",
        );
        for (name, counts, _) in &remotes {
            for (kind, count) in COUNTED_FAILURE_KINDS.iter().zip(&counts.failures) {
                let labels = format!("upstream=\"{name}\",kind=\"{}\"", kind.as_str());
                page.line(
                    "imgsync_upstream_failures_total",
                    &labels,
                    count.load(Relaxed),
                );
            }
        }
        page.begin(
            "imgsync_upstream_bytes_total",
            "counter",
            "Bytes that came from upstreams",
        );
        for (name, counts, _) in &remotes {
            let labels = format!("upstream=\"{name}\"");
            page.line(
                "imgsync_upstream_bytes_total",
                &labels,
                counts.fetched_bytes.load(Relaxed),
            );
        }
        for (metric, help, pick) in [
            (
                "imgsync_upstream_ratelimit_limit",
                "What an upstream last said that it allows in a window",
                (|limit: RateLimit| limit.limit) as fn(RateLimit) -> Option<u64>,
            ),
            (
                "imgsync_upstream_ratelimit_remaining",
                "What an upstream last said is left of that",
                |limit: RateLimit| limit.remaining,
            ),
        ] {
            page.begin(metric, "gauge", help);
            for (name, _, limit) in &remotes {
                if let Some(value) = limit.and_then(pick) {
                    page.line(metric, &format!("upstream=\"{name}\""), value);
                }
            }
        }
        page.0
    }
}

impl UpstreamMetrics {
    /// Counts a failed request. A full disk counts as a store failure, because both have the same
    /// label.
    pub(super) fn record_failure(&self, kind: UpstreamFailureKind) {
        let at = COUNTED_FAILURE_KINDS
            .iter()
            .position(|known| known.as_str() == kind.as_str());
        if let Some(count) = at.and_then(|at| self.failures.get(at)) {
            count.fetch_add(1, Relaxed);
        }
    }
}

#[derive(Default)]
struct MetricsText(String);

impl MetricsText {
    fn begin(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}.\n# TYPE {name} {kind}");
    }

    fn line(&mut self, name: &str, labels: &str, value: u64) {
        let _ = match labels {
            "" => writeln!(self.0, "{name} {value}"),
            labels => writeln!(self.0, "{name}{{{labels}}} {value}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_told_with_their_upstream() {
        let (counts, remote) = (CacheMetrics::default(), UpstreamMetrics::default());
        counts.record_request(ContentKind::Blob, CacheStatus::Miss);
        remote.record_failure(UpstreamFailureKind::RateLimited);
        remote.record_failure(UpstreamFailureKind::DiskFull);
        let limit = RateLimit {
            limit: Some(100),
            remaining: None,
            window: None,
        };
        let text = counts.render([("docker.io", &remote, Some(limit))].into_iter());
        for line in [
            "imgsync_cache_requests_total{subject=\"blob\",answer=\"miss\"} 1",
            "imgsync_upstream_failures_total{upstream=\"docker.io\",kind=\"limited\"} 1",
            "imgsync_upstream_failures_total{upstream=\"docker.io\",kind=\"store\"} 1",
            "imgsync_upstream_ratelimit_limit{upstream=\"docker.io\"} 100",
            "imgsync_cache_held_bytes 0",
        ] {
            assert!(text.lines().any(|it| it == line), "{line}\n{text}");
        }
        assert!(!text.contains("remaining{"));
    }
}
