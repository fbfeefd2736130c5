//! The time as the stock registry writes it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// RFC 3339, UTC, whole seconds, for instance `2026-11-21T22:30:36Z`.
pub(super) fn format(time: SystemTime) -> String {
    let seconds = time
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = date_from_days(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Reads what [`rfc3339`] wrote, fractions of a second as well; `None` for anything else, and for
/// another time zone than UTC, which the stock registry never writes.
pub(super) fn parse(text: &str) -> Option<SystemTime> {
    let (whole, fraction) = text.trim().strip_suffix('Z')?.split_at_checked(19)?;
    let is_fraction = fraction.strip_prefix('.').is_some_and(|digits| {
        !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
    });
    if !fraction.is_empty() && !is_fraction {
        return None;
    }
    let number = |range: std::ops::Range<usize>| {
        let digits = whole.get(range)?;
        let are_digits = digits.bytes().all(|byte| byte.is_ascii_digit());
        digits.parse::<u64>().ok().filter(|_| are_digits)
    };
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    if year < 1970 || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let leap_days = |year: u64| year / 4 - year / 100 + year / 400;
    let before: u64 = DAYS_IN_MONTH[..usize::try_from(month).ok()? - 1]
        .iter()
        .sum();
    let today_leaps = u64::from(is_leap_year(year) && month > 2);
    let leaps = leap_days(year - 1) - leap_days(1969) + today_leaps;
    let days = (year - 1970) * 365 + leaps + before + day - 1;
    let time = UNIX_EPOCH + Duration::from_secs(days * 86_400 + hour * 3600 + minute * 60 + second);
    (format(time)[..19] == *whole).then_some(time)
}

/// The months' lengths in a year that is no leap year.
const DAYS_IN_MONTH: [u64; 12] = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

/// The date that lies so many days after 1970-01-01: whole years first, then whole months.
fn date_from_days(mut days: u64) -> (u64, u64, u64) {
    let mut year = 1970;
    loop {
        let length = if is_leap_year(year) { 366 } else { 365 };
        if days < length {
            break;
        }
        days -= length;
        year += 1;
    }
    let february = if is_leap_year(year) { 29 } else { 28 };
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    (year, month, days + 1)
}

fn is_leap_year(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_moments() {
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
    fn what_is_no_moment() {
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
