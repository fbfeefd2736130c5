//! The program: arguments, signals and exit codes around [`imgsync_server::run`].

mod args;
mod reload;
mod setup;

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser as _;
use imgsync_server::auth::{Change, ask_password, edit};
use imgsync_server::config::Understood;
use imgsync_server::{Error, log};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{oneshot, watch};

use self::args::{Arguments, Command, GarbageCollect, Htpasswd, Serve};
use self::reload::Stamps;
use self::setup::Setup;

/// Threads that wait for the disk. Few are enough: no request occupies one while its client is
/// slow. Each costs memory.
const BLOCKING_THREADS: usize = 24;
const MAX_WORKERS: usize = 4;
/// How long work on the disk may take after the last request.
const LAST_WORK_TIME: Duration = Duration::from_secs(5);

/// Exit codes: what was asked for is not possible; what was asked for cannot be understood.
const FAILED: u8 = 1;
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let command = Arguments::parse_from(args::spelled(std::env::args_os())).command;
    match command.unwrap_or_else(|| Command::Serve(Serve::default())) {
        Command::Serve(words) => serve(words),
        Command::Config(words) => print_config(words),
        Command::GarbageCollect(words) => collect(words),
        Command::Htpasswd(words) => htpasswd(words),
    }
}

fn serve(words: Serve) -> ExitCode {
    let setup = Setup::new(words);
    // Looked at before it is read, so that no change is missed.
    let seen = Stamps::of(&setup.source);
    let understood = match setup.load() {
        Ok(understood) => understood,
        Err(error) => return fail(&error.to_string(), Some(error.hint()), USAGE),
    };
    let log = match log::start(&understood.config.log) {
        Ok(log) => log,
        Err(error) => return fail(&format!("cannot begin a log: {error}"), None, FAILED),
    };
    tracing::info!("configuration: {}", setup.source);
    reload::tell(&understood.remarks);
    let seen = seen.with(&understood.config);
    match start(setup, seen, understood, log) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error.to_string(), error.hint(), FAILED),
    }
}

fn start(setup: Setup, seen: Stamps, first: Understood, log: log::Handle) -> Result<(), Error> {
    let workers = std::thread::available_parallelism()
        .map_or(1, usize::from)
        .min(MAX_WORKERS);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .max_blocking_threads(BLOCKING_THREADS)
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
            either(&mut terminate, &mut interrupt).await;
            let _ = told.send(());
            either(&mut terminate, &mut interrupt).await;
        };
        let hangup = signal(SignalKind::hangup()).map_err(failed)?;
        let (sender, configs) = watch::channel(Arc::new(first.config));
        tokio::spawn(reload::follow(setup, sender, seen, hangup, log));
        tokio::select! {
            result = imgsync_server::run(configs, announce, stop) => result.map(|()| LAST_WORK_TIME),
            () = twice => {
                tracing::warn!("told to stop once more: running requests are broken off");
                Ok(Duration::ZERO)
            }
        }
    });
    runtime.shutdown_timeout(result.as_ref().copied().unwrap_or(LAST_WORK_TIME));
    result.map(drop)
}

/// Becomes ready at the next of two signals.
async fn either(one: &mut Signal, other: &mut Signal) {
    tokio::select! {
        _ = one.recv() => {}
        _ = other.recv() => {}
    }
}

/// The one line on standard output: scripts read the port from it.
fn announce(url: &str) {
    if let Err(error) = say(&format!("imgsync-server listening on {url}\n")) {
        tracing::warn!(%error, "cannot say on standard output that the server listens on {url}");
    }
}

fn print_config(words: Serve) -> ExitCode {
    let setup = Setup::new(words);
    let understood = match setup.load() {
        Ok(understood) => understood,
        Err(error) => return fail(&error.to_string(), Some(error.hint()), USAGE),
    };
    let mut remarks = format!("configuration: {}\n", setup.source);
    for remark in &understood.remarks {
        let word = if remark.is_warning { "warning" } else { "note" };
        remarks.push_str(&format!("{word}: {remark}\n"));
    }
    // There is nobody left to tell.
    let _ = io::stderr().write_all(remarks.as_bytes());
    finish(&understood.print())
}

fn collect(words: GarbageCollect) -> ExitCode {
    let GarbageCollect {
        dry_run: _,
        delete_untagged: _,
        quiet: _,
        config: _,
    } = words;
    fail(
        "garbage-collect is not there yet: nothing was looked at or removed",
        Some("the stock registry's collector works on this folder while this server is stopped"),
        FAILED,
    )
}

fn htpasswd(words: Htpasswd) -> ExitCode {
    let Htpasswd {
        file,
        user,
        delete,
        cost,
    } = words;
    let change = if delete {
        Change::Delete
    } else {
        match ask_password(&user) {
            Ok(password) => Change::Set { password, cost },
            Err(error) => return fail(&format!("no password: {error}"), None, FAILED),
        }
    };
    match edit(&file, &user, &change) {
        Ok(done) => finish(&format!("{done} user {user}\n")),
        Err(error) => fail(&error.to_string(), None, FAILED),
    }
}

fn finish(text: &str) -> ExitCode {
    match say(text) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(
            &format!("cannot write to standard output: {error}"),
            None,
            FAILED,
        ),
    }
}

fn say(text: &str) -> io::Result<()> {
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
