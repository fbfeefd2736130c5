//! Docker logs in, pushes and pulls.

use super::{ALL_SETUPS, AnonymousPulls, ClientFixture, PASSWORD, REQUIRED_PROGRAMS, Transport};
use crate::support::peers::report_missing;
use crate::support::prelude::*;

/// Docker's folder for the CA of a registry. The folder is deleted when the value is dropped.
struct TrustedCa(PathBuf);

impl TrustedCa {
    /// Returns `None`, and reports it, if this user may not write to the folder.
    fn new(fixture: &ClientFixture) -> Option<Option<Self>> {
        let Some(ca) = &fixture.ca else {
            return Some(None);
        };
        let folder = Path::new("/etc/docker/certs.d").join(&fixture.name);
        let copied = std::fs::create_dir_all(&folder)
            .and_then(|()| std::fs::copy(ca.join("ca.crt"), folder.join("ca.crt")));
        match copied {
            Ok(_) => Some(Some(Self(folder))),
            Err(error) => {
                report_missing(&format!("the right to write {}: {error}", folder.display()));
                None
            }
        }
    }
}

impl Drop for TrustedCa {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
        // The parent folder stays if it has other folders.
        let _ = std::fs::remove_dir(self.0.parent().unwrap());
    }
}

/// A Docker client with its own logins.
struct DockerClient(PathBuf);

impl DockerClient {
    fn run(&self, arguments: &[&str]) -> Outcome {
        let mut command = Command::new("docker");
        command.env("DOCKER_CONFIG", &self.0).args(arguments);
        run(command.stdin(Stdio::null()))
    }

    fn login(&self, fixture: &ClientFixture, password: &str) -> Outcome {
        self.run(&["login", "-u", "alice", "-p", password, &fixture.name])
    }
}

#[test]
fn docker() {
    if !programs_available(&REQUIRED_PROGRAMS) || !programs_available(&["docker", "busybox"]) {
        return;
    }
    let _docker = serial::docker();
    let image = DockerImage::build(&unique("logins"), "v1");
    let id = image.id();
    for (transport, anonymous_pulls) in ALL_SETUPS {
        let fixture = ClientFixture::new(transport, anonymous_pulls);
        let Some(_trusted) = TrustedCa::new(&fixture) else {
            return;
        };
        let docker = DockerClient(fixture.scratch.folder("docker"));
        let private = image.tag(format!("{}/team/app:v1", fixture.name));
        let public = image.tag(format!("{}/public/app:v1", fixture.name));
        docker
            .run(&["push", private.reference()])
            .failed(1, &["auth"]);
        docker
            .run(&["push", public.reference()])
            .failed(1, &["auth"]);
        docker.login(&fixture, "wrong").failed(1, &["unauthorized"]);
        docker.login(&fixture, PASSWORD).succeeded();
        for image in [private, public] {
            docker.run(&["push", image.reference()]).succeeded();
            let name = image.reference().to_owned();
            image.remove();
            docker.run(&["pull", &name]).succeeded();
            assert_eq!(DockerImage::existing(name).id(), id, "{transport:?}");
        }
        docker.run(&["logout", &fixture.name]).succeeded();
        let pull = |name: &str| docker.run(&["pull", &format!("{}/{name}:v1", fixture.name)]);
        // Without a password, docker connects to loopback again without TLS, and reports that
        // error.
        let words: &[&str] = match (transport, anonymous_pulls) {
            (Transport::PlainHttp, _) | (Transport::Tls, AnonymousPulls::FromPublic) => &["auth"],
            (Transport::Tls, AnonymousPulls::Denied) => &["this port speaks TLS"],
            (Transport::Nginx, _) => &[],
        };
        pull("team/app").failed(1, words);
        match anonymous_pulls {
            AnonymousPulls::Denied => drop(pull("public/app").failed(1, words)),
            AnonymousPulls::FromPublic => {
                let pulled = DockerImage::existing(format!("{}/public/app:v1", fixture.name));
                pull("public/app").succeeded();
                assert_eq!(pulled.id(), id);
            }
        }
        fixture.assert_clean_log();
    }
}
