//! Tests of the client against fake servers, and of the invariants of the whole workspace.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    dead_code,
    unreachable_pub,
    reason = "a test may panic, and does not use all of the fake server"
)]

mod client;

#[path = "../../tests/support/fake.rs"]
mod fake;
#[path = "../../tests/support/listener.rs"]
mod listener;
#[path = "../../tests/support/reserved_port.rs"]
mod reserved_port;

#[path = "../../tests/invariants.rs"]
mod invariants;
