//! Certificates of registries and of clients.

use super::{Laptop, said, with_tls};
use crate::support::Proxy;
use crate::support::prelude::*;
use serde_json::json;

#[test]
fn a_certificate_counts_by_a_file_or_by_dockers_folders_or_not_at_all() {
    if !present(&["docker-registry", "openssl"]) {
        return;
    }
    let laptop = Laptop::new();
    let authority = Authority::new(&laptop.scratch.folder("ca"));
    let other = Authority::new(&laptop.scratch.folder("other"));
    let namesake = Authority::new(&laptop.scratch.folder("new/ca"));
    let registry = with_tls(&laptop.scratch, &authority, "");
    let host = format!("localhost:{}", registry.address().port());
    let remote = format!("{host}/app:v1");

    // Another CA than the one that signed.
    let wrong = other.certificate();
    let options = ["--ca-file", wrong.to_str().unwrap()];
    let outcome = laptop.push(&options, &remote).failed(6, &[]);
    assert_eq!(
        said(&outcome, &host),
        "error: target: cannot reach ADDRESS: its certificate is signed by a CA that this machine \
         does not know\n \
         hint: pass the certificate of the CA with --ca-file, or save it as \
         /etc/docker/certs.d/ADDRESS/ca.crt; --insecure skips the verification"
    );
    let wrong = namesake.certificate();
    let options = ["--ca-file", wrong.to_str().unwrap()];
    laptop
        .push(&options, &remote)
        .failed(6, &["another CA than the one of that name"]);
    let address = registry.address().to_string();
    let right = authority.certificate();
    let right = right.to_str().unwrap();
    let by_address = format!("{address}/app:v1");
    laptop
        .push(&["--ca-file", right], &by_address)
        .failed(6, &["for another host"]);
    laptop
        .push(&["--ca-file", "/dev/null"], &remote)
        .failed(2, &["no certificate", "PEM"]);

    laptop.push(&["--ca-file", right], &remote).succeeded();
    let outcome = laptop.push(&["--insecure"], &by_address).succeeded();
    assert!(outcome.stderr.contains("warning: --insecure"), "{outcome}");
    for place in [".docker/certs.d", ".config/containers/certs.d"] {
        let folder = laptop.home().join(place).join(&host);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::copy(right, folder.join("ca.crt")).unwrap();
        laptop.push(&[], &remote).succeeded();
        std::fs::remove_dir_all(&folder).unwrap();
    }
    laptop.push(&[], &remote).failed(4, &["--ca-file"]);
}

/// A registry with the certificate of Docker's manual, which is a CA's and its own server's.
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
    let registry = StockRegistry::configured(&root, "", &tls, "");
    (registry, certificate)
}

#[test]
fn the_self_signed_certificate_of_dockers_manual_counts_where_it_is_the_one_that_was_named() {
    if !present(&["docker-registry", "openssl"]) {
        return;
    }
    let laptop = Laptop::new();
    let (registry, certificate) = with_self_signed(&laptop.scratch, "self");
    let (_, another) = with_self_signed(&laptop.scratch, "another");
    let host = format!("localhost:{}", registry.address().port());
    let remote = format!("{host}/app:v1");
    let file = |path: &Path| path.to_str().unwrap().to_owned();
    let named = file(&certificate);
    laptop.push(&["--ca-file", &named], &remote).succeeded();
    let folder = laptop.home().join(".docker/certs.d").join(&host);
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::copy(&certificate, folder.join("ca.crt")).unwrap();
    laptop.push(&[], &remote).succeeded();
    std::fs::remove_dir_all(&folder).unwrap();

    let by_address = format!("{}/app:v1", registry.address());
    laptop
        .push(&["--ca-file", &named], &by_address)
        .failed(6, &["for another host"]);
    laptop
        .push(&["--ca-file", &file(&another)], &remote)
        .failed(6, &["certificate"]);
}

#[test]
fn a_client_certificate_is_found_in_dockers_folders() {
    if !present(&["docker-registry", "openssl"]) {
        return;
    }
    let laptop = Laptop::new();
    let authority = Authority::new(&laptop.scratch.folder("ca"));
    let clients = format!(", clientcas: [{:?}]", authority.certificate());
    let registry = with_tls(&laptop.scratch, &authority, &clients);
    let host = format!("localhost:{}", registry.address().port());
    let remote = format!("{host}/app:v1");
    let folder = laptop.home().join(".docker/certs.d").join(&host);
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::copy(authority.certificate(), folder.join("ca.crt")).unwrap();
    // With TLS 1.3 the refusal comes after the handshake, and a reset may overtake its words.
    laptop.push(&[], &remote).failed(6, &[]);
    let pair = authority.sign("client", &[]);
    std::fs::copy(pair.certificate, folder.join("client.cert")).unwrap();
    laptop.push(&[], &remote).failed(6, &["client.key"]);
    std::fs::copy(pair.key, folder.join("client.key")).unwrap();
    laptop.push(&[], &remote).succeeded();
}

#[test]
fn the_engines_wish_covers_a_certificate_that_nobody_knows() {
    if !present(&["docker-registry", "openssl"]) {
        return;
    }
    let mut laptop = Laptop::new();
    let authority = Authority::new(&laptop.scratch.folder("ca"));
    let registry = with_tls(&laptop.scratch, &authority, "");
    let proxy = Proxy::start(registry.address());
    laptop.set("HTTPS_PROXY", proxy.url());
    let remote = "registry.example.com/app:v1";
    laptop
        .push(&[], remote)
        .failed(6, &["a CA that this machine does not know"]);
    let folder = laptop.home().join(".config/docker");
    std::fs::create_dir_all(&folder).unwrap();
    let wish = json!({"insecure-registries": ["registry.example.com"]}).to_string();
    std::fs::write(folder.join("daemon.json"), wish).unwrap();
    laptop.push(&[], remote).succeeded();
}
