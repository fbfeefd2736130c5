//! Where connections come from: a port, or a socket in the file system.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::net::sockopt;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use super::error::Error;
use crate::config::{HostPort, ListenAddress};

/// When a quiet peer is asked whether it is still there, how often then, and how many times.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
const KEEPALIVE_PROBES: u32 = 4;

/// Takes connections.
pub(super) enum Listener {
    /// On a port.
    Tcp(TcpListener, SocketAddr),
    /// On a socket in the file system, which goes with this.
    Unix(UnixListener, SocketFileGuard),
}

/// A connection, not yet encrypted.
pub(super) enum AcceptedStream {
    /// From another machine, or this one.
    Tcp(TcpStream, SocketAddr),
    /// From this machine.
    Unix(UnixStream),
}

/// A socket's path, removed at the end.
pub(super) struct SocketFileGuard(PathBuf);

impl Drop for SocketFileGuard {
    fn drop(&mut self) {
        // Somebody may have done so before.
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Listener {
    /// Begins to listen. Without a host that is on all addresses of the machine.
    ///
    /// # Errors
    /// The address or the path cannot be had.
    pub(super) async fn bind(bind: &ListenAddress) -> Result<Self, Error> {
        let failed = |address: String| move |source| Error::Bind { address, source };
        match bind {
            ListenAddress::Tcp(address) => {
                let listener = tcp(address).await.map_err(failed(address.to_string()))?;
                let local = listener.local_addr().map_err(failed(address.to_string()))?;
                Ok(Self::Tcp(listener, local))
            }
            ListenAddress::Unix(path) => {
                let listener = unix(path).map_err(failed(path.display().to_string()))?;
                Ok(Self::Unix(listener, SocketFileGuard(path.clone())))
            }
        }
    }

    /// The next connection.
    ///
    /// # Errors
    /// The system has no more to give for now.
    pub(super) async fn accept(&self) -> io::Result<AcceptedStream> {
        match self {
            Self::Tcp(listener, _) => {
                let (stream, peer) = listener.accept().await?;
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%error, "cannot set TCP_NODELAY");
                }
                if let Err(error) = keep_alive(&stream) {
                    tracing::debug!(%error, "cannot set TCP keepalive");
                }
                Ok(AcceptedStream::Tcp(stream, peer))
            }
            Self::Unix(listener, _) => {
                let (stream, _) = listener.accept().await?;
                Ok(AcceptedStream::Unix(stream))
            }
        }
    }

    /// Whether only this machine can connect.
    pub(super) fn is_local(&self) -> bool {
        match self {
            Self::Tcp(_, local) => local.ip().is_loopback(),
            Self::Unix(..) => true,
        }
    }

    /// The address for people and scripts, its port never 0.
    pub(super) fn url(&self, is_tls: bool) -> String {
        match self {
            Self::Tcp(_, local) if is_tls => format!("https://{local}"),
            Self::Tcp(_, local) => format!("http://{local}"),
            Self::Unix(_, SocketFileGuard(path)) => format!("unix://{}", path.display()),
        }
    }
}

/// Has the system ask whether a quiet peer is still there. Not with TCP_USER_TIMEOUT: that ends
/// also connections whose peer answers but has no room for more yet. A peer that answers nothing at
/// all is given up by the system.
fn keep_alive(stream: &TcpStream) -> rustix::io::Result<()> {
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, KEEPALIVE_AFTER)?;
    sockopt::set_tcp_keepintvl(stream, KEEPALIVE_INTERVAL)?;
    sockopt::set_tcp_keepcnt(stream, KEEPALIVE_PROBES)
}

async fn tcp(address: &HostPort) -> io::Result<TcpListener> {
    if address.host == "localhost" {
        // Without asking the system's resolver, which a container without files may not have.
        return TcpListener::bind((Ipv4Addr::LOCALHOST, address.port)).await;
    }
    if !address.host.is_empty() {
        return TcpListener::bind((address.host.as_str(), address.port)).await;
    }
    // Where there is IPv6, this takes IPv4 as well.
    match TcpListener::bind(("::", address.port)).await {
        Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
            TcpListener::bind(("0.0.0.0", address.port)).await
        }
        bound => bound,
    }
}

fn unix(path: &Path) -> io::Result<UnixListener> {
    match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            // Left by a server that was killed, if nobody answers there.
            match std::os::unix::net::UnixStream::connect(path) {
                Err(refused) if refused.kind() == io::ErrorKind::ConnectionRefused => {
                    std::fs::remove_file(path)?;
                    UnixListener::bind(path)
                }
                Ok(_) | Err(_) => Err(error),
            }
        }
        bound => bound,
    }
}
