//! Where the daemon listens.

use std::fmt;
use std::path::PathBuf;

use super::super::Error;

const SOCKET: &str = "/var/run/docker.sock";

/// The daemon's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A Unix socket.
    Socket(PathBuf),
    /// `host:port`, spoken to without encryption.
    Tcp(String),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(authority) => write!(f, "tcp://{authority}"),
        }
    }
}

impl Address {
    /// The address that the environment says: `DOCKER_HOST`; else the system's socket; else, where
    /// that is absent, the rootless daemon's below `XDG_RUNTIME_DIR`.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a `DOCKER_HOST` of a kind that is not spoken here.
    pub fn from_environment() -> Result<Self, Error> {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let host = variable("DOCKER_HOST").map(|host| host.to_string_lossy().into_owned());
        let encrypted = variable("DOCKER_TLS_VERIFY").is_some();
        let runtime = variable("XDG_RUNTIME_DIR").map(PathBuf::from);
        Self::choose(host.as_deref(), encrypted, runtime, |path| path.exists())
    }

    fn choose(
        host: Option<&str>,
        encrypted: bool,
        runtime: Option<PathBuf>,
        exists: impl Fn(&PathBuf) -> bool,
    ) -> Result<Self, Error> {
        if let Some(host) = host {
            return Self::parse(host, encrypted);
        }
        let system = PathBuf::from(SOCKET);
        let rootless = runtime.map(|runtime| runtime.join("docker.sock"));
        Ok(Self::Socket(match rootless {
            Some(rootless) if !exists(&system) && exists(&rootless) => rootless,
            Some(_) | None => system,
        }))
    }

    fn parse(host: &str, encrypted: bool) -> Result<Self, Error> {
        let unsupported = |what: &str| Error::Unsupported {
            what: format!("DOCKER_HOST={host}: {what}"),
            instead: "run imgsync where the daemon is, or pipe: docker save <image> | \
                      imgsync push - <remote>"
                .to_owned(),
        };
        let Some((scheme, rest)) = host.split_once("://") else {
            return Err(unsupported("an address without unix:// or tcp://"));
        };
        match scheme {
            "unix" if rest.starts_with('/') => Ok(Self::Socket(rest.into())),
            "unix" => Err(unsupported("a socket whose path is not absolute")),
            "tcp" if encrypted => Err(unsupported("a daemon behind TLS")),
            "tcp" => {
                let authority = rest.trim_end_matches('/');
                let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| {
                    !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit())
                });
                let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._:[]".contains(c);
                if authority.is_empty() || !authority.chars().all(is_plain) {
                    return Err(unsupported("a malformed address"));
                }
                let port = if has_port { "" } else { ":2375" };
                Ok(Self::Tcp(format!("{authority}{port}")))
            }
            "ssh" => Err(unsupported("a daemon behind SSH")),
            _ => Err(unsupported("an address of this kind")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose(host: Option<&str>, there: &[&str]) -> Address {
        let exists = |path: &PathBuf| there.iter().any(|it| path.as_os_str() == *it);
        Address::choose(host, false, Some("/run/user/1000".into()), exists).unwrap()
    }

    #[test]
    fn docker_host_comes_first_and_the_rootless_socket_last() {
        let rootless = "/run/user/1000/docker.sock";
        for (host, there, expected) in [
            (None, &[SOCKET, rootless][..], "unix:///var/run/docker.sock"),
            (None, &[rootless], "unix:///run/user/1000/docker.sock"),
            (None, &[], "unix:///var/run/docker.sock"),
            (Some("unix:///x.sock"), &[SOCKET], "unix:///x.sock"),
            (
                Some("tcp://127.0.0.1:2375"),
                &[SOCKET],
                "tcp://127.0.0.1:2375",
            ),
            (Some("tcp://[::1]:2375/"), &[], "tcp://[::1]:2375"),
            (Some("tcp://host"), &[], "tcp://host:2375"),
        ] {
            assert_eq!(choose(host, there).to_string(), expected);
        }
    }

    #[test]
    fn what_is_not_spoken_is_said() {
        for host in [
            "ssh://me@host",
            "npipe://x",
            "tcp://",
            "tcp://a/b",
            "unix://x",
            "host:1",
        ] {
            let error = Address::parse(host, false).unwrap_err();
            assert!(matches!(error, Error::Unsupported { .. }), "{host}");
            assert!(error.to_string().contains(host));
        }
        assert!(Address::parse("tcp://host:2376", true).is_err());
    }
}
