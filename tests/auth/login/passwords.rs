//! Tests passwords: they are checked, stored where Docker stores them, read from there, and not
//! sent over plain HTTP without a warning.

use std::os::unix::fs::PermissionsExt;

use super::{LoginFixture, stderr_of, with_login};
use crate::support::fake::FakeServer;
use crate::support::prelude::*;
use crate::support::{HttpProxy, fake};
use serde_json::{Value, json};

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_login_is_checked_and_stored_for_docker_and_a_logout_removes_it() {
    if !programs_available(&["docker-registry", "skopeo"]) {
        return;
    }
    let fixture = LoginFixture::new();
    let registry = with_login(&fixture.scratch, "");
    let host = registry.address().to_string();
    let remote = format!("{host}/team/app:v1");

    let outcome = fixture.push(&[], &remote).failed(5, &[]);
    assert_eq!(
        stderr_of(&outcome, &host),
        "error: target: ADDRESS answered GET /v2/team/app/manifests/v1 with 401 Unauthorized: \
         UNAUTHORIZED: authentication required\n\
         hint: log in with imgsync login ADDRESS (docker login and podman login work too), or set \
         IMGSYNC_USERNAME and IMGSYNC_PASSWORD"
    );
    let login = ["login", &host, "--username", "alice", "--password-stdin"];
    let outcome = fixture.run_with_password(&login, "guess").failed(5, &[]);
    assert_eq!(
        stderr_of(&outcome, &host),
        "error: target: ADDRESS answered GET /v2/ with 401 Unauthorized: UNAUTHORIZED: \
         authentication required (as alice)\n\
         hint: the password or token is wrong or has expired: log in again with imgsync login \
         ADDRESS, or correct the password that you pass"
    );
    assert!(!fixture.config().exists(), "a wrong password was stored");

    fixture.run_with_password(&login, "secret").succeeded();
    assert_eq!(mode(&fixture.config()), 0o600);
    assert_eq!(mode(fixture.config().parent().unwrap()), 0o700);
    // YWxpY2U6c2VjcmV0 is alice:secret
    let auths = json!({"auths": {&host: {"auth": "YWxpY2U6c2VjcmV0"}}});
    assert_eq!(fixture.read_config(), auths);
    fixture.push(&[], &remote).succeeded();
    let config = fixture.config();
    let words = ["inspect", "--tls-verify=false", "--raw", "--authfile"];
    let found = must(
        Command::new("skopeo")
            .args(words)
            .arg(&config)
            .arg(format!("docker://{remote}")),
    );
    assert!(found.contains("layers"), "{found}");

    fixture.run(&["logout", &host]).succeeded();
    assert_eq!(fixture.read_config(), json!({"auths": {}}));
    fixture.push(&[], &remote).failed(5, &["imgsync login"]);
    let outcome = fixture.run(&["logout", &host]).succeeded();
    assert!(outcome.stdout.contains("not logged in"), "{outcome}");
}

#[test]
fn a_given_password_has_precedence_over_a_stored_one() {
    if !programs_available(&["docker-registry"]) {
        return;
    }
    let mut fixture = LoginFixture::new();
    let registry = with_login(&fixture.scratch, "");
    let host = registry.address().to_string();
    let remote = format!("{host}/app:v1");
    // Ym9iOmd1ZXNz is bob:guess
    fixture.write_config(&json!({"auths": {&host: {"auth": "Ym9iOmd1ZXNz"}}}));
    fixture.push(&[], &remote).failed(5, &["(as bob)"]);
    let archive = fixture.archive.to_str().unwrap();
    let arguments = [
        "push",
        "--username",
        "alice",
        "--password-stdin",
        archive,
        &remote,
    ];
    fixture.run_with_password(&arguments, "secret").succeeded();
    fixture
        .run_with_password(&arguments, "guess")
        .failed(5, &["(as alice)"]);
    fixture
        .run_with_password(&arguments, "")
        .failed(2, &["standard input is empty"]);
    let archive_on_stdin = [
        "push",
        "--username",
        "alice",
        "--password-stdin",
        "-",
        &remote,
    ];
    fixture
        .run_with_password(&archive_on_stdin, "secret")
        .failed(2, &["cannot be both"]);
    fixture.set("IMGSYNC_USERNAME", "alice");
    fixture.run(&["ls", &host]).failed(2, &["IMGSYNC_PASSWORD"]);
    fixture.set("IMGSYNC_PASSWORD", "secret");
    fixture.run(&["ls", &host]).succeeded();
}

#[test]
fn logins_of_docker_and_podman_are_found() {
    if !programs_available(&["docker-registry"]) {
        return;
    }
    let mut fixture = LoginFixture::new();
    let registry = with_login(&fixture.scratch, "");
    let host = registry.address().to_string();
    let remote = format!("{host}/team/app:v1");
    // YWxpY2U6c2VjcmV0 is alice:secret
    let entry = json!({"auth": "YWxpY2U6c2VjcmV0"});
    let of = |key: &str| json!({"auths": {key: entry.clone()}}).to_string();
    let below = |folder: &str| fixture.scratch.folder(folder).to_str().unwrap().to_owned();
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
        fixture.set(variable, value);
        fixture.push(&[], &remote).failed(5, &["imgsync login"]);
        let path = fixture.scratch.path(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, of(key)).unwrap();
        fixture.push(&[], &remote).succeeded();
        std::fs::remove_file(&path).unwrap();
    }
    let auth_file = fixture.scratch.path("auth.json");
    std::fs::write(&auth_file, of(&host)).unwrap();
    fixture.set("REGISTRY_AUTH_FILE", auth_file.to_str().unwrap());
    fixture.push(&[], &remote).succeeded();
}

#[test]
fn other_settings_in_dockers_configuration_stay() {
    let fixture = LoginFixture::new();
    let registry = FakeServer::start(|request| match request.authorization() {
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
    let real_file = fixture.home().join("real.json");
    std::fs::create_dir_all(fixture.config().parent().unwrap()).unwrap();
    std::fs::write(&real_file, before.to_string()).unwrap();
    std::fs::set_permissions(&real_file, PermissionsExt::from_mode(0o640)).unwrap();
    std::os::unix::fs::symlink(&real_file, fixture.config()).unwrap();

    let login = ["login", &host, "--username", "alice", "--password-stdin"];
    fixture.run_with_password(&login, "secret").succeeded();
    let keys = |value: &Value| {
        value
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect::<Vec<_>>()
    };
    let mut after = fixture.read_config();
    assert_eq!(keys(&after), keys(&before), "the order of the keys changed");
    let entry = after["auths"].as_object_mut().unwrap().remove(&host);
    assert_eq!(entry.unwrap()["auth"], "YWxpY2U6c2VjcmV0");
    assert_eq!(after, before);
    assert_eq!(mode(&real_file), 0o640);
    assert!(fixture.config().is_symlink());

    std::fs::write(&real_file, "{ damaged").unwrap();
    fixture
        .run_with_password(&login, "secret")
        .failed(5, &["damaged"]);
    assert_eq!(std::fs::read(&real_file).unwrap(), b"{ damaged");
}

#[test]
fn an_expired_token_is_reported_without_retries() {
    let fixture = LoginFixture::new();
    let tokens = FakeServer::start(|_| {
        fake::status(400)
            .body(r#"{"errors": [{"code": "UNAUTHORIZED", "message": "token expired"}]}"#)
    });
    let realm = format!("http://{}/token", tokens.address());
    let registry = FakeServer::start(move |_| {
        let challenge = format!("Bearer realm=\"{realm}\",service=\"registry\"");
        fake::status(401).header("WWW-Authenticate", challenge)
    });
    let host = registry.address();
    fixture.write_config(&json!({"auths": {&host: {"identitytoken": "old"}}}));
    let outcome = fixture.push(&[], &format!("{host}/app:v1")).failed(5, &[]);
    let text = stderr_of(&outcome, tokens.address()).replace(&host, "REGISTRY");
    assert_eq!(
        text,
        "error: target: ADDRESS answered a login for REGISTRY with 400 Bad Request: UNAUTHORIZED: \
         token expired\n\
         hint: the password or token is wrong or has expired: log in again with imgsync login \
         REGISTRY, or correct the password that you pass"
    );
}

#[test]
fn a_password_over_plain_http_causes_one_warning() {
    if !programs_available(&["docker-registry"]) {
        return;
    }
    let mut fixture = LoginFixture::new();
    let registry = with_login(&fixture.scratch, "");
    let proxy = HttpProxy::start(registry.address());
    fixture.set("HTTP_PROXY", proxy.url());
    // Some programs read only the lower-case name.
    fixture.set("http_proxy", proxy.url());
    fixture.set("IMGSYNC_USERNAME", "alice");
    fixture.set("IMGSYNC_PASSWORD", "secret");
    let outcome = fixture.push(&["--plain-http"], "registry.example.com:5000/app:v1");
    let outcome = outcome.succeeded();
    let warning = "warning: the password is sent to registry.example.com unencrypted, so others \
                   on the network can read it";
    assert_eq!(outcome.stderr.matches(warning).count(), 1, "{outcome}");
    let outcome = fixture.push(&[], &format!("{}/app:v1", registry.address()));
    assert!(!outcome.succeeded().stderr.contains("unencrypted"));
}

#[test]
fn a_password_is_sent_over_plain_http_to_a_listed_registry_with_a_warning() {
    if !programs_available(&["docker-registry"]) {
        return;
    }
    let mut fixture = LoginFixture::new();
    let registry = with_login(&fixture.scratch, "");
    let proxy = HttpProxy::start(registry.address());
    for name in ["HTTPS_PROXY", "HTTP_PROXY", "http_proxy"] {
        fixture.set(name, proxy.url());
    }
    fixture.set("IMGSYNC_USERNAME", "alice");
    fixture.set("IMGSYNC_PASSWORD", "secret");
    let host = "registry.example.com:5000";
    let folder = fixture.home().join(".config/docker");
    std::fs::create_dir_all(&folder).unwrap();
    let daemon_config = json!({"insecure-registries": [host]}).to_string();
    std::fs::write(folder.join("daemon.json"), daemon_config).unwrap();
    let remote = format!("{host}/app:v1");
    let outcome = fixture.push(&[], &remote).succeeded();
    for warning in [
        "plain HTTP, not encrypted",
        "the password is sent to registry.example.com unencrypted",
    ] {
        assert!(outcome.stderr.contains(warning), "{outcome}");
    }
    // A registry that is not listed gets no password.
    std::fs::write(folder.join("daemon.json"), "{}").unwrap();
    fixture.push(&[], &remote).failed(6, &["--plain-http"]);
}

/// Docker finds a login by its host, however the key in its configuration is written.
#[test]
fn a_stored_login_is_found_in_every_form_that_docker_reads() {
    if !programs_available(&["docker-registry"]) {
        return;
    }
    let mut fixture = LoginFixture::new();
    let registry = with_login(&fixture.scratch, "");
    let host = registry.address().to_string();
    let remote = format!("{host}/team/app:v1");
    // alice:secret
    let login = |key: &str| json!({"auths": {key: {"auth": "YWxpY2U6c2VjcmV0"}}});
    for key in [
        format!("http://{host}/v2/"),
        format!("{host}/"),
        format!("https://{host}/v2/team/app"),
    ] {
        fixture.write_config(&login(&key));
        fixture.push(&[], &remote).succeeded();
    }
    // PowerShell writes UTF-16, and editors write a byte order mark.
    let text = login(&host).to_string();
    let utf16: Vec<u8> = std::iter::once(0xfeff)
        .chain(text.encode_utf16())
        .flat_map(u16::to_le_bytes)
        .collect();
    for content in [utf16, [b"\xef\xbb\xbf", text.as_bytes()].concat()] {
        std::fs::write(fixture.config(), content).unwrap();
        fixture.push(&[], &remote).succeeded();
    }
    fixture.run(&["logout", &host]).succeeded();
    fixture.push(&[], &remote).failed(5, &["imgsync login"]);
    fixture.set("DOCKER_AUTH_CONFIG", text);
    fixture.push(&[], &remote).succeeded();
    fixture.set("DOCKER_AUTH_CONFIG", "{");
    fixture
        .push(&[], &remote)
        .failed(5, &["DOCKER_AUTH_CONFIG"]);
}
