//! Formats sizes and times, orders versions, makes untrusted text safe to print, and translates
//! messages.
//!
//! This module does not print anything. Start reading at [`format_bytes`] and [`sanitize`].

mod catalog;
mod language;
mod safe_text;
mod tag_order;
mod time;

pub use catalog::translate;
pub use imgsync_oci::units::{format_bytes, format_count};
pub use language::Language;
pub use safe_text::{format_json, sanitize};
pub use tag_order::{compare_versions, nearest_tags};
pub use time::{format_duration, format_estimate, format_timestamp, parse_timestamp};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_shown() {
        assert_eq!(format_bytes(0), "0 B");
        assert_eq!(format_bytes(999), "999 B");
        assert_eq!(format_bytes(1000), "1.0 kB");
        assert_eq!(format_bytes(999_999), "1.0 MB");
        assert_eq!(format_bytes(12_345_678), "12.3 MB");
    }
}
