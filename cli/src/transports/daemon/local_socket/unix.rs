//! Unix sockets.

use std::io;
use std::os::unix::net::UnixStream as BlockingStream;
use std::path::Path;

use tokio::net::UnixStream;

/// Connects to a daemon.
///
/// # Errors
/// Returns the error of the system.
pub(in crate::transports::daemon) async fn connect(path: &Path) -> io::Result<UnixStream> {
    UnixStream::connect(path).await
}

/// Checks that a daemon accepts connections. Blocks.
///
/// # Errors
/// Returns the error of the system, of kind [`io::ErrorKind::NotFound`] if nothing is there.
pub(in crate::transports::daemon) fn probe(path: &Path) -> io::Result<()> {
    BlockingStream::connect(path).map(drop)
}
