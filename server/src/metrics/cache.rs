//! The metrics of the pull-through cache and of the upstreams.

use prometheus::proto::MetricFamily;

use super::families::{Series, counter, gauge, single};
use crate::upstream::{CacheFigures, UpstreamFigures};

/// Returns the metrics of the cache.
pub(super) fn families(figures: &CacheFigures) -> Vec<MetricFamily> {
    let upstreams = &figures.upstreams;
    vec![
        counter(
            "registry_proxy_requests_total",
            "The number of total incoming proxy request received",
            by_type(figures, |_| true),
        ),
        counter(
            "registry_proxy_hits_total",
            "The number of total proxy request hits",
            by_type(figures, |answer| answer == "hit"),
        ),
        counter(
            "registry_proxy_misses_total",
            "The number of total proxy request misses",
            by_type(figures, |answer| answer == "miss"),
        ),
        counter(
            "imgsync_cache_requests_total",
            "Requests for content of upstreams.",
            figures.requests.iter().map(|(kind, answer, count)| {
                (vec![("subject", *kind), ("answer", *answer)], *count)
            }),
        ),
        counter(
            "imgsync_cache_served_bytes_total",
            "Bytes of blobs sent to clients from repositories with an upstream.",
            single(figures.served_bytes),
        ),
        counter(
            "imgsync_cache_evicted_bytes_total",
            "Bytes freed by eviction.",
            single(figures.evicted_bytes),
        ),
        counter(
            "imgsync_cache_evicted_images_total",
            "Images removed by eviction.",
            single(figures.evicted_images),
        ),
        gauge(
            "imgsync_cache_held_bytes",
            "Bytes in the cache when they were last counted.",
            single(figures.cached_bytes),
        ),
        counter(
            "imgsync_upstream_requests_total",
            "Requests sent to upstreams.",
            by_upstream(upstreams, |upstream| Some(upstream.requests)),
        ),
        counter(
            "imgsync_upstream_failures_total",
            "Failed requests to upstreams, by kind of failure.",
            upstreams.iter().flat_map(failures),
        ),
        counter(
            "imgsync_upstream_bytes_total",
            "Bytes of manifests and blobs received from upstreams.",
            by_upstream(upstreams, |upstream| Some(upstream.fetched_bytes)),
        ),
        gauge(
            "imgsync_upstream_up",
            "Whether the last request to the upstream succeeded. Absent before the first one.",
            by_upstream(upstreams, |upstream| {
                let last = upstream.last_outcome.as_ref()?;
                Some(u64::from(last.error.is_none()))
            }),
        ),
        gauge(
            "imgsync_upstream_ratelimit_limit",
            "Requests that the upstream allows in a window, as last reported.",
            by_upstream(upstreams, |upstream| upstream.rate_limit),
        ),
        gauge(
            "imgsync_upstream_ratelimit_remaining",
            "Requests that remain in the window, as last reported.",
            by_upstream(upstreams, |upstream| upstream.rate_limit_remaining),
        ),
    ]
}

/// Returns the number of requests with such an answer, by the kind of content.
fn by_type(figures: &CacheFigures, is_counted: fn(&str) -> bool) -> Vec<Series<'_>> {
    let mut sums: Vec<Series<'_>> = Vec::new();
    for (kind, answer, count) in &figures.requests {
        let count = if is_counted(answer) { *count } else { 0 };
        let labels = vec![("type", *kind)];
        match sums.iter_mut().find(|(found, _)| *found == labels) {
            Some((_, sum)) => *sum += count,
            None => sums.push((labels, count)),
        }
    }
    sums
}

fn by_upstream(
    upstreams: &[UpstreamFigures],
    value: impl Fn(&UpstreamFigures) -> Option<u64>,
) -> impl Iterator<Item = Series<'_>> {
    let series = move |upstream| Some((vec![("upstream", name(upstream))], value(upstream)?));
    upstreams.iter().filter_map(series)
}

fn failures(upstream: &UpstreamFigures) -> impl Iterator<Item = Series<'_>> {
    upstream.failures.iter().map(|(kind, count)| {
        let labels = vec![("upstream", name(upstream)), ("kind", *kind)];
        (labels, *count)
    })
}

fn name(upstream: &UpstreamFigures) -> &str {
    &upstream.name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stock_names_have_sums_by_type() {
        let figures = CacheFigures {
            requests: vec![
                ("manifest", "hit", 1),
                ("manifest", "miss", 2),
                ("blob", "hit", 4),
                ("blob", "failed", 8),
            ],
            ..CacheFigures::default()
        };
        let sums = by_type(&figures, |_| true);
        assert_eq!(
            sums,
            [
                (vec![("type", "manifest")], 3),
                (vec![("type", "blob")], 12)
            ]
        );
        let misses = by_type(&figures, |answer| answer == "miss");
        assert_eq!(
            misses,
            [(vec![("type", "manifest")], 2), (vec![("type", "blob")], 0)]
        );
    }
}
