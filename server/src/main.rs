//! The program `imgsync-server`: command line, signals and exit codes around
//! [`imgsync_server::run`]. Start reading at [`main`].

mod args;
mod config_loader;
mod console;
mod manual;
mod reload;
mod storage_commands;

use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser as _;
use imgsync_server::auth::{PromptGuard, UserChange, ask_password, edit_user};
use imgsync_server::config::LoadedConfig;
use imgsync_server::{Error, log};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{oneshot, watch};

use self::args::{ConfigArgs, HtpasswdArgs, ServeArgs, ServerArguments, ServerCommand};
use self::config_loader::Setup;
use self::console::{
    EXIT_FAILURE, EXIT_INTERRUPTED, EXIT_USAGE, fail, print_result, write_stderr, write_stdout,
};
use self::reload::FileStamps;

/// Threads for disk access. Few are enough, because no request occupies one while its client is
/// slow, and each one needs memory.
const MAX_BLOCKING_THREADS: usize = 24;
const MAX_WORKER_THREADS: usize = 4;
/// How long disk access may take after the last request.
const BLOCKING_SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    match ServerArguments::parse().into_command() {
        ServerCommand::Serve(args) => serve(args),
        ServerCommand::Config(args) => print_config(args),
        ServerCommand::Health(args) => health(args),
        ServerCommand::GarbageCollect(args) => storage_commands::garbage_collect(args),
        ServerCommand::Retention(args) => storage_commands::retention(args),
        ServerCommand::Undelete(args) => storage_commands::undelete(args),
        ServerCommand::Status(args) => storage_commands::status(args),
        ServerCommand::Backup(args) => storage_commands::backup(args),
        ServerCommand::Check(args) => storage_commands::check(args),
        ServerCommand::Htpasswd(args) => htpasswd(args),
        ServerCommand::Completions { shell } => manual::print_completions(shell),
        ServerCommand::Man { folder } => manual::write_pages(&folder),
    }
}

fn serve(args: ServeArgs) -> ExitCode {
    let setup = Setup::new(args);
    // Stamped before the file is read, so that a change in between is noticed later.
    let stamps = FileStamps::of(&setup.source);
    let loaded = match setup.load() {
        Ok(loaded) => loaded,
        Err(error) => return fail(&error.to_string(), Some(&error.hint()), EXIT_USAGE),
    };
    let log = match log::start(&loaded.config.log) {
        Ok(log) => log,
        Err(error) => {
            return fail(
                &format!("cannot start the log: {error}"),
                None,
                EXIT_FAILURE,
            );
        }
    };
    tracing::info!("configuration: {}", setup.source);
    reload::log_notices(&loaded.notices);
    let stamps = stamps.with(&loaded.config);
    match run_server(setup, stamps, loaded, log) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error.to_string(), error.hint().as_deref(), EXIT_FAILURE),
    }
}

/// Runs the server until SIGTERM or SIGINT. A second signal aborts the running requests.
fn run_server(
    setup: Setup,
    stamps: FileStamps,
    loaded: LoadedConfig,
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
        let (stop_sender, stop_receiver) = oneshot::channel();
        let shutdown = async {
            // An error means that the sender is dropped: the process is about to end.
            let _ = stop_receiver.await;
        };
        let second_signal = async {
            next_signal(&mut terminate, &mut interrupt).await;
            let _ = stop_sender.send(());
            next_signal(&mut terminate, &mut interrupt).await;
        };
        let hangup = signal(SignalKind::hangup()).map_err(failed)?;
        let (sender, configs) = watch::channel(Arc::new(loaded.config));
        tokio::spawn(reload::watch_config(setup, sender, stamps, hangup, log));
        tokio::select! {
            result = imgsync_server::run(configs, announce, shutdown) => {
                result.map(|()| BLOCKING_SHUTDOWN_TIMEOUT)
            }
            () = second_signal => {
                tracing::warn!("second stop signal: aborting running requests");
                Ok(Duration::ZERO)
            }
        }
    });
    let timeout = result
        .as_ref()
        .copied()
        .unwrap_or(BLOCKING_SHUTDOWN_TIMEOUT);
    if !timeout.is_zero() {
        exit_at_next_signal();
    }
    runtime.shutdown_timeout(timeout);
    result.map(drop)
}

/// Ends the process at the next stop signal. The runtime that waits for disk access does not notice
/// signals any more.
fn exit_at_next_signal() {
    let wait_for_signal = || -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            let mut terminate = signal(SignalKind::terminate())?;
            let mut interrupt = signal(SignalKind::interrupt())?;
            next_signal(&mut terminate, &mut interrupt).await;
            tracing::warn!("second stop signal: exiting without waiting for the disk");
            std::process::exit(0)
        })
    };
    let thread = std::thread::Builder::new().name("signals".to_owned());
    let started = thread.spawn(move || {
        if let Err(error) = wait_for_signal() {
            tracing::debug!(%error, "cannot wait for another stop signal");
        }
    });
    if let Err(error) = started {
        tracing::debug!(%error, "cannot wait for another stop signal");
    }
}

/// Waits for the next of two signals.
async fn next_signal(first: &mut Signal, second: &mut Signal) {
    tokio::select! {
        _ = first.recv() => {}
        _ = second.recv() => {}
    }
}

/// Prints the only line on standard output, from which scripts read the port.
fn announce(url: &str) {
    if let Err(error) = write_stdout(&format!("imgsync-server listening on {url}\n")) {
        tracing::warn!(%error, "cannot print the address {url} on standard output");
    }
}

fn print_config(ConfigArgs { quiet, serve }: ConfigArgs) -> ExitCode {
    let setup = Setup::new(serve);
    let loaded = match setup.load() {
        Ok(loaded) => loaded,
        Err(error) => return fail(&error.to_string(), Some(&error.hint()), EXIT_USAGE),
    };
    let mut text = String::new();
    if !quiet {
        text.push_str(&format!("configuration: {}\n", setup.source));
    }
    for notice in loaded
        .notices
        .iter()
        .filter(|notice| notice.is_warning || !quiet)
    {
        let severity = if notice.is_warning { "warning" } else { "note" };
        text.push_str(&format!("{severity}: {notice}\n"));
    }
    write_stderr(&text);
    let printed = if quiet {
        ExitCode::SUCCESS
    } else {
        print_result(&loaded.to_yaml())
    };
    match run_briefly(imgsync_server::check_start(&loaded.config)) {
        Ok(warnings) => {
            for warning in warnings {
                write_stderr(&format!("warning: {warning}\n"));
            }
            printed
        }
        Err(error) => fail(&error.to_string(), error.hint().as_deref(), EXIT_FAILURE),
    }
}

fn health(args: ServeArgs) -> ExitCode {
    let loaded = match Setup::new(args).load() {
        Ok(loaded) => loaded,
        Err(error) => return fail(&error.to_string(), Some(&error.hint()), EXIT_USAGE),
    };
    let check = async { Ok(imgsync_server::check_health(&loaded.config.http).await) };
    match run_briefly(check) {
        Ok(Ok(address)) => print_result(&format!("{address} is healthy\n")),
        Ok(Err(error)) => fail(&error.to_string(), Some(error.hint()), EXIT_FAILURE),
        Err(error) => fail(&error.to_string(), error.hint().as_deref(), EXIT_FAILURE),
    }
}

/// Runs a command that ends by itself.
fn run_briefly<T>(command: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.map_err(|error| Error::Start(error.to_string()))?;
    runtime.block_on(command)
}

fn htpasswd(args: HtpasswdArgs) -> ExitCode {
    let HtpasswdArgs {
        file,
        user,
        delete,
        cost,
    } = args;
    let change = if delete {
        UserChange::Delete
    } else {
        match ask_until_signal(&user) {
            Ok(Some(password)) => UserChange::Set { password, cost },
            Ok(None) => return fail("interrupted", None, EXIT_INTERRUPTED),
            Err(error) => return fail(&error.to_string(), None, EXIT_FAILURE),
        }
    };
    let is_new = !file.exists();
    match edit_user(&file, &user, &change) {
        Ok(outcome) => {
            if is_new {
                let file = file.display();
                write_stderr(&format!(
                    "note: only you can read {file}; if the server runs as another user, as in its \
                     container, give the file to that user: chown USER {file}\n"
                ));
            }
            print_result(&format!("{outcome} user {user}\n"))
        }
        Err(error) => fail(&error.to_string(), None, EXIT_FAILURE),
    }
}

/// Asks for a password; `None` if a signal interrupts the prompt. The terminal then shows again what
/// is typed.
fn ask_until_signal(user: &str) -> io::Result<Option<String>> {
    let _guard = PromptGuard::new();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let asked = runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let user = user.to_owned();
        let asking = tokio::task::spawn_blocking(move || ask_password(&user));
        tokio::select! {
            asked = asking => asked.map_err(io::Error::other)?.map(Some),
            () = next_signal(&mut terminate, &mut interrupt) => Ok(None),
        }
    });
    // The thread that still reads the password is not waited for.
    runtime.shutdown_background();
    asked
}
