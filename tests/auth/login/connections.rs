//! Proxies, registries without TLS, and addresses where nobody listens.

use std::net::TcpListener;

use super::{Laptop, said, with_tls};
use crate::support::Proxy;
use crate::support::prelude::*;
use serde_json::json;

#[test]
fn the_environments_proxy_is_used_except_where_it_says_not() {
    if !present(&["docker-registry", "openssl"]) {
        return;
    }
    let mut laptop = Laptop::new();
    let authority = Authority::new(&laptop.scratch.folder("ca"));
    let registry = with_tls(&laptop.scratch, &authority, "");
    let proxy = Proxy::start(registry.address());
    laptop.set("HTTPS_PROXY", proxy.url());
    let ca = authority.certificate();
    let ca = ["--ca-file", ca.to_str().unwrap()];
    laptop.push(&ca, "registry.example.com/app:v1").succeeded();
    let seen = proxy.seen();
    assert!(!seen.is_empty());
    for line in &seen {
        assert!(
            line.starts_with("CONNECT registry.example.com:443 "),
            "{line}"
        );
    }
    // This very machine is never asked for through a proxy, and neither is what NO_PROXY names.
    let local = format!("localhost:{}/app:v1", registry.address().port());
    laptop.push(&ca, &local).succeeded();
    laptop.set("NO_PROXY", "example.com,.invalid");
    let outcome = laptop.push(&ca, "registry.invalid/app:v1").failed(6, &[]);
    assert_eq!(
        outcome.stderr.trim_end(),
        "error: target: cannot reach registry.invalid: no such host: failed to lookup address \
         information: Name or service not known\n \
         hint: check the spelling of the host, and the DNS settings of this machine"
    );
    assert_eq!(proxy.seen(), seen);
}

#[test]
fn a_registry_without_tls_is_found_out_and_dockers_own_wish_is_taken() {
    if !present(&["docker-registry"]) {
        return;
    }
    let mut laptop = Laptop::new();
    let registry = StockRegistry::start(&laptop.scratch.folder("root"));
    let proxy = Proxy::start(registry.address());
    for name in ["HTTPS_PROXY", "HTTP_PROXY", "http_proxy"] {
        laptop.set(name, proxy.url());
    }
    let host = "registry.example.com:5000";
    let remote = format!("{host}/app:v1");
    let outcome = laptop.push(&[], &remote).failed(6, &[]);
    assert_eq!(
        said(&outcome, host),
        "error: target: cannot reach ADDRESS: it does not speak TLS\n \
         hint: if ADDRESS uses plain HTTP, pass --plain-http; passwords and images are then sent \
         unencrypted"
    );
    laptop.push(&["--plain-http"], &remote).succeeded();

    let folder = laptop.home().join(".config/docker");
    std::fs::create_dir_all(&folder).unwrap();
    let wish = json!({"insecure-registries": [host]}).to_string();
    std::fs::write(folder.join("daemon.json"), wish).unwrap();
    let outcome = laptop.push(&[], &remote).succeeded();
    assert!(
        outcome.stderr.contains("insecure-registries names"),
        "{outcome}"
    );
    assert!(proxy.seen().iter().any(|line| line.starts_with("CONNECT ")));
}

#[test]
fn nobody_listening_is_the_network() {
    let laptop = Laptop::new();
    let gone: SocketAddr = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let outcome = laptop.run(&["ls", &gone.to_string()]).failed(6, &[]);
    assert_eq!(
        said(&outcome, gone),
        "cannot reach ADDRESS: tcp connect error: Connection refused (os error 111); trying again\n\
         error: target: cannot reach ADDRESS: tcp connect error: Connection refused (os error \
         111)\n \
         hint: check the address, and that the registry is running"
    );
}
