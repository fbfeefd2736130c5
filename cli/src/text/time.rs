//! Parses and formats timestamps and durations.

use std::time::{Duration, SystemTime};

/// Parses an RFC 3339 timestamp, such as `created` of an image config (image-spec, "Image Config").
pub fn parse_timestamp(text: &str) -> Option<SystemTime> {
    text.parse::<jiff::Timestamp>().ok().map(SystemTime::from)
}

/// Formats a time in UTC to the second: `2026-01-31T12:00:00Z`.
pub fn format_timestamp(time: SystemTime) -> String {
    match jiff::Timestamp::try_from(time) {
        Ok(time) => time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        Err(_) => "out of any calendar".to_owned(),
    }
}

/// Parses a duration as users write it: `7d`, `12h`, `2 weeks`, `1d 12h`. A day has 24 hours.
///
/// # Errors
/// Fails if the text is not a duration, or if the duration is negative or contains months or years,
/// whose lengths differ.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || {
        let shown: String = text.chars().take(80).collect();
        format!("invalid time span {shown:?}: for instance 7d, 12h or 2 weeks")
    };
    let span: jiff::Span = text.trim().parse().map_err(|_| wrong())?;
    if span.get_months() != 0 || span.get_years() != 0 {
        return Err(wrong());
    }
    let whole_days = jiff::SpanRelativeTo::days_are_24_hours();
    let span = span.to_duration(whole_days).map_err(|_| wrong())?;
    Duration::try_from(span).map_err(|_| wrong())
}

/// Formats a duration: `1.5 s`, `2 min 3 s`.
pub fn format_duration(took: Duration) -> String {
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

    #[test]
    fn spans() {
        let hours = |text| parse_duration(text).map(|span| span.as_secs() / 3600);
        assert_eq!(hours("7d"), Ok(168));
        assert_eq!(hours("12h"), Ok(12));
        assert_eq!(hours("1d 12h"), Ok(36));
        assert_eq!(hours("2 weeks"), Ok(336));
        for bad in ["", "7", "d", "-1d", "1 month", "1y"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }
}
