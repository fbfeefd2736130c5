//! Checks whether a running server answers: the command `imgsync-server health`.
//!
//! This module is a client of this server only; `upstream` sends requests to other registries. Start
//! reading at [`check_health`].

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use hyper::StatusCode;
use imgsync_oci::endpoint::Endpoint;

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
    #[error("cannot connect to {address}: {}", cause(source))]
    Connect {
        /// The address, or the path of the Unix socket.
        address: String,
        /// The error of the operating system, or of TLS.
        source: reqwest::Error,
    },
    /// There is no complete answer.
    #[error("no answer from {address}: {}", cause(source))]
    NoAnswer {
        /// The address, or the path of the Unix socket.
        address: String,
        /// The error of the connection.
        source: reqwest::Error,
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
    let (status, is_registry) = match request_status(http, &address).await {
        Ok(answer) => answer,
        Err(error) if error.is_timeout() => return Err(HealthError::Timeout { address }),
        Err(source) if source.is_connect() => {
            return Err(HealthError::Connect { address, source });
        }
        Err(source) => return Err(HealthError::NoAnswer { address, source }),
    };
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
async fn request_status(http: &HttpConfig, address: &str) -> reqwest::Result<(StatusCode, bool)> {
    let client = reqwest::Client::builder()
        .no_proxy()
        .user_agent(USER_AGENT)
        .redirect(reqwest::redirect::Policy::none())
        .timeout(HEALTH_TIMEOUT)
        .tls_danger_accept_invalid_certs(true)
        .tls_danger_accept_invalid_hostnames(true);
    let (client, host) = match &http.listen_address {
        ListenAddress::Tcp(_) => (client, address),
        ListenAddress::Unix(path) => (client.unix_socket(&**path), "localhost"),
    };
    let scheme = if http.tls.is_some() { "https" } else { "http" };
    let path = Endpoint::CHECK.path();
    let url = format!("{scheme}://{host}{}{path}", http.prefix);
    let response = client.build()?.get(url).send().await?;
    let is_registry = response.headers().contains_key(REGISTRY_HEADER);
    Ok((response.status(), is_registry))
}

/// Returns the innermost cause of an error: the others repeat the address.
fn cause(error: &reqwest::Error) -> String {
    let first: &dyn std::error::Error = error;
    let causes = std::iter::successors(Some(first), |error| error.source());
    causes.last().unwrap_or(first).to_string()
}
