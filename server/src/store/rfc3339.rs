//! Times in the text form that the stock registry writes: RFC 3339.

use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Timestamp;

/// Returns a time in UTC, in whole seconds, for example `2026-11-21T22:30:36Z`. A time before 1970
/// becomes the start of 1970.
pub(crate) fn format(time: SystemTime) -> String {
    let timestamp = Timestamp::try_from(time.max(UNIX_EPOCH)).unwrap_or(Timestamp::MAX);
    format!("{timestamp:.0}")
}

/// Reads a time that [`format()`] wrote, or one with up to nine digits of fractions of a second,
/// which are dropped.
///
/// Returns `None` for any other text, also for the parts of RFC 3339 that the stock registry never
/// writes: another offset than `Z`, a space instead of the `T`, and times before 1970.
pub(super) fn parse(text: &str) -> Option<SystemTime> {
    let text = text.trim();
    let timestamp: Timestamp = text.parse().ok()?;
    let seconds = timestamp.as_second();
    let time = SystemTime::from(Timestamp::from_second(seconds).ok()?);
    // The parser accepts more than one way to write a time.
    let date_and_time = &format(time)[..19];
    (seconds >= 0 && text.starts_with(date_and_time) && text.ends_with('Z')).then_some(time)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn valid_times_are_formatted_and_parsed() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_251_199, "2024-02-29T23:59:59Z"),
            (1_798_761_599, "2026-12-31T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            let time = UNIX_EPOCH + Duration::from_secs(seconds);
            assert_eq!(format(time), text);
            assert_eq!(parse(text), Some(time));
            assert_eq!(parse(&text.replace('Z', ".123Z")), Some(time));
        }
    }

    #[test]
    fn invalid_times_are_rejected() {
        for text in [
            "",
            "Z",
            "2026-11-21T22:30:36",
            "2026-11-21T22:30:36+01:00",
            "2026-11-21T22:30:36.Z",
            "2026-11-21 22:30:36Z",
            "2026-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-00-01T00:00:00Z",
            "1969-12-31T23:59:59Z",
            "2026-11-21T24:30:36Z",
            "2026-11-21T+2:30:36Z",
            "\u{fc}\u{fc}\u{fc}\u{fc}\u{fc}\u{fc}\u{fc}\u{fc}\u{fc}\u{fc}Z",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
