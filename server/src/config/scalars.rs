//! Words into values, as the stock registry reads them.

use std::time::Duration;

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

/// A number of bytes, with or without a unit: `50GiB`, `500MB`, `1048576`.
pub(super) fn parse_bytes(text: &str) -> Result<u64, String> {
    let wrong = || format!("must be a number of bytes, as 50GiB or 500MB, not {text:?}");
    let unit = text.find(|c: char| !c.is_ascii_digit());
    let (digits, unit) = text.split_at(unit.unwrap_or(text.len()));
    let factor: u64 = match unit.trim_start() {
        "" | "B" => 1,
        "kB" | "KB" => 1000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        "K" | "KiB" => 1 << 10,
        "M" | "MiB" => 1 << 20,
        "G" | "GiB" => 1 << 30,
        "T" | "TiB" => 1 << 40,
        _ => return Err(wrong()),
    };
    let number = parse_number(digits).map_err(|_| wrong())?;
    number.checked_mul(factor).ok_or_else(wrong)
}

/// A duration as Go writes it: numbers with units, largest first or not (`168h`, `1h30m`, `1.5s`).
pub(super) fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong =
        || format!("must be a duration with its unit, as 90s, 1h30m or 500ms, not {text:?}");
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    let mut total = 0.0;
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let is_number = |c: char| c.is_ascii_digit() || c == '.';
        let (number, after) = rest.split_at(rest.find(|c| !is_number(c)).ok_or_else(wrong)?);
        let (unit, after) = after.split_at(after.find(is_number).unwrap_or(after.len()));
        let seconds = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" | "μs" => 1e-6,
            "ns" => 1e-9,
            _ => return Err(wrong()),
        };
        total += seconds * number.parse::<f64>().map_err(|_| wrong())?;
        rest = after;
    }
    // Go's own limit is 292 years.
    if total > 9.0e9 {
        return Err(wrong());
    }
    Ok(Duration::from_nanos((total * 1e9).round() as u64))
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
