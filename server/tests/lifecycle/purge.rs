//! Tests of `garbage-collect --purge`, through the programs.

use std::process::Child;

use crate::support::launch::{stderr, stdout};
use crate::support::prelude::*;

fn purge_command(root: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_imgsync-server"));
    command.args(["garbage-collect", "--purge"]).args(arguments);
    command.arg("--root").arg(root);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Purges, and returns the output, the messages and the exit code.
fn purge(root: &Path, arguments: &[&str]) -> (String, String, i32) {
    let output = purge_command(root, arguments).output().unwrap();
    (
        stdout(&output),
        stderr(&output),
        output.status.code().unwrap(),
    )
}

/// Returns the files below a folder that contain these bytes.
fn files_with(folder: &Path, bytes: &[u8]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_with(&path, bytes));
        } else if path.is_file() {
            let content = std::fs::read(&path).unwrap();
            if content.windows(bytes.len()).any(|window| window == bytes) {
                found.push(path);
            }
        }
    }
    found
}

/// Pushes an image with this layer and the layer `base`.
async fn push(server: &Server, repository: &str, tag: &str, layer: &[u8]) -> Digest {
    let config = format!("{{\"config of\":\"{tag}\"}}");
    for blob in [config.as_bytes(), layer, b"base"] {
        server.push_blob(repository, blob).await;
    }
    let manifest = manifest(config.as_bytes(), &[layer, b"base"]);
    let put = server.put_manifest(repository, tag, media::OCI_MANIFEST, &manifest);
    assert_eq!(put.await.status(), StatusCode::CREATED);
    Digest::of(&manifest)
}

async fn status(server: &Server, path: &str) -> StatusCode {
    server.get(path).await.status()
}

const SECRET: &[u8] = b"the password is hunter2, which nobody may know";

#[tokio::test]
async fn a_secret_is_gone_and_running_pulls_finish() {
    let root = tempfile::tempdir().unwrap();
    let deletable = ("REGISTRY_STORAGE_DELETE_ENABLED", "true");
    let server = Server::start_with(root.path(), &[deletable]);
    let large = [SECRET, &bytes(24 << 20)].concat();
    let secret = Digest::of(&large);
    push(&server, "app", "v1", &large).await;
    push(&server, "other", "w1", b"harmless").await;
    // Deleted, so that the trash lists it.
    let old = push(&server, "app", "old", SECRET).await;
    let path = format!("/v2/app/manifests/{old}");
    let deleted = client().delete(server.url(&path)).send().await.unwrap();
    assert_eq!(deleted.status(), StatusCode::ACCEPTED);
    server.wait_for_diff_ids().await;

    let mut pull = server.get(&format!("/v2/app/blobs/{secret}")).await;
    let first = pull.chunk().await.unwrap().unwrap();
    let (output, details, code) = purge(root.path(), &["app:v1"]);
    assert_eq!(code, 0, "{details}");
    assert!(output.contains("kept for other images: 1 blob"), "{output}");
    assert!(details.contains("app:v1 removed\n"), "{details}");
    assert!(
        details.contains(&format!("{} stays: other@", Digest::of(b"base"))),
        "{details}"
    );
    let mut pulled = first.to_vec();
    while let Some(chunk) = pull.chunk().await.unwrap() {
        pulled.extend(chunk);
    }
    assert_eq!(Digest::of(&pulled), secret);
    assert_eq!(status(&server, "/v2/app/manifests/v1").await, 404);
    assert_eq!(
        status(&server, &format!("/v2/app/blobs/{secret}")).await,
        404
    );
    assert_eq!(status(&server, "/v2/other/manifests/w1").await, 200);
    let (_, details, code) = purge(root.path(), &["app:v1"]);
    assert_eq!(code, 1);
    assert!(
        details.contains("neither stored nor in the trash"),
        "{details}"
    );

    let (_, details, code) = purge(root.path(), &["app:old"]);
    assert_eq!(code, 0, "{details}");
    assert_eq!(files_with(root.path(), SECRET), Vec::<PathBuf>::new());
    assert_eq!(
        files_with(root.path(), b"config of\":\"old"),
        Vec::<PathBuf>::new()
    );
}

#[tokio::test]
async fn what_other_images_need_takes_force() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(root.path());
    push(&server, "app", "v1", SECRET).await;
    push(&server, "other", "w1", b"harmless").await;
    let base = Digest::of(b"base").to_string();
    let (_, details, code) = purge(root.path(), &[&base]);
    assert_eq!(code, 1);
    for part in [
        "app:v1 would become incomplete\n",
        "other:w1 would become incomplete\n",
        "add --force",
    ] {
        assert!(details.contains(part), "{details}");
    }
    assert_eq!(status(&server, &format!("/v2/app/blobs/{base}")).await, 200);
    let (_, details, code) = purge(root.path(), &[&base, "--force"]);
    assert_eq!(code, 0, "{details}");
    assert!(
        details.contains("other:w1 is incomplete now: push it again"),
        "{details}"
    );
    assert_eq!(status(&server, &format!("/v2/app/blobs/{base}")).await, 404);
    // The next push repairs the image.
    push(&server, "app", "v1", SECRET).await;
    assert_eq!(status(&server, &format!("/v2/app/blobs/{base}")).await, 200);
}

/// Kills a purge once it has printed its first line.
fn kill_early(mut purge: Child) {
    use std::io::{BufRead as _, BufReader};
    let mut messages = BufReader::new(purge.stderr.take().unwrap());
    messages.read_line(&mut String::new()).unwrap();
    purge.kill().unwrap();
    purge.wait().unwrap();
}

#[tokio::test]
async fn a_purge_that_was_killed_is_repeated() {
    let root = tempfile::tempdir().unwrap();
    let mut server = Server::start(root.path());
    for number in 0..20 {
        let layer = [SECRET, number.to_string().as_bytes()].concat();
        push(&server, "app", &format!("v{number}"), &layer).await;
    }
    push(&server, "other", "w1", b"harmless").await;
    server.terminate();
    server.wait();
    // Without a server, the command itself removes the files.
    kill_early(purge_command(root.path(), &["app"]).spawn().unwrap());
    let (_, details, code) = purge(root.path(), &["app"]);
    let is_done = details.contains("neither stored nor in the trash");
    assert!(code == 0 || is_done, "{details}");
    assert_eq!(files_with(root.path(), SECRET), Vec::<PathBuf>::new());
    let server = Server::start(root.path());
    let catalog = server.get("/v2/_catalog").await.text().await.unwrap();
    assert_eq!(catalog.trim(), r#"{"repositories":["other"]}"#);
    for blob in [Digest::of(b"base"), Digest::of(b"harmless")] {
        assert_eq!(
            status(&server, &format!("/v2/other/blobs/{blob}")).await,
            200
        );
    }
}
