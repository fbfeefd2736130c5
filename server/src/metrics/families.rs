//! Builds metrics from values that other modules count.

use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};

/// The value of a time series, with the names and values of its labels.
pub(super) type Series<'a> = (Vec<(&'static str, &'a str)>, u64);

/// Returns a metric whose values only rise until the server restarts.
pub(super) fn counter<'a>(
    name: &str,
    help: &str,
    series: impl IntoIterator<Item = Series<'a>>,
) -> MetricFamily {
    family(name, help, MetricType::COUNTER, series)
}

/// Returns a metric whose values rise and fall.
pub(super) fn gauge<'a>(
    name: &str,
    help: &str,
    series: impl IntoIterator<Item = Series<'a>>,
) -> MetricFamily {
    family(name, help, MetricType::GAUGE, series)
}

/// Returns the only time series of a metric without labels.
pub(super) fn single(value: u64) -> [Series<'static>; 1] {
    [(Vec::new(), value)]
}

fn family<'a>(
    name: &str,
    help: &str,
    kind: MetricType,
    series: impl IntoIterator<Item = Series<'a>>,
) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(kind);
    let metrics = series.into_iter().map(|(labels, value)| {
        let mut metric = Metric::from_label(labels.into_iter().map(label_pair).collect());
        // Prometheus has only floating-point numbers. Sizes up to 8 PiB are exact.
        #[allow(clippy::cast_precision_loss, reason = "the format has no integers")]
        let value = value as f64;
        if kind == MetricType::COUNTER {
            let mut counter = Counter::default();
            counter.set_value(value);
            metric.set_counter(counter);
        } else {
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            metric.set_gauge(gauge);
        }
        metric
    });
    family.set_metric(metrics.collect());
    family
}

fn label_pair((name, value): (&str, &str)) -> LabelPair {
    let mut pair = LabelPair::default();
    pair.set_name(name.to_owned());
    pair.set_value(value.to_owned());
    pair
}
