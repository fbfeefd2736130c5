//! Numbers as people read them.

use std::time::Duration;

use super::Outcome;

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
        "{}: sent {}, saved {}, {}",
        outcome.image,
        bytes(outcome.sent),
        bytes(outcome.saved),
        seconds(outcome.took)
    )
}

fn seconds(took: Duration) -> String {
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
            sent: 2_000_000,
            saved: 5,
            took: Duration::from_secs(61),
        });
        assert_eq!(line, "host/app:v1: sent 2.0 MB, saved 5 B, 1 min 1 s");
    }
}
