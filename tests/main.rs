//! Tests of whole flows with the real programs: the tool, the server, and third-party programs such
//! as Docker and nginx.
//!
//! All tests are one program, so `support` is compiled only once. Each module is an area; its name
//! selects its tests: `tests/run.sh push::` or `cargo test -p imgsync --test flows push::quirks::`.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "tests panic to fail, and print what they skip"
)]

mod support;

mod auth;
mod browse;
mod cache;
mod doctor;
mod examples;
mod formats;
mod installer;
mod language;
mod messages;
mod metrics;
mod mirror;
mod page;
mod peers;
mod push;
mod windows;
