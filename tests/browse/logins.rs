//! Tests that `imgsync diff` sends the login of one registry to no other one.

use crate::support::fake::{FakeServer, Request, status};
use crate::support::prelude::*;

/// Starts a registry that asks for a login and accepts every one, and has no images.
fn start_private() -> FakeServer {
    FakeServer::start(|request: &Request| {
        if request.authorization().is_empty() {
            return status(401).header("WWW-Authenticate", r#"Basic realm="private""#);
        }
        status(404).body(r#"{"errors": [{"code": "MANIFEST_UNKNOWN", "message": "none"}]}"#)
    })
}

fn images(a: &FakeServer, b: &FakeServer) -> [String; 2] {
    [a, b].map(|registry| format!("{}/app:v1", registry.address()))
}

#[test]
fn variables_are_used_only_if_both_images_are_in_one_registry() {
    let scratch = Scratch::new();
    let imgsync = Imgsync::new(&scratch.folder("home"));
    let diff = |names: [String; 2]| {
        let mut command = imgsync.command();
        command.arg("diff").args(names);
        command.env("IMGSYNC_USERNAME", "alice");
        run(command.env("IMGSYNC_PASSWORD", "secret"))
    };
    let (a, b) = (start_private(), start_private());
    let refused = diff(images(&a, &b));
    let refused = refused.failed(5, &["IMGSYNC_USERNAME", "are not used", "imgsync login"]);
    assert!(!refused.stderr.contains("or set"), "{refused}");
    for registry in [&a, &b] {
        let requests = registry.requests();
        let sent = requests.iter().map(Request::authorization);
        assert_eq!(sent.collect::<String>(), "");
    }
    diff(images(&a, &a)).failed(4, &["there is no"]);
    let [old, _] = images(&a, &a);
    run(imgsync.command().args(["diff", &old, "v2"]))
        .failed(5, &["or set IMGSYNC_USERNAME and IMGSYNC_PASSWORD"]);
}

#[test]
fn options_for_one_registry_are_refused_for_two() {
    let scratch = Scratch::new();
    let imgsync = Imgsync::new(&scratch.folder("home"));
    let (a, b) = (start_private(), start_private());
    let login = ["--username", "alice", "--password-stdin"];
    for (options, hint) in [
        (&login[..], "imgsync login"),
        (&["--insecure"], "certs.d"),
        (&["--ca-file", "ca.pem"], "certs.d"),
        (&["--plain-http"], "http://"),
    ] {
        let mut command = imgsync.command();
        command.arg("diff").args(images(&a, &b)).args(options);
        run(&mut command).failed(2, &["two registries", hint]);
    }
    assert!(a.lines().is_empty() && b.lines().is_empty());
}
