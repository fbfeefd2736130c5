//! Finds the address of the daemon from the environment, otherwise the socket that answers.
//!
//! Start reading at [`DaemonAddress::from_environment`].

use std::io;
use std::path::{Path, PathBuf};

use super::ssh::DialProgram;
use super::{DaemonAddress, TlsFolder, context, local_socket};
use crate::disk::{self, System};
use crate::image::Error;

const DOCKER_SOCKET: &str = "/var/run/docker.sock";
const PODMAN_SOCKET: &str = "/run/podman/podman.sock";
/// The sockets of Docker Desktop on macOS and on Linux, of OrbStack and of Colima in the home folder.
const DESKTOP_SOCKETS: [&str; 4] = [
    ".docker/run/docker.sock",
    ".docker/desktop/docker.sock",
    ".orbstack/run/docker.sock",
    ".colima/default/docker.sock",
];
/// The named pipes of Docker and of podman's machine.
const DOCKER_PIPE: &str = r"\\.\pipe\docker_engine";
const PODMAN_PIPE: &str = r"\\.\pipe\podman-machine-default";

impl DaemonAddress {
    /// Returns the address from the environment: `DOCKER_HOST`, podman's `CONTAINER_HOST`, or the
    /// Docker context of `DOCKER_CONTEXT` or of the Docker configuration. Otherwise the first
    /// socket that accepts a connection: Docker, rootless Docker, Docker in a virtual machine,
    /// rootless podman, podman. On Windows, these are named pipes.
    ///
    /// # Errors
    /// Returns [`Error::Unsupported`] for an address that is not supported, and
    /// [`Error::DockerContext`].
    pub fn from_environment() -> Result<Self, Error> {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let text = |name| Some(variable(name)?.to_string_lossy().into_owned());
        let folder = |name| variable(name).map(PathBuf::from);
        let environment = DaemonEnvironment {
            system: System::CURRENT,
            docker_host: text("DOCKER_HOST"),
            container_host: text("CONTAINER_HOST"),
            context: text("DOCKER_CONTEXT"),
            is_tls: variable("DOCKER_TLS").is_some(),
            is_verified: variable("DOCKER_TLS_VERIFY").is_some(),
            certificates: folder("DOCKER_CERT_PATH"),
            runtime: folder("XDG_RUNTIME_DIR"),
            home: disk::home(),
            docker_config: disk::docker_config_folder(),
        };
        environment.choose(local_socket::probe)
    }
}

/// The settings that determine the address.
#[derive(Debug, Default, Clone)]
struct DaemonEnvironment {
    system: System,
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
    home: Option<PathBuf>,
    docker_config: Option<PathBuf>,
}

impl DaemonEnvironment {
    fn choose(&self, connect: impl Fn(&Path) -> io::Result<()>) -> Result<DaemonAddress, Error> {
        let parse = |origin: &str, host: &str, certificates, program| {
            DaemonAddress::parse(self.system, origin, host, certificates, program)
        };
        if let Some(host) = &self.docker_host {
            return parse(
                "DOCKER_HOST",
                host,
                self.certificates(),
                DialProgram::Docker,
            );
        }
        if let Some(host) = &self.container_host {
            return parse("CONTAINER_HOST", host, None, DialProgram::Podman);
        }
        if let Some((name, endpoint)) = self.endpoint()? {
            let origin = format!("the Docker context {name}");
            let (host, certificates) = (&endpoint.host, endpoint.certificates);
            return parse(&origin, host, certificates, DialProgram::Docker);
        }
        let path = self.socket(connect);
        Ok(match self.system {
            System::Windows => DaemonAddress::Pipe(path),
            System::Unix | System::MacOs => DaemonAddress::Socket(path),
        })
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
            let home = self.system.home_variable();
            let reason = format!("neither DOCKER_CONFIG nor {home} is set");
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
        let (first, others) = self.sockets();
        let mut existing = None;
        for path in std::iter::once(first.clone()).chain(others) {
            match connect(&path) {
                Ok(()) => return path,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(_) => existing = existing.or(Some(path)),
            }
        }
        existing.unwrap_or(first)
    }

    /// Returns the sockets or named pipes of the system in their order: the first one, and the others.
    fn sockets(&self) -> (PathBuf, Vec<PathBuf>) {
        if self.system == System::Windows {
            return (DOCKER_PIPE.into(), vec![PODMAN_PIPE.into()]);
        }
        let below = |folder: &Option<PathBuf>, name| Some(folder.as_ref()?.join(name));
        let others = [below(&self.runtime, "docker.sock")]
            .into_iter()
            .chain(DESKTOP_SOCKETS.map(|name| below(&self.home, name)))
            .chain([
                below(&self.runtime, "podman/podman.sock"),
                Some(PODMAN_SOCKET.into()),
            ]);
        (DOCKER_SOCKET.into(), others.flatten().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::EngineKind;
    use crate::transports::daemon::SshDestination;

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
    fn on_windows_the_first_pipe_that_answers_is_used() {
        let environment = DaemonEnvironment {
            system: System::Windows,
            runtime: Some("/run/user/1000".into()),
            home: Some("/home/me".into()),
            ..DaemonEnvironment::default()
        };
        for (answers, engine, expected) in [
            (
                &[DOCKER_PIPE, PODMAN_PIPE][..],
                EngineKind::Docker,
                "docker_engine",
            ),
            (&[PODMAN_PIPE], EngineKind::Podman, "podman-machine-default"),
            (&[], EngineKind::Docker, "docker_engine"),
        ] {
            let connect = |path: &Path| {
                let is_there = answers.contains(&path.to_str().unwrap());
                is_there.then_some(()).ok_or(io::ErrorKind::NotFound.into())
            };
            let address = environment.choose(connect).unwrap();
            assert_eq!(address.to_string(), format!("npipe:////./pipe/{expected}"));
            assert_eq!(address.engine(), engine);
        }
    }

    #[test]
    fn engines_in_virtual_machines_have_sockets_in_the_home_folder() {
        let home = Some(PathBuf::from("/Users/me"));
        let environment = DaemonEnvironment {
            system: System::MacOs,
            home,
            ..DaemonEnvironment::default()
        };
        for socket in DESKTOP_SOCKETS {
            let own = Path::new("/Users/me").join(socket);
            let connect = |path: &Path| {
                let is_there = path == own || path == Path::new(PODMAN_SOCKET);
                is_there.then_some(()).ok_or(io::ErrorKind::NotFound.into())
            };
            let address = environment.choose(connect).unwrap();
            assert_eq!(address, DaemonAddress::Socket(own.clone()));
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
        for (system, variable) in [(System::Unix, "HOME"), (System::Windows, "USERPROFILE")] {
            let homeless = DaemonEnvironment {
                system,
                context: Some("lab".to_owned()),
                ..DaemonEnvironment::default()
            };
            assert!(chosen(&homeless).contains(&format!("nor {variable} is set")));
        }
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
