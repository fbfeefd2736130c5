//! The server, as a program of its own: what clients see, and what it leaves on disk.
//!
//! One program, so that `support` is compiled once. A module is an area, and its name narrows a
//! run: `cargo test -p imgsync-server --test main api::uploads::`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

mod api;
mod auth;
mod config;
mod connections;
mod lifecycle;
