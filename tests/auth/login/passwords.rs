//! Passwords: checked, kept where Docker keeps them, found there, and not sent in the clear
//! unnoticed.

use std::os::unix::fs::PermissionsExt;

use super::{Laptop, said, with_login};
use crate::support::fake::Fake;
use crate::support::prelude::*;
use crate::support::{Proxy, fake};
use serde_json::{Value, json};

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_login_is_checked_then_kept_where_docker_looks_and_a_logout_undoes_it() {
    if !present(&["docker-registry", "skopeo"]) {
        return;
    }
    let laptop = Laptop::new();
    let registry = with_login(&laptop.scratch, "");
    let host = registry.address().to_string();
    let remote = format!("{host}/team/app:v1");

    let outcome = laptop.push(&[], &remote).failed(5, &[]);
    assert_eq!(
        said(&outcome, &host),
        "error: target: ADDRESS answered GET /v2/team/app/manifests/v1 with 401 Unauthorized: \
         UNAUTHORIZED: authentication required\n \
         hint: log in with imgsync login ADDRESS (docker login and podman login work too), or set \
         IMGSYNC_USERNAME and IMGSYNC_PASSWORD"
    );
    let login = ["login", &host, "--username", "alice", "--password-stdin"];
    let outcome = laptop.with_password(&login, "guess").failed(5, &[]);
    assert_eq!(
        said(&outcome, &host),
        "error: target: ADDRESS answered GET /v2/ with 401 Unauthorized: UNAUTHORIZED: \
         authentication required (as alice)\n \
         hint: the password or token is wrong or has expired: log in again with imgsync login \
         ADDRESS"
    );
    assert!(!laptop.config().exists(), "a wrong password is not kept");

    laptop.with_password(&login, "secret").succeeded();
    assert_eq!(mode(&laptop.config()), 0o600);
    // YWxpY2U6c2VjcmV0 is alice:secret
    let auths = json!({"auths": {&host: {"auth": "YWxpY2U6c2VjcmV0"}}});
    assert_eq!(laptop.read_config(), auths);
    laptop.push(&[], &remote).succeeded();
    let config = laptop.config();
    let words = ["inspect", "--tls-verify=false", "--raw", "--authfile"];
    let found = must(
        Command::new("skopeo")
            .args(words)
            .arg(&config)
            .arg(format!("docker://{remote}")),
    );
    assert!(found.contains("layers"), "{found}");

    laptop.run(&["logout", &host]).succeeded();
    assert_eq!(laptop.read_config(), json!({"auths": {}}));
    laptop.push(&[], &remote).failed(5, &["imgsync login"]);
    let outcome = laptop.run(&["logout", &host]).succeeded();
    assert!(outcome.stdout.contains("not logged in"), "{outcome}");
}

#[test]
fn a_password_that_is_typed_counts_more_than_one_that_is_kept() {
    if !present(&["docker-registry"]) {
        return;
    }
    let mut laptop = Laptop::new();
    let registry = with_login(&laptop.scratch, "");
    let host = registry.address().to_string();
    let remote = format!("{host}/app:v1");
    // Ym9iOmd1ZXNz is bob:guess
    laptop.write_config(&json!({"auths": {&host: {"auth": "Ym9iOmd1ZXNz"}}}));
    laptop.push(&[], &remote).failed(5, &["(as bob)"]);
    let archive = laptop.archive.to_str().unwrap();
    let typed = [
        "push",
        "--username",
        "alice",
        "--password-stdin",
        archive,
        &remote,
    ];
    laptop.with_password(&typed, "secret").succeeded();
    laptop
        .with_password(&typed, "guess")
        .failed(5, &["(as alice)"]);
    laptop
        .with_password(&typed, "")
        .failed(2, &["standard input is empty"]);
    let both = [
        "push",
        "--username",
        "alice",
        "--password-stdin",
        "-",
        &remote,
    ];
    laptop
        .with_password(&both, "secret")
        .failed(2, &["cannot be both"]);
    laptop.set("IMGSYNC_USERNAME", "alice");
    laptop.run(&["ls", &host]).failed(2, &["IMGSYNC_PASSWORD"]);
    laptop.set("IMGSYNC_PASSWORD", "secret");
    laptop.run(&["ls", &host]).succeeded();
}

#[test]
fn what_docker_and_podman_keep_is_found_where_they_keep_it() {
    if !present(&["docker-registry"]) {
        return;
    }
    let mut laptop = Laptop::new();
    let registry = with_login(&laptop.scratch, "");
    let host = registry.address().to_string();
    let remote = format!("{host}/team/app:v1");
    // YWxpY2U6c2VjcmV0 is alice:secret
    let entry = json!({"auth": "YWxpY2U6c2VjcmV0"});
    let of = |key: &str| json!({"auths": {key: entry.clone()}}).to_string();
    let below = |folder: &str| laptop.scratch.folder(folder).to_str().unwrap().to_owned();
    let (docker, session, config) = (below("docker"), below("session"), below("config"));
    let registries = format!("{host}/team");
    for (variable, value, file, key) in [
        ("DOCKER_CONFIG", &docker, "docker/config.json", &host),
        (
            "XDG_RUNTIME_DIR",
            &session,
            "session/containers/auth.json",
            &host,
        ),
        (
            "XDG_CONFIG_HOME",
            &config,
            "config/containers/auth.json",
            &registries,
        ),
    ] {
        laptop.set(variable, value);
        laptop.push(&[], &remote).failed(5, &["imgsync login"]);
        let path = laptop.scratch.path(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, of(key)).unwrap();
        laptop.push(&[], &remote).succeeded();
        std::fs::remove_file(&path).unwrap();
    }
    let elsewhere = laptop.scratch.path("auth.json");
    std::fs::write(&elsewhere, of(&host)).unwrap();
    laptop.set("REGISTRY_AUTH_FILE", elsewhere.to_str().unwrap());
    laptop.push(&[], &remote).succeeded();
}

#[test]
fn what_else_stands_in_dockers_configuration_stays() {
    let laptop = Laptop::new();
    let registry = Fake::start(|request| match request.authorization() {
        "Basic YWxpY2U6c2VjcmV0" => fake::status(200),
        _ => fake::status(401).header("WWW-Authenticate", "Basic realm=\"here\""),
    });
    let host = registry.address();
    let before = json!({
        "zeta": {"b": 1, "a": [1.5, null]},
        "auths": {"other": {"auth": "Ym9iOmd1ZXNz", "email": "x"}},
        "HttpHeaders": {"X-Meta": "y"},
        "currentContext": "default",
    });
    let target = laptop.home().join("real.json");
    std::fs::create_dir_all(laptop.config().parent().unwrap()).unwrap();
    std::fs::write(&target, before.to_string()).unwrap();
    std::fs::set_permissions(&target, PermissionsExt::from_mode(0o640)).unwrap();
    std::os::unix::fs::symlink(&target, laptop.config()).unwrap();

    let login = ["login", &host, "--username", "alice", "--password-stdin"];
    laptop.with_password(&login, "secret").succeeded();
    let keys = |value: &Value| {
        value
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect::<Vec<_>>()
    };
    let mut after = laptop.read_config();
    assert_eq!(keys(&after), keys(&before), "in their order");
    let entry = after["auths"].as_object_mut().unwrap().remove(&host);
    assert_eq!(entry.unwrap()["auth"], "YWxpY2U6c2VjcmV0");
    assert_eq!(after, before);
    assert_eq!(mode(&target), 0o640);
    assert!(laptop.config().is_symlink());

    std::fs::write(&target, "{ damaged").unwrap();
    laptop
        .with_password(&login, "secret")
        .failed(5, &["damaged"]);
    assert_eq!(std::fs::read(&target).unwrap(), b"{ damaged");
}

#[test]
fn a_token_that_no_renewal_helps_is_said_once_and_for_all() {
    let laptop = Laptop::new();
    let tokens = Fake::start(|_| {
        fake::status(400)
            .body(r#"{"errors": [{"code": "UNAUTHORIZED", "message": "token expired"}]}"#)
    });
    let realm = format!("http://{}/token", tokens.address());
    let registry = Fake::start(move |_| {
        let challenge = format!("Bearer realm=\"{realm}\",service=\"registry\"");
        fake::status(401).header("WWW-Authenticate", challenge)
    });
    let host = registry.address();
    laptop.write_config(&json!({"auths": {&host: {"identitytoken": "old"}}}));
    let outcome = laptop.push(&[], &format!("{host}/app:v1")).failed(5, &[]);
    let text = said(&outcome, tokens.address()).replace(&host, "REGISTRY");
    assert_eq!(
        text,
        "error: target: ADDRESS answered a login for REGISTRY with 400 Bad Request: UNAUTHORIZED: \
         token expired\n \
         hint: the password or token is wrong or has expired: log in again with imgsync login \
         REGISTRY"
    );
}

#[test]
fn a_password_in_the_clear_is_warned_about_once() {
    if !present(&["docker-registry"]) {
        return;
    }
    let mut laptop = Laptop::new();
    let registry = with_login(&laptop.scratch, "");
    let proxy = Proxy::start(registry.address());
    laptop.set("HTTP_PROXY", proxy.url());
    // As programs of the old web have it: only the small name counts to some.
    laptop.set("http_proxy", proxy.url());
    laptop.set("IMGSYNC_USERNAME", "alice");
    laptop.set("IMGSYNC_PASSWORD", "secret");
    let outcome = laptop.push(&["--plain-http"], "registry.example.com:5000/app:v1");
    let outcome = outcome.succeeded();
    let warning = "warning: the password goes to registry.example.com unencrypted, for everybody \
                   on the way to read";
    assert_eq!(outcome.stderr.matches(warning).count(), 1, "{outcome}");
    let outcome = laptop.push(&[], &format!("{}/app:v1", registry.address()));
    assert!(!outcome.succeeded().stderr.contains("unencrypted"));
}

#[test]
fn no_password_goes_in_clear_only_because_tls_led_nowhere() {
    if !present(&["docker-registry"]) {
        return;
    }
    let mut laptop = Laptop::new();
    let registry = with_login(&laptop.scratch, "");
    let proxy = Proxy::start(registry.address());
    for name in ["HTTPS_PROXY", "HTTP_PROXY", "http_proxy"] {
        laptop.set(name, proxy.url());
    }
    laptop.set("IMGSYNC_USERNAME", "alice");
    laptop.set("IMGSYNC_PASSWORD", "secret");
    let host = "registry.example.com:5000";
    let folder = laptop.home().join(".config/docker");
    std::fs::create_dir_all(&folder).unwrap();
    let wish = json!({"insecure-registries": [host]}).to_string();
    std::fs::write(folder.join("daemon.json"), wish).unwrap();
    let remote = format!("{host}/app:v1");
    let outcome = laptop.push(&[], &remote).failed(5, &["--plain-http"]);
    let warning = "the password goes to registry.example.com unencrypted";
    assert!(!outcome.stderr.contains(warning), "{outcome}");
    let outcome = laptop.push(&["--plain-http"], &remote).succeeded();
    assert!(outcome.stderr.contains(warning), "{outcome}");
}
