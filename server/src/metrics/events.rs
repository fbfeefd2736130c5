//! The metrics of the receivers of events.

use prometheus::proto::MetricFamily;

use super::families::{counter, gauge};
use crate::events::ReceiverStatus;

/// Returns the metrics of all receivers, with the names of the stock registry where it has them.
pub(super) fn families(receivers: &[ReceiverStatus]) -> Vec<MetricFamily> {
    let of_all = |value: fn(&ReceiverStatus) -> u64| {
        let receivers = receivers.iter();
        receivers.map(move |receiver| (vec![("to", receiver.name.as_str())], value(receiver)))
    };
    let events = receivers.iter().flat_map(|receiver| {
        let values = [
            ("Events", receiver.added),
            ("Successes", receiver.delivered),
            ("Failures", receiver.failed_attempts),
        ];
        values.map(|(kind, value)| (vec![("type", kind), ("to", receiver.name.as_str())], value))
    });
    vec![
        counter(
            "registry_notifications_events_total",
            "The number of total events",
            events,
        ),
        gauge(
            "registry_notifications_pending_total",
            "The gauge of pending events in queue",
            of_all(|receiver| receiver.waiting),
        ),
        counter(
            "imgsync_notifications_lost_total",
            "Events that were lost because too many waited, or because their file is damaged.",
            of_all(|receiver| receiver.lost),
        ),
        counter(
            "imgsync_notifications_rejected_total",
            "Events that a webhook rejected. They are not sent again.",
            of_all(|receiver| receiver.rejected),
        ),
    ]
}
