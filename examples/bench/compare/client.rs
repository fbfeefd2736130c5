//! The clients that are compared: imgsync, docker and skopeo.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::daemon::Daemon;
use super::measure::{Cost, measured};
use super::registry::workspace_program;
use super::relay::Relay;
use super::sample::{Archive, Sample};

/// A program that pushes, and the source that it reads the image from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Client {
    ImgsyncDaemon,
    ImgsyncArchive,
    Docker,
    SkopeoDaemon,
    SkopeoArchive,
}

impl Client {
    /// Returns the clients that can run on this machine.
    pub(super) fn present() -> Vec<Self> {
        let has = |program: &str| {
            let mut command = Command::new(program);
            command.arg("--version").stdout(Stdio::null());
            command.status().is_ok_and(|status| status.success())
        };
        let (docker, skopeo) = (has("docker") && has("dockerd"), has("skopeo"));
        let all = [
            Self::ImgsyncDaemon,
            Self::Docker,
            Self::SkopeoDaemon,
            Self::ImgsyncArchive,
            Self::SkopeoArchive,
        ];
        let can_run = |client: &Self| match client {
            Self::ImgsyncDaemon | Self::Docker => docker,
            Self::ImgsyncArchive => true,
            Self::SkopeoDaemon => docker && skopeo,
            Self::SkopeoArchive => skopeo,
        };
        all.into_iter().filter(can_run).collect()
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::ImgsyncDaemon => "imgsync push, from Docker",
            Self::ImgsyncArchive => "imgsync push, from an archive",
            Self::Docker => "docker push",
            Self::SkopeoDaemon => "skopeo copy, from Docker",
            Self::SkopeoArchive => "skopeo copy, from an archive",
        }
    }

    fn needs_daemon(self) -> bool {
        match self {
            Self::ImgsyncDaemon | Self::Docker | Self::SkopeoDaemon => true,
            Self::ImgsyncArchive | Self::SkopeoArchive => false,
        }
    }
}

/// The home folder of a client, and the Docker daemon that it reads from.
pub(super) struct Home {
    folder: tempfile::TempDir,
    daemon: Option<Daemon>,
}

impl Home {
    /// Creates an empty home folder. If the client reads from a daemon, also starts a new daemon and
    /// loads the images into it.
    pub(super) fn new(folder: &Path, sample: &Sample, client: Client) -> Self {
        let daemon = client.needs_daemon().then(|| {
            let daemon = Daemon::start().expect("dockerd starts (it needs root)");
            daemon.load(&sample.first.path);
            daemon.load(&sample.second.path);
            daemon
        });
        Self {
            folder: tempfile::tempdir_in(folder).expect("a folder"),
            daemon,
        }
    }

    /// Pushes through the relay, always to the same repository.
    pub(super) fn push(&self, client: Client, archive: &Archive, relay: &Relay) -> Cost {
        let tag = archive.name.rsplit(':').next().expect("a tag");
        let remote = format!("{}/bench:{tag}", relay.address());
        let path = archive.path.display();
        let daemon = self.daemon.as_ref();
        let host = daemon.map(Daemon::address).unwrap_or_default();
        let mut command = match client {
            Client::ImgsyncDaemon => {
                let mut command = Command::new(workspace_program("imgsync"));
                command.env("DOCKER_HOST", host);
                command.args(["push", &format!("docker-daemon:{}", archive.name), &remote]);
                command
            }
            Client::ImgsyncArchive => {
                let mut command = Command::new(workspace_program("imgsync"));
                command.args(["push", &format!("docker-archive:{path}"), &remote]);
                command
            }
            Client::Docker => {
                let daemon = daemon.expect("docker push has a daemon");
                let mut tag = daemon.docker();
                let status = tag.args(["tag", archive.name, &remote]).status();
                assert!(status.is_ok_and(|status| status.success()), "docker tag");
                let mut command = daemon.docker();
                command.args(["push", "--quiet", &remote]);
                command
            }
            Client::SkopeoDaemon => {
                let mut command = self.skopeo();
                command.args(["--src-daemon-host", &host]);
                command.arg(format!("docker-daemon:{}", archive.name));
                command.arg(format!("docker://{remote}"));
                command
            }
            Client::SkopeoArchive => {
                let mut command = self.skopeo();
                command.arg(format!("docker-archive:{path}"));
                command.arg(format!("docker://{remote}"));
                command
            }
        };
        command.env("HOME", self.folder.path());
        command.env("XDG_CACHE_HOME", self.subfolder("cache"));
        command.env("XDG_DATA_HOME", self.subfolder("data"));
        command.env("TMPDIR", self.subfolder("tmp"));
        measured(&mut command, relay, daemon.map(Daemon::id))
    }

    fn subfolder(&self, name: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::create_dir_all(&path).expect("a folder");
        path
    }

    /// Returns `skopeo copy` without its arguments. If root runs skopeo, it keeps its blob info cache in
    /// /var/lib/containers/cache. A mount namespace puts that folder into this home.
    fn skopeo(&self) -> Command {
        let script = "mkdir -p /var/lib/containers/cache && mount --bind \"$0\" \
                      /var/lib/containers/cache && exec \"$@\"";
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", script]);
        command.arg(self.subfolder("skopeo"));
        command.args(["skopeo", "--insecure-policy", "copy", "--quiet"]);
        command.arg("--dest-tls-verify=false");
        command
    }
}
