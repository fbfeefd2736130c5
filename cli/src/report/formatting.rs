//! Formats the plan and the result of a push as text.

use super::PushSummary;
use crate::plan::{BlobStep, PlanTotals, PushPlan};
use crate::text::{format_bytes, format_duration};

/// Returns the last line of a push.
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

/// Returns the lines of a plan: one for each layer, and one for the totals.
pub fn plan_lines(plan: &PushPlan) -> Vec<String> {
    let of = plan.steps.len();
    let mut lines = Vec::new();
    for (position, (digest, step)) in plan.steps.iter().enumerate() {
        let what = match step {
            BlobStep::AlreadyPresent(held) => {
                let (size, why) = (format_bytes(held.blob.size), &held.evidence);
                format!("there already, {size} ({why})")
            }
            BlobStep::Send {
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
            BlobStep::Mount { from, size } => format!("mount {} from {from}", format_bytes(*size)),
            BlobStep::SentByAnother { .. } => "sent with another image".to_owned(),
            BlobStep::Duplicate => "the same as an earlier one".to_owned(),
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn sizes_and_times() {
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
