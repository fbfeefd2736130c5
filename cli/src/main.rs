//! The `imgsync` command.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    imgsync::commands::run(imgsync::args::Cli::parse())
}
