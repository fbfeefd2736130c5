//! Waits for the signals that stop a command. Only this module knows those of each system.
//!
//! Start reading at [`wait_for_stop_signal`].

use crate::exit::FailureKind;

/// Waits for Ctrl-C, or for the system's signal to end: SIGTERM, or on Windows Ctrl-Break or the end of
/// the console.
pub(super) async fn wait_for_stop_signal() -> FailureKind {
    tokio::select! {
        () = interrupted() => FailureKind::Interrupted,
        () = terminated() => FailureKind::Terminated,
    }
}

async fn interrupted() {
    // Without a handler, the signal ends the process.
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending().await
    }
}

#[cfg(unix)]
async fn terminated() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => {
            terminate.recv().await;
        }
        Err(_) => std::future::pending().await,
    }
}

#[cfg(windows)]
async fn terminated() {
    use tokio::signal::windows::{ctrl_break, ctrl_close, ctrl_shutdown};
    match (ctrl_break(), ctrl_close(), ctrl_shutdown()) {
        (Ok(mut stopped), Ok(mut closed), Ok(mut shut_down)) => {
            tokio::select! {
                _ = stopped.recv() => {}
                _ = closed.recv() => {}
                _ = shut_down.recv() => {}
            }
        }
        _ => std::future::pending().await,
    }
}
