//! The program: arguments, signals and exit codes around [`imgsync_server::run`].

mod args;
mod config_loader;
mod reload;

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser as _;
use imgsync_server::auth::{UserChange, ask_password, edit_user};
use imgsync_server::config::LoadedConfig;
use imgsync_server::{Error, log};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{oneshot, watch};

use self::args::{GarbageCollectArgs, HtpasswdArgs, ServeArgs, ServerArguments, ServerCommand};
use self::config_loader::Setup;
use self::reload::FileStamps;

/// Threads that wait for the disk. Few are enough: no request occupies one while its client is
/// slow. Each costs memory.
const MAX_BLOCKING_THREADS: usize = 24;
const MAX_WORKER_THREADS: usize = 4;
/// How long work on the disk may take after the last request.
const BLOCKING_SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);

/// Exit codes: what was asked for is not possible; what was asked for cannot be understood.
const EXIT_FAILURE: u8 = 1;
const EXIT_USAGE: u8 = 2;

fn main() -> ExitCode {
    let command =
        ServerArguments::parse_from(args::with_default_command(std::env::args_os())).command;
    match command.unwrap_or_else(|| ServerCommand::Serve(ServeArgs::default())) {
        ServerCommand::Serve(words) => serve(words),
        ServerCommand::Config(words) => print_config(words),
        ServerCommand::GarbageCollect(words) => garbage_collect(words),
        ServerCommand::Htpasswd(words) => htpasswd(words),
    }
}

fn serve(words: ServeArgs) -> ExitCode {
    let setup = Setup::new(words);
    // Looked at before it is read, so that no change is missed.
    let seen = FileStamps::of(&setup.source);
    let understood = match setup.load() {
        Ok(understood) => understood,
        Err(error) => return fail(&error.to_string(), Some(error.hint()), EXIT_USAGE),
    };
    let log = match log::start(&understood.config.log) {
        Ok(log) => log,
        Err(error) => return fail(&format!("cannot begin a log: {error}"), None, EXIT_FAILURE),
    };
    tracing::info!("configuration: {}", setup.source);
    reload::log_notices(&understood.notices);
    let seen = seen.with(&understood.config);
    match run_server(setup, seen, understood, log) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error.to_string(), error.hint(), EXIT_FAILURE),
    }
}

fn run_server(
    setup: Setup,
    seen: FileStamps,
    first: LoadedConfig,
    log: log::LogHandle,
) -> Result<(), Error> {
    let workers = std::thread::available_parallelism()
        .map_or(1, usize::from)
        .min(MAX_WORKER_THREADS);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .max_blocking_threads(MAX_BLOCKING_THREADS)
        .enable_all()
        .build()
        .map_err(|error| Error::Start(error.to_string()))?;
    let result = runtime.block_on(async {
        let failed = |error: io::Error| Error::Start(error.to_string());
        let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
        let (told, stop) = oneshot::channel();
        let stop = async {
            // Fails only when it does not matter any more.
            let _ = stop.await;
        };
        let twice = async {
            next_signal(&mut terminate, &mut interrupt).await;
            let _ = told.send(());
            next_signal(&mut terminate, &mut interrupt).await;
        };
        let hangup = signal(SignalKind::hangup()).map_err(failed)?;
        let (sender, configs) = watch::channel(Arc::new(first.config));
        tokio::spawn(reload::watch_config(setup, sender, seen, hangup, log));
        tokio::select! {
            result = imgsync_server::run(configs, announce, stop) => result.map(|()| BLOCKING_SHUTDOWN_TIMEOUT),
            () = twice => {
                tracing::warn!("told to stop once more: running requests are broken off");
                Ok(Duration::ZERO)
            }
        }
    });
    runtime.shutdown_timeout(
        result
            .as_ref()
            .copied()
            .unwrap_or(BLOCKING_SHUTDOWN_TIMEOUT),
    );
    result.map(drop)
}

/// Becomes ready at the next of two signals.
async fn next_signal(one: &mut Signal, other: &mut Signal) {
    tokio::select! {
        _ = one.recv() => {}
        _ = other.recv() => {}
    }
}

/// The one line on standard output: scripts read the port from it.
fn announce(url: &str) {
    if let Err(error) = write_stdout(&format!("imgsync-server listening on {url}\n")) {
        tracing::warn!(%error, "cannot say on standard output that the server listens on {url}");
    }
}

fn print_config(words: ServeArgs) -> ExitCode {
    let setup = Setup::new(words);
    let understood = match setup.load() {
        Ok(understood) => understood,
        Err(error) => return fail(&error.to_string(), Some(error.hint()), EXIT_USAGE),
    };
    let mut remarks = format!("configuration: {}\n", setup.source);
    for remark in &understood.notices {
        let word = if remark.is_warning { "warning" } else { "note" };
        remarks.push_str(&format!("{word}: {remark}\n"));
    }
    // There is nobody left to tell.
    let _ = io::stderr().write_all(remarks.as_bytes());
    print_result(&understood.to_yaml())
}

fn garbage_collect(words: GarbageCollectArgs) -> ExitCode {
    let GarbageCollectArgs {
        dry_run: _,
        delete_untagged: _,
        quiet: _,
        config: _,
    } = words;
    fail(
        "garbage-collect is not there yet: nothing was looked at or removed",
        Some("the stock registry's collector works on this folder while this server is stopped"),
        EXIT_FAILURE,
    )
}

fn htpasswd(words: HtpasswdArgs) -> ExitCode {
    let HtpasswdArgs {
        file,
        user,
        delete,
        cost,
    } = words;
    let change = if delete {
        UserChange::Delete
    } else {
        match ask_password(&user) {
            Ok(password) => UserChange::Set { password, cost },
            Err(error) => return fail(&format!("no password: {error}"), None, EXIT_FAILURE),
        }
    };
    match edit_user(&file, &user, &change) {
        Ok(done) => print_result(&format!("{done} user {user}\n")),
        Err(error) => fail(&error.to_string(), None, EXIT_FAILURE),
    }
}

fn print_result(text: &str) -> ExitCode {
    match write_stdout(text) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(
            &format!("cannot write to standard output: {error}"),
            None,
            EXIT_FAILURE,
        ),
    }
}

fn write_stdout(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// Says what went wrong, and what to do about it.
fn fail(text: &str, hint: Option<&str>, code: u8) -> ExitCode {
    let mut message = format!("error: {text}\n");
    if let Some(hint) = hint {
        message.push_str(&format!("hint: {hint}\n"));
    }
    // There is nobody left to tell.
    let _ = io::stderr().write_all(message.as_bytes());
    ExitCode::from(code)
}
