//! What the log says about logins, and what it keeps secret.

use super::{PASSWORD, Setup, challenge, set};
use crate::support::prelude::*;
use base64::Engine as _;

#[tokio::test]
async fn nothing_secret_is_logged_and_a_challenge_is_no_error() {
    let setup = Setup::start("public/*");
    assert_eq!(setup.status_of("alice", PASSWORD).await, 200);
    assert_eq!(setup.status_of("alice", "a wrong secret").await, 401);
    let answer = setup
        .get("/v2/_imgsync/token")
        .basic_auth("alice", Some(PASSWORD));
    let answer: serde_json::Value = answer.send().await.unwrap().json().await.unwrap();
    let token = answer["token"].as_str().unwrap();
    let checked = setup.get("/v2/").bearer_auth(token).send().await.unwrap();
    assert_eq!(checked.status(), 200);
    assert_eq!(
        setup.get("/v2/a/tags/list").send().await.unwrap().status(),
        401
    );
    setup.server.wait_for_log("/v2/a/tags/list");
    let log = setup.server.log();
    let base64 = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    for secret in [
        PASSWORD,
        "a wrong secret",
        &base64(&format!("alice:{PASSWORD}")),
        &base64("alice:a wrong secret"),
        token,
        "$2y$",
    ] {
        assert!(!log.contains(secret), "{secret} is in {log}");
    }
    assert!(!log.contains("ERROR") && !log.contains("WARN"), "{log}");
}

#[tokio::test]
async fn an_operator_is_told_of_passwords_in_the_clear_and_of_proxies_that_are_not_believed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("htpasswd");
    assert!(set(&path, "alice", PASSWORD, "4").status.success());
    let variables = [
        ("REGISTRY_AUTH_HTPASSWD_REALM", "r"),
        ("REGISTRY_AUTH_HTPASSWD_PATH", path.to_str().unwrap()),
        ("REGISTRY_IMGSYNC_ANONYMOUS_PULL", "[public/*]"),
        ("REGISTRY_IMGSYNC_TRUSTEDPROXIES", "[10.0.0.0/8]"),
    ];
    let root = folder.path().join("root");
    let mut server = Server::start_at("0.0.0.0:0", &root, &variables);
    server.address = server.address.replace("0.0.0.0", "127.0.0.1");
    for _ in 0..2 {
        let request = client().get(server.url("/v2/"));
        let request = request.header("x-forwarded-proto", "https");
        let response = request.header("x-forwarded-for", "203.0.113.9").send();
        let own = format!("realm=\"http://{}/v2/", server.address);
        assert!(challenge(&response.await.unwrap()).contains(&own));
    }
    server.wait_for_log("/v2/");
    let log = server.log();
    assert_eq!(
        log.matches("passwords are sent to http://0.0.0.0:").count(),
        1,
        "{log}"
    );
    assert_eq!(log.matches("imgsync.trustedproxies").count(), 1, "{log}");
    assert!(!log.contains("203.0.113.9"), "{log}");
    drop(server);

    let trusting = [
        &variables[..3],
        &[("REGISTRY_IMGSYNC_TRUSTEDPROXIES", "[127.0.0.1]")],
    ];
    let server = Server::start_with(&root, &trusting.concat());
    let request = client().get(server.url("/v2/"));
    let request = request.header("x-forwarded-proto", "https");
    let response = request.header("x-forwarded-for", "203.0.113.9").send();
    let theirs = format!("realm=\"https://{}/v2/", server.address);
    assert!(challenge(&response.await.unwrap()).contains(&theirs));
    server.wait_for_log("203.0.113.9");
}
