//! Tests the log lines about logins, and that the log contains no secrets.

use super::{AuthServer, PASSWORD, challenge, set_password};
use crate::support::prelude::*;
use base64::Engine as _;

#[tokio::test]
async fn secrets_are_not_logged_and_a_challenge_is_not_an_error() {
    let auth = AuthServer::start("public/*");
    assert_eq!(auth.status_of("alice", PASSWORD).await, 200);
    assert_eq!(auth.status_of("alice", "a wrong secret").await, 401);
    let answer = auth
        .get("/v2/_imgsync/token")
        .basic_auth("alice", Some(PASSWORD));
    let answer: serde_json::Value = answer.send().await.unwrap().json().await.unwrap();
    let token = answer["token"].as_str().unwrap();
    let checked = auth.get("/v2/").bearer_auth(token).send().await.unwrap();
    assert_eq!(checked.status(), 200);
    assert_eq!(
        auth.get("/v2/a/tags/list").send().await.unwrap().status(),
        401
    );
    auth.server.wait_for_log("/v2/a/tags/list");
    let log = auth.server.log();
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
async fn unencrypted_passwords_and_untrusted_proxies_are_logged() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("htpasswd");
    assert!(set_password(&path, "alice", PASSWORD, "4").status.success());
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
        let realm = format!("realm=\"http://{}/v2/", server.address);
        assert!(challenge(&response.await.unwrap()).contains(&realm));
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

    let with_trusted_proxy = [
        &variables[..3],
        &[("REGISTRY_IMGSYNC_TRUSTEDPROXIES", "[127.0.0.1]")],
    ];
    let server = Server::start_with(&root, &with_trusted_proxy.concat());
    let request = client().get(server.url("/v2/"));
    let request = request.header("x-forwarded-proto", "https");
    let response = request.header("x-forwarded-for", "203.0.113.9").send();
    let realm = format!("realm=\"https://{}/v2/", server.address);
    assert!(challenge(&response.await.unwrap()).contains(&realm));
    server.wait_for_log("203.0.113.9");
}
