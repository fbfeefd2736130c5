//! One file a verb.

mod push;

use std::io::Write;
use std::process::ExitCode;

use crate::args::{Arguments, Command};
use crate::exit::{Failure, Kind};
use crate::{report, settings};

/// Runs the command that was typed, to its exit code.
pub fn run(arguments: Arguments) -> ExitCode {
    let Command::Push(args) = arguments.command;
    let done = settings::Push::parse(&args).and_then(|settings| {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .map_err(|error| Failure::new(Kind::Source, format!("cannot start: {error}")))?;
        let report = report::for_stderr();
        let outcome = runtime.block_on(async {
            tokio::select! {
                outcome = push::push(&settings, &report) => outcome,
                _ = tokio::signal::ctrl_c() => Err(interrupted()),
            }
        });
        // A thread that is still compressing has nothing left to do.
        runtime.shutdown_background();
        outcome
    });
    match done {
        Ok(outcome) => {
            // A reader that went away does not undo the push.
            let _ = writeln!(std::io::stdout(), "{}", report::outcome(&outcome));
            ExitCode::SUCCESS
        }
        Err(failure) => {
            let _ = writeln!(std::io::stderr(), "{}", failure.text());
            ExitCode::from(&failure)
        }
    }
}

fn interrupted() -> Failure {
    Failure::new(Kind::Interrupted, "interrupted")
        .hint("push again: blobs that arrived are not sent twice")
}
