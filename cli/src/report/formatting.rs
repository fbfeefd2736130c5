//! Numbers as people read them.

use std::time::Duration;

use super::PushSummary;
use crate::plan::{LayerStep, PlanTotals, PushPlan};

/// Bytes with a decimal unit, as network lines are measured: `999 B`, `1.2 MB`.
pub fn format_bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["kB", "MB", "GB", "TB", "PB"];
    if count < 1000 {
        return format!("{count} B");
    }
    let mut value = count as f64 / 1000.0;
    let mut unit = 0;
    // 999.95 would print as 1000.0 of the smaller unit.
    while value >= 999.95 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// The one line at the end of a push.
pub fn push_summary_line(outcome: &PushSummary) -> String {
    format!(
        "{}@{}: sent {}, saved {}, {}",
        outcome.image,
        outcome.digest,
        format_bytes(outcome.sent),
        format_bytes(outcome.saved),
        format_duration(outcome.elapsed)
    )
}

/// A plan, a line for every layer, and one for the sums.
pub fn plan_lines(plan: &PushPlan) -> Vec<String> {
    let of = plan.steps.len();
    let mut lines = Vec::new();
    for (position, (digest, step)) in plan.steps.iter().enumerate() {
        let what = match step {
            LayerStep::AlreadyPresent(held) => {
                let (size, why) = (format_bytes(held.blob.size), &held.evidence);
                format!("there already, {size} ({why})")
            }
            LayerStep::Send {
                read,
                send,
                mount,
                is_packed: kept,
            } => {
                let read = match read {
                    Some(size) => format!("read {}", format_bytes(*size)),
                    None => "read".to_owned(),
                };
                let send = match send {
                    Some(size) if *kept => {
                        format!("kept from an earlier run: send {}", format_bytes(*size))
                    }
                    Some(size) => format!("{read}, send {}", format_bytes(*size)),
                    None => format!("{read}, compress, send if it is not there"),
                };
                match mount {
                    Some(from) => format!("would try to mount from {from}, else {send}"),
                    None => send,
                }
            }
            LayerStep::Duplicate => "the same as an earlier one".to_owned(),
        };
        let digest = digest.short();
        lines.push(format!("layer {}/{of} {digest}: {what}", position + 1));
    }
    lines.push(total(&plan.totals()));
    lines
}

fn total(sums: &PlanTotals) -> String {
    let and = |count: usize, what: &str| match count {
        0 => String::new(),
        1 => format!(" and what one layer {what}"),
        many => format!(" and what each of {many} layers {what}"),
    };
    let read = format_bytes(sums.read) + &and(sums.unsized_layers, "holds");
    let send = format_bytes(sums.send) + &and(sums.unpacked_layers, "packs to");
    format!(
        "read {read}, send {send}, saved {}",
        format_bytes(sums.saved)
    )
}

pub(super) fn format_duration(took: Duration) -> String {
    let seconds = took.as_secs();
    if seconds < 60 {
        format!("{:.1} s", took.as_secs_f64())
    } else {
        format!("{} min {} s", seconds / 60, seconds % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times() {
        assert_eq!(format_bytes(0), "0 B");
        assert_eq!(format_bytes(999), "999 B");
        assert_eq!(format_bytes(1000), "1.0 kB");
        assert_eq!(format_bytes(999_999), "1.0 MB");
        assert_eq!(format_bytes(12_345_678), "12.3 MB");
        let line = push_summary_line(&PushSummary {
            image: "host/app:v1".to_owned(),
            digest: imgsync_oci::Digest::of(b""),
            sent: 2_000_000,
            saved: 5,
            elapsed: Duration::from_secs(61),
        });
        let digest = imgsync_oci::Digest::of(b"");
        let expected = format!("host/app:v1@{digest}: sent 2.0 MB, saved 5 B, 1 min 1 s");
        assert_eq!(line, expected);
    }
}
