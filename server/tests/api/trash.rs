//! Tests of the extensions that delete repositories and restore what was deleted.

use crate::support::prelude::*;
use serde_json::{Value, json};

async fn post(server: &Server, path: &str, body: &str) -> Response {
    let request = client().post(server.url(path)).body(body.to_owned());
    request.send().await.unwrap()
}

async fn restore(server: &Server, repository: &str, body: &str) -> Response {
    let path = format!("/v2/{repository}/_imgsync/trash/restore");
    post(server, &path, body).await
}

async fn delete_repository(server: &Server, repository: &str) -> Response {
    let path = format!("/v2/{repository}/_imgsync/repository/delete");
    post(server, &path, "").await
}

async fn assert_answer(response: Response, expected: Value) {
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.json::<Value>().await.unwrap(), expected);
}

async fn catalog(server: &Server) -> Value {
    let list = server.get("/v2/_catalog").await;
    list.json::<Value>().await.unwrap()["repositories"].clone()
}

/// Returns the status of a manifest; if there is one, its blobs must be there.
async fn pull(server: &Server, repository: &str, reference: &str) -> StatusCode {
    let path = format!("/v2/{repository}/manifests/{reference}");
    let response = server.get(&path).await;
    let status = response.status();
    if status == StatusCode::OK {
        let manifest: Value = response.json().await.unwrap();
        for blob in [&manifest["config"], &manifest["layers"][0]] {
            let digest = blob["digest"].as_str().unwrap();
            let path = format!("/v2/{repository}/blobs/{digest}");
            let status = server.get(&path).await.status();
            assert_eq!(status, StatusCode::OK, "{digest}");
        }
    }
    status
}

fn collect(root: &Path) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_imgsync-server"));
    let command = command.args(["garbage-collect", "--root"]).arg(root);
    assert!(command.output().unwrap().status.success());
}

const NO_GRACE: (&str, &str) = ("REGISTRY_IMGSYNC_GC_GRACE", "0s");

#[tokio::test]
async fn a_repository_is_deleted_and_restored() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start_with(root.path(), &[NO_GRACE]);
    server.push_image("team/app", "v0", "a").await;
    let manifest = server.push_image("team/app", "v1", "b").await;
    for (first, last) in [(2, 90), (91, 180), (181, 270), (271, 299)] {
        let tags: Vec<String> = (first..=last).map(|n| format!("tag=v{n}")).collect();
        let reference = format!("{}?{}", Digest::of(&manifest), tags.join("&"));
        let put = server.put_manifest("team/app", &reference, media::OCI_MANIFEST, &manifest);
        assert_eq!(put.await.status(), StatusCode::CREATED);
    }
    server.push_image("team/app/nested", "v1", "a").await;
    server.push_image("team", "v1", "outer").await;
    let deleted = delete_repository(&server, "team/app").await;
    assert_answer(deleted, json!({ "tagCount": 300, "manifestCount": 2 })).await;
    assert_eq!(catalog(&server).await, json!(["team", "team/app/nested"]));
    assert_eq!(pull(&server, "team/app", "v1").await, 404);
    assert_eq!(pull(&server, "team/app/nested", "v1").await, 200);
    let again = delete_repository(&server, "team/app").await;
    assert_error(again, StatusCode::NOT_FOUND, "NAME_UNKNOWN").await;
    // The blobs go to the trash, too.
    collect(root.path());

    let restored = restore(&server, "team/app", r#"{"reference":"v7"}"#).await;
    let expected = json!({
        "tagCount": 1, "manifestCount": 1, "tags": ["v7"], "occupied": [], "gone": [],
    });
    assert_answer(restored, expected).await;
    assert_eq!(pull(&server, "team/app", "v7").await, 200);
    assert_eq!(pull(&server, "team/app", "v8").await, 404);
    // Another image under a tag is not changed.
    server.push_image("team/app", "v9", "new").await;
    let restored: Value = restore(&server, "team/app", "").await.json().await.unwrap();
    assert_eq!(restored["tagCount"], 298);
    assert_eq!(restored["manifestCount"], 1);
    assert_eq!(restored["occupied"], json!(["v9"]));
    for tag in ["v0", "v7", "v9", "v299"] {
        assert_eq!(pull(&server, "team/app", tag).await, 200);
    }
    assert_eq!(
        catalog(&server).await,
        json!(["team", "team/app", "team/app/nested"])
    );
    // A repeated request changes nothing.
    let again = restore(&server, "team/app", r#"{"reference":"v7"}"#).await;
    let expected = json!({
        "tagCount": 0, "manifestCount": 0, "tags": [], "occupied": [], "gone": [],
    });
    assert_answer(again, expected).await;
}

#[tokio::test]
async fn what_the_trash_does_not_have_is_gone() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(root.path());
    let digest = Digest::of(&server.push_image("a", "v1", "one").await);
    server.push_image("a", "v2", "two").await;
    for body in [
        r#"{"reference":"v3"}"#.to_owned(),
        format!("{{\"reference\":\"{}\"}}", Digest::of(b"other")),
    ] {
        let response = restore(&server, "a", &body).await;
        let errors = assert_error(response, StatusCode::NOT_FOUND, "NOT_IN_TRASH").await;
        let detail = errors[0].detail.as_str().unwrap();
        assert!(detail.contains("is not in the trash"), "{detail}");
    }
    for bad in ["{", r#"{"reference":"a b"}"#] {
        let response = restore(&server, "a", bad).await;
        assert_error(response, StatusCode::BAD_REQUEST, "UNSUPPORTED").await;
    }
    let url = server.url(&format!("/v2/a/manifests/{digest}"));
    assert_eq!(client().delete(url).send().await.unwrap().status(), 202);
    let mut server = server;
    server.terminate();
    server.wait();

    // A server that keeps nothing empties the trash at its start.
    let server = Server::start_with(root.path(), &[("REGISTRY_IMGSYNC_GC_UNDO", "0s")]);
    while root
        .path()
        .join("imgsync/trash-1")
        .read_dir()
        .unwrap()
        .count()
        > 0
    {
        tokio::task::yield_now().await;
    }
    let body = r#"{"reference":"v1"}"#;
    let response = restore(&server, "a", body).await;
    let errors = assert_error(response, StatusCode::NOT_FOUND, "NOT_IN_TRASH").await;
    let detail = errors[0].detail.as_str().unwrap();
    assert!(
        detail.contains("a:v1 is not in the trash: it was never deleted, or is gone"),
        "{detail}"
    );
}

#[tokio::test]
async fn who_may_not_delete_may_not_restore() {
    for (variable, value) in [
        ("REGISTRY_STORAGE_DELETE_ENABLED", "false"),
        ("REGISTRY_STORAGE_MAINTENANCE_READONLY", "{enabled: true}"),
    ] {
        let root = tempfile::tempdir().unwrap();
        let mut server = Server::start(root.path());
        server.push_image("a", "v1", "one").await;
        server.terminate();
        server.wait();
        let server = Server::start_with(root.path(), &[(variable, value)]);
        for response in [
            delete_repository(&server, "a").await,
            restore(&server, "a", "").await,
        ] {
            assert_error(response, StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED").await;
        }
        assert_eq!(pull(&server, "a", "v1").await, 200);
    }
}

#[tokio::test]
async fn an_interrupted_deletion_is_repeated_or_undone() {
    let root = tempfile::tempdir().unwrap();
    let mut server = Server::start(root.path());
    for number in 0..40 {
        server
            .push_image("a", &format!("v{number}"), &number.to_string())
            .await;
    }
    let url = server.url("/v2/a/_imgsync/repository/delete");
    let deleting = tokio::spawn(async move { client().post(url).send().await.is_ok() });
    // Once the first tag is listed in the trash.
    while !root.path().join("imgsync/trash-1").exists() {
        tokio::task::yield_now().await;
    }
    server.kill_and_restart();
    deleting.await.unwrap();
    let again = delete_repository(&server, "a").await.status();
    assert!(matches!(again.as_u16(), 200 | 404), "{again}");
    assert_eq!(catalog(&server).await, json!([]));
    let restored = restore(&server, "a", "").await;
    assert_eq!(restored.status(), StatusCode::OK);
    for number in 0..40 {
        assert_eq!(pull(&server, "a", &format!("v{number}")).await, 200);
    }
}
