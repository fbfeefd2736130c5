//! Credential helpers.

use super::{LoginFixture, said, with_login};
use crate::support::prelude::*;
use serde_json::{Value, json};

const STORE: &str = r#"
case $1 in
get) cat kept 2>/dev/null || { echo 'credentials not found in native keychain'; exit 1; } ;;
store) cat >kept ;;
erase) rm kept ;;
esac"#;

#[test]
fn a_credential_helper_keeps_the_password_and_the_file_does_not() {
    if !programs_available(&["docker-registry"]) {
        return;
    }
    let mut fixture = LoginFixture::new();
    fixture.add_helper("files", STORE);
    fixture.write_config(&json!({"credsStore": "files"}));
    let registry = with_login(&fixture.scratch, "");
    let host = registry.address().to_string();
    let remote = format!("{host}/app:v1");
    fixture.push(&[], &remote).failed(5, &["imgsync login"]);
    let login = ["login", &host, "--username", "alice", "--password-stdin"];
    fixture.with_password(&login, "secret").succeeded();
    assert_eq!(
        fixture.read_config(),
        json!({"credsStore": "files", "auths": {&host: {}}})
    );
    let kept = std::fs::read(fixture.scratch.path("programs/kept")).unwrap();
    let kept: Value = serde_json::from_slice(&kept).unwrap();
    let expected = json!({"ServerURL": &host, "Username": "alice", "Secret": "secret"});
    assert_eq!(kept, expected);
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
    // It ends by being killed, and what it started with it.
    fixture.add_helper("sleepy", "exec sleep 1000");
    fixture.write_config(&json!({"credsStore": "sleepy"}));
    fixture.set("IMGSYNC_HELPER_TIMEOUT", "1");
    let outcome = fixture.push(&[], &remote).failed(5, &[]);
    assert_eq!(
        said(&outcome, &host),
        "error: the credential helper docker-credential-sleepy said nothing for 1 seconds and was \
         stopped\n \
         hint: run `echo HOST | docker-credential-sleepy get` to see what it waits for, or set \
         IMGSYNC_USERNAME and IMGSYNC_PASSWORD to go without it"
    );
    fixture.add_helper("broken", "echo no daemon >&2; exit 3");
    fixture.write_config(&json!({"credHelpers": {&host: "broken"}}));
    fixture
        .push(&[], &remote)
        .failed(5, &["docker-credential-broken", "no daemon"]);
    fixture.write_config(&json!({"credsStore": "missing"}));
    fixture
        .push(&[], &remote)
        .failed(5, &["docker-credential-missing", "does not start"]);

    // Where nobody asks for a login it is a remark.
    let open = StockRegistry::start(&fixture.scratch.folder("open"));
    let outcome = fixture.push(&[], &format!("{}/app:v1", open.address()));
    let outcome = outcome.succeeded();
    assert!(
        outcome.stderr.contains("docker-credential-missing"),
        "{outcome}"
    );
}
