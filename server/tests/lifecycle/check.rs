//! Tests of `check`, through the program.

use crate::support::prelude::*;

/// Runs a check, and returns its output and its exit code.
fn check(root: &Path, options: &[&str]) -> (String, String, i32) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_imgsync-server"));
    command.arg("check").args(options).arg("--root").arg(root);
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let code = output.status.code().unwrap();
    (text(output.stdout), text(output.stderr), code)
}

fn blob_path(root: &Path, digest: &Digest) -> PathBuf {
    let blobs = root.join("docker/registry/v2/blobs/sha256");
    blobs
        .join(&digest.hex()[..2])
        .join(digest.hex())
        .join("data")
}

const LAYER: &[u8] = b"the layer of one";
const DAMAGED: &[u8] = b"THE LAYER OF ONE";

async fn layer_status(server: &Server) -> StatusCode {
    let path = format!("/v2/team/app/blobs/{}", Digest::of(LAYER));
    server.head(&path).await.status()
}

#[tokio::test]
async fn a_push_heals_what_a_running_server_has_repaired() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(root.path());
    server.push_image("team/app", "v1", "one").await;
    server.push_image("team/app", "v2", "two").await;
    let (output, details, code) = check(root.path(), &[]);
    assert_eq!(code, 0, "{output}{details}");
    assert!(output.contains("1 repository, 2 tags, 6 blobs"), "{output}");
    let layer = Digest::of(LAYER);
    let data = blob_path(root.path(), &layer);
    std::fs::write(&data, DAMAGED).unwrap();

    let (output, details, code) = check(root.path(), &[]);
    assert_eq!(code, 1);
    assert!(
        output.contains(&format!("{layer}: the 16 bytes")),
        "{output}"
    );
    let image = format!("affected image: team/app:v1 lacks {layer}: push it again\n");
    assert!(
        output.contains(&image) && !output.contains("app:v2"),
        "{output}"
    );
    assert!(
        details.contains("1 finding, 1 image cannot be"),
        "{details}"
    );
    assert!(details.contains("with --repair"), "{details}");
    // The server does not notice, so a push would not send the layer.
    assert_eq!(layer_status(&server).await, StatusCode::OK);
    assert_eq!(std::fs::read(&data).unwrap(), DAMAGED);

    let (output, _, code) = check(root.path(), &["--repair", "--json"]);
    assert_eq!(code, 1);
    let lines: Vec<serde_json::Value> = output
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines[0]["kind"], "damaged-blob", "{output}");
    assert_eq!(lines[0]["repair"], "quarantined", "{output}");
    let image = lines.iter().find(|line| line["type"] == "image").unwrap();
    assert_eq!(
        (&image["repository"], &image["tag"]),
        (&"team/app".into(), &"v1".into())
    );
    assert_eq!(image["lacking"], serde_json::json!([layer]));
    let summary = lines.last().unwrap();
    assert_eq!(
        (&summary["type"], &summary["images"]),
        (&"summary".into(), &1.into())
    );
    assert_eq!(layer_status(&server).await, StatusCode::NOT_FOUND);
    let quarantine = root.path().join("imgsync/quarantine-1");
    let quarantined = quarantine.join(format!("sha256-{}", layer.hex()));
    assert_eq!(std::fs::read(quarantined).unwrap(), DAMAGED);

    server.push_image("team/app", "v1", "one").await;
    let (output, details, code) = check(root.path(), &[]);
    assert_eq!(code, 0, "{output}{details}");
    assert_eq!(layer_status(&server).await, StatusCode::OK);
}

#[tokio::test]
async fn a_stopped_registry_and_a_read_only_one_are_checked() {
    let root = tempfile::tempdir().unwrap();
    let mut server = Server::start(root.path());
    let manifest = server.push_image("team/app", "v1", "one").await;
    server.terminate();
    server.wait();
    let digest = Digest::of(&manifest);
    std::fs::write(blob_path(root.path(), &digest), "").unwrap();
    let (output, details, code) = check(root.path(), &[]);
    assert_eq!(code, 1, "{details}");
    assert!(
        output.contains(&format!("team/app:v1 lacks {digest}")),
        "{output}"
    );
    let read_only = [("REGISTRY_STORAGE_MAINTENANCE_READONLY", "{enabled: true}")];
    let server = Server::start_with(root.path(), &read_only);
    assert_eq!(check(root.path(), &[]).0, output);
    drop(server);
    let (_, details, code) = check(&root.path().join("missing"), &["--repair"]);
    assert_eq!(code, 1);
    assert!(details.contains("there is no registry in"), "{details}");
}

#[tokio::test]
async fn requests_are_served_during_a_check_that_its_client_leaves() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(root.path());
    server.push_blob("a", &bytes(64 << 20)).await;
    server.wait_for_diff_ids().await;
    let mut command = Command::new(env!("CARGO_BIN_EXE_imgsync-server"));
    command.arg("check").arg("--root").arg(root.path());
    command.stdout(Stdio::null()).stderr(Stdio::null());
    // The server runs few commands at a time: the ones whose clients have left must end.
    for _ in 0..8 {
        let mut process = command.spawn().unwrap();
        server.push_image("a", "v1", "one").await;
        process.kill().unwrap();
        process.wait().unwrap();
    }
    loop {
        let (_, details, code) = check(root.path(), &[]);
        if code == 0 {
            return;
        }
        assert!(details.contains("connection to the server"), "{details}");
    }
}
