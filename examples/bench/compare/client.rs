//! The programs that are compared, and the sources that they read images from.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::daemon::Daemon;
use super::measure::{Cost, measured};
use super::podman::PodmanEngine;
use super::registry::workspace_program;
use super::relay::Relay;
use super::sample::{Archive, Sample};

/// Where an image is read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// Docker's classic image store.
    Docker,
    Podman,
    /// An OCI layout with compressed layers.
    Layout,
    /// An archive of `docker save`, with uncompressed layers.
    Archive,
}

/// A program that pushes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Program {
    Imgsync,
    /// `imgsync push --no-verify`.
    ImgsyncUnverified,
    /// `docker push` or `podman push`.
    Engine,
    Skopeo,
}

/// A program with its source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PushClient {
    pub(super) program: Program,
    pub(super) source: Source,
}

impl Source {
    pub(super) const ALL: [Self; 4] = [Self::Docker, Self::Podman, Self::Layout, Self::Archive];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Docker => "Docker",
            Self::Podman => "podman",
            Self::Layout => "layout",
            Self::Archive => "archive",
        }
    }
}

impl PushClient {
    /// Returns the clients of a source that can run on this machine.
    pub(super) fn present(source: Source) -> Vec<Self> {
        let has = |program: &str| {
            let mut command = Command::new(program);
            command.arg("--version").stdout(Stdio::null());
            command.status().is_ok_and(|status| status.success())
        };
        let has_source = match source {
            Source::Docker => has("docker") && has("dockerd"),
            Source::Podman => has("podman"),
            Source::Layout | Source::Archive => true,
        };
        let programs: &[Program] = match source {
            Source::Docker | Source::Podman => {
                &[Program::Imgsync, Program::Engine, Program::Skopeo]
            }
            Source::Layout => &[
                Program::Imgsync,
                Program::ImgsyncUnverified,
                Program::Skopeo,
            ],
            Source::Archive => &[Program::Imgsync, Program::Skopeo],
        };
        let can_run =
            |program: &&Program| has_source && (**program != Program::Skopeo || has("skopeo"));
        let programs = programs.iter().filter(can_run);
        programs
            .map(|program| Self {
                program: *program,
                source,
            })
            .collect()
    }

    pub(super) fn name(self) -> String {
        let program = match self.program {
            Program::Imgsync => "imgsync push",
            Program::ImgsyncUnverified => "imgsync push --no-verify",
            Program::Engine => return format!("{} push", self.source.name().to_lowercase()),
            Program::Skopeo => "skopeo copy",
        };
        format!("{program}, from {}", self.source.name())
    }
}

/// The home folder of a client, and the engine that it reads from.
pub(super) struct Home {
    folder: tempfile::TempDir,
    docker: Option<Daemon>,
    podman: Option<PodmanEngine>,
}

impl Home {
    /// Creates an empty home folder. If the client reads from an engine, also starts a new one and
    /// loads the images into it.
    pub(super) fn new(folder: &Path, sample: &Sample, client: PushClient) -> Self {
        let archives = [&sample.first, &sample.second];
        let docker = (client.source == Source::Docker).then(|| {
            let daemon = Daemon::start().expect("dockerd starts (it needs root)");
            archives
                .iter()
                .for_each(|archive| daemon.load(&archive.path));
            daemon
        });
        let podman = (client.source == Source::Podman).then(|| {
            let mut engine = PodmanEngine::new();
            archives
                .iter()
                .for_each(|archive| engine.load(&archive.path));
            if client.program == Program::Imgsync {
                engine.start_service();
            }
            engine
        });
        Self {
            folder: tempfile::tempdir_in(folder).expect("a folder"),
            docker,
            podman,
        }
    }

    /// Pushes through the relay, always to the same repository.
    pub(super) fn push(&self, client: PushClient, archive: &Archive, relay: &Relay) -> Cost {
        let (name, tag) = archive.name.split_once(':').expect("a tag");
        let remote = format!("{}/bench:{tag}", relay.address());
        let mut command = match client.program {
            Program::Imgsync | Program::ImgsyncUnverified => {
                let mut command = Command::new(workspace_program("imgsync"));
                command.env("DOCKER_HOST", self.engine_address());
                command.args(["push", &imgsync_source(client.source, archive), &remote]);
                if client.program == Program::ImgsyncUnverified {
                    command.arg("--no-verify");
                }
                command
            }
            Program::Engine => self.engine_push(archive.name, &remote),
            Program::Skopeo => {
                let mut command = self.with_own_cache("skopeo");
                command.args([
                    "--insecure-policy",
                    "copy",
                    "--quiet",
                    "--dest-tls-verify=false",
                ]);
                match (client.source, &self.podman) {
                    (Source::Docker, _) => {
                        command.args(["--src-daemon-host", &self.engine_address()]);
                        command.arg(format!("docker-daemon:{}", archive.name));
                    }
                    (Source::Podman, Some(podman)) => {
                        command.arg(podman.skopeo_source(&format!("localhost/{name}:{tag}")));
                    }
                    _ => {
                        command.arg(imgsync_source(client.source, archive));
                    }
                }
                command.arg(format!("docker://{remote}"));
                command
            }
        };
        command.env("HOME", self.folder.path());
        command.env("XDG_CACHE_HOME", self.subfolder("cache"));
        command.env("XDG_DATA_HOME", self.subfolder("data"));
        command.env("TMPDIR", self.subfolder("tmp"));
        let docker = self.docker.as_ref().map(Daemon::id);
        let podman = self.podman.as_ref().and_then(PodmanEngine::service_id);
        measured(&mut command, relay, docker.or(podman))
    }

    /// Returns the address of the engine, empty without one.
    fn engine_address(&self) -> String {
        let docker = self.docker.as_ref().map(Daemon::address);
        let podman = self.podman.as_ref().map(PodmanEngine::address);
        docker.or(podman).unwrap_or_default()
    }

    /// Returns the engine's own push.
    fn engine_push(&self, image: &str, remote: &str) -> Command {
        if let Some(podman) = &self.podman {
            let mut command = self.with_own_cache("podman");
            command.args(podman.arguments());
            command.args(["push", "--quiet", "--tls-verify=false"]);
            command.args([&format!("localhost/{image}"), &format!("docker://{remote}")]);
            return command;
        }
        let daemon = self.docker.as_ref().expect("an engine");
        let mut tag = daemon.docker();
        let status = tag.args(["tag", image, remote]).status();
        assert!(status.is_ok_and(|status| status.success()), "docker tag");
        let mut command = daemon.docker();
        command.args(["push", "--quiet", remote]);
        command
    }

    fn subfolder(&self, name: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::create_dir_all(&path).expect("a folder");
        path
    }

    /// Returns a command of skopeo or podman without its arguments. If root runs them, they keep
    /// what they know about blobs in /var/lib/containers/cache. A mount namespace puts that folder
    /// into this home.
    fn with_own_cache(&self, program: &str) -> Command {
        let script = "mkdir -p /var/lib/containers/cache && mount --bind \"$0\" \
                      /var/lib/containers/cache && exec \"$@\"";
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", script]);
        command.arg(self.subfolder("blob-cache")).arg(program);
        command
    }
}

/// Returns an image as imgsync names it, and skopeo for what is not in an engine.
fn imgsync_source(source: Source, archive: &Archive) -> String {
    match source {
        Source::Docker => format!("docker-daemon:{}", archive.name),
        Source::Podman => format!("docker-daemon:localhost/{}", archive.name),
        Source::Layout => format!("oci:{}", archive.layout.display()),
        Source::Archive => format!("docker-archive:{}", archive.path.display()),
    }
}
