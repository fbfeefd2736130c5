//! One file a verb.

mod contents;
mod inspect;
mod login;
mod ls;
mod mirror;
mod push;
mod remote;
mod rm;

use std::process::ExitCode;
use std::sync::Arc;

use crate::args::{Arguments, Command};
use crate::exit::{Failure, Kind};
use crate::report::{self, Report};
use crate::settings;

/// Runs the command that was typed, to its exit code.
pub fn run(arguments: Arguments) -> ExitCode {
    let report = report::new(arguments.voice(), arguments.json(), arguments.verb());
    let done = perform(arguments.command, &report);
    match done.and_then(|code| report.data().end().map(|()| code)) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            report.failure(&failure);
            ExitCode::from(&failure)
        }
    }
}

/// What mirrors end with that had nothing to do, where they are asked to tell.
const NOTHING_TO_DO: u8 = 8;

/// Yields the exit code.
fn perform(command: Command, report: &Arc<dyn Report>) -> Result<u8, Failure> {
    let mut print = |line: String| report.data().print(&line);
    match command {
        Command::Push(args) => {
            let settings = settings::Push::parse(&args)?;
            if !settings.is_dry {
                let outcome = in_runtime(push::push(&settings, report))?;
                report.outcome(&outcome);
                return Ok(0);
            }
            let preview = in_runtime(push::preview(&settings, report))?;
            if args.json {
                report.plan(&preview.plan);
                preview.more.iter().for_each(|line| report.note(line));
            } else {
                let lines = report::plan(&preview.plan).into_iter();
                lines.chain(preview.more).for_each(print);
            }
        }
        Command::Mirror(args) => return mirrored(&settings::Mirror::parse(&args)?, report),
        Command::Pull(args) => return mirrored(&settings::Mirror::parse_pull(&args)?, report),
        Command::Ls(args) => in_runtime(ls::ls(&args, report, &mut print))?,
        Command::Inspect(args) => {
            let bytes = in_runtime(inspect::inspect(&args, report))?;
            report.data().write(&bytes);
        }
        Command::Rm(args) => in_runtime(rm::rm(&args, report, &mut print))?,
        Command::Login(args) => in_runtime(login::login(args, report, &mut print))?,
        Command::Logout(args) => in_runtime(login::logout(&args, &mut print))?,
    }
    Ok(0)
}

fn mirrored(settings: &settings::Mirror, report: &Arc<dyn Report>) -> Result<u8, Failure> {
    match in_runtime(mirror::mirror(settings, report))? {
        mirror::Ending::Idle if settings.tells_nothing => Ok(NOTHING_TO_DO),
        mirror::Ending::Idle | mirror::Ending::Changed => Ok(0),
    }
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
            // First, so that it listens before the command has begun.
            biased;
            kind = stopped() => Err(interrupted(kind)),
            outcome = command => outcome,
        }
    });
    // A thread that is still compressing has nothing left to do.
    runtime.shutdown_background();
    outcome
}

/// Ends when somebody wants the command to stop: Ctrl-C, or SIGTERM.
async fn stopped() -> Kind {
    let interrupted = async {
        match tokio::signal::ctrl_c().await {
            Ok(()) => Kind::Interrupted,
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
                _ = terminate.recv() => Kind::Terminated,
            };
        }
    }
    interrupted.await
}

fn interrupted(kind: Kind) -> Failure {
    Failure::new(kind, "interrupted").hint("run it again: it goes on where this run stopped")
}
