//! Words into values, as the stock registry reads them.

use std::time::Duration;

use imgsync_oci::units;

/// A boolean of YAML 1.1, which is what the stock registry's reader speaks.
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

/// A whole number that is not negative.
pub(super) fn parse_number(text: &str) -> Result<u64, String> {
    let parsed = text.parse().ok();
    parsed
        .filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()))
        .ok_or_else(|| format!("must be a whole number, not {text:?}"))
}

/// A number of bytes, with or without a unit: `50GiB`, `500MB`, `1048576`. Whole numbers only, as
/// the keys have always been.
pub(super) fn parse_bytes(text: &str) -> Result<u64, String> {
    let parsed = units::parse_bytes(text).ok();
    parsed
        .filter(|_| !text.contains('.'))
        .ok_or_else(|| format!("must be a number of bytes, as 50GiB or 500MB, not {text:?}"))
}

/// A duration as Go writes it: numbers with units, largest first or not (`168h`, `1h30m`, `1.5s`).
pub(super) fn parse_duration(text: &str) -> Result<Duration, String> {
    units::parse_go_duration(text).map_err(|_| {
        format!("must be a duration with its unit, as 90s, 1h30m or 500ms, not {text:?}")
    })
}

/// The one of some words that is meant, or a close one.
pub(super) fn closest<'a>(word: &str, among: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let lower = word.to_lowercase();
    let measured = among.map(|other| (distance(&lower, &other.to_lowercase()), other));
    let (distance, other) = measured.min_by_key(|(distance, _)| *distance)?;
    (distance <= (word.len().max(other.len()) / 3).clamp(1, 3)).then_some(other)
}

/// How many letters must be put in, left out, replaced or swapped with their neighbour.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    // The rows for the letters of `a` before the last one, up to the last one, and with this one.
    let mut before = vec![0; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let differs = usize::from(a[i - 1] != b[j - 1]);
            row[j] = (last[j] + 1).min(row[j - 1] + 1).min(last[j - 1] + differs);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
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
    fn words() {
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
        ] {
            assert_eq!(parse_bytes(text), Ok(expected), "{text}");
        }
        for bad in [
            "",
            "GB",
            "1.5GB",
            "-1",
            "5gib",
            "5 apples",
            "99999999999999T",
        ] {
            assert!(parse_bytes(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_closest_word() {
        let keys = ["addr", "net", "host", "headers", "relativeurls", "http2"];
        for (word, meant) in [
            ("adr", Some("addr")),
            ("ADDR", Some("addr")),
            ("hots", Some("host")),
            ("header", Some("headers")),
            ("relative_urls", Some("relativeurls")),
            ("port", None),
            ("x", None),
        ] {
            assert_eq!(closest(word, keys.into_iter()), meant, "{word}");
        }
    }
}
