//! Parses and formats numbers of bytes.

/// The number of bytes in a mebibyte.
pub const MIB: u64 = 1024 * 1024;

/// Formats a number of bytes with a decimal unit, as network rates are measured: `999 B`, `1.2 MB`.
pub fn format_bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["kB", "MB", "GB", "TB", "PB"];
    if count < 1000 {
        return format!("{count} B");
    }
    let mut value = count as f64 / 1000.0;
    let mut unit = 0;
    // 999.95 would be shown as 1000.0 of the smaller unit.
    while value >= 999.95 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// Parses a number of bytes: digits alone, or followed by `KiB` or `MiB`. Returns `None` if the
/// text is anything else or the number is too large.
pub fn parse_size(text: &str) -> Option<u64> {
    let (digits, unit) = match text.strip_suffix("KiB") {
        Some(digits) => (digits, 1024),
        None => match text.strip_suffix("MiB") {
            Some(digits) => (digits, MIB),
            None => (text, 1),
        },
    };
    let number: u64 = digits.parse().ok()?;
    number.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_parsed() {
        assert_eq!(parse_size("17"), Some(17));
        assert_eq!(parse_size("4KiB"), Some(4096));
        assert_eq!(parse_size("8MiB"), Some(8 * MIB));
        for bad in ["", "x", "-1", "8M", "18446744073709551615MiB"] {
            assert_eq!(parse_size(bad), None, "{bad}");
        }
    }

    #[test]
    fn sizes_are_shown() {
        assert_eq!(format_bytes(0), "0 B");
        assert_eq!(format_bytes(999), "999 B");
        assert_eq!(format_bytes(1000), "1.0 kB");
        assert_eq!(format_bytes(999_999), "1.0 MB");
        assert_eq!(format_bytes(12_345_678), "12.3 MB");
    }
}
