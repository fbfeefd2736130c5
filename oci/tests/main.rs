//! The client against registries that a test writes, and the invariants of the whole workspace.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    dead_code,
    unreachable_pub,
    reason = "a test may panic, and need not use all of the fake"
)]

mod client;

#[path = "../../tests/support/fake.rs"]
mod fake;
#[path = "../../tests/support/listener.rs"]
mod listener;

#[path = "../../tests/invariants.rs"]
mod invariants;
