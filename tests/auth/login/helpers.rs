//! Tests credential helpers.

use super::{LoginFixture, stderr_of, with_login};
use crate::support::prelude::*;
use serde_json::{Value, json};

const FILE_HELPER: &str = r#"
case $1 in
get) cat kept 2>/dev/null || { echo 'credentials not found in native keychain'; exit 1; } ;;
store) cat >kept ;;
erase) rm kept ;;
esac"#;

#[test]
fn a_password_is_stored_in_the_credential_helper_and_not_in_the_file() {
    if !programs_available(&["docker-registry"]) {
        return;
    }
    let mut fixture = LoginFixture::new();
    fixture.add_helper("files", FILE_HELPER);
    fixture.write_config(&json!({"credsStore": "files"}));
    let registry = with_login(&fixture.scratch, "");
    let host = registry.address().to_string();
    let remote = format!("{host}/app:v1");
    fixture.push(&[], &remote).failed(5, &["imgsync login"]);
    let login = ["login", &host, "--username", "alice", "--password-stdin"];
    fixture.run_with_password(&login, "secret").succeeded();
    assert_eq!(
        fixture.read_config(),
        json!({"credsStore": "files", "auths": {&host: {}}})
    );
    let stored = std::fs::read(fixture.scratch.path("programs/kept")).unwrap();
    let stored: Value = serde_json::from_slice(&stored).unwrap();
    let expected = json!({"ServerURL": &host, "Username": "alice", "Secret": "secret"});
    assert_eq!(stored, expected);
    fixture.push(&[], &remote).succeeded();
    fixture.run(&["logout", &host]).succeeded();
    assert!(!fixture.scratch.path("programs/kept").exists());
    fixture.push(&[], &remote).failed(5, &["imgsync login"]);
}

#[test]
fn a_helper_that_hangs_fails_or_is_missing_is_an_error_where_a_login_is_needed() {
    if !programs_available(&["docker-registry"]) {
        return;
    }
    let mut fixture = LoginFixture::new();
    let registry = with_login(&fixture.scratch, "");
    let host = registry.address().to_string();
    let remote = format!("{host}/app:v1");
    // The helper is killed together with the processes that it started.
    fixture.add_helper("sleepy", "exec sleep 1000");
    fixture.write_config(&json!({"credsStore": "sleepy"}));
    fixture.set("IMGSYNC_HELPER_TIMEOUT", "1");
    let outcome = fixture.push(&[], &remote).failed(5, &[]);
    assert_eq!(
        stderr_of(&outcome, &host),
        "error: the credential helper docker-credential-sleepy did not answer within 1 s and was \
         stopped\n\
         hint: run `echo HOST | docker-credential-sleepy get` to see what it waits for, or set \
         IMGSYNC_USERNAME and IMGSYNC_PASSWORD to run without it"
    );
    fixture.add_helper("broken", "echo no daemon >&2; exit 3");
    fixture.write_config(&json!({"credHelpers": {&host: "broken"}}));
    fixture
        .push(&[], &remote)
        .failed(5, &["docker-credential-broken", "no daemon"]);
    fixture.write_config(&json!({"credsStore": "missing"}));
    fixture
        .push(&[], &remote)
        .failed(5, &["docker-credential-missing", "cannot start"]);

    // If no login is needed, it is a warning.
    let open_registry = StockRegistry::start(&fixture.scratch.folder("open"));
    let outcome = fixture.push(&[], &format!("{}/app:v1", open_registry.address()));
    let outcome = outcome.succeeded();
    assert!(
        outcome.stderr.contains("docker-credential-missing"),
        "{outcome}"
    );
}
