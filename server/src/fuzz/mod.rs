//! Fuzz targets of the parsers. Each takes any bytes, and panics if a property is violated.
//!
//! This module is compiled only for tests and fuzzers; `fuzz/driver.rs` describes how it is run.

mod configuration;

pub use crate::auth::fuzz::{authorization, htpasswd, tokens};
pub use configuration::configuration;

#[cfg(test)]
#[path = "../../../fuzz/driver.rs"]
mod driver;

#[test]
fn targets_hold_their_properties() {
    driver::run(&[
        ("authorization", authorization),
        ("configuration", configuration),
        ("htpasswd", htpasswd),
        ("tokens", tokens),
    ]);
}
