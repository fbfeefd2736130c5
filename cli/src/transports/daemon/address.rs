//! The address of a daemon, as `DOCKER_HOST` and Docker contexts name it.
//!
//! This module opens no connection. Start reading at [`DaemonAddress`].

use std::fmt;
use std::path::PathBuf;

use super::ssh::DialProgram;
use super::{SshDestination, TlsFolder};
use crate::disk::System;
use crate::image::{EngineKind, Error};

/// The start of the path of a named pipe on this machine.
const LOCAL_PIPE_PREFIX: &str = r"\\.\pipe\";

/// The address of a daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DaemonAddress {
    /// A Unix socket.
    Socket(PathBuf),
    /// A named pipe of Windows.
    Pipe(PathBuf),
    /// `host:port`, without TLS.
    Tcp(String),
    /// A daemon behind TLS.
    Tls {
        /// `host:port`.
        authority: String,
        /// The certificates.
        certificates: TlsFolder,
    },
    /// A daemon behind SSH.
    Ssh(SshDestination),
}

impl DaemonAddress {
    /// Returns the engine that listens at the address, as far as the address tells it.
    pub(crate) fn engine(&self) -> EngineKind {
        let is_podman = match self {
            Self::Socket(path) | Self::Pipe(path) => path.to_string_lossy().contains("podman"),
            Self::Ssh(destination) => destination.is_podman(),
            Self::Tcp(_) | Self::Tls { .. } => false,
        };
        if is_podman {
            EngineKind::Podman
        } else {
            EngineKind::Docker
        }
    }

    /// Returns whether the daemon runs on this machine.
    pub(super) fn is_local(&self) -> bool {
        matches!(self, Self::Socket(_) | Self::Pipe(_))
    }
}

impl fmt::Display for DaemonAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(path) => write!(f, "unix://{}", path.display()),
            Self::Pipe(path) => {
                write!(f, "npipe://{}", path.to_string_lossy().replace('\\', "/"))
            }
            Self::Tcp(authority) | Self::Tls { authority, .. } => write!(f, "tcp://{authority}"),
            Self::Ssh(destination) => destination.fmt(f),
        }
    }
}

impl DaemonAddress {
    /// Parses an address. `certificates` are used for TLS over TCP, and `program` on the other
    /// machine for SSH. `origin` names the setting in errors.
    ///
    /// # Errors
    /// Returns [`Error::Unsupported`].
    pub(super) fn parse(
        system: System,
        origin: &str,
        host: &str,
        certificates: Option<TlsFolder>,
        program: DialProgram,
    ) -> Result<Self, Error> {
        let unsupported = |what: &str| {
            let instead = match system {
                // PowerShell before version 7.4 changes binary data in a pipe.
                System::Windows => {
                    "run imgsync where the daemon is, or save the image: docker save -o app.tar \
                     IMAGE, then imgsync push ./app.tar REMOTE"
                }
                System::Unix | System::MacOs => {
                    "run imgsync where the daemon is, or pipe: docker save IMAGE | imgsync push - \
                     REMOTE"
                }
            };
            Error::unsupported(format!("{origin}={host}: {what}"), instead)
        };
        let (scheme, rest) = match host.split_once("://") {
            Some(parts) => parts,
            // Docker's client treats an address without a scheme as a host, too.
            None if !host.contains('/') => ("tcp", host),
            None => {
                return Err(unsupported(match system {
                    System::Windows => "an address without npipe://, tcp:// or ssh://",
                    System::Unix | System::MacOs => "an address without unix://, tcp:// or ssh://",
                }));
            }
        };
        match scheme {
            "npipe" if system == System::Windows => match parse_pipe(rest) {
                Some(path) => Ok(Self::Pipe(path)),
                None => Err(unsupported(
                    "not the address of a named pipe on this machine",
                )),
            },
            "unix" if system == System::Windows => {
                Err(unsupported("Unix sockets are not supported on Windows"))
            }
            "unix" if rest.starts_with('/') => Ok(Self::Socket(rest.into())),
            "unix" => Err(unsupported("a socket whose path is not absolute")),
            "tcp" => {
                let authority = rest.trim_end_matches('/');
                let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| {
                    !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit())
                });
                let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._:[]".contains(c);
                if authority.is_empty() || !authority.chars().all(is_plain) {
                    return Err(unsupported("a malformed address"));
                }
                let port = match &certificates {
                    _ if has_port => "",
                    Some(_) => ":2376",
                    None => ":2375",
                };
                let authority = format!("{authority}{port}");
                Ok(match certificates {
                    Some(certificates) => Self::Tls {
                        authority,
                        certificates,
                    },
                    None => Self::Tcp(authority),
                })
            }
            "ssh" => match SshDestination::parse(program, rest) {
                Some(destination) => Ok(Self::Ssh(destination)),
                None => Err(unsupported("a malformed address")),
            },
            _ => Err(unsupported("an address of this kind")),
        }
    }
}

/// Parses the part after `npipe://`, which Docker writes with slashes: `//./pipe/docker_engine`.
/// Returns `None` if it names no pipe on this machine.
fn parse_pipe(text: &str) -> Option<PathBuf> {
    let path = text.replace('/', r"\");
    let name = path.strip_prefix(LOCAL_PIPE_PREFIX)?;
    let is_pipe = !name.is_empty() && !name.split('\\').any(|part| part == "..");
    is_pipe.then(|| path.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCKER_PIPE: &str = r"\\.\pipe\docker_engine";

    fn parse_host(system: System, host: &str) -> Result<DaemonAddress, Error> {
        DaemonAddress::parse(system, "DOCKER_HOST", host, None, DialProgram::Docker)
    }

    #[test]
    fn named_pipes_are_the_sockets_of_windows() {
        for (host, path) in [
            ("npipe:////./pipe/docker_engine", DOCKER_PIPE),
            (r"npipe://\\.\pipe\docker_engine", DOCKER_PIPE),
            (
                "npipe:////./pipe/dockerDesktopLinuxEngine",
                r"\\.\pipe\dockerDesktopLinuxEngine",
            ),
        ] {
            let address = parse_host(System::Windows, host).unwrap();
            assert_eq!(address, DaemonAddress::Pipe(path.into()), "{host}");
            assert!(address.is_local());
        }
        let shown = DaemonAddress::Pipe(DOCKER_PIPE.into()).to_string();
        assert_eq!(shown, "npipe:////./pipe/docker_engine");
        for host in [
            "npipe:////server/pipe/docker_engine",
            "npipe:////./pipe/",
            "npipe:////./pipe/../x",
            "npipe:////./c:/x",
            "npipe://x",
            "unix:///var/run/docker.sock",
        ] {
            let error = parse_host(System::Windows, host).unwrap_err();
            assert!(error.to_string().contains(host), "{host}");
            assert!(!error.hint().unwrap().contains('|'), "{error:?}");
        }
        let tcp = parse_host(System::Windows, "tcp://127.0.0.1:2375").unwrap();
        assert_eq!(tcp, DaemonAddress::Tcp("127.0.0.1:2375".to_owned()));
    }

    #[test]
    fn unsupported_addresses_are_named_in_the_error() {
        for host in [
            "ssh://me:secret@host",
            "ssh://-oProxyCommand=x",
            "npipe://x",
            "tcp://",
            "tcp://a/b",
            "unix://x",
            "/var/run/docker.sock",
            "host 1",
        ] {
            let error = parse_host(System::Unix, host).unwrap_err();
            assert!(matches!(error, Error::Unsupported { .. }), "{host}");
            assert!(error.to_string().contains(host));
        }
    }
}
