//! One file a verb.

mod contents;
mod inspect;
mod login;
mod ls;
mod push;
mod remote;
mod rm;

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;

use crate::args::{Arguments, Command};
use crate::exit::{Failure, Kind};
use crate::report::{self, Report};
use crate::settings;

/// Runs the command that was typed, to its exit code.
pub fn run(arguments: Arguments) -> ExitCode {
    let report = report::new(arguments.voice(), arguments.json());
    match perform(arguments.command, &report) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            report.failure(&failure);
            ExitCode::from(&failure)
        }
    }
}

fn perform(command: Command, report: &Arc<dyn Report>) -> Result<(), Failure> {
    match command {
        Command::Push(args) => {
            let settings = settings::Push::parse(&args)?;
            if !settings.is_dry {
                let outcome = in_runtime(push::push(&settings, report))?;
                report.outcome(&outcome);
                return Ok(());
            }
            let plan = in_runtime(push::preview(&settings, report))?;
            if args.json {
                report.plan(&plan);
            } else {
                report::plan(&plan).into_iter().for_each(print);
            }
        }
        Command::Ls(args) => in_runtime(ls::ls(&args, report, &mut print))?,
        Command::Inspect(args) => {
            let bytes = in_runtime(inspect::inspect(&args, report))?;
            // A reader that went away has seen enough.
            let _ = std::io::stdout().write_all(&bytes);
        }
        Command::Rm(args) => in_runtime(rm::rm(&args, report, &mut print))?,
        Command::Login(args) => in_runtime(login::login(args, report, &mut print))?,
        Command::Logout(args) => in_runtime(login::logout(&args, &mut print))?,
    }
    Ok(())
}

/// A line of data. A reader that went away does not undo what was done.
fn print(line: String) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Runs a command until it ends or is interrupted.
fn in_runtime<T>(command: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Kind::Source, format!("cannot start: {error}")))?;
    let outcome = runtime.block_on(async {
        tokio::select! {
            outcome = command => outcome,
            _ = tokio::signal::ctrl_c() => Err(interrupted()),
        }
    });
    // A thread that is still compressing has nothing left to do.
    runtime.shutdown_background();
    outcome
}

fn interrupted() -> Failure {
    Failure::new(Kind::Interrupted, "interrupted")
        .hint("push again: blobs that arrived are not sent twice")
}
