//! One file a verb.

mod contents;
mod inspect;
mod login;
mod ls;
mod manifest_name;
mod mirror;
mod push;
mod rm;

use std::process::ExitCode;
use std::sync::Arc;

use crate::args::{Cli, CliCommand};
use crate::exit::{Failure, FailureKind};
use crate::report::{self, Report};
use crate::settings;

/// Runs the command that was typed, to its exit code.
pub fn run(arguments: Cli) -> ExitCode {
    let report = report::new(
        arguments.verbosity(),
        arguments.is_json(),
        arguments.transfer_verb(),
    );
    let done = dispatch(arguments.command, &report);
    match done.and_then(|code| report.output().finish().map(|()| code)) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            report.show_failure(&failure);
            ExitCode::from(&failure)
        }
    }
}

/// What mirrors end with that had nothing to do, where they are asked to tell.
const NOTHING_TO_DO_EXIT_CODE: u8 = 8;

/// Yields the exit code.
fn dispatch(command: CliCommand, report: &Arc<dyn Report>) -> Result<u8, Failure> {
    let mut print = |line: String| report.output().print(&line);
    match command {
        CliCommand::Push(args) => push::push(&args, report, &mut print)?,
        CliCommand::Mirror(args) => {
            return run_mirror(&settings::MirrorSettings::parse(&args)?, report);
        }
        CliCommand::Pull(args) => {
            return run_mirror(&settings::MirrorSettings::parse_pull(&args)?, report);
        }
        CliCommand::Ls(args) => run_until_stopped(ls::ls(&args, report, &mut print))?,
        CliCommand::Inspect(args) => {
            let bytes = run_until_stopped(inspect::inspect(&args, report))?;
            report.output().write(&bytes);
        }
        CliCommand::Rm(args) => run_until_stopped(rm::rm(&args, report, &mut print))?,
        CliCommand::Login(args) => run_until_stopped(login::login(args, report, &mut print))?,
        CliCommand::Logout(args) => run_until_stopped(login::logout(&args, &mut print))?,
    }
    Ok(0)
}

fn run_mirror(
    settings: &settings::MirrorSettings,
    report: &Arc<dyn Report>,
) -> Result<u8, Failure> {
    match run_until_stopped(mirror::mirror(settings, report))? {
        mirror::MirrorOutcome::Unchanged if settings.is_exit_code_requested => {
            Ok(NOTHING_TO_DO_EXIT_CODE)
        }
        mirror::MirrorOutcome::Unchanged | mirror::MirrorOutcome::Changed => Ok(0),
    }
}

/// Runs a command until it ends or is interrupted.
fn run_until_stopped<T>(command: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::new(FailureKind::Source, format!("cannot start: {error}")))?;
    let outcome = runtime.block_on(async {
        tokio::select! {
            // First, so that it listens before the command has begun.
            biased;
            kind = wait_for_stop_signal() => Err(interrupted_failure(kind)),
            outcome = command => outcome,
        }
    });
    // A thread that is still compressing has nothing left to do.
    runtime.shutdown_background();
    outcome
}

/// Ends when somebody wants the command to stop: Ctrl-C, or SIGTERM.
async fn wait_for_stop_signal() -> FailureKind {
    let interrupted = async {
        match tokio::signal::ctrl_c().await {
            Ok(()) => FailureKind::Interrupted,
            // Nobody can tell: the signal's own way stays.
            Err(_) => std::future::pending().await,
        }
    };
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminate) = signal(SignalKind::terminate()) {
            return tokio::select! {
                kind = interrupted => kind,
                _ = terminate.recv() => FailureKind::Terminated,
            };
        }
    }
    interrupted.await
}

fn interrupted_failure(kind: FailureKind) -> Failure {
    Failure::new(kind, "interrupted").with_hint("run it again: it goes on where this run stopped")
}
