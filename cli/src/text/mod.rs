//! Parses and formats sizes, times and versions, and makes untrusted text safe to print.
//!
//! This module does not print anything. Start reading at [`format_bytes`] and [`sanitize`].

mod safe_text;
mod size;
mod tag_order;
mod time;

pub use safe_text::sanitize;
pub use size::{MIB, format_bytes, parse_size};
pub use tag_order::{compare_versions, nearest_tags};
pub use time::{format_duration, format_timestamp, parse_duration, parse_timestamp};
