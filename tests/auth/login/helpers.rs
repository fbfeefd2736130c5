//! Credential helpers.

use super::{Laptop, said, with_login};
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
    if !present(&["docker-registry"]) {
        return;
    }
    let mut laptop = Laptop::new();
    laptop.add_helper("files", STORE);
    laptop.write_config(&json!({"credsStore": "files"}));
    let registry = with_login(&laptop.scratch, "");
    let host = registry.address().to_string();
    let remote = format!("{host}/app:v1");
    laptop.push(&[], &remote).failed(5, &["imgsync login"]);
    let login = ["login", &host, "--username", "alice", "--password-stdin"];
    laptop.with_password(&login, "secret").succeeded();
    assert_eq!(
        laptop.read_config(),
        json!({"credsStore": "files", "auths": {&host: {}}})
    );
    let kept = std::fs::read(laptop.scratch.path("programs/kept")).unwrap();
    let kept: Value = serde_json::from_slice(&kept).unwrap();
    let expected = json!({"ServerURL": &host, "Username": "alice", "Secret": "secret"});
    assert_eq!(kept, expected);
    laptop.push(&[], &remote).succeeded();
    laptop.run(&["logout", &host]).succeeded();
    assert!(!laptop.scratch.path("programs/kept").exists());
    laptop.push(&[], &remote).failed(5, &["imgsync login"]);
}

#[test]
fn a_helper_that_hangs_fails_or_is_missing_is_an_error_where_a_login_is_needed() {
    if !present(&["docker-registry"]) {
        return;
    }
    let mut laptop = Laptop::new();
    let registry = with_login(&laptop.scratch, "");
    let host = registry.address().to_string();
    let remote = format!("{host}/app:v1");
    // It ends by being killed, and what it started with it.
    laptop.add_helper("sleepy", "exec sleep 1000");
    laptop.write_config(&json!({"credsStore": "sleepy"}));
    laptop.set("IMGSYNC_HELPER_TIMEOUT", "1");
    let outcome = laptop.push(&[], &remote).failed(5, &[]);
    assert_eq!(
        said(&outcome, &host),
        "error: the credential helper docker-credential-sleepy did not answer within 1 seconds and \
         was stopped\n \
         hint: run `echo HOST | docker-credential-sleepy get` to see what it waits for, or set \
         IMGSYNC_USERNAME and IMGSYNC_PASSWORD to run without it"
    );
    laptop.add_helper("broken", "echo no daemon >&2; exit 3");
    laptop.write_config(&json!({"credHelpers": {&host: "broken"}}));
    laptop
        .push(&[], &remote)
        .failed(5, &["docker-credential-broken", "no daemon"]);
    laptop.write_config(&json!({"credsStore": "missing"}));
    laptop
        .push(&[], &remote)
        .failed(5, &["docker-credential-missing", "cannot start"]);

    // Where nobody asks for a login it is a remark.
    let open = StockRegistry::start(&laptop.scratch.folder("open"));
    let outcome = laptop.push(&[], &format!("{}/app:v1", open.address()));
    let outcome = outcome.succeeded();
    assert!(
        outcome.stderr.contains("docker-credential-missing"),
        "{outcome}"
    );
}
