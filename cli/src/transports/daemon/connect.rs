//! Opens connections to a daemon.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::DaemonAddress;
use super::local_socket;
use super::tls::server_name;
use crate::image::Error;

/// The timeout of connecting.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection to a daemon, of any kind.
pub(super) trait DaemonStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> DaemonStream for T {}

/// Connects to one daemon.
#[derive(Debug, Clone)]
pub(super) struct Connector {
    address: DaemonAddress,
    tls: Option<Arc<ClientConfig>>,
}

impl Connector {
    /// Returns a connector, without connecting yet.
    ///
    /// # Errors
    /// Returns an error if the certificates for TLS cannot be used.
    pub(super) fn new(address: DaemonAddress) -> Result<Self, Error> {
        let tls = match &address {
            DaemonAddress::Tls { certificates, .. } => {
                let config = certificates.client_config();
                let config = config.map_err(|reason| Error::DaemonUnreachable {
                    engine: address.engine(),
                    address: address.to_string(),
                    reason: format!("its TLS certificates cannot be used: {reason}"),
                    is_forbidden: false,
                })?;
                Some(Arc::new(config))
            }
            DaemonAddress::Socket(_)
            | DaemonAddress::Pipe(_)
            | DaemonAddress::Tcp(_)
            | DaemonAddress::Ssh(_) => None,
        };
        Ok(Self { address, tls })
    }

    /// Returns the address.
    pub(super) fn address(&self) -> &DaemonAddress {
        &self.address
    }

    /// Opens a connection. Over SSH, errors of the connection come from the stream.
    ///
    /// # Errors
    /// Returns the error of the operating system or of TLS.
    pub(super) async fn connect(&self) -> io::Result<Box<dyn DaemonStream>> {
        let connected = tokio::time::timeout(CONNECT_TIMEOUT, self.connect_in_any_time()).await;
        connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    async fn connect_in_any_time(&self) -> io::Result<Box<dyn DaemonStream>> {
        Ok(match &self.address {
            DaemonAddress::Socket(path) | DaemonAddress::Pipe(path) => {
                Box::new(local_socket::connect(path).await?)
            }
            DaemonAddress::Tcp(authority) => Box::new(connect_tcp(authority).await?),
            DaemonAddress::Tls { authority, .. } => {
                let config = self.tls.clone().ok_or(io::ErrorKind::Unsupported)?;
                let stream = connect_tcp(authority).await?;
                let connector = TlsConnector::from(config);
                Box::new(connector.connect(server_name(authority)?, stream).await?)
            }
            DaemonAddress::Ssh(destination) => Box::new(destination.connect()?),
        })
    }
}

async fn connect_tcp(authority: &str) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(authority).await?;
    // The requests are small, and each waits for its response.
    stream.set_nodelay(true)?;
    Ok(stream)
}
