//! Listening sockets: TCP ports and Unix sockets.
//!
//! TLS and HTTP come later, on the accepted stream. Start reading at [`Listener`].

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::net::sockopt;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use crate::config::{HostPort, ListenAddress};

/// TCP keepalive: idle time before the first probe, time between probes, and number of probes.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
const KEEPALIVE_PROBES: u32 = 4;

/// The server cannot listen on an address.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}")]
pub struct BindError {
    /// The address, or the path of the Unix socket.
    pub address: String,
    /// The key of the configuration that holds the address; empty if none does.
    pub key: &'static str,
    /// The error of the operating system.
    pub source: io::Error,
}

/// A bound socket that accepts connections.
pub(crate) enum Listener {
    /// A TCP port and its local address.
    Tcp(TcpListener, SocketAddr),
    /// A Unix socket; its file is removed when the listener is dropped.
    Unix(UnixListener, SocketFileGuard),
}

/// An accepted connection, before TLS.
pub(crate) enum AcceptedStream {
    /// A TCP connection and the client's address.
    Tcp(TcpStream, SocketAddr),
    /// A connection over a Unix socket.
    Unix(UnixStream),
}

impl AcceptedStream {
    /// Returns the client's address; `None` for a Unix socket.
    pub(super) fn peer(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(_, peer) => Some(*peer),
            Self::Unix(_) => None,
        }
    }
}

/// Removes the file of a Unix socket when dropped.
pub(crate) struct SocketFileGuard(PathBuf);

impl Drop for SocketFileGuard {
    fn drop(&mut self) {
        // The file may be gone already.
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Listener {
    /// Binds an address, which `key` of the configuration holds. An empty host means all addresses
    /// of the machine.
    ///
    /// # Errors
    /// When the operating system refuses the address or the path.
    pub(crate) async fn bind(
        address: &ListenAddress,
        key: &'static str,
    ) -> Result<Self, BindError> {
        let failed = |address: String| {
            move |source| BindError {
                address,
                key,
                source,
            }
        };
        match address {
            ListenAddress::Tcp(address) => {
                let listener = bind_tcp(address)
                    .await
                    .map_err(failed(address.to_string()))?;
                let local = listener.local_addr().map_err(failed(address.to_string()))?;
                Ok(Self::Tcp(listener, local))
            }
            ListenAddress::Unix(path) => {
                let listener = bind_unix(path).map_err(failed(path.display().to_string()))?;
                Ok(Self::Unix(listener, SocketFileGuard(path.clone())))
            }
        }
    }

    /// Binds a Unix socket that only the user of this process, and root, can connect to.
    ///
    /// # Errors
    /// When the operating system refuses the path.
    pub(crate) async fn bind_private(path: &Path) -> Result<Self, BindError> {
        let listener = Self::bind(&ListenAddress::Unix(path.to_owned()), "").await?;
        let mode = std::fs::Permissions::from_mode(0o600);
        let restricted = std::fs::set_permissions(path, mode);
        restricted.map_err(|source| BindError {
            address: path.display().to_string(),
            key: "",
            source,
        })?;
        Ok(listener)
    }

    /// Accepts the next connection.
    ///
    /// # Errors
    /// When the operating system cannot open another connection, for example because the limit on
    /// open files is reached.
    pub(crate) async fn accept(&self) -> io::Result<AcceptedStream> {
        match self {
            Self::Tcp(listener, _) => {
                let (stream, peer) = listener.accept().await?;
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%error, "cannot set TCP_NODELAY");
                }
                if let Err(error) = enable_keepalive(&stream) {
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

    /// Returns whether only clients on this machine can connect.
    pub(crate) fn is_local(&self) -> bool {
        match self {
            Self::Tcp(_, local) => local.ip().is_loopback(),
            Self::Unix(..) => true,
        }
    }

    /// Returns the URL of the bound address; its port is the real one, never 0.
    pub(crate) fn url(&self, is_tls: bool) -> String {
        match self {
            Self::Tcp(_, local) if is_tls => format!("https://{local}"),
            Self::Tcp(_, local) => format!("http://{local}"),
            Self::Unix(_, SocketFileGuard(path)) => format!("unix://{}", path.display()),
        }
    }
}

/// Enables TCP keepalive, so that the kernel closes connections to peers that are gone.
///
/// TCP_USER_TIMEOUT would also close connections whose peer is alive but reads slowly, with a full
/// receive window.
fn enable_keepalive(stream: &TcpStream) -> rustix::io::Result<()> {
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, KEEPALIVE_AFTER)?;
    sockopt::set_tcp_keepintvl(stream, KEEPALIVE_INTERVAL)?;
    sockopt::set_tcp_keepcnt(stream, KEEPALIVE_PROBES)
}

async fn bind_tcp(address: &HostPort) -> io::Result<TcpListener> {
    if address.host == "localhost" {
        // No resolver: a minimal container may have no /etc/hosts.
        return TcpListener::bind((Ipv4Addr::LOCALHOST, address.port)).await;
    }
    if !address.host.is_empty() {
        return TcpListener::bind((address.host.as_str(), address.port)).await;
    }
    // Where the machine has IPv6, this socket accepts IPv4 as well.
    match TcpListener::bind(("::", address.port)).await {
        Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
            TcpListener::bind(("0.0.0.0", address.port)).await
        }
        bound => bound,
    }
}

fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            // A refused connection means that the file was left behind by a killed server.
            match std::os::unix::net::UnixStream::connect(path) {
                Err(refused) if refused.kind() == io::ErrorKind::ConnectionRefused => {
                    std::fs::remove_file(path)?;
                    UnixListener::bind(path)
                }
                _ => Err(error),
            }
        }
        bound => bound,
    }
}
