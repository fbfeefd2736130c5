//! Tests proxies, registries without TLS, and addresses where no program listens.

use super::{LoginFixture, stderr_of, with_tls};
use crate::support::prelude::*;
use crate::support::{HttpProxy, SocksProxy};
use serde_json::json;

#[test]
fn the_proxy_is_used_except_for_no_proxy() {
    if !programs_available(&["docker-registry", "openssl"]) {
        return;
    }
    let mut fixture = LoginFixture::new();
    let authority = CertificateAuthority::new(&fixture.scratch.folder("ca"));
    let registry = with_tls(&fixture.scratch, &authority, "");
    let proxy = HttpProxy::start(registry.address());
    fixture.set("HTTPS_PROXY", proxy.url());
    let ca = authority.certificate();
    let ca = ["--ca-file", ca.to_str().unwrap()];
    fixture.push(&ca, "registry.example.com/app:v1").succeeded();
    let seen = proxy.request_lines();
    assert!(!seen.is_empty());
    for line in &seen {
        assert!(
            line.starts_with("CONNECT registry.example.com:443 "),
            "{line}"
        );
    }
    // Loopback and the hosts in NO_PROXY are never requested through the proxy.
    let local = format!("localhost:{}/app:v1", registry.address().port());
    fixture.push(&ca, &local).succeeded();
    fixture.set("NO_PROXY", "example.com,.invalid");
    let outcome = fixture.push(&ca, "registry.invalid/app:v1").failed(6, &[]);
    assert_eq!(
        outcome.stderr.trim_end(),
        "error: target: cannot reach registry.invalid: no such host: failed to lookup address \
         information: Name or service not known\n\
         hint: check the spelling of the host, and the DNS settings of this machine; imgsync doctor \
         registry.invalid examines this"
    );
    assert_eq!(proxy.request_lines(), seen);
}

#[test]
fn a_socks_proxy_is_used_and_a_value_that_is_no_proxy_is_reported() {
    let mut fixture = LoginFixture::new();
    let registry = Server::start(&fixture.scratch.folder("root"));
    let proxy = SocksProxy::start(registry.address());
    let remote = "registry.invalid:5000/app:v1";
    for scheme in ["socks5h", "socks5"] {
        fixture.set("ALL_PROXY", format!("{scheme}://{}", proxy.address()));
        fixture.push(&["--plain-http"], remote).succeeded();
    }
    let hosts = proxy.hosts();
    assert!(!hosts.is_empty() && hosts.iter().all(|host| host == "registry.invalid"));
    fixture.set("HTTP_PROXY", " http://proxy.example:3128");
    // Without a proxy, there is no such host.
    let outcome = fixture.push(&["--plain-http"], remote).failed(6, &[]);
    let warnings = outcome
        .stderr
        .matches("warning: HTTP_PROXY is ignored")
        .count();
    assert_eq!(warnings, 1, "{outcome}");
}

#[test]
fn a_registry_without_tls_needs_plain_http_or_insecure_registries() {
    if !programs_available(&["docker-registry"]) {
        return;
    }
    let mut fixture = LoginFixture::new();
    let registry = StockRegistry::start(&fixture.scratch.folder("root"));
    let proxy = HttpProxy::start(registry.address());
    for name in ["HTTPS_PROXY", "HTTP_PROXY", "http_proxy"] {
        fixture.set(name, proxy.url());
    }
    let host = "registry.example.com:5000";
    let remote = format!("{host}/app:v1");
    let outcome = fixture.push(&[], &remote).failed(6, &[]);
    assert_eq!(
        stderr_of(&outcome, host),
        "error: target: cannot reach ADDRESS: it does not speak TLS\n\
         hint: if ADDRESS uses plain HTTP, pass --plain-http; passwords and images are then sent \
         unencrypted"
    );
    fixture.push(&["--plain-http"], &remote).succeeded();
    let url = format!("http://{remote}");
    fixture.push(&[], &url).succeeded();
    fixture.run(&["inspect", &url]).succeeded();
    fixture
        .push(&["--insecure"], &url)
        .failed(2, &["http:// cannot be used with --insecure"]);
    // TLS was asked for, even at a loopback address.
    let secure = format!("https://{}/app:v1", registry.address());
    fixture
        .push(&[], &secure)
        .failed(6, &["does not speak TLS"]);

    let folder = fixture.home().join(".config/docker");
    std::fs::create_dir_all(&folder).unwrap();
    let daemon_config = json!({"insecure-registries": [host]}).to_string();
    std::fs::write(folder.join("daemon.json"), daemon_config).unwrap();
    let outcome = fixture.push(&[], &remote).succeeded();
    assert!(
        outcome.stderr.contains(
            "is listed in Docker's insecure-registries, and a TLS connection cannot be opened"
        ),
        "{outcome}"
    );
    assert!(
        proxy
            .request_lines()
            .iter()
            .any(|line| line.starts_with("CONNECT "))
    );
}

#[test]
fn a_refused_connection_is_a_network_error() {
    let fixture = LoginFixture::new();
    let closed_port = ReservedPort::new();
    let address = closed_port.address();
    let outcome = fixture.run(&["ls", &address.to_string()]).failed(6, &[]);
    assert_eq!(
        stderr_of(&outcome, address),
        "cannot reach ADDRESS: tcp connect error: Connection refused (os error 111); trying again\n\
         error: target: cannot reach ADDRESS: tcp connect error: Connection refused (os error \
         111)\n\
         hint: check the address, and that the registry is running"
    );
}
