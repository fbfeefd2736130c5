//! Tests daemons behind TLS and behind SSH.

use std::collections::HashMap;

use super::podman::{PODMAN_IMAGE, PodmanService};
use super::{SourcesFixture, text};
use crate::support::SshServer;
use crate::support::content_service::ContentService;
use crate::support::docker::{DockerDaemon, write_certificates};
use crate::support::engine::{ContentAccess, FakeEngine, inspect_containerd, layout_blobs};
use crate::support::prelude::*;

fn image(seed: u64) -> Image {
    Image::new(vec![
        layer("a", noise(seed, 300_000)),
        layer("b", noise(seed + 1, 3_000)),
    ])
}

/// Pushes the image `app:v1` of the daemon that these variables name.
fn push(fixture: &SourcesFixture, variables: &[(&str, &str)], name: &str) -> Outcome {
    let mut command = fixture.imgsync.command();
    command
        .env_remove("DOCKER_HOST")
        .envs(variables.iter().copied());
    run(command.args(["push", "--verbose", "app:v1", &fixture.remote(name)]))
}

#[test]
fn an_image_is_pushed_from_a_daemon_behind_tls() {
    if !programs_available(&["dockerd", "openssl"]) {
        return;
    }
    let fixture = SourcesFixture::new();
    let scratch = &fixture.scratch;
    let Some((daemon, tls)) = DockerDaemon::start_with_tls(&scratch.folder("docker")) else {
        return;
    };
    let (host, certificates) = (tls.host, tls.certificates);
    let image = image(1);
    let archive = scratch.path("app.tar");
    archive::write_tar(&image.docker_archive("app:v1"), &archive);
    daemon.docker(&["load", "--input", text(&archive)]);

    let certificates = text(&certificates);
    let verified = [
        ("DOCKER_HOST", &*host),
        ("DOCKER_TLS_VERIFY", "1"),
        ("DOCKER_CERT_PATH", certificates),
    ];
    push(&fixture, &verified, "verified").succeeded();
    assert_eq!(fixture.check_image("verified").config, image.id());

    let config = scratch.folder("docker-config");
    let endpoint = format!(
        "host={host},ca={certificates}/ca.pem,cert={certificates}/cert.pem,key={certificates}/key.pem"
    );
    let mut docker = Command::new("docker");
    docker
        .env("DOCKER_CONFIG", &config)
        .env_remove("DOCKER_HOST");
    must(docker.args(["context", "create", "far", "--docker", &endpoint]));
    let context = [("DOCKER_CONFIG", text(&config)), ("DOCKER_CONTEXT", "far")];
    push(&fixture, &context, "context").succeeded();
    assert_eq!(fixture.check_image("context").config, image.id());

    // The daemon refuses a client without a certificate, and we one of another CA.
    let other = CertificateAuthority::new(&scratch.folder("other"));
    for (name, authority, reason) in [
        ("anonymous", &tls.authority, "certificate"),
        ("wrong", &other, "UnknownIssuer"),
    ] {
        let folder = scratch.folder(name);
        let client = (name == "wrong").then_some(&tls.client);
        write_certificates(&folder, &authority.certificate(), client);
        let mut variables = verified;
        variables[2].1 = text(&folder);
        push(&fixture, &variables, name).failed(3, &["cannot reach the Docker daemon", reason]);
    }
}

/// Starts an engine whose content store has an image.
fn start_engine(fixture: &SourcesFixture, image: &Image) -> (FakeEngine, ContentService) {
    let entries = image.oci_layout("v1");
    let service = ContentService::new(layout_blobs(&entries), HashMap::new());
    let access = ContentAccess::Upgrade(service.clone());
    let folder = fixture.scratch.folder("engine");
    let engine = FakeEngine::start(&folder, &inspect_containerd(image), &entries, access);
    (engine, service)
}

#[test]
fn the_content_store_is_read_over_tls() {
    let fixture = SourcesFixture::new();
    let image = image(11);
    let (engine, service) = start_engine(&fixture, &image);
    let authority = CertificateAuthority::new(&fixture.scratch.folder("authority"));
    let server = authority.sign("server", &["IP:127.0.0.1"]);
    let host = format!("tcp://{}", engine.listen_with_tls(&server));
    let certificates = fixture.scratch.folder("certificates");
    // Without verification, no certificate is needed.
    for variable in ["DOCKER_TLS_VERIFY", "DOCKER_TLS"] {
        let variables = [
            ("DOCKER_HOST", &*host),
            (variable, "1"),
            ("DOCKER_CERT_PATH", text(&certificates)),
        ];
        if variable == "DOCKER_TLS_VERIFY" {
            push(&fixture, &variables, "none").failed(3, &["ca.pem"]);
            write_certificates(&certificates, &authority.certificate(), None);
        }
        let name = variable.to_lowercase();
        push(&fixture, &variables, &name).succeeded();
        assert_eq!(fixture.check_image(&name).config, image.id());
        // Missing already after the second push.
        let _ = std::fs::remove_file(certificates.join("ca.pem"));
    }
    assert!(!service.layer_reads().is_empty());
    assert_eq!(engine.exports(), 0);
}

#[test]
fn the_content_store_is_read_through_ssh() {
    if !programs_available(&["docker", "sshd"]) {
        return;
    }
    let fixture = SourcesFixture::new();
    let Some(ssh) = SshServer::start(&fixture.scratch.folder("ssh")) else {
        return;
    };
    let image = image(21);
    let (engine, service) = start_engine(&fixture, &image);
    let host = format!("{}{}", ssh.address(), engine.socket().display());
    let path = ssh.path();
    let outcome = push(&fixture, &[("DOCKER_HOST", &host), ("PATH", &path)], "app");
    outcome.succeeded();
    assert_eq!(fixture.check_image("app").config, image.id());
    assert!(!service.layer_reads().is_empty());
    assert_eq!(engine.exports(), 0);

    // The message of the failure is the one of ssh, or of docker on the other side.
    for (host, reason) in [
        (format!("{}/nowhere.sock", ssh.address()), "ssh: "),
        ("ssh://127.0.0.1:1".to_owned(), "Connection refused"),
    ] {
        let outcome = push(&fixture, &[("DOCKER_HOST", &host), ("PATH", &path)], "none");
        outcome.failed(
            3,
            &["cannot reach the Docker daemon at ssh://127.0.0.1", reason],
        );
    }
}

#[test]
fn an_image_is_pushed_from_a_daemon_behind_ssh() {
    if !programs_available(&["docker", "sshd"]) {
        return;
    }
    let fixture = SourcesFixture::new();
    let Some(ssh) = SshServer::start(&fixture.scratch.folder("ssh")) else {
        return;
    };
    let built = DockerImage::build(&unique("ssh"), "v1");
    let host = match std::env::var("DOCKER_HOST") {
        Ok(socket) => format!("{}{}", ssh.address(), socket.trim_start_matches("unix://")),
        Err(_) => ssh.address(),
    };
    let mut command = fixture.imgsync.command();
    command.env("DOCKER_HOST", host).env("PATH", ssh.path());
    command.args(["push", built.reference(), &fixture.remote("app")]);
    run(&mut command).succeeded();
    assert_eq!(fixture.check_image("app").config, built.id());
}

#[test]
fn an_image_is_pushed_from_podman_behind_ssh() {
    if !programs_available(&["podman", "sshd"]) {
        return;
    }
    let fixture = SourcesFixture::new();
    let Some(ssh) = SshServer::start(&fixture.scratch.folder("ssh")) else {
        return;
    };
    let service = PodmanService::start(&fixture.scratch);
    let host = format!("{}{}", ssh.address(), service.socket().display());
    let mut command = fixture.imgsync.command();
    command.env("CONTAINER_HOST", host).env("PATH", ssh.path());
    command.env_remove("DOCKER_HOST");
    command.args(["push", PODMAN_IMAGE, &fixture.remote("app")]);
    run(&mut command).succeeded();
    let id = service.image_id(PODMAN_IMAGE);
    assert_eq!(fixture.check_image("app").config, id);
}
