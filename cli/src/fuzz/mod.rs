//! Fuzz targets of the parsers. Each takes any bytes, and panics if a property is violated.
//!
//! This module is compiled only for tests and fuzzers; `fuzz/driver.rs` describes how it is run.

mod mirrors;

pub use crate::transports::locate::fuzz::archives;
pub use mirrors::mirrors;

#[cfg(test)]
#[path = "../../../fuzz/driver.rs"]
mod driver;

#[test]
fn targets_hold_their_properties() {
    driver::run(&[("archives", archives), ("mirrors", mirrors)]);
}
