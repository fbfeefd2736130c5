//! Checks whether a running server answers: the command `imgsync-server health`.
//!
//! This module is a client of this server only; `upstream` sends requests to other registries. Start
//! reading at [`check_health`].

mod unverified;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{self, HeaderValue};
use hyper::http::uri::PathAndQuery;
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use imgsync_oci::endpoint::Endpoint;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::config::{HostPort, HttpConfig, ListenAddress};

/// The time that the whole check may take. Container engines wait for 30 seconds by default.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(10);
/// The header by which a registry can be told from another program.
const REGISTRY_HEADER: &str = "docker-distribution-api-version";
/// The name of this client in the access log.
const USER_AGENT: &str = concat!("imgsync-server-health/", env!("CARGO_PKG_VERSION"));

/// The server is not healthy.
#[derive(Debug, thiserror::Error)]
pub enum HealthError {
    /// The configuration leaves the choice of the port to the system.
    #[error("the port of {0} is not known: port 0 stands for any free port")]
    UnknownPort(HostPort),
    /// No connection can be opened.
    #[error("cannot connect to {address}: {source}")]
    Connect {
        /// The address, or the path of the Unix socket.
        address: String,
        /// The error of the operating system, or of TLS.
        source: io::Error,
    },
    /// There is no complete answer.
    #[error("no answer from {address}: {source}")]
    NoAnswer {
        /// The address, or the path of the Unix socket.
        address: String,
        /// The error of the connection.
        source: hyper::Error,
    },
    /// There is no answer in time.
    #[error("no answer from {address} within {} seconds", HEALTH_TIMEOUT.as_secs())]
    Timeout {
        /// The address, or the path of the Unix socket.
        address: String,
    },
    /// Something else answers, or the server has a problem.
    #[error("{address} answers {status}, which is not the answer of a registry")]
    Status {
        /// The address, or the path of the Unix socket.
        address: String,
        /// The status.
        status: u16,
    },
}

impl HealthError {
    /// Returns what the user can do about it, in the imperative.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::UnknownPort(_) => "pass the address, for example --addr 127.0.0.1:5000",
            Self::Connect { .. } => {
                "check that the server runs, and pass the same arguments as to serve, or its \
                 address, for example --addr 127.0.0.1:5000"
            }
            Self::NoAnswer { .. } => "check whether http.tls is the same as in the running server",
            Self::Timeout { .. } => "see the log of the server",
            Self::Status { .. } => "check which program uses the address, and see its log",
        }
    }
}

/// Asks the server with this configuration for its API, as `docker login` does. A server that
/// requires a login is healthy. Returns the address.
///
/// The certificate is not verified: nothing secret is sent, and the certificate is not for the
/// address of this machine.
///
/// # Errors
/// If there is no answer within ten seconds, or not that of a registry.
pub async fn check_health(http: &HttpConfig) -> Result<String, HealthError> {
    let address = match &http.listen_address {
        ListenAddress::Tcp(address) => local_address(address)?.to_string(),
        ListenAddress::Unix(path) => path.display().to_string(),
    };
    let Ok(status) = timeout(HEALTH_TIMEOUT, request_status(http, &address)).await else {
        return Err(HealthError::Timeout { address });
    };
    let (status, is_registry) = status?;
    let is_expected = matches!(status, StatusCode::OK | StatusCode::UNAUTHORIZED);
    if is_expected && is_registry {
        return Ok(address);
    }
    Err(HealthError::Status {
        address,
        status: status.as_u16(),
    })
}

/// Returns the address under which this machine reaches a listening socket.
fn local_address(listening: &HostPort) -> Result<HostPort, HealthError> {
    if listening.port == 0 {
        return Err(HealthError::UnknownPort(listening.clone()));
    }
    let host = match listening.host.as_str() {
        // No resolver: a minimal container may have no /etc/hosts.
        "" | "0.0.0.0" | "localhost" => Ipv4Addr::LOCALHOST.to_string(),
        "::" => Ipv6Addr::LOCALHOST.to_string(),
        host => host.to_owned(),
    };
    let port = listening.port;
    Ok(HostPort { host, port })
}

/// Returns the status of the answer, and whether it is that of a registry.
async fn request_status(
    http: &HttpConfig,
    address: &str,
) -> Result<(StatusCode, bool), HealthError> {
    let stream = open_stream(http, address).await;
    let stream = stream.map_err(|source| HealthError::Connect {
        address: address.to_owned(),
        source,
    })?;
    let response = send_request(stream, &http.prefix).await;
    let response = response.map_err(|source| HealthError::NoAnswer {
        address: address.to_owned(),
        source,
    })?;
    let is_registry = response.headers().contains_key(REGISTRY_HEADER);
    Ok((response.status(), is_registry))
}

/// Opens a connection to the server, with TLS if the server uses it.
async fn open_stream(http: &HttpConfig, address: &str) -> io::Result<Box<dyn ServerStream>> {
    let stream: Box<dyn ServerStream> = match &http.listen_address {
        ListenAddress::Tcp(_) => Box::new(TcpStream::connect(address).await?),
        ListenAddress::Unix(path) => Box::new(UnixStream::connect(path).await?),
    };
    if http.tls.is_none() {
        return Ok(stream);
    }
    let connector = TlsConnector::from(unverified::client_config().map_err(io::Error::other)?);
    let name = ServerName::from(IpAddr::from(Ipv4Addr::LOCALHOST));
    Ok(Box::new(connector.connect(name, stream).await?))
}

async fn send_request(
    stream: Box<dyn ServerStream>,
    prefix: &str,
) -> hyper::Result<Response<Incoming>> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let mut request = Request::new(Empty::<Bytes>::new());
    *request.uri_mut() = PathAndQuery::try_from(format!("{prefix}{}", Endpoint::CHECK.path()))
        .map(Uri::from)
        .unwrap_or_default();
    let headers = request.headers_mut();
    headers.insert(header::HOST, HeaderValue::from_static("localhost"));
    headers.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
    tokio::select! {
        // The connection must be polled for the request to be sent. If it ends first, the request
        // knows the reason.
        biased;
        response = sender.send_request(request) => response,
        Err(error) = connection => Err(error),
    }
}

/// A connection to the server.
trait ServerStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> ServerStream for T {}
