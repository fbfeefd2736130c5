//! Parses and formats numbers of bytes and durations, for options, configuration keys and output.
//! Whatever is formatted here can be typed as an option. Start at [`parse_bytes`] and
//! [`parse_duration`].

use std::fmt::Display;
use std::time::Duration;

use crate::ParseError;

/// The longest duration that is accepted, in seconds: about 285 years, just below Go's limit.
const MAX_DURATION_SECONDS: u128 = 9_000_000_000;
const NANOS_PER_SECOND: u128 = 1_000_000_000;

const SECOND: u64 = 1_000_000_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
const WEEK: u64 = 7 * DAY;

/// The units of Go's durations, in nanoseconds.
const GO_UNITS: &[(&str, u64)] = &[
    ("h", HOUR),
    ("m", MINUTE),
    ("s", SECOND),
    ("ms", 1_000_000),
    ("us", 1000),
    ("µs", 1000), // U+00B5, the micro sign
    ("μs", 1000), // U+03BC, the Greek letter mu
    ("ns", 1),
];

/// Further units, which Go does not have.
const LONG_UNITS: &[(&str, u64)] = &[
    ("w", WEEK),
    ("wk", WEEK),
    ("wks", WEEK),
    ("week", WEEK),
    ("weeks", WEEK),
    ("d", DAY),
    ("day", DAY),
    ("days", DAY),
    ("hr", HOUR),
    ("hrs", HOUR),
    ("hour", HOUR),
    ("hours", HOUR),
    ("min", MINUTE),
    ("mins", MINUTE),
    ("minute", MINUTE),
    ("minutes", MINUTE),
    ("sec", SECOND),
    ("secs", SECOND),
    ("second", SECOND),
    ("seconds", SECOND),
];

const DECIMAL_UNITS: [(&str, u64); 5] = [
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("PB", 1_000_000_000_000_000),
];

const BINARY_UNITS: [(&str, u64); 5] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("PiB", 1 << 50),
];

/// Parses a number of bytes: `1048576`, `500kB`, `1.5 MB`, `50GiB`, in capitals or not. `K`, `M`,
/// `G`, `T` and `P` stand for the binary units, as in the options of Docker and curl. Fractions of a
/// byte are rounded down.
///
/// # Errors
/// Fails on an unknown unit, a negative number, and more than 2^64 - 1 bytes.
pub fn parse_bytes(text: &str) -> Result<u64, ParseError> {
    let invalid = || ParseError::new("number of bytes", text);
    let (number, unit) = split_number(text);
    let factor = bytes_factor(unit.trim_start()).ok_or_else(invalid)?;
    let bytes = scaled(number, factor).ok_or_else(invalid)?;
    u64::try_from(bytes).map_err(|_| invalid())
}

fn bytes_factor(unit: &str) -> Option<u64> {
    if unit.is_empty() || unit.eq_ignore_ascii_case("B") {
        return Some(1);
    }
    let is_unit = |name: &str| unit.eq_ignore_ascii_case(name);
    // `K` and `Ki` stand for `KiB`.
    let mut binary = BINARY_UNITS.iter();
    let binary =
        binary.find(|(name, _)| is_unit(name) || is_unit(&name[..1]) || is_unit(&name[..2]));
    let decimal = || DECIMAL_UNITS.iter().find(|(name, _)| is_unit(name));
    binary.or_else(decimal).map(|(_, factor)| *factor)
}

/// Formats a number of bytes for people, with a decimal unit and one decimal: `999 B`, `1.2 MB`.
pub fn format_bytes(bytes: u64) -> String {
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    // 999.95 would print as 1000.0 of the smaller unit.
    let fits = |(_, factor): &&(&str, u64)| bytes as f64 / (*factor as f64) < 999.95;
    let unit = DECIMAL_UNITS.iter().find(fits);
    let (name, factor) = unit.unwrap_or(&DECIMAL_UNITS[DECIMAL_UNITS.len() - 1]);
    format!("{:.1} {name}", bytes as f64 / *factor as f64)
}

/// Formats a number of bytes exactly, with the largest unit that divides it: `8MiB`, `500MB`,
/// `1048577`.
pub fn format_exact_bytes(bytes: u64) -> String {
    let units = BINARY_UNITS.iter().chain(&DECIMAL_UNITS);
    let dividing = units.filter(|(_, factor)| bytes > 0 && bytes.is_multiple_of(*factor));
    match dividing.max_by_key(|(_, factor)| *factor) {
        Some((name, factor)) => format!("{}{name}", bytes / factor),
        None => bytes.to_string(),
    }
}

/// Parses a duration: numbers with units, for example `7d`, `168h`, `1h30m`, `1.5s`, `2 weeks` or
/// `1d 12h`; and `0`. A day has 24 hours. Fractions of a nanosecond are rounded down.
///
/// # Errors
/// Fails on a missing or unknown unit, a negative number, and more than 9,000,000,000 seconds.
pub fn parse_duration(text: &str) -> Result<Duration, ParseError> {
    let find = |unit: &str| find_unit(GO_UNITS, unit).or_else(|| find_unit(LONG_UNITS, unit));
    parse_with_units(text.trim(), char::is_whitespace, find)
        .ok_or_else(|| ParseError::new("duration", text))
}

/// Parses a duration in the form of Go: `168h`, `1h30m`, `1.5s`, `500ms`, `0`, without spaces and
/// without days. Configuration keys of the stock registry accept only this form, so that the same
/// file works with both servers.
///
/// # Errors
/// As [`parse_duration`].
pub fn parse_go_duration(text: &str) -> Result<Duration, ParseError> {
    parse_with_units(text, |_| false, |unit| find_unit(GO_UNITS, unit))
        .ok_or_else(|| ParseError::new("duration", text))
}

fn find_unit(units: &[(&str, u64)], unit: &str) -> Option<u64> {
    let unit = units.iter().find(|(name, _)| *name == unit);
    unit.map(|(_, nanos)| *nanos)
}

fn parse_with_units(
    text: &str,
    is_space: impl Fn(char) -> bool,
    nanos_of: impl Fn(&str) -> Option<u64>,
) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    let mut nanos = 0_u128;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let (number, after) = split_number(rest);
        let after = after.trim_start_matches(&is_space);
        let unit_len = after.find(|c| is_number(c) || is_space(c));
        let (unit, after) = after.split_at(unit_len.unwrap_or(after.len()));
        nanos = nanos.checked_add(scaled(number, nanos_of(unit)?)?)?;
        rest = after.trim_start_matches(&is_space);
    }
    if nanos > MAX_DURATION_SECONDS * NANOS_PER_SECOND {
        return None;
    }
    let seconds = u64::try_from(nanos / NANOS_PER_SECOND).ok()?;
    let nanos = u32::try_from(nanos % NANOS_PER_SECOND).ok()?;
    Some(Duration::new(seconds, nanos))
}

/// Formats a duration exactly: `7d`, `1d12h`, `1h30m`, `1.5s`, `500ms`, `0s`.
pub fn format_duration(duration: Duration) -> String {
    let mut nanos = duration.as_nanos();
    let mut text = String::new();
    for (name, factor) in [("d", DAY), ("h", HOUR), ("m", MINUTE)] {
        let count = nanos / u128::from(factor);
        nanos %= u128::from(factor);
        if count > 0 {
            text += &format!("{count}{name}");
        }
    }
    let units = [("s", SECOND), ("ms", 1_000_000), ("us", 1000), ("ns", 1)];
    let unit = units
        .into_iter()
        .find(|(_, factor)| nanos >= u128::from(*factor));
    match unit {
        Some((name, factor)) => text + &decimal(nanos, u128::from(factor)) + name,
        None if text.is_empty() => "0s".to_owned(),
        None => text,
    }
}

/// Formats `value / unit` with as many decimals as necessary. `unit` is a power of ten.
fn decimal(value: u128, unit: u128) -> String {
    let width = unit.ilog10() as usize;
    let (whole, fraction) = (value / unit, value % unit);
    let text = format!("{whole}.{fraction:0width$}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn is_number(c: char) -> bool {
    c.is_ascii_digit() || c == '.'
}

fn split_number(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c| !is_number(c)).unwrap_or(text.len()))
}

/// Returns a decimal number times `factor`, rounded down; `None` if the text is no number, or if the
/// result is too large for 128 bits.
fn scaled(number: &str, factor: u64) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let is_empty = whole.is_empty() && fraction.is_empty();
    if is_empty || fraction.contains('.') {
        return None;
    }
    let factor = u128::from(factor);
    let whole = match whole {
        "" => 0,
        whole => whole.parse::<u128>().ok()?,
    };
    let mut total = whole.checked_mul(factor)?;
    let mut digit_value = factor * SCALE;
    let mut scaled_fraction = 0;
    for digit in fraction.chars() {
        digit_value /= 10;
        scaled_fraction += digit_value * u128::from(digit.to_digit(10)?);
    }
    total = total.checked_add(scaled_fraction / SCALE)?;
    Some(total)
}

/// Keeps the fractions of a unit exact to eighteen decimals.
const SCALE: u128 = 1_000_000_000_000_000_000;

/// Formats a number with the noun that it counts: `1 tag`, `2 tags`.
pub fn format_count<T: Display + PartialEq + From<u8>>(
    count: T,
    singular: &str,
    plural: &str,
) -> String {
    let noun = if count == T::from(1) {
        singular
    } else {
        plural
    };
    format!("{count} {noun}")
}

#[cfg(test)]
mod tests;
