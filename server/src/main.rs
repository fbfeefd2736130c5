//! The program: arguments, the log, signals and exit codes around [`imgsync_server::run`].

mod args;

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser as _;
use imgsync_server::{Error, Settings};
use tokio::signal::unix::{SignalKind, signal};

use self::args::{Arguments, Command, Serve};

/// Threads that wait for the disk. Few are enough: no request occupies one while its client is
/// slow. Each costs memory.
const BLOCKING_THREADS: usize = 24;
const MAX_WORKERS: usize = 4;
/// How long work on the disk may take after the last request.
const LAST_WORK_TIME: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    let command = Arguments::parse().command;
    let Command::Serve(serve) = command.unwrap_or_else(|| Command::Serve(Serve::default()));
    if let Some(config) = serve.config {
        let text = format!("configuration files are not supported yet, and {config:?} was given");
        return fail(
            &text,
            Some("start without it; --root and --addr say where and what"),
            2,
        );
    }
    tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_ansi(io::IsTerminal::is_terminal(&io::stderr()))
        .with_target(false)
        .with_max_level(tracing::Level::INFO)
        .init();
    match start(Settings {
        root: serve.root,
        address: serve.addr,
    }) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error.to_string(), error.hint(), 1),
    }
}

fn start(settings: Settings) -> Result<(), Error> {
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
        let stop = stop().map_err(|error| Error::Start(error.to_string()))?;
        imgsync_server::run(settings, announce, stop).await
    });
    runtime.shutdown_timeout(LAST_WORK_TIME);
    result
}

/// Becomes ready at the first SIGTERM or SIGINT.
fn stop() -> io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// The one line on standard output: scripts read the port from it.
fn announce(address: SocketAddr) {
    let mut stdout = io::stdout().lock();
    let written = writeln!(stdout, "imgsync-server listening on http://{address}");
    if let Err(error) = written.and_then(|()| stdout.flush()) {
        tracing::warn!(%error, "cannot say on standard output that the server listens on {address}");
    }
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
