//! Tests that `insecure-registries` of the local engine count for every command, and that an engine
//! that does not answer stops none.

use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixListener;

use super::{LoginFixture, with_login, with_tls};
use crate::support::HttpProxy;
use crate::support::docker::DockerDaemon;
use crate::support::peers::report_missing;
use crate::support::prelude::*;

/// Makes a registry reachable under an address that is not a loopback one, where plain HTTP is not
/// the default. Returns `None` if the machine has no such address.
fn publish(registry: SocketAddr) -> Option<SocketAddr> {
    // Sends nothing: only chooses the address. 203.0.113.0/24 is for documentation (RFC 5737).
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.connect("203.0.113.1:9").ok()?;
    let listener = TcpListener::bind((socket.local_addr().ok()?.ip(), 0)).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let Ok(server) = TcpStream::connect(registry) else {
                continue;
            };
            let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut from, &mut to);
                let _ = to.shutdown(std::net::Shutdown::Write);
            });
            let (mut from, mut to) = (server, client);
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut from, &mut to);
                let _ = to.shutdown(std::net::Shutdown::Write);
            });
        }
    });
    Some(address)
}

#[test]
fn what_docker_does_over_plain_http_works_with_every_command() {
    if !programs_available(&["docker-registry", "docker", "dockerd"]) {
        return;
    }
    let mut fixture = LoginFixture::new();
    let registry = with_login(&fixture.scratch, "");
    let Some(address) = publish(registry.address()) else {
        report_missing("no address besides the loopback ones");
        return;
    };
    let flag = format!("--insecure-registry={address}");
    let Some(daemon) = DockerDaemon::start(&fixture.scratch.folder("docker"), &[&flag]) else {
        return;
    };
    let host = address.to_string();
    let remote = format!("{host}/app:v1");
    // Without an engine, the registry is like any other.
    fixture.set("DOCKER_HOST", "unix:///nowhere/docker.sock");
    let outcome = fixture.push(&[], &remote).failed(6, &["--plain-http"]);
    assert!(!outcome.stderr.contains("nowhere"), "{outcome}");
    fixture.set("DOCKER_HOST", daemon.address());

    let login = &["login", &*host, "--username", "alice", "--password-stdin"];
    let outcome = fixture.run_with_password(login, "secret").succeeded();
    assert!(
        outcome.stderr.contains("plain HTTP, not encrypted"),
        "{outcome}"
    );
    fixture.run(&["logout", &host]).succeeded();
    fixture.push(&[], &remote).failed(5, &["log in"]);

    // The login of the real Docker, and then the same push with both programs.
    let mut docker_login = daemon.command();
    docker_login.env("DOCKER_CONFIG", fixture.home().join(".docker"));
    docker_login.args([
        "login",
        &host,
        "--username",
        "alice",
        "--password",
        "secret",
    ]);
    must(&mut docker_login);
    let archive = fixture.archive.to_str().unwrap();
    daemon.docker(&["load", "--input", archive]);
    daemon.docker(&["tag", "app:v1", &remote]);
    let mut docker_push = daemon.command();
    docker_push.env("DOCKER_CONFIG", fixture.home().join(".docker"));
    must(docker_push.args(["push", &remote]));
    let outcome = fixture.run(&["push", &remote]).succeeded();
    for warning in ["plain HTTP, not encrypted", "the password is sent to"] {
        assert!(outcome.stderr.contains(warning), "{outcome}");
    }
    let layout = format!("oci:{}", fixture.scratch.path("layout").display());
    for arguments in [
        &["push", archive, &format!("{host}/other:v1")][..],
        &["ls", &format!("{host}/app")],
        &["inspect", &remote],
        &["mirror", &remote, &layout],
        &["mirror", &remote, &format!("{host}/copy:v1")],
        &["pull", &format!("{host}/copy:v1")],
        &["rm", "--digest", &remote],
    ] {
        let outcome = fixture.run(arguments).succeeded();
        let warning = "plain HTTP, not encrypted";
        assert!(outcome.stderr.contains(warning), "{outcome}");
    }
}

#[test]
fn an_engine_that_does_not_answer_stops_no_command() {
    if !programs_available(&["docker-registry", "openssl"]) {
        return;
    }
    let mut fixture = LoginFixture::new();
    let authority = CertificateAuthority::new(&fixture.scratch.folder("ca"));
    let registry = with_tls(&fixture.scratch, &authority, "");
    let proxy = HttpProxy::start(registry.address());
    fixture.set("HTTPS_PROXY", proxy.url());
    fixture.set("SSL_CERT_FILE", authority.certificate().to_str().unwrap());
    let socket = fixture.scratch.path("engine.sock");
    // Accepts connections, and never answers.
    let _engine = UnixListener::bind(&socket).unwrap();
    fixture.set("DOCKER_HOST", format!("unix://{}", socket.display()));
    let outcome = fixture.push(&[], "registry.example.com/app:v1").succeeded();
    let warnings = outcome.stderr.to_lowercase();
    for word in ["docker", "engine", "insecure"] {
        assert!(!warnings.contains(word), "{outcome}");
    }
}
