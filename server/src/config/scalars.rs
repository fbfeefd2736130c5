//! Parses the text of single values, in the notation of the stock registry.
//!
//! An error is the end of a sentence that begins with the key: "must be …".

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use imgsync_oci::{ParseError, units};

const MIN_MEMORY_BYTES: usize = 64 * 1024;
const DEFAULT_PAGE_LIMIT: u64 = 1000;

/// Parses a boolean of YAML 1.1, the version that the stock registry's parser implements.
pub(super) fn parse_bool(text: &str) -> Result<bool, String> {
    match text {
        "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" | "y" | "Y" => {
            Ok(true)
        }
        "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" | "n" | "N" => {
            Ok(false)
        }
        _ => Err(format!("must be true or false, not {text:?}")),
    }
}

/// Parses a whole number that is not negative.
pub(super) fn parse_number(text: &str) -> Result<u64, String> {
    let parsed = text.parse().ok();
    parsed
        .filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()))
        .ok_or_else(|| format!("must be a whole number, not {text:?}"))
}

/// Parses a number of bytes, with or without a unit: `50GiB`, `500MB`, `1048576`. Only whole numbers
/// are accepted.
pub(super) fn parse_bytes(text: &str) -> Result<u64, String> {
    let parsed = units::parse_bytes(text).ok();
    parsed
        .filter(|_| !text.contains('.'))
        .ok_or_else(|| format!("must be a number of bytes such as 50GiB or 500MB, not {text:?}"))
}

/// Parses an amount of memory, in the notation of [`parse_bytes`].
pub(super) fn parse_memory(text: &str) -> Result<usize, String> {
    let bytes = parse_bytes(text)?;
    usize::try_from(bytes)
        .ok()
        .filter(|bytes| *bytes >= MIN_MEMORY_BYTES)
        .ok_or_else(|| format!("must be 64KiB or more, not {text:?}"))
}

/// Parses a duration in the notation of Go: numbers with units (`168h`, `1h30m`, `1.5s`).
pub(super) fn parse_duration(text: &str) -> Result<Duration, String> {
    units::parse_go_duration(text).map_err(|_| {
        format!("must be a duration with its unit such as 90s, 1h30m or 500ms, not {text:?}")
    })
}

/// Parses a duration that must not be zero.
pub(super) fn parse_interval(text: &str) -> Result<Duration, String> {
    let interval = parse_duration(text)?;
    if interval.is_zero() {
        return Err("must be longer than 0".to_owned());
    }
    Ok(interval)
}

/// Parses a duration of at least one second.
pub(super) fn parse_timeout(text: &str) -> Result<Duration, String> {
    let timeout = parse_duration(text)?;
    if timeout.as_secs() == 0 {
        return Err("must be 1s or longer".to_owned());
    }
    Ok(timeout)
}

/// Parses the maximum size of a page. As in the stock registry, 0 and negative numbers mean the
/// default, 1000.
pub(super) fn parse_page_limit(text: &str) -> Result<u64, String> {
    match text.strip_prefix('-') {
        Some(rest) => parse_number(rest).map(|_| DEFAULT_PAGE_LIMIT),
        None => parse_number(text).map(|number| match number {
            0 => DEFAULT_PAGE_LIMIT,
            number => number,
        }),
    }
}

/// Parses a whole number above 0.
pub(super) fn parse_positive_count(text: &str) -> Result<usize, String> {
    let number = parse_number(text)?;
    usize::try_from(number)
        .ok()
        .filter(|number| *number > 0)
        .ok_or_else(|| format!("must be a number greater than 0, not {text:?}"))
}

/// Parses the path of a file or folder.
pub(super) fn parse_path(text: &str) -> Result<PathBuf, String> {
    if text.contains('\0') {
        return Err("must be a path, without NUL characters".to_owned());
    }
    Ok(text.into())
}

/// Parses a value that is sent in an HTTP header, so without line ends. As in the stock registry, it
/// may be in any language.
pub(super) fn parse_header_value(text: &str) -> Result<String, String> {
    if text.chars().any(char::is_control) {
        return Err("must not have control characters: it is sent in an HTTP header".to_owned());
    }
    Ok(text.to_owned())
}

/// Parses a value with its type's own parser.
pub(super) fn parse_with_from_str<T>(text: &str) -> Result<T, String>
where
    T: FromStr<Err = ParseError>,
{
    text.parse().map_err(|error: ParseError| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, millis) in [
            ("168h", 604_800_000),
            ("1h30m", 5_400_000),
            ("60s", 60_000),
            ("500ms", 500),
            ("1.5s", 1500),
            ("0", 0),
            ("0s", 0),
        ] {
            assert_eq!(
                parse_duration(text),
                Ok(Duration::from_millis(millis)),
                "{text}"
            );
        }
        for bad in [
            "", "60", "s", "1d", "-1s", "1s 2s", "1..5s", "9999999h", "1h30", "ünf",
        ] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn booleans_and_numbers() {
        assert_eq!(
            (parse_bool("yes"), parse_bool("off")),
            (Ok(true), Ok(false))
        );
        assert!(parse_bool("1").is_err() && parse_bool("").is_err());
        assert_eq!(parse_number("1000"), Ok(1000));
        for bad in ["", "-1", "+1", "1.0", "1e3", "99999999999999999999"] {
            assert!(parse_number(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn amounts_of_bytes() {
        for (text, expected) in [
            ("0", 0),
            ("1048576", 1 << 20),
            ("50GiB", 50 << 30),
            ("500 MB", 500_000_000),
            ("2T", 2 << 40),
            ("5gib", 5 << 30),
        ] {
            assert_eq!(parse_bytes(text), Ok(expected), "{text}");
        }
        for bad in ["", "GB", "1.5GB", "-1", "5 apples", "99999999999999T"] {
            assert!(parse_bytes(bad).is_err(), "{bad}");
        }
    }
}
