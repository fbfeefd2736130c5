//! Tests a storage folder that another user owns, for example because a container created it as root.

use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use crate::support::prelude::*;

/// The user `nobody`.
const NOBODY: u32 = 65534;

/// Returns the program as a user who may not write to a folder with the mode 555, or `None` if this
/// user cannot run it.
fn unprivileged(root: &Path) -> Option<Command> {
    let program = env!("CARGO_BIN_EXE_imgsync-server");
    if root.metadata().unwrap().uid() != 0 {
        return Some(Command::new(program));
    }
    let as_nobody = || {
        let mut command = Command::new("setpriv");
        let id = NOBODY.to_string();
        command.args(["--reuid", &id, "--regid", &id, "--clear-groups"]);
        command.arg(program);
        command
    };
    let probe = as_nobody().arg("--version").output().ok()?;
    if !probe.status.success() {
        // The build folder may be private to root.
        let _ = writeln!(std::io::stderr(), "skipped: {NOBODY} cannot run {program}");
        return None;
    }
    Some(as_nobody())
}

#[tokio::test]
async fn a_folder_of_another_user_is_reported_at_the_start_and_to_clients() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    let stock = root.join("docker/registry/v2");
    let repositories = stock.join("repositories");
    std::fs::create_dir_all(&repositories).unwrap();
    let open = std::fs::Permissions::from_mode(0o777);
    let above = [
        folder.path(),
        &root,
        &root.join("docker"),
        &root.join("docker/registry"),
        &stock,
    ];
    for path in above {
        std::fs::set_permissions(path, open.clone()).unwrap();
    }
    std::fs::set_permissions(&repositories, std::fs::Permissions::from_mode(0o555)).unwrap();
    let Some(mut command) = unprivileged(&root) else {
        return;
    };
    command
        .args(["serve", "--addr", "127.0.0.1:0", "--root"])
        .arg(&root);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let server = Server::start_process(command, &root);
    let log = server.wait_for_log("this user may not write to");
    assert!(log.contains(repositories.to_str().unwrap()), "{log}");
    // A folder of this user has only the wrong mode.
    if root.metadata().unwrap().uid() == 0 {
        let owner = format!("chown -R {NOBODY}:{NOBODY} FOLDER");
        for words in [
            &*owner,
            "docker run --user 0:0",
            "user: \"0:0\" in a compose file",
        ] {
            assert!(log.contains(words), "{words}: {log}");
        }
    }
    let url = server.url("/v2/a/blobs/uploads/");
    let response = client().post(url).send().await.unwrap();
    let status = StatusCode::INTERNAL_SERVER_ERROR;
    assert_error(response, status, "STORAGE_FORBIDDEN").await;
}

#[test]
fn a_login_file_that_only_root_can_read_is_explained() {
    let folder = tempfile::tempdir().unwrap();
    if folder.path().metadata().unwrap().uid() != 0 {
        return;
    }
    let open = std::fs::Permissions::from_mode(0o777);
    std::fs::set_permissions(folder.path(), open).unwrap();
    let logins = folder.path().join("htpasswd");
    std::fs::write(&logins, "").unwrap();
    std::fs::set_permissions(&logins, std::fs::Permissions::from_mode(0o600)).unwrap();
    let Some(mut command) = unprivileged(folder.path()) else {
        return;
    };
    command.args(["serve", "--addr", "127.0.0.1:0", "--root"]);
    command.arg(folder.path().join("root"));
    command.env("REGISTRY_AUTH_HTPASSWD_REALM", "test");
    let output = command
        .env("REGISTRY_AUTH_HTPASSWD_PATH", &logins)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let stderr = String::from_utf8(output.stderr).unwrap();
    for words in [
        "cannot read the htpasswd file",
        &format!("chown {NOBODY}:{NOBODY} FILE"),
    ] {
        assert!(stderr.contains(words), "{words}: {stderr}");
    }
}

/// Returns the owners of everything in a folder, and of the folder.
fn owners(folder: &Path) -> std::collections::BTreeSet<u32> {
    let mut found = std::collections::BTreeSet::from([folder.metadata().unwrap().uid()]);
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        found.insert(path.symlink_metadata().unwrap().uid());
        if path.is_dir() {
            found.extend(owners(&path));
        }
    }
    found
}

#[tokio::test]
async fn commands_of_root_leave_the_files_to_the_owner_of_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    if folder.path().metadata().unwrap().uid() != 0 {
        return;
    }
    let (root, backup) = (folder.path().join("root"), folder.path().join("backup"));
    let server = Server::start(&root);
    server.push_image("a", "v1", "one").await;
    drop(server);
    // The files that a stock registry of this user leaves.
    std::fs::remove_dir_all(root.join("imgsync")).unwrap();
    let chown = Command::new("chown")
        .args(["-R", "65534:65534"])
        .arg(&root)
        .status();
    assert!(chown.unwrap().success());
    let folder = backup.to_str().unwrap();
    for command in [&["backup", folder][..], &["check"], &["garbage-collect"]] {
        let mut program = Command::new(env!("CARGO_BIN_EXE_imgsync-server"));
        let done = program
            .args(command)
            .arg("--root")
            .arg(&root)
            .output()
            .unwrap();
        assert!(done.status.success(), "{command:?}: {done:?}");
    }
    for folder in [&root, &backup] {
        assert_eq!(owners(folder), [NOBODY].into(), "{folder:?}");
    }
}
