//! Named pipes of Windows.

use std::fs::OpenOptions;
use std::io;
use std::os::windows::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use tokio::net::windows::named_pipe::{ClientOptions, NamedPipeClient};

/// The error of a pipe whose instances are all in use (`ERROR_PIPE_BUSY`). The daemon creates the
/// next one soon.
const PIPE_BUSY: i32 = 231;
/// The time after which a busy pipe is tried again.
const BUSY_INTERVAL: Duration = Duration::from_millis(10);
/// Lets the server of the pipe learn who connects, but not act as this user
/// (`SECURITY_IDENTIFICATION`).
const SECURITY_IDENTIFICATION: u32 = 0x0001_0000;

/// Connects to a daemon. Waits while the pipe is busy, so the caller needs a timeout.
///
/// # Errors
/// Returns the error of the system.
pub(in crate::transports::daemon) async fn connect(path: &Path) -> io::Result<NamedPipeClient> {
    loop {
        match ClientOptions::new().open(path) {
            Err(error) if is_busy(&error) => tokio::time::sleep(BUSY_INTERVAL).await,
            opened => return opened,
        }
    }
}

/// Checks that a daemon accepts connections, now or soon.
///
/// # Errors
/// Returns the error of the system, of kind [`io::ErrorKind::NotFound`] if nothing is there.
pub(in crate::transports::daemon) fn probe(path: &Path) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    options.security_qos_flags(SECURITY_IDENTIFICATION);
    match options.open(path) {
        Err(error) if !is_busy(&error) => Err(error),
        _ => Ok(()),
    }
}

fn is_busy(error: &io::Error) -> bool {
    error.raw_os_error() == Some(PIPE_BUSY)
}
