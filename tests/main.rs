//! The flows of imgsync: the tool, the server and the programs of others, each as it is run.
//!
//! One program, so that `support` is compiled once. A module is an area, and its name narrows a
//! run: `tests/run.sh push::`, or `cargo test -p imgsync --test flows push::quirks::`.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test may panic, and says what it skips"
)]

mod support;

mod auth;
mod cache;
mod examples;
mod formats;
mod messages;
mod mirror;
mod peers;
mod push;
