//! Opens connections to a daemon.

use std::io;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use super::DaemonAddress;

/// A connection to a daemon, of any kind.
pub(super) trait DaemonStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> DaemonStream for T {}

/// Opens a connection.
///
/// # Errors
/// Returns the error of the operating system.
pub(super) async fn connect(address: &DaemonAddress) -> io::Result<Box<dyn DaemonStream>> {
    Ok(match address {
        DaemonAddress::Socket(path) => Box::new(UnixStream::connect(path).await?),
        DaemonAddress::Tcp(authority) => {
            let stream = TcpStream::connect(authority).await?;
            // The requests are small, and each waits for its response.
            stream.set_nodelay(true)?;
            Box::new(stream)
        }
    })
}
