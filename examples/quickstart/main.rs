//! The whole path on one machine: a server on a free loopback port with a temporary folder, a
//! push, the same push again, a push of a changed version, and both versions pulled back with
//! every digest verified.
#![allow(clippy::print_stdout, reason = "what it shows is what it is for")]

mod pull;
mod sample;
mod steps;

use std::process::ExitCode;

type Failed = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    match steps::run(std::env::args().nth(1)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("quickstart failed: {error}");
            ExitCode::FAILURE
        }
    }
}
