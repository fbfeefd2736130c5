//! Tests certificates of registries and of clients.

use super::{LoginFixture, stderr_of, with_tls};
use crate::support::HttpProxy;
use crate::support::prelude::*;
use serde_json::json;

#[test]
fn a_ca_is_trusted_from_a_file_or_from_dockers_folders() {
    if !programs_available(&["docker-registry", "openssl"]) {
        return;
    }
    let fixture = LoginFixture::new();
    let authority = CertificateAuthority::new(&fixture.scratch.folder("ca"));
    let other = CertificateAuthority::new(&fixture.scratch.folder("other"));
    let namesake = CertificateAuthority::new(&fixture.scratch.folder("new/ca"));
    let registry = with_tls(&fixture.scratch, &authority, "");
    let host = format!("localhost:{}", registry.address().port());
    let remote = format!("{host}/app:v1");

    // Another CA than the one that signed the certificate.
    let wrong = other.certificate();
    let options = ["--ca-file", wrong.to_str().unwrap()];
    let outcome = fixture.push(&options, &remote).failed(6, &[]);
    assert_eq!(
        stderr_of(&outcome, &host),
        "error: target: cannot reach ADDRESS: its certificate is signed by a CA that this machine \
         does not know\n\
         hint: pass the certificate of the CA with --ca-file, or save it as \
         /etc/docker/certs.d/ADDRESS/ca.crt; --insecure skips the verification"
    );
    let wrong = namesake.certificate();
    let options = ["--ca-file", wrong.to_str().unwrap()];
    fixture
        .push(&options, &remote)
        .failed(6, &["another CA than the one of that name"]);
    let address = registry.address().to_string();
    let right = authority.certificate();
    let right = right.to_str().unwrap();
    let by_address = format!("{address}/app:v1");
    fixture
        .push(&["--ca-file", right], &by_address)
        .failed(6, &["for another host"]);
    fixture
        .push(&["--ca-file", "/dev/null"], &remote)
        .failed(2, &["no certificate", "PEM"]);

    fixture.push(&["--ca-file", right], &remote).succeeded();
    let outcome = fixture.push(&["--insecure"], &by_address).succeeded();
    assert!(outcome.stderr.contains("warning: --insecure"), "{outcome}");
    for parent in [".docker/certs.d", ".config/containers/certs.d"] {
        let folder = fixture.home().join(parent).join(&host);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::copy(right, folder.join("ca.crt")).unwrap();
        fixture.push(&[], &remote).succeeded();
        std::fs::remove_dir_all(&folder).unwrap();
    }
    fixture.push(&[], &remote).failed(4, &["--ca-file"]);
}

/// Starts a registry with the self-signed certificate of Docker's manual, which is the certificate
/// of the CA and of the server.
fn with_self_signed(scratch: &Scratch, name: &str) -> (StockRegistry, PathBuf) {
    let folder = scratch.folder(name);
    let (certificate, key) = (folder.join("domain.crt"), folder.join("domain.key"));
    let mut openssl = Command::new("openssl");
    openssl.args([
        "req", "-newkey", "rsa:2048", "-nodes", "-x509", "-days", "2",
    ]);
    openssl.args(["-subj", "/CN=registry", "-addext"]);
    openssl.args(["subjectAltName=DNS:localhost,DNS:registry.example.com"]);
    openssl.arg("-keyout").arg(&key);
    must(openssl.arg("-out").arg(&certificate));
    let tls = format!(", tls: {{certificate: {certificate:?}, key: {key:?}}}");
    let root = scratch.folder(&format!("{name}-root"));
    let registry = StockRegistry::start_configured(&root, "", &tls, "");
    (registry, certificate)
}

#[test]
fn the_self_signed_certificate_of_dockers_manual_is_trusted_if_configured() {
    if !programs_available(&["docker-registry", "openssl"]) {
        return;
    }
    let fixture = LoginFixture::new();
    let (registry, certificate) = with_self_signed(&fixture.scratch, "self");
    let (_, another) = with_self_signed(&fixture.scratch, "another");
    let host = format!("localhost:{}", registry.address().port());
    let remote = format!("{host}/app:v1");
    let file = |path: &Path| path.to_str().unwrap().to_owned();
    let named = file(&certificate);
    fixture.push(&["--ca-file", &named], &remote).succeeded();
    let folder = fixture.home().join(".docker/certs.d").join(&host);
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::copy(&certificate, folder.join("ca.crt")).unwrap();
    fixture.push(&[], &remote).succeeded();
    std::fs::remove_dir_all(&folder).unwrap();

    let by_address = format!("{}/app:v1", registry.address());
    fixture
        .push(&["--ca-file", &named], &by_address)
        .failed(6, &["for another host"]);
    fixture
        .push(&["--ca-file", &file(&another)], &remote)
        .failed(6, &["certificate"]);
}

#[test]
fn a_client_certificate_is_found_in_dockers_folders() {
    if !programs_available(&["docker-registry", "openssl"]) {
        return;
    }
    let fixture = LoginFixture::new();
    let authority = CertificateAuthority::new(&fixture.scratch.folder("ca"));
    let clients = format!(", clientcas: [{:?}]", authority.certificate());
    let registry = with_tls(&fixture.scratch, &authority, &clients);
    let host = format!("localhost:{}", registry.address().port());
    let remote = format!("{host}/app:v1");
    let folder = fixture.home().join(".docker/certs.d").join(&host);
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::copy(authority.certificate(), folder.join("ca.crt")).unwrap();
    // With TLS 1.3, the alert comes after the handshake. The connection may be reset before it is
    // read.
    fixture.push(&[], &remote).failed(6, &[]);
    let pair = authority.sign("client", &[]);
    std::fs::copy(pair.certificate, folder.join("client.cert")).unwrap();
    fixture.push(&[], &remote).failed(6, &["client.key"]);
    std::fs::copy(pair.key, folder.join("client.key")).unwrap();
    fixture.push(&[], &remote).succeeded();
}

#[test]
fn insecure_registries_of_the_engine_accept_an_unknown_certificate() {
    if !programs_available(&["docker-registry", "openssl"]) {
        return;
    }
    let mut fixture = LoginFixture::new();
    let authority = CertificateAuthority::new(&fixture.scratch.folder("ca"));
    let registry = with_tls(&fixture.scratch, &authority, "");
    let proxy = HttpProxy::start(registry.address());
    fixture.set("HTTPS_PROXY", proxy.url());
    let remote = "registry.example.com/app:v1";
    fixture
        .push(&[], remote)
        .failed(6, &["a CA that this machine does not know"]);
    let folder = fixture.home().join(".config/docker");
    std::fs::create_dir_all(&folder).unwrap();
    let daemon_config = json!({"insecure-registries": ["registry.example.com"]}).to_string();
    std::fs::write(folder.join("daemon.json"), daemon_config).unwrap();
    fixture.push(&[], remote).succeeded();
}
