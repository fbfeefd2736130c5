//! Numbers as people read them.

use std::time::Duration;

use super::Outcome;
use crate::plan::{Plan, Step, Sums};

/// Bytes with a decimal unit, as network lines are measured: `999 B`, `1.2 MB`.
pub fn bytes(count: u64) -> String {
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
pub fn outcome(outcome: &Outcome) -> String {
    format!(
        "{}@{}: sent {}, saved {}, {}",
        outcome.image,
        outcome.digest,
        bytes(outcome.sent),
        bytes(outcome.saved),
        seconds(outcome.took)
    )
}

/// A plan, a line for every layer, and one for the sums.
pub fn plan(plan: &Plan) -> Vec<String> {
    let of = plan.steps.len();
    let mut lines = Vec::new();
    for (position, (digest, step)) in plan.steps.iter().enumerate() {
        let what = match step {
            Step::Have(held) => {
                let (size, why) = (bytes(held.blob.size), &held.why);
                format!("there already, {size} ({why})")
            }
            Step::Send {
                read,
                send,
                mount,
                kept,
            } => {
                let read = match read {
                    Some(size) => format!("read {}", bytes(*size)),
                    None => "read".to_owned(),
                };
                let send = match send {
                    Some(size) if *kept => {
                        format!("kept from an earlier run: send {}", bytes(*size))
                    }
                    Some(size) => format!("{read}, send {}", bytes(*size)),
                    None => format!("{read}, compress, send if it is not there"),
                };
                match mount {
                    Some(from) => format!("would try to mount from {from}, else {send}"),
                    None => send,
                }
            }
            Step::Again => "the same as an earlier one".to_owned(),
        };
        let digest = digest.short();
        lines.push(format!("layer {}/{of} {digest}: {what}", position + 1));
    }
    lines.push(total(&plan.sums()));
    lines
}

fn total(sums: &Sums) -> String {
    let and = |count: usize, what: &str| match count {
        0 => String::new(),
        1 => format!(" and what one layer {what}"),
        many => format!(" and what each of {many} layers {what}"),
    };
    let read = bytes(sums.read) + &and(sums.untold, "holds");
    let send = bytes(sums.send) + &and(sums.unpacked, "packs to");
    format!("read {read}, send {send}, saved {}", bytes(sums.saved))
}

pub(super) fn seconds(took: Duration) -> String {
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
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(1000), "1.0 kB");
        assert_eq!(bytes(999_999), "1.0 MB");
        assert_eq!(bytes(12_345_678), "12.3 MB");
        let line = outcome(&Outcome {
            image: "host/app:v1".to_owned(),
            digest: imgsync_oci::Digest::of(b""),
            sent: 2_000_000,
            saved: 5,
            took: Duration::from_secs(61),
        });
        let digest = imgsync_oci::Digest::of(b"");
        let expected = format!("host/app:v1@{digest}: sent 2.0 MB, saved 5 B, 1 min 1 s");
        assert_eq!(line, expected);
    }
}
