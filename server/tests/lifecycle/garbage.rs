//! Tests of garbage collection and of the trash, through the programs.

use crate::support::prelude::*;
use crate::support::small_disk::SmallDisk;

/// Runs a command on a storage folder, and returns its output and its exit code.
pub(super) fn run(
    root: &Path,
    arguments: &[&str],
    variables: &[(&str, &str)],
) -> (String, String, i32) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_imgsync-server"));
    command.args(arguments).arg("--root").arg(root);
    let output = command.envs(variables.iter().copied()).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let code = output.status.code().unwrap();
    (text(output.stdout), text(output.stderr), code)
}

async fn has_blob(server: &Server, repository: &str, digest: &Digest) -> bool {
    let path = format!("/v2/{repository}/blobs/{digest}");
    server.get(&path).await.status() == StatusCode::OK
}

async fn pulls(server: &Server, repository: &str, reference: &str) -> bool {
    let response = server
        .get(&format!("/v2/{repository}/manifests/{reference}"))
        .await;
    if response.status() != StatusCode::OK {
        return false;
    }
    let manifest: serde_json::Value = response.json().await.unwrap();
    for blob in [&manifest["config"], &manifest["layers"][0]] {
        let digest = blob["digest"].as_str().unwrap().parse().unwrap();
        assert!(has_blob(server, repository, &digest).await, "{digest}");
    }
    true
}

async fn delete(server: &Server, path: &str) {
    let deleted = client().delete(server.url(path)).send().await.unwrap();
    assert_eq!(deleted.status(), StatusCode::ACCEPTED, "{path}");
}

const NO_GRACE: (&str, &str) = ("REGISTRY_IMGSYNC_GC_GRACE", "0s");

#[tokio::test]
async fn a_running_server_collects_by_itself() {
    let root = tempfile::tempdir().unwrap();
    let mut server = Server::start(root.path());
    server.push_image("a", "v1", "one").await;
    let garbage = server.push_blob("a", b"garbage").await;
    server.terminate();
    server.wait();
    let interval = ("REGISTRY_IMGSYNC_GC_INTERVAL", "50ms");
    let server = Server::start_with(root.path(), &[NO_GRACE, interval]);
    while has_blob(&server, "a", &garbage).await {}
    assert!(pulls(&server, "a", "v1").await);
    server.wait_for_log("collected garbage");
}

#[tokio::test]
async fn commands_act_through_the_running_server() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start_with(root.path(), &[NO_GRACE]);
    let manifest = server.push_image("a", "v1", "one").await;
    server.push_image("a", "v2", "two").await;
    let garbage = server.push_blob("a", b"garbage").await;
    let collect = |arguments: &[&str]| run(root.path(), arguments, &[]);

    let (output, details, code) = collect(&["garbage-collect", "--dry-run"]);
    assert_eq!(code, 0, "{details}");
    assert!(
        output.contains("blobs would be removed from repositories: 1"),
        "{output}"
    );
    assert!(details.contains(&garbage.to_string()), "{details}");
    assert!(has_blob(&server, "a", &garbage).await);

    let (output, details, code) = collect(&["gc", "-q"]);
    assert_eq!(code, 0, "{details}");
    assert!(output.contains("1 blob or manifest, 7 B"), "{output}");
    assert!(!details.contains(&garbage.to_string()), "{details}");
    assert!(!has_blob(&server, "a", &garbage).await);

    let digest = Digest::of(&manifest);
    delete(&server, &format!("/v2/a/manifests/{digest}")).await;
    assert_eq!(collect(&["garbage-collect"]).2, 0);
    assert!(!pulls(&server, "a", "v1").await && pulls(&server, "a", "v2").await);
    let (listed, _, _) = collect(&["undelete", "--list"]);
    let line = format!("a:v1 {digest} until 2");
    assert!(listed.contains(&line), "{listed}");
    let (output, details, code) = collect(&["undelete", "a:v1"]);
    assert_eq!(code, 0, "{details}");
    assert!(output.contains("restored a:v1\n"), "{output}");
    let folder = format!("storage folder: {}\n", root.path().display());
    assert!(details.starts_with(&folder), "{details}");
    let mut lines: Vec<_> = details.lines().collect();
    let count = lines.len();
    lines.sort_unstable();
    lines.dedup();
    assert_eq!(lines.len(), count, "{details}");
    assert!(pulls(&server, "a", "v1").await);
    // Restored content is not listed any more, and content that was deleted twice is listed once.
    let (listed, _, _) = collect(&["undelete", "--list"]);
    assert!(!listed.contains("a:v1 "), "{listed}");
    for _ in 0..2 {
        server.push_image("a", "v1", "one").await;
        delete(&server, "/v2/a/manifests/v1").await;
    }
    let (listed, _, _) = collect(&["undelete", "--list"]);
    assert_eq!(listed.matches("a:v1 ").count(), 1, "{listed}");
    server.push_image("a", "v1", "three").await;
    let (_, details, code) = collect(&["undelete", "a:v1"]);
    assert_eq!(code, 1, "{details}");
    assert!(details.contains("points at another image now"), "{details}");
    let (_, details, code) = collect(&["undelete", "a:v3"]);
    assert_eq!(code, 1);
    assert!(details.contains("nothing to restore for a:v3"), "{details}");
}

#[tokio::test]
async fn without_a_server_the_command_collects_alone() {
    let root = tempfile::tempdir().unwrap();
    let mut server = Server::start(root.path());
    server.push_image("a", "v1", "one").await;
    server.push_image("a", "v1", "two").await;
    let garbage = server.push_blob("a", b"garbage").await;
    let (output, details, _) = run(root.path(), &["garbage-collect"], &[]);
    assert!(output.contains("repositories: 0"), "{output}");
    assert!(
        details.contains("kept 1 unused blob or manifest:"),
        "{details}"
    );
    server.terminate();
    server.wait();
    let (output, details, code) = run(root.path(), &["garbage-collect", "-m"], &[NO_GRACE]);
    assert_eq!(code, 0, "{details}");
    assert!(
        output.contains("manifests removed from repositories: 1\n"),
        "{output}"
    );
    assert!(
        output.contains("blobs removed from repositories: 3\n"),
        "{output}"
    );
    let server = Server::start(root.path());
    assert!(!has_blob(&server, "a", &garbage).await);
    assert!(pulls(&server, "a", "v1").await);
}

#[tokio::test]
async fn the_trash_is_emptied_for_an_upload_that_fits_afterwards() {
    let Some(disk) = SmallDisk::mount() else {
        return;
    };
    let server = Server::start_with(disk.path(), &[NO_GRACE]);
    let garbage = server.push_blob("a", &vec![7; 2 << 20]).await;
    let (_, details, code) = run(disk.path(), &["garbage-collect"], &[]);
    assert_eq!(code, 0, "{details}");
    let undelete = || run(disk.path(), &["undelete", &garbage.to_string()], &[]).2;
    // Without the trash there would not be enough space either, so it is kept.
    let location = server.start_upload("a").await;
    let refused = server.patch(&location, 0, &vec![8; 5 << 20]).await;
    assert_error(refused, StatusCode::FORBIDDEN, "DENIED").await;
    assert_eq!(undelete(), 0);
    assert_eq!(run(disk.path(), &["garbage-collect"], &[]).2, 0);
    server.push_blob("a", &vec![9; 5 << 19]).await;
    assert_eq!(undelete(), 1);
}

#[tokio::test]
async fn a_full_disk_gets_its_space_back() {
    let Some(disk) = SmallDisk::mount() else {
        return;
    };
    let delete_enabled = ("REGISTRY_STORAGE_DELETE_ENABLED", "true");
    let server = Server::start_with(disk.path(), &[NO_GRACE, delete_enabled]);
    let manifest = server.push_image("a", "v1", "one").await;
    server.push_image("a", "v2", "two").await;
    server.push_blob("a", &vec![7; 1 << 20]).await;
    server.wait_for_diff_ids().await;
    disk.fill();
    delete(
        &server,
        &format!("/v2/a/manifests/{}", Digest::of(&manifest)),
    )
    .await;
    let (_, details, code) = run(disk.path(), &["garbage-collect"], &[]);
    assert_eq!(code, 0, "{details}");
    server.push_blob("a", &vec![8; 700_000]).await;
    assert!(!pulls(&server, "a", "v1").await && pulls(&server, "a", "v2").await);
}

#[test]
fn a_folder_without_a_registry_is_an_error_and_stays_empty() {
    let root = tempfile::tempdir().unwrap();
    let missing = root.path().join("missing");
    let (_, details, code) = run(&missing, &["garbage-collect"], &[]);
    assert_eq!(code, 1);
    assert!(details.contains("there is no registry in"), "{details}");
    assert!(!missing.exists());
}
