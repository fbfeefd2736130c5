//! The file of users: read at the start, and again when it changes.

use std::process::Output;

use super::{PASSWORD, Setup, eventually, htpasswd, set};
use crate::support::prelude::*;

#[tokio::test]
async fn users_come_and_go_while_the_server_runs() {
    let setup = Setup::start("");
    let path = setup.htpasswd();
    let said = |output: &Output| String::from_utf8_lossy(&output.stdout).trim().to_owned();
    assert_eq!(setup.status_of("alice", PASSWORD).await, 200);
    assert_eq!(said(&set(&path, "carol", "x", "4")), "added user carol");
    assert_eq!(said(&set(&path, "alice", "new", "4")), "changed user alice");
    // No signal: the file's change is enough.
    eventually(async || setup.status_of("carol", "x").await == 200).await;
    assert_eq!(setup.status_of("alice", PASSWORD).await, 401);
    assert_eq!(setup.status_of("alice", "new").await, 200);
    assert_eq!(setup.status_of("bob", PASSWORD).await, 200);
    let deleted = htpasswd(&[path.to_str().unwrap(), "carol", "--delete"], "");
    assert_eq!(said(&deleted), "deleted user carol");
    setup.server.signal("HUP");
    eventually(async || setup.status_of("carol", "x").await == 401).await;
    // A file that is gone shuts nobody out.
    std::fs::rename(&path, path.with_extension("away")).unwrap();
    setup.server.signal("HUP");
    setup.server.wait_for_log("cannot read the htpasswd file");
    assert_eq!(setup.status_of("bob", PASSWORD).await, 200);

    for (arguments, password, word) in [
        (vec!["a:b"], "x", "invalid user name"),
        (vec!["dora"], "", "empty"),
        (vec!["dora", "--cost", "40"], "x", "40"),
        (vec!["dora", "--delete"], "x", "no user"),
    ] {
        let arguments = [&[path.to_str().unwrap()], &*arguments].concat();
        let output = htpasswd(&arguments, password);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && error.contains(word), "{error}");
    }
}

#[tokio::test]
async fn a_damaged_line_shuts_out_nobody_else() {
    let setup = Setup::start("");
    let path = setup.htpasswd();
    let good = std::fs::read_to_string(&path).unwrap();
    let text = format!("nonsense\r\nmallory:hunter2\n\n# {good}{good}dora:$apr1$x$y\n");
    std::fs::write(&path, text).unwrap();
    setup.server.signal("HUP");
    setup.server.wait_for_log("dora");
    assert_eq!(setup.status_of("alice", PASSWORD).await, 200);
    for (user, password) in [("mallory", "hunter2"), ("dora", "x"), ("nonsense", "")] {
        assert_eq!(setup.status_of(user, password).await, 401, "{user}");
    }
    let log = setup.server.log();
    assert!(log.contains("line 1: expected USER:HASH"), "{log}");
    assert!(
        !log.contains("hunter2") && !log.contains("nonsense"),
        "{log}"
    );
}

#[test]
fn it_does_not_start_without_its_users() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("none");
    for (path, words) in [
        (missing.as_path(), "imgsync-server htpasswd"),
        (folder.path(), "Docker creates one"),
    ] {
        let output = crate::support::command(&folder.path().join("root"))
            .env("REGISTRY_AUTH_HTPASSWD_REALM", "r")
            .env("REGISTRY_AUTH_HTPASSWD_PATH", path)
            .stderr(Stdio::piped())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(
            said.contains(&path.display().to_string()) && said.contains(words),
            "{said}"
        );
    }
}
