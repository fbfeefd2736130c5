//! Tests the htpasswd file: it is read at the start and again when it changes.

use std::process::Output;

use super::{AuthServer, PASSWORD, htpasswd, set_password, wait_until};
use crate::support::prelude::*;

#[tokio::test]
async fn users_change_while_the_server_runs() {
    let auth = AuthServer::start("");
    let path = auth.htpasswd();
    let stdout = |output: &Output| String::from_utf8_lossy(&output.stdout).trim().to_owned();
    assert_eq!(auth.status_of("alice", PASSWORD).await, 200);
    assert_eq!(
        stdout(&set_password(&path, "carol", "x", "4")),
        "added user carol"
    );
    assert_eq!(
        stdout(&set_password(&path, "alice", "new", "4")),
        "changed user alice"
    );
    // The server reads a changed file without a signal.
    wait_until(async || auth.status_of("carol", "x").await == 200).await;
    assert_eq!(auth.status_of("alice", PASSWORD).await, 401);
    assert_eq!(auth.status_of("alice", "new").await, 200);
    assert_eq!(auth.status_of("bob", PASSWORD).await, 200);
    let deleted = htpasswd(&[path.to_str().unwrap(), "carol", "--delete"], "");
    assert_eq!(stdout(&deleted), "deleted user carol");
    auth.server.signal("HUP");
    wait_until(async || auth.status_of("carol", "x").await == 401).await;
    // If the file is missing, the server keeps the users that it has read before.
    std::fs::rename(&path, path.with_extension("away")).unwrap();
    auth.server.signal("HUP");
    auth.server.wait_for_log("cannot read the htpasswd file");
    assert_eq!(auth.status_of("bob", PASSWORD).await, 200);

    for (arguments, password, message) in [
        (vec!["a:b"], "x", "invalid user name"),
        (vec!["dora"], "", "empty"),
        (vec!["dora", "--cost", "40"], "x", "40"),
        (vec!["dora", "--delete"], "x", "no user"),
    ] {
        let arguments = [&[path.to_str().unwrap()], &*arguments].concat();
        let output = htpasswd(&arguments, password);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(
            !output.status.success() && error.contains(message),
            "{error}"
        );
    }
}

#[test]
fn a_new_file_that_only_its_owner_can_read_gets_a_note() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("htpasswd");
    let note = |output: &Output| String::from_utf8_lossy(&output.stderr).contains("chown USER");
    assert!(note(&set_password(&path, "alice", "x", "4")));
    assert!(!note(&set_password(&path, "bob", "x", "4")));
}

#[tokio::test]
async fn a_damaged_line_does_not_affect_other_users() {
    let auth = AuthServer::start("");
    let path = auth.htpasswd();
    let good = std::fs::read_to_string(&path).unwrap();
    let text = format!("nonsense\r\nmallory:hunter2\n\n# {good}{good}dora:$apr1$x$y\n");
    std::fs::write(&path, text).unwrap();
    auth.server.signal("HUP");
    auth.server.wait_for_log("dora");
    assert_eq!(auth.status_of("alice", PASSWORD).await, 200);
    for (user, password) in [("mallory", "hunter2"), ("dora", "x"), ("nonsense", "")] {
        assert_eq!(auth.status_of(user, password).await, 401, "{user}");
    }
    let log = auth.server.log();
    assert!(log.contains("line 1: expected USER:HASH"), "{log}");
    assert!(
        !log.contains("hunter2") && !log.contains("nonsense"),
        "{log}"
    );
}

#[test]
fn an_unreadable_htpasswd_file_prevents_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("none");
    for (path, hint) in [
        (missing.as_path(), "imgsync-server htpasswd"),
        (folder.path(), "Docker creates one"),
    ] {
        let output = crate::support::command(&folder.path().join("root"))
            .env("REGISTRY_AUTH_HTPASSWD_REALM", "r")
            .env("REGISTRY_AUTH_HTPASSWD_PATH", path)
            .stderr(Stdio::piped())
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(
            stderr.contains(&path.display().to_string()) && stderr.contains(hint),
            "{stderr}"
        );
    }
}
