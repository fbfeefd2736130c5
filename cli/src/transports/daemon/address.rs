//! Finds the address of the daemon from the environment.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::{fmt, io};

use super::ssh::DialProgram;
use super::{SshDestination, TlsFolder, context};
use crate::image::{EngineKind, Error};

const DOCKER_SOCKET: &str = "/var/run/docker.sock";
const PODMAN_SOCKET: &str = "/run/podman/podman.sock";

/// The address of a daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DaemonAddress {
    /// A Unix socket.
    Socket(PathBuf),
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
            Self::Socket(path) => path.to_string_lossy().contains("podman"),
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
        matches!(self, Self::Socket(_))
    }
}

impl fmt::Display for DaemonAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(authority) | Self::Tls { authority, .. } => write!(f, "tcp://{authority}"),
            Self::Ssh(destination) => destination.fmt(f),
        }
    }
}

impl DaemonAddress {
    /// Returns the address from the environment: `DOCKER_HOST`, podman's `CONTAINER_HOST`, or the
    /// Docker context of `DOCKER_CONTEXT` or of the Docker configuration. Otherwise the first
    /// socket that accepts a connection: Docker, rootless Docker, rootless podman, podman.
    ///
    /// # Errors
    /// Returns [`Error::Unsupported`] for an address that is not supported, and
    /// [`Error::DockerContext`].
    pub fn from_environment() -> Result<Self, Error> {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let text = |name| Some(variable(name)?.to_string_lossy().into_owned());
        let folder = |name| variable(name).map(PathBuf::from);
        let default_config = || Some(folder("HOME")?.join(".docker"));
        let environment = DaemonEnvironment {
            docker_host: text("DOCKER_HOST"),
            container_host: text("CONTAINER_HOST"),
            context: text("DOCKER_CONTEXT"),
            is_tls: variable("DOCKER_TLS").is_some(),
            is_verified: variable("DOCKER_TLS_VERIFY").is_some(),
            certificates: folder("DOCKER_CERT_PATH"),
            runtime: folder("XDG_RUNTIME_DIR"),
            docker_config: folder("DOCKER_CONFIG").or_else(default_config),
        };
        environment.choose(|path| UnixStream::connect(path).map(drop))
    }

    /// Parses an address. `certificates` are used for TLS over TCP, and `program` on the other
    /// machine for SSH.
    fn parse(
        origin: &str,
        host: &str,
        certificates: Option<TlsFolder>,
        program: DialProgram,
    ) -> Result<Self, Error> {
        let unsupported = |what: &str| {
            let instead = "run imgsync where the daemon is, or pipe: docker save IMAGE | \
                           imgsync push - REMOTE";
            Error::unsupported(format!("{origin}={host}: {what}"), instead)
        };
        let (scheme, rest) = match host.split_once("://") {
            Some(parts) => parts,
            // Docker's client treats an address without a scheme as a host, too.
            None if !host.contains('/') => ("tcp", host),
            None => return Err(unsupported("an address without unix://, tcp:// or ssh://")),
        };
        match scheme {
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

/// The settings that determine the address.
#[derive(Debug, Default, Clone)]
struct DaemonEnvironment {
    docker_host: Option<String>,
    container_host: Option<String>,
    context: Option<String>,
    /// Whether TLS is used, without verification if `is_verified` is not set, too.
    is_tls: bool,
    /// Whether TLS is used with verification.
    is_verified: bool,
    /// The folder with the certificates for TLS; `None` for the one of the Docker configuration.
    certificates: Option<PathBuf>,
    runtime: Option<PathBuf>,
    docker_config: Option<PathBuf>,
}

impl DaemonEnvironment {
    fn choose(&self, connect: impl Fn(&Path) -> io::Result<()>) -> Result<DaemonAddress, Error> {
        if let Some(host) = &self.docker_host {
            let certificates = self.certificates();
            return DaemonAddress::parse("DOCKER_HOST", host, certificates, DialProgram::Docker);
        }
        if let Some(host) = &self.container_host {
            return DaemonAddress::parse("CONTAINER_HOST", host, None, DialProgram::Podman);
        }
        if let Some((name, endpoint)) = self.endpoint()? {
            let origin = format!("the Docker context {name}");
            let (host, certificates) = (&endpoint.host, endpoint.certificates);
            return DaemonAddress::parse(&origin, host, certificates, DialProgram::Docker);
        }
        Ok(DaemonAddress::Socket(self.socket(connect)))
    }

    /// Returns the certificates that the environment names for `DOCKER_HOST`.
    fn certificates(&self) -> Option<TlsFolder> {
        let path = self.certificates.as_ref().or(self.docker_config.as_ref())?;
        (self.is_tls || self.is_verified).then(|| TlsFolder {
            path: path.clone(),
            is_verified: self.is_verified,
            requires_ca: true,
        })
    }

    fn endpoint(&self) -> Result<Option<(String, context::ContextEndpoint)>, Error> {
        let Some(folder) = &self.docker_config else {
            let Some(name) = self.context.clone() else {
                return Ok(None);
            };
            let reason = "neither DOCKER_CONFIG nor HOME is set".to_owned();
            return Err(Error::DockerContext { name, reason });
        };
        let name = match &self.context {
            Some(name) => name.clone(),
            None => match context::current(folder)? {
                Some(name) => name,
                None => return Ok(None),
            },
        };
        Ok(context::endpoint(folder, &name)?.map(|endpoint| (name, endpoint)))
    }

    /// Returns the first socket that accepts a connection, otherwise the first that exists, so that
    /// the error names the reason.
    fn socket(&self, connect: impl Fn(&Path) -> io::Result<()>) -> PathBuf {
        let of_user = |name| Some(self.runtime.as_ref()?.join(name));
        let all = [
            Some(PathBuf::from(DOCKER_SOCKET)),
            of_user("docker.sock"),
            of_user("podman/podman.sock"),
            Some(PathBuf::from(PODMAN_SOCKET)),
        ];
        let mut existing = None;
        for path in all.into_iter().flatten() {
            match connect(&path) {
                Ok(()) => return path,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(_) => existing = existing.or(Some(path)),
            }
        }
        existing.unwrap_or_else(|| DOCKER_SOCKET.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCKER: &str = "/run/user/1000/docker.sock";
    const PODMAN: &str = "/run/user/1000/podman/podman.sock";

    /// Returns the chosen address if the sockets `answer` accept a connection, and `refuse` exist.
    fn choose(host: Option<&str>, answer: &[&str], refuse: &[&str]) -> String {
        let environment = DaemonEnvironment {
            docker_host: host.map(str::to_owned),
            runtime: Some("/run/user/1000".into()),
            ..DaemonEnvironment::default()
        };
        let connect = |path: &Path| match path.to_str().unwrap() {
            path if answer.contains(&path) => Ok(()),
            path if refuse.contains(&path) => Err(io::ErrorKind::ConnectionRefused.into()),
            _ => Err(io::ErrorKind::NotFound.into()),
        };
        environment.choose(connect).unwrap().to_string()
    }

    #[test]
    fn docker_host_comes_first_then_the_socket_that_answers() {
        for (host, answer, refuse, expected) in [
            (
                None,
                &[DOCKER_SOCKET, DOCKER, PODMAN][..],
                &[][..],
                DOCKER_SOCKET,
            ),
            (None, &[DOCKER, PODMAN], &[], DOCKER),
            (None, &[PODMAN, PODMAN_SOCKET], &[], PODMAN),
            (None, &[PODMAN_SOCKET], &[DOCKER_SOCKET], PODMAN_SOCKET),
            (None, &[], &[PODMAN], PODMAN),
            (None, &[], &[DOCKER_SOCKET, PODMAN], DOCKER_SOCKET),
            (None, &[], &[], DOCKER_SOCKET),
            (Some("unix:///x.sock"), &[DOCKER_SOCKET], &[], "/x.sock"),
        ] {
            let chosen = choose(host, answer, refuse);
            assert_eq!(chosen, format!("unix://{expected}"));
        }
        for (host, expected) in [
            ("tcp://127.0.0.1:2375", "tcp://127.0.0.1:2375"),
            ("tcp://[::1]:2375/", "tcp://[::1]:2375"),
            ("tcp://host", "tcp://host:2375"),
            ("127.0.0.1:2376", "tcp://127.0.0.1:2376"),
            ("host", "tcp://host:2375"),
        ] {
            assert_eq!(choose(Some(host), &[DOCKER_SOCKET], &[]), expected);
        }
    }

    #[test]
    fn the_environment_goes_before_a_configuration() {
        let folder = tempfile::tempdir().unwrap();
        for (name, host) in [("lab", "tcp://lab:1"), ("far", "ssh://me@far")] {
            let meta = imgsync_oci::Digest::of(name.as_bytes());
            let meta = folder.path().join("contexts/meta").join(meta.hex());
            std::fs::create_dir_all(&meta).unwrap();
            let json = format!(r#"{{"Endpoints":{{"docker":{{"Host":"{host}"}}}}}}"#);
            std::fs::write(meta.join("meta.json"), json).unwrap();
        }
        let config = r#"{"currentContext":"lab"}"#;
        std::fs::write(folder.path().join("config.json"), config).unwrap();
        let current = DaemonEnvironment {
            docker_config: Some(folder.path().to_owned()),
            ..DaemonEnvironment::default()
        };
        let chosen = |environment: &DaemonEnvironment| {
            let address = environment.choose(|_| Ok(()));
            address.map_or_else(|error| error.to_string(), |address| address.to_string())
        };
        assert_eq!(chosen(&current), "tcp://lab:1");
        let mut environment = current.clone();
        environment.context = Some("default".to_owned());
        assert_eq!(chosen(&environment), format!("unix://{DOCKER_SOCKET}"));
        environment.context = Some("far".to_owned());
        assert_eq!(chosen(&environment), "ssh://me@far");
        environment.context = Some("nowhere".to_owned());
        assert!(chosen(&environment).contains("\"nowhere\""));
        environment.container_host = Some("unix:///podman.sock".to_owned());
        assert_eq!(chosen(&environment), "unix:///podman.sock");
        environment.docker_host = Some("unix:///docker.sock".to_owned());
        assert_eq!(chosen(&environment), "unix:///docker.sock");
    }

    #[test]
    fn behind_ssh_each_variable_uses_its_own_program() {
        let host = "ssh://me@far/run/engine.sock";
        let destination = |program| {
            let parsed = SshDestination::parse(program, "me@far/run/engine.sock");
            DaemonAddress::Ssh(parsed.unwrap())
        };
        let of_podman = DaemonEnvironment {
            container_host: Some(host.to_owned()),
            ..DaemonEnvironment::default()
        };
        let of_docker = DaemonEnvironment {
            docker_host: Some(host.to_owned()),
            ..of_podman.clone()
        };
        for (environment, program) in [
            (of_podman, DialProgram::Podman),
            (of_docker, DialProgram::Docker),
        ] {
            let chosen = environment.choose(|_| Ok(())).unwrap();
            assert_eq!(chosen, destination(program));
        }
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
            let error =
                DaemonAddress::parse("DOCKER_HOST", host, None, DialProgram::Docker).unwrap_err();
            assert!(matches!(error, Error::Unsupported { .. }), "{host}");
            assert!(error.to_string().contains(host));
        }
    }

    #[test]
    fn the_environment_chooses_tls_as_dockers_client_does() {
        let environment = |is_tls, is_verified, folder: Option<&str>| DaemonEnvironment {
            docker_host: Some("tcp://docker".to_owned()),
            is_tls,
            is_verified,
            certificates: folder.map(PathBuf::from),
            docker_config: Some("/home/me/.docker".into()),
            ..DaemonEnvironment::default()
        };
        let tls = |path: &str, is_verified| DaemonAddress::Tls {
            authority: "docker:2376".to_owned(),
            certificates: TlsFolder {
                path: path.into(),
                is_verified,
                requires_ca: true,
            },
        };
        let plain = DaemonAddress::Tcp("docker:2375".to_owned());
        for (environment, expected) in [
            (environment(false, false, Some("/certs")), plain),
            (
                environment(false, true, Some("/certs")),
                tls("/certs", true),
            ),
            (environment(true, true, None), tls("/home/me/.docker", true)),
            (
                environment(true, false, None),
                tls("/home/me/.docker", false),
            ),
        ] {
            assert_eq!(environment.choose(|_| Ok(())).unwrap(), expected);
        }
        // A socket needs no TLS.
        let mut socket = environment(true, true, None);
        socket.docker_host = Some("unix:///x.sock".to_owned());
        let chosen = socket.choose(|_| Ok(())).unwrap();
        assert_eq!(chosen, DaemonAddress::Socket("/x.sock".into()));
    }
}
