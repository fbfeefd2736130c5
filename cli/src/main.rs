//! The `imgsync` command.

use std::process::ExitCode;
use std::thread;

use clap::Parser;

/// The size of the stack that the commands run on. Linux gives the main thread as much, but Windows
/// only 1 MiB, which is too little for a push.
const STACK_BYTES: usize = 8 * 1024 * 1024;
/// The exit code of a program that panicked.
const PANIC_EXIT_CODE: u8 = 101;

fn main() -> ExitCode {
    let main = thread::Builder::new().name("main".to_owned());
    let started = main.stack_size(STACK_BYTES).spawn(run);
    match started {
        Ok(running) => running.join().unwrap_or(ExitCode::from(PANIC_EXIT_CODE)),
        // A system without a further thread is better off with a small stack than without a push.
        Err(_) => run(),
    }
}

fn run() -> ExitCode {
    imgsync::commands::run(imgsync::args::Cli::parse())
}
