//! Tests of the grammar of sizes and durations.

use super::*;

#[test]
fn bytes_with_and_without_units() {
    for (text, expected) in [
        ("0", 0),
        ("17", 17),
        ("17B", 17),
        ("1048576", 1 << 20),
        ("500kB", 500_000),
        ("500KB", 500_000),
        ("1MB", 1_000_000),
        ("1MiB", 1 << 20),
        ("4KiB", 4096),
        ("50GiB", 50 << 30),
        ("500 MB", 500_000_000),
        ("2T", 2 << 40),
        ("1M", 1 << 20),
        ("1m", 1 << 20),
        ("512k", 512 << 10),
        ("1Gi", 1 << 30),
        ("5gib", 5 << 30),
        ("1mb", 1_000_000),
        ("1.5MB", 1_500_000),
        ("12.3 MB", 12_300_000),
        (".5KiB", 512),
        ("1.5", 1),
        ("0.1GB", 100_000_000),
    ] {
        assert_eq!(parse_bytes(text), Ok(expected), "{text}");
    }
    for bad in [
        "",
        "GB",
        ".",
        ".MB",
        "-1",
        "+1",
        "1e3",
        "5gibs",
        "1i",
        "5 apples",
        "1.2.3MB",
        "99999999999999T",
        "18446744073709551615MiB",
        "99999999999999999999999999999999999999999",
        "１MB",
    ] {
        assert!(parse_bytes(bad).is_err(), "{bad}");
    }
}

#[test]
fn bytes_for_people() {
    for (bytes, expected) in [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (999_949, "999.9 kB"),
        (999_999, "1.0 MB"),
        (12_345_678, "12.3 MB"),
        (u64::MAX, "18446.7 PB"),
    ] {
        assert_eq!(format_bytes(bytes), expected);
    }
}

#[test]
fn exact_bytes() {
    for (bytes, expected) in [
        (0, "0"),
        (1, "1"),
        (1 << 20, "1MiB"),
        (1_000_000, "1MB"),
        (8 << 20, "8MiB"),
        (1_048_577, "1048577"),
        (3 << 40, "3TiB"),
        (1500, "1500"),
        (50_000_000_000, "50GB"),
    ] {
        assert_eq!(format_exact_bytes(bytes), expected);
    }
}

#[test]
fn formatted_bytes_can_be_typed() {
    for shift in 0..64 {
        for bytes in [
            1_u64 << shift,
            (1 << shift) + 1,
            3_u64.saturating_pow(shift),
        ] {
            assert_eq!(parse_bytes(&format_exact_bytes(bytes)), Ok(bytes));
            let shown = format_bytes(bytes);
            let parsed = parse_bytes(&shown).unwrap();
            assert!(parsed.abs_diff(bytes) <= bytes / 20 + 1, "{shown}");
            assert_eq!(format_bytes(parsed), shown);
        }
    }
}

#[test]
fn durations() {
    for (text, millis) in [
        ("168h", 604_800_000),
        ("1h30m", 5_400_000),
        ("60s", 60_000),
        ("500ms", 500),
        ("1.5s", 1500),
        (".5s", 500),
        ("2.s", 2000),
        ("+1s", 1000),
        ("0", 0),
        ("0s", 0),
        ("1500us", 1),
    ] {
        let expected = Duration::from_millis(millis);
        assert_eq!(parse_go_duration(text).map(trim), Ok(expected), "{text}");
        assert_eq!(parse_duration(text).map(trim), Ok(expected), "{text}");
    }
    for (text, hours) in [
        ("7d", 168),
        ("1w", 168),
        ("2 weeks", 336),
        ("1d 12h", 36),
        ("1d12h", 36),
        ("1.5d", 36),
        ("120 min", 2),
        ("1wk 1hr 60mins 3600secs", 171),
        (" 3 hours ", 3),
    ] {
        let expected = Duration::from_secs(hours * 3600);
        assert_eq!(parse_duration(text), Ok(expected), "{text}");
        assert!(parse_go_duration(text).is_err(), "{text}");
    }
    for bad in [
        "", "60", "7", "s", "d", "-1s", "-1d", "1..5s", "1h30", "9999999h", "1 month", "1y", "ünf",
        "1 h 30",
    ] {
        assert!(parse_duration(bad).is_err(), "{bad}");
        assert!(parse_go_duration(bad).is_err(), "{bad}");
    }
    assert!(parse_go_duration("1s 2s").is_err());
}

fn trim(duration: Duration) -> Duration {
    Duration::from_millis(u64::try_from(duration.as_millis()).unwrap())
}

#[test]
fn formatted_durations_can_be_typed() {
    for (nanos, expected) in [
        (0, "0s"),
        (1, "1ns"),
        (1_500, "1.5us"),
        (500_000_000, "500ms"),
        (1_500_000_000, "1.5s"),
        (90 * SECOND, "1m30s"),
        (5400 * SECOND, "1h30m"),
        (168 * HOUR, "7d"),
        (36 * HOUR, "1d12h"),
        (DAY + 1, "1d1ns"),
        (MINUTE + 1_000_001, "1m1.000001ms"),
    ] {
        let duration = Duration::from_nanos(nanos);
        let shown = format_duration(duration);
        assert_eq!(shown, expected);
        assert_eq!(parse_duration(&shown), Ok(duration), "{shown}");
    }
}
