//! Counts requests and logins. Names, labels and buckets are those of the stock registry (2.8).

use std::sync::Arc;
use std::time::Duration;

use prometheus::proto::MetricFamily;
use prometheus::{
    HistogramVec, IntCounterVec, IntGaugeVec, Registry, exponential_buckets,
    register_histogram_vec_with_registry, register_int_counter_vec_with_registry,
    register_int_gauge_vec_with_registry,
};

/// The upper bounds of the latencies in seconds.
const DURATION_BUCKETS: [f64; 13] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 60.0,
];
/// The sizes of bodies: 22 buckets, from 1 KiB to 2 GiB.
const SIZE_BUCKETS: (f64, f64, usize) = (1024.0, 2.0, 22);

/// The counters of all requests since the start.
pub(crate) struct RequestMetrics {
    registry: Registry,
    in_flight: IntGaugeVec,
    requests: IntCounterVec,
    duration: HistogramVec,
    received: HistogramVec,
    sent: HistogramVec,
    refused_logins: IntCounterVec,
}

/// A request that is counted as running until this is dropped.
pub(crate) struct RequestInFlight {
    metrics: Arc<RequestMetrics>,
    handler: &'static str,
}

/// The outcome of a request that has ended.
pub(crate) struct RequestOutcome<'a> {
    /// The method as the request has it.
    pub(crate) method: &'a str,
    /// The HTTP status.
    pub(crate) status: u16,
    /// The time from the head of the request to the end of the response.
    pub(crate) duration: Duration,
    /// The bytes of the request body that were received.
    pub(crate) received: u64,
    /// The bytes of the response body that were sent.
    pub(crate) sent: u64,
}

impl RequestMetrics {
    /// Creates the counters.
    ///
    /// # Errors
    /// Fails if a name or a label is not valid, or used twice.
    pub(crate) fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let (start, factor, count) = SIZE_BUCKETS;
        let sizes = exponential_buckets(start, factor, count)?;
        Ok(Self {
            in_flight: register_int_gauge_vec_with_registry!(
                "registry_http_in_flight_requests",
                "The in-flight HTTP requests",
                &["handler"],
                registry
            )?,
            requests: register_int_counter_vec_with_registry!(
                "registry_http_requests_total",
                "Total number of HTTP requests made.",
                &["code", "handler", "method"],
                registry
            )?,
            duration: register_histogram_vec_with_registry!(
                "registry_http_request_duration_seconds",
                "The HTTP request latencies in seconds.",
                &["handler", "method"],
                DURATION_BUCKETS.to_vec(),
                registry
            )?,
            received: register_histogram_vec_with_registry!(
                "registry_http_request_size_bytes",
                "The HTTP request sizes in bytes.",
                &["handler"],
                sizes.clone(),
                registry
            )?,
            sent: register_histogram_vec_with_registry!(
                "registry_http_response_size_bytes",
                "The HTTP response sizes in bytes.",
                &["handler"],
                sizes,
                registry
            )?,
            refused_logins: register_int_counter_vec_with_registry!(
                "imgsync_logins_refused_total",
                "Requests with credentials that were refused, by reason.",
                &["reason"],
                registry
            )?,
            registry,
        })
    }

    /// Counts a request that begins.
    pub(crate) fn begin(self: &Arc<Self>, handler: &'static str) -> RequestInFlight {
        self.in_flight.with_label_values(&[handler]).inc();
        RequestInFlight {
            metrics: Arc::clone(self),
            handler,
        }
    }

    /// Counts a login that was refused.
    pub(crate) fn count_refused_login(&self, reason: &str) {
        self.refused_logins.with_label_values(&[reason]).inc();
    }

    /// Returns all metrics.
    pub(super) fn gather(&self) -> Vec<MetricFamily> {
        self.registry.gather()
    }
}

impl RequestInFlight {
    /// Counts the request as ended.
    pub(crate) fn end(&self, outcome: &RequestOutcome<'_>) {
        let (metrics, handler) = (&self.metrics, self.handler);
        let method = method_label(outcome.method);
        let code = outcome.status.to_string();
        metrics
            .requests
            .with_label_values(&[&code, handler, method])
            .inc();
        let duration = metrics.duration.with_label_values(&[handler, method]);
        duration.observe(outcome.duration.as_secs_f64());
        observe_size(&metrics.received, handler, outcome.received);
        observe_size(&metrics.sent, handler, outcome.sent);
    }
}

impl Drop for RequestInFlight {
    fn drop(&mut self) {
        let in_flight = &self.metrics.in_flight;
        in_flight.with_label_values(&[self.handler]).dec();
    }
}

fn observe_size(sizes: &HistogramVec, handler: &str, bytes: u64) {
    #[allow(clippy::cast_precision_loss, reason = "the format has no integers")]
    let bytes = bytes as f64;
    sizes.with_label_values(&[handler]).observe(bytes);
}

/// Returns the label of a method. Clients can invent methods, so all others have one label.
fn method_label(method: &str) -> &'static str {
    const METHODS: [(&str, &str); 7] = [
        ("GET", "get"),
        ("HEAD", "head"),
        ("PUT", "put"),
        ("POST", "post"),
        ("PATCH", "patch"),
        ("DELETE", "delete"),
        ("OPTIONS", "options"),
    ];
    let known = METHODS.iter().find(|(name, _)| *name == method);
    known.map_or("other", |(_, label)| label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_counted_once_and_is_in_flight_until_it_is_dropped() {
        let metrics = Arc::new(RequestMetrics::new().unwrap());
        let in_flight = || metrics.in_flight.with_label_values(&["blob"]).get();
        let request = metrics.begin("blob");
        assert_eq!(in_flight(), 1);
        request.end(&RequestOutcome {
            method: "BREW",
            status: 405,
            duration: Duration::from_millis(20),
            received: 0,
            sent: 5000,
        });
        drop(request);
        assert_eq!(in_flight(), 0);
        let requests = &metrics.requests;
        assert_eq!(
            requests.with_label_values(&["405", "blob", "other"]).get(),
            1
        );
        let sent = metrics.sent.with_label_values(&["blob"]);
        assert_eq!(
            (sent.get_sample_count(), sent.get_sample_sum()),
            (1, 5000.0)
        );
    }
}
