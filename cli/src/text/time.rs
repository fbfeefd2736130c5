//! Parses and formats timestamps, and formats durations.

use std::time::{Duration, SystemTime};

/// Parses an RFC 3339 timestamp, such as `created` of an image config (image-spec, "Image Config").
pub fn parse_timestamp(text: &str) -> Option<SystemTime> {
    text.parse::<jiff::Timestamp>().ok().map(SystemTime::from)
}

/// Formats a time in UTC to the second: `2026-01-31T12:00:00Z`.
pub fn format_timestamp(time: SystemTime) -> String {
    match jiff::Timestamp::try_from(time) {
        Ok(time) => time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        Err(_) => "(out of range)".to_owned(),
    }
}

/// Formats the duration of a command, rounded: `1.5 s`, `2 min 3 s`.
pub fn format_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    if seconds < 60 {
        format!("{:.1} s", duration.as_secs_f64())
    } else {
        format!("{} min {} s", seconds / 60, seconds % 60)
    }
}

/// Formats a duration that is not exact, in one unit: `70 s`, `5 min`. Above 100 minutes, in two:
/// `2 h 5 min`.
pub fn format_estimate(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let minutes = seconds.saturating_add(30) / 60;
    match (seconds, minutes) {
        (..100, _) => format!("{seconds} s"),
        (_, ..100) => format!("{minutes} min"),
        _ => format!("{} h {} min", minutes / 60, minutes % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn estimates() {
        let format = |seconds| format_estimate(Duration::from_secs(seconds));
        assert_eq!((&*format(0), &*format(99)), ("0 s", "99 s"));
        assert_eq!((&*format(100), &*format(5969)), ("2 min", "99 min"));
        assert_eq!(format(7500), "2 h 5 min");
        assert!(format(u64::MAX).ends_with(" min"));
    }

    #[test]
    fn times() {
        let seconds = |text| {
            let since = parse_timestamp(text)?.duration_since(SystemTime::UNIX_EPOCH);
            since.ok().map(|since| since.as_secs())
        };
        assert_eq!(seconds("2023-11-14T22:13:20Z"), Some(1_700_000_000));
        assert_eq!(
            seconds("2023-11-14T22:13:20.123456789Z"),
            Some(1_700_000_000)
        );
        assert_eq!(seconds("2023-11-15T00:13:20+02:00"), Some(1_700_000_000));
        assert_eq!(seconds("yesterday"), None);
        assert!(parse_timestamp("0001-01-01T00:00:00Z").is_some());
        let shown = format_timestamp(parse_timestamp("2023-11-15T00:13:20+02:00").unwrap());
        assert_eq!(shown, "2023-11-14T22:13:20Z");
    }
}
