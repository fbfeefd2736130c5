//! Tests that an upstream cannot send this server to internal addresses.
//!
//! An upstream at a public address is played in two ways: by an outgoing proxy that answers in its
//! place, and at an address in 198.18.0.0/15, which only root can add to this machine.

use std::io::Write as _;
use std::net::TcpListener;
use std::process::Command;
use std::sync::{Arc, OnceLock};

use super::*;

const SECRET: &[u8] = b"{\"SecretAccessKey\":\"wJalrXUtnFEMI\"}";

/// A server that only this machine should be able to reach.
fn internal_server() -> FakeServer {
    FakeServer::start(|request| {
        if request.target.starts_with("/token") {
            fake::status(200).body(r#"{"token":"t"}"#)
        } else {
            fake::status(200).body(SECRET)
        }
    })
}

/// Returns the path of the secret below the upstream `up`.
fn secret_path() -> String {
    format!("/v2/up/app/blobs/{}", Digest::of(SECRET))
}

fn port(server: &FakeServer) -> String {
    server.address().rsplit(':').next().unwrap().to_owned()
}

fn redirect(target: &str) -> impl Fn(&Request) -> Reply + Send + Sync + use<> {
    let target = target.to_owned();
    move |_| fake::status(307).header("Location", target.clone())
}

/// Starts a cache whose requests to `upstream.example` go to `proxy`, and all others do not.
fn cache_behind(proxy: &FakeServer, upstream: &str, cache: &str) -> Running {
    Setup::new(&config("upstream.example", upstream, cache))
        .with("HTTP_PROXY", &format!("http://{}", proxy.address()))
        .with("NO_PROXY", "localhost,127.0.0.1")
        .serve()
}

async fn assert_refused(running: &Running, internal: &FakeServer, case: &str) {
    let (status, body) = get(running, &secret_path()).await;
    let body = String::from_utf8_lossy(&body);
    assert_eq!(status, 502, "{case}: {body}");
    assert!(
        body.contains("refers to an internal address"),
        "{case}: {body}"
    );
    assert_eq!(internal.lines(), Vec::<String>::new(), "{case}");
    running.wait_for_log("imgsync.cache.allowednetworks").await;
}

/// Asserts that the secret can be pulled through the cache.
async fn assert_gets_secret(running: &Running) {
    let (status, body) = get(running, &secret_path()).await;
    assert_eq!((status, &body[..]), (200, SECRET), "{}", running.log());
}

#[tokio::test]
async fn redirects_to_internal_addresses_are_refused() {
    let internal = internal_server();
    let port = port(&internal);
    for host in [
        "127.0.0.1",
        "localhost",
        "[::ffff:127.0.0.1]",
        "0.0.0.0",
        "2130706433",
    ] {
        let upstream = FakeServer::start(redirect(&format!("http://{host}:{port}/role")));
        let running = cache_behind(&upstream, "", "");
        assert_refused(&running, &internal, host).await;
    }
    for host in ["127.0.0.1", "localhost"] {
        let upstream = FakeServer::start(redirect(&format!("http://{host}:{port}/role")));
        let running = cache_behind(&upstream, "", ", allowednetworks: ['127.0.0.0/8', '::1']");
        assert_gets_secret(&running).await;
    }
}

#[tokio::test]
async fn a_proxy_resolves_the_names_behind_it() {
    let proxy = FakeServer::start(|request| {
        if request.target.starts_with("http://store.internal/") {
            fake::status(200).body(SECRET)
        } else {
            fake::status(307).header("Location", "http://store.internal/role")
        }
    });
    let running = cache_behind(&proxy, "", "");
    assert_gets_secret(&running).await;
}

#[tokio::test]
async fn logins_go_only_to_realms_at_allowed_addresses() {
    let internal = internal_server();
    let realm = format!("http://localhost:{}/token", port(&internal));
    let respond = move |request: &Request| match request.authorization() {
        "Bearer t" => fake::status(200).body(SECRET),
        _ => {
            let challenge = format!("Bearer realm=\"{realm}\",service=\"s\"");
            fake::status(401).header("WWW-Authenticate", challenge)
        }
    };
    let upstream = FakeServer::start(respond);
    let login = ", username: cache, password: swordfish";
    let running = cache_behind(&upstream, login, "");
    assert_refused(&running, &internal, "realm").await;

    let running = cache_behind(
        &upstream,
        login,
        ", allowednetworks: ['127.0.0.0/8', '::1']",
    );
    assert_gets_secret(&running).await;
    let basic = internal.requests()[0].authorization().to_owned();
    assert!(basic.starts_with("Basic "), "{basic}");
}

#[tokio::test]
async fn an_upstream_on_this_machine_may_use_its_own_port_only() {
    let internal = internal_server();
    let upstream = FakeServer::start(redirect(&format!("http://{}/role", internal.address())));
    let running = Setup::new(&config(&upstream.address(), "", "")).serve();
    assert_refused(&running, &internal, "another port").await;

    let own_port = Arc::new(OnceLock::new());
    let known_port = Arc::clone(&own_port);
    let upstream = FakeServer::start(move |request| match request.target.as_str() {
        "/role" => fake::status(200).body(SECRET),
        _ => {
            let target = format!("http://localhost:{}/role", known_port.get().unwrap());
            fake::status(307).header("Location", target)
        }
    });
    own_port.set(port(&upstream)).unwrap();
    let running = Setup::new(&config(&upstream.address(), "", "")).serve();
    assert_gets_secret(&running).await;
}

/// An address of the loopback interface, removed on drop.
struct LoopbackAddress(String);

impl LoopbackAddress {
    /// Adds an address in 198.18.0.0/15. Returns `None` if this user may not.
    fn add_stand_in() -> Option<Self> {
        let id = std::process::id();
        Self::add(format!("198.18.{}.{}", id / 256 % 256, id % 254 + 1))
    }

    /// Adds an address that counts as public. Returns `None` if this user may not.
    fn add_public() -> Option<Self> {
        Self::add(format!("203.0.113.{}", std::process::id() % 254 + 1))
    }

    fn add(address: String) -> Option<Self> {
        let address = Self(address);
        let is_added = address.change("add");
        if !is_added {
            let text = "SKIPPED: only root with the program `ip` can add an address";
            let _ = writeln!(std::io::stderr(), "{text}");
        }
        is_added.then_some(address)
    }

    fn change(&self, verb: &str) -> bool {
        let network = format!("{}/32", self.0);
        let mut ip = Command::new("ip");
        let changed = ip.args(["address", verb, &network, "dev", "lo"]).output();
        changed.is_ok_and(|output| output.status.success())
    }
}

impl Drop for LoopbackAddress {
    fn drop(&mut self) {
        self.change("delete");
    }
}

#[tokio::test]
async fn an_upstream_at_a_public_address_cannot_redirect_to_this_machine() {
    let Some(address) = LoopbackAddress::add_stand_in() else {
        return;
    };
    let internal = internal_server();
    let store = FakeServer::start_at(TcpListener::bind((address.0.as_str(), 0)).unwrap(), |_| {
        fake::status(200).body(SECRET)
    });
    for (target, is_allowed) in [
        (format!("http://{}/role", internal.address()), false),
        (format!("http://localhost:{}/role", port(&internal)), false),
        (format!("http://{}/role", store.address()), true),
    ] {
        let listener = TcpListener::bind((address.0.as_str(), 0)).unwrap();
        let upstream = FakeServer::start_at(listener, redirect(&target));
        let running = Setup::new(&config(&upstream.address(), "", "")).serve();
        if is_allowed {
            let (status, body) = get(&running, &secret_path()).await;
            assert_eq!(
                (status, body.as_slice()),
                (200, SECRET),
                "{}",
                running.log()
            );
        } else {
            assert_refused(&running, &internal, &target).await;
        }
    }
}

#[tokio::test]
async fn redirects_to_a_public_address_of_this_machine_are_refused() {
    let Some(address) = LoopbackAddress::add_public() else {
        return;
    };
    let listen = || TcpListener::bind((address.0.as_str(), 0)).unwrap();
    let internal = FakeServer::start_at(listen(), |_| fake::status(200).body(SECRET));
    let target = format!("http://{}/role", internal.address());
    let upstream = FakeServer::start(redirect(&target));
    let running = cache_behind(&upstream, "", "");
    assert_refused(&running, &internal, "own address").await;

    // The upstream is on this machine, too.
    let upstream = FakeServer::start_at(listen(), redirect(&target));
    let running = Setup::new(&config(&upstream.address(), "", "")).serve();
    let (status, body) = get(&running, &secret_path()).await;
    let log = running.log();
    assert_eq!((status, body.as_slice()), (200, SECRET), "{log}");
}
