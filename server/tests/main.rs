//! Tests of `imgsync-server` as a process: its responses, its log and its files.
//!
//! All tests are in one program, so that `support` is compiled once. To run the tests of one
//! module: `cargo test -p imgsync-server --test main api::uploads::`.

#![allow(clippy::unwrap_used, reason = "a test that cannot continue has failed")]

mod support;

#[path = "../../tests/support/fake.rs"]
#[allow(
    clippy::expect_used,
    dead_code,
    unreachable_pub,
    reason = "shared with the tests of the tool, which use all of it"
)]
mod fake;
#[path = "../../tests/support/listener.rs"]
#[allow(clippy::expect_used, dead_code, unreachable_pub, reason = "as above")]
mod listener;
#[path = "../../tests/support/reserved_port.rs"]
#[allow(clippy::expect_used, unreachable_pub, reason = "as above")]
mod reserved_port;

mod api;
mod auth;
mod config;
mod connections;
mod events;
mod growth;
mod lifecycle;
mod page;
mod upstream;
