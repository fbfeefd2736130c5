//! The quick start: starts a server on a free loopback port with a temporary folder, pushes an image
//! twice, pushes a changed version, then pulls both versions and verifies every digest.
#![allow(clippy::print_stdout, reason = "the example prints its steps")]

mod programs;
mod pull;
mod sample;
mod steps;

use std::process::ExitCode;

type Error = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    match steps::run(std::env::args().nth(1)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("quickstart failed: {error}");
            ExitCode::FAILURE
        }
    }
}
