//! Tests of who may read indexes and assemble layers.

use super::{AuthServer, PASSWORD};
use crate::support::prelude::*;
use imgsync_oci::delta::FORMAT_NAME;
use imgsync_oci::ext::assemble::AssembleRequest;
use imgsync_oci::layer::GZIP_FORMAT_NAME;

async fn post(server: &Server, repository: &str, user: Option<&str>, session: &str) -> Response {
    let request = AssembleRequest {
        session: session.to_owned(),
        delta_digest: Digest::of(b"delta"),
        bases: vec![Digest::of(b"base")],
        diff_id: Digest::of(b"layer"),
        raw_size: 512,
        format: FORMAT_NAME.to_owned(),
        compression: GZIP_FORMAT_NAME.to_owned(),
    };
    let url = server.url(&format!("/v2/{repository}/_imgsync/layers/assemble"));
    let request = client()
        .post(url)
        .body(serde_json::to_vec(&request).unwrap());
    match user {
        Some(user) => request.basic_auth(user, Some(PASSWORD)),
        None => request,
    }
    .send()
    .await
    .unwrap()
}

#[tokio::test]
async fn assembling_takes_a_push_permission_and_the_callers_own_session() {
    let auth = AuthServer::start("open/**");
    let url = auth.server.url("/v2/open/a/blobs/uploads/");
    let request = client().post(url).basic_auth("alice", Some(PASSWORD));
    let location = header(&request.send().await.unwrap(), "location");
    let session = location.rsplit('/').next().unwrap();
    // Anybody may pull from the repository, but not push.
    let response = post(&auth.server, "open/a", None, session).await;
    assert_error(response, StatusCode::UNAUTHORIZED, "UNAUTHORIZED").await;
    let path = format!(
        "/v2/open/a/_imgsync/layers/assemble/{}",
        Digest::of(b"layer")
    );
    let response = auth.server.get(&path).await;
    assert_error(response, StatusCode::UNAUTHORIZED, "UNAUTHORIZED").await;
    let response = post(&auth.server, "open/a", Some("bob"), session).await;
    assert_error(response, StatusCode::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN").await;
    let response = post(&auth.server, "open/a", Some("alice"), session).await;
    assert_error(response, StatusCode::NOT_FOUND, "BLOB_UNKNOWN").await;
}

#[tokio::test]
async fn an_index_takes_a_pull_permission() {
    let auth = AuthServer::start("open/**");
    for repository in ["open/a", "closed/a"] {
        auth.push(repository).await;
    }
    let path = |repository: &str| {
        let digest = Digest::of(b"{}");
        format!("/v2/{repository}/_imgsync/layers/{digest}/index")
    };
    let response = auth.server.get(&path("closed/a")).await;
    assert_error(response, StatusCode::UNAUTHORIZED, "UNAUTHORIZED").await;
    // The config is no layer.
    for repository in ["open/a", "closed/a"] {
        let request = auth
            .get(&path(repository))
            .basic_auth("bob", Some(PASSWORD));
        let status = request.send().await.unwrap().status().as_u16();
        assert!(matches!(status, 202 | 404), "{status}");
    }
    let status = auth.server.get(&path("open/a")).await.status().as_u16();
    assert!(matches!(status, 202 | 404), "{status}");
}
