//! Tests names, ports, proxies, HTTP and HTTPS, and certificates.

use super::{CHECKS, DoctorFixture};
use crate::support::authority::CertificateAndKey;
use crate::support::prelude::*;
use crate::support::{HttpProxy, Nginx};

const HOST: &str = "registry.example.com";

/// Starts a server behind nginx with a certificate of a new CA for this host.
struct SecureServer {
    nginx: Nginx,
    _server: Server,
    authority: CertificateAuthority,
}

impl SecureServer {
    fn start(scratch: &Scratch) -> Self {
        let authority = CertificateAuthority::new(&scratch.folder("ca"));
        let pair = authority.sign("server", &["DNS:registry.example.com", "DNS:localhost"]);
        Self::start_with(scratch, authority, &pair)
    }

    fn start_with(
        scratch: &Scratch,
        authority: CertificateAuthority,
        pair: &CertificateAndKey,
    ) -> Self {
        let server = Server::start(&scratch.folder("root"));
        let nginx = Nginx::start(&scratch.folder("nginx"), server.address(), pair);
        Self {
            nginx,
            _server: server,
            authority,
        }
    }

    fn ca(&self) -> String {
        self.authority.certificate().display().to_string()
    }
}

#[test]
fn a_name_without_an_address_and_a_closed_port() {
    let fixture = DoctorFixture::new();
    let diagnosis = fixture.examine(6, &["registry.invalid/app"]);
    diagnosis
        .has(
            "name",
            "fault",
            &["registry.invalid", "/etc/hosts", "  ADDRESS-OF-THE-SERVER"],
        )
        .all(&CHECKS[1..], "not checked");

    let closed_port = ReservedPort::new();
    let address = closed_port.address();
    let ports = format!("  ports: [\"{}:5000\"]", address.port());
    fixture
        .examine(6, &[&format!("{address}/app")])
        .has("name", "ok", &[])
        .has(
            "connection",
            "fault",
            &["Connection refused", &ports, "REGISTRY_HTTP_ADDR="],
        )
        .all(&CHECKS[2..], "not checked");
}

#[test]
fn a_proxy_resolves_the_name_and_one_that_fails_is_named() {
    if !programs_available(&["openssl", "nginx"]) {
        return;
    }
    let mut fixture = DoctorFixture::new();
    let secure = SecureServer::start(&fixture.scratch);
    let proxy = HttpProxy::start(secure.nginx.address());
    fixture.set(
        "HTTPS_PROXY",
        proxy.url().replace("http://", "http://user:secret@"),
    );
    let (remote, ca) = (format!("{HOST}/app"), secure.ca());
    let diagnosis = fixture.examine(0, &[&remote, "--ca-file", &ca]);
    diagnosis
        .has("name", "not checked", &["the proxy", HOST])
        .has(
            "connection",
            "ok",
            &["port 443", "through the proxy http://127.0.0.1:"],
        )
        .all(
            &["scheme", "certificate", "registry", "login", "pull", "push"],
            "ok",
        );
    assert!(
        !diagnosis.outcome.stdout.contains("secret"),
        "{}",
        diagnosis.outcome
    );
    assert!(
        proxy
            .request_lines()
            .iter()
            .all(|line| line.starts_with("CONNECT "))
    );

    let closed_port = ReservedPort::new();
    let address = closed_port.address().to_string();
    fixture.set("HTTPS_PROXY", format!("http://{address}"));
    fixture.examine(6, &[&remote]).has(
        "connection",
        "fault",
        &[&address, "NO_PROXY=registry.example.com"],
    );
}

#[test]
fn plain_http_where_https_was_expected() {
    let mut fixture = DoctorFixture::new();
    let server = Server::start(&fixture.scratch.folder("root"));
    // The proxy makes another host name possible: for loopback, plain HTTP is the default.
    let proxy = HttpProxy::start(server.address());
    fixture.set("HTTPS_PROXY", proxy.url());
    fixture.set("HTTP_PROXY", proxy.url());
    let remote = format!("{HOST}:5000/app");
    let line = "  \"insecure-registries\": [\"registry.example.com:5000\"]";
    fixture
        .examine(6, &[&remote])
        .has("scheme", "fault", &["plain HTTP", "--plain-http", line])
        .has("certificate", "not checked", &[])
        // The program behind it is told, too.
        .has("registry", "ok", &[])
        .has("login", "not checked", &[])
        .has("clock", "ok", &[]);
    fixture
        .examine(0, &[&remote, "--plain-http"])
        .has("scheme", "warning", &["not encrypted", line])
        .all(&["registry", "login", "pull", "push", "request-size"], "ok");

    let folder = fixture.scratch.path("home/.config/docker");
    std::fs::create_dir_all(&folder).unwrap();
    let config = serde_json::json!({"insecure-registries": [format!("{HOST}:5000")]});
    std::fs::write(folder.join("daemon.json"), config.to_string()).unwrap();
    fixture
        .examine(0, &[&remote])
        .has("scheme", "warning", &["insecure-registries"])
        .all(&["registry", "push"], "ok");
}

#[test]
fn https_where_plain_http_was_expected() {
    if !programs_available(&["openssl", "nginx"]) {
        return;
    }
    let fixture = DoctorFixture::new();
    let secure = SecureServer::start(&fixture.scratch);
    let remote = format!("localhost:{}/app", secure.nginx.address().port());
    let https = format!("https://{remote}");
    fixture
        .examine(6, &[&remote])
        .has(
            "scheme",
            "fault",
            &["speaks HTTPS", "https://localhost:", "--ca-file"],
        )
        .has("registry", "ok", &[])
        .has("push", "not checked", &[]);
    let ca = secure.ca();
    fixture
        .examine(0, &[&https, "--ca-file", &ca])
        .has("scheme", "ok", &["HTTPS"])
        .has("push", "ok", &[]);
}

#[test]
fn certificates_of_an_unknown_ca_and_for_another_name() {
    if !programs_available(&["openssl", "nginx"]) {
        return;
    }
    let fixture = DoctorFixture::new();
    let secure = SecureServer::start(&fixture.scratch);
    let port = secure.nginx.address().port();
    let remote = format!("https://localhost:{port}/app");
    let path = format!("  /etc/docker/certs.d/localhost:{port}/ca.crt");
    fixture
        .examine(6, &[&remote])
        .has(
            "certificate",
            "fault",
            &["imgsync tests: ca", &path, "fullchain.pem"],
        )
        .has("registry", "ok", &[])
        .has("login", "not checked", &[]);
    fixture
        .examine(0, &[&remote, "--insecure"])
        .has("certificate", "warning", &["not verified", &path])
        .has("push", "ok", &[]);
    let (ca, by_address) = (secure.ca(), format!("https://127.0.0.1:{port}/app"));
    fixture.examine(6, &[&by_address, "--ca-file", &ca]).has(
        "certificate",
        "fault",
        &[
            "registry.example.com, localhost",
            "  subjectAltName=IP:127.0.0.1",
        ],
    );
    // The CA in one of Docker's folders.
    let folder = fixture.scratch.path("home/.docker/certs.d");
    let folder = folder.join(format!("localhost:{port}"));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::copy(&ca, folder.join("ca.crt")).unwrap();
    fixture
        .examine(0, &[&remote])
        .has("certificate", "ok", &["imgsync tests: ca", "1 day left"]);
}

#[test]
fn a_certificate_that_has_expired_and_a_clock_that_is_wrong() {
    if !programs_available(&["openssl", "nginx", "faketime"]) {
        return;
    }
    let fixture = DoctorFixture::new();
    let secure = SecureServer::start(&fixture.scratch);
    let ca = secure.ca();
    let remote = format!("https://localhost:{}/app", secure.nginx.address().port());
    let examine = |offset: &str| {
        let doctor = fixture.command(&[&remote, "--ca-file", &ca, "--json"]);
        let mut command = Command::new("faketime");
        command
            .args(["-f", offset])
            .arg(doctor.get_program())
            .args(doctor.get_args());
        command.env_clear();
        let variables = doctor
            .get_envs()
            .filter_map(|(name, value)| Some((name, value?)));
        command.envs(variables).env("DONT_FAKE_MONOTONIC", "1");
        super::Diagnosis::parse(run(&mut command))
    };
    let diagnosis = examine("+12d");
    assert_eq!(diagnosis.outcome.code, Some(6), "{}", diagnosis.outcome);
    diagnosis
        .has(
            "certificate",
            "fault",
            &["expired 10 days ago", "certbot renew", "set-ntp"],
        )
        .has(
            "clock",
            "warning",
            &["288 h 0 min behind", "  timedatectl set-ntp true"],
        );
    examine("-3d").has("certificate", "fault", &["not valid before", "set-ntp"]);
    // One and a half of two days are over.
    examine("+36h").has(
        "certificate",
        "warning",
        &["less than a day left", "certbot renew"],
    );
}
