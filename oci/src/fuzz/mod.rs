//! Fuzz targets of the parsers. Each takes any bytes, and panics if a property is violated.
//!
//! This module is compiled only for tests and fuzzers; `fuzz/driver.rs` describes how it is run.

mod deltas;
mod manifests;
mod names;
mod ranges;
mod requests;

pub use crate::certificate::fuzz_certificates as certificates;
pub use crate::client::fuzz_challenges as challenges;
pub use deltas::{deltas, layer_indexes, layers};
pub use manifests::manifests;
pub use names::names;
pub use ranges::ranges;
pub use requests::requests;

#[cfg(test)]
#[path = "../../../fuzz/driver.rs"]
mod driver;

#[test]
fn targets_hold_their_properties() {
    driver::run(&[
        ("certificates", certificates),
        ("challenges", challenges),
        ("deltas", deltas),
        ("layer_indexes", layer_indexes),
        ("layers", layers),
        ("manifests", manifests),
        ("names", names),
        ("ranges", ranges),
        ("requests", requests),
    ]);
}
