//! Requests that are refused, and assemblies that fail. Nothing is left of them.

use super::*;

struct Fixture {
    root: tempfile::TempDir,
    server: Server,
    assembly: Assembly,
}

impl Fixture {
    async fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let server = Server::start(root.path());
        let old = layer_pairs::sources(false, 200, 2000);
        let new = layer_pairs::sources(true, 200, 2000);
        let assembly = Assembly::prepare(&server, "a", &old, &new).await;
        Self {
            root,
            server,
            assembly,
        }
    }

    /// Uploads the delta, changes the request, and waits for the end of the assembly.
    async fn run(&mut self, change: impl Fn(&mut Assembly)) -> AssemblyState {
        let (delta, request) = (self.assembly.delta.clone(), self.assembly.request.clone());
        change(&mut self.assembly);
        let session = self.assembly.upload(&self.server, "a").await;
        let response = self.assembly.post(&self.server, "a").await;
        assert_eq!(response.status(), 202);
        let state = self.assembly.wait(&self.server, "a").await;
        assert_eq!(self.server.get(&session).await.status(), 404);
        assert_eq!(temporary_files(self.root.path()), Vec::<PathBuf>::new());
        (self.assembly.delta, self.assembly.request) = (delta, request);
        state
    }

    async fn assert_fails(&mut self, expected: &str, change: impl Fn(&mut Assembly)) {
        let state = self.run(change).await;
        let AssemblyState::Failed { reason } = &state else {
            panic!("{expected}: {state:?}");
        };
        assert!(reason.contains(expected), "{reason}");
        let folder = self.root.path().to_str().unwrap();
        assert!(!reason.contains(folder), "{reason}");
        assert!(!self.assembly.has_blob(&self.server, "a").await);
    }
}

#[tokio::test]
async fn a_wrong_delta_fails_and_leaves_nothing() {
    let mut fixture = Fixture::new().await;
    let other = layer_pairs::sources(false, 20, 100);
    let other = fixture.server.push_blob("a", &gzip(&other)).await;
    let no_layer = fixture.server.push_blob("a", &[7; 5000]).await;
    let raw_size = fixture.assembly.request.raw_size;
    let other_id = Digest::of(b"another layer");
    fixture
        .assert_fails("has the diffID", |assembly| {
            assembly.request.diff_id = other_id.clone();
        })
        .await;
    for size in [0, raw_size - 512, raw_size + 512] {
        let change = |assembly: &mut Assembly| assembly.request.raw_size = size;
        fixture.assert_fails("", change).await;
    }
    for base in [other, no_layer] {
        let change = |assembly: &mut Assembly| assembly.request.bases = vec![base.clone()];
        fixture.assert_fails("", change).await;
    }
    let delta = fixture.assembly.delta.clone();
    let mut other_format = delta.clone();
    other_format[0] ^= 0x20;
    let half = delta[..delta.len() / 2].to_vec();
    for damaged in [Vec::new(), half, other_format] {
        let change = |assembly: &mut Assembly| {
            assembly.request.delta_digest = Digest::of(&damaged);
            assembly.delta.clone_from(&damaged);
        };
        fixture.assert_fails("", change).await;
    }
    let state = fixture.run(|_| {}).await;
    fixture.assembly.assert_held(&state);
}

#[tokio::test]
async fn a_request_that_cannot_be_met_is_refused() {
    let Fixture {
        root: _root,
        server,
        mut assembly,
    } = Fixture::new().await;
    // Another repository has the base, and the answer is as if nobody had.
    let foreign = server
        .push_blob("b", &gzip(&layer_pairs::jars(false)))
        .await;
    let session = assembly.upload(&server, "a").await;
    let valid = assembly.request.clone();
    let mut details = Vec::new();
    for base in [foreign, Digest::of(b"absent")] {
        assembly.request.bases.push(base.clone());
        let response = assembly.post(&server, "a").await;
        let errors = assert_error(response, StatusCode::NOT_FOUND, "BLOB_UNKNOWN").await;
        let text = serde_json::to_string(&errors).unwrap();
        details.push(text.replace(&base.to_string(), "DIGEST"));
        assembly.request = valid.clone();
    }
    assert_eq!(details[0], details[1]);
    assembly.request.session = imgsync_oci::endpoint::UploadId::random().to_string();
    let response = assembly.post(&server, "a").await;
    assert_error(response, StatusCode::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN").await;
    assembly.request = valid.clone();
    // The session is one of another repository.
    let response = assembly.post(&server, "b").await;
    assert_error(response, StatusCode::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN").await;
    let bad_fields: [(&str, serde_json::Value); 5] = [
        ("format", "delta-0".into()),
        ("compression", "zstd".into()),
        ("session", "../../x".into()),
        ("rawSize", (5_u64 << 30).into()),
        ("bases", serde_json::json!([])),
    ];
    let url = server.url("/v2/a/_imgsync/layers/assemble");
    for (field, value) in bad_fields {
        let mut request = serde_json::to_value(&assembly.request).unwrap();
        request[field] = value;
        let request = client().post(&url).body(request.to_string());
        let response = request.send().await.unwrap();
        assert_error(response, StatusCode::BAD_REQUEST, "UNSUPPORTED").await;
    }
    let long = client().post(&url).body(vec![b' '; 16 * 1024 + 1]);
    let response = long.send().await.unwrap();
    assert_error(response, StatusCode::PAYLOAD_TOO_LARGE, "SIZE_INVALID").await;
    assert_eq!(assembly.poll(&server, "a").await, None);
    // None of these requests touched the session. Another delta in it removes it.
    assert_eq!(server.get(&session).await.status(), 204);
    assembly.request.delta_digest = Digest::of(b"another delta");
    let response = assembly.post(&server, "a").await;
    assert_error(response, StatusCode::BAD_REQUEST, "DIGEST_INVALID").await;
    assert_eq!(server.get(&session).await.status(), 404);
    assembly.request = valid;
    assembly.upload(&server, "a").await;
    assert_eq!(assembly.post(&server, "a").await.status(), 202);
    assembly.assert_held(&assembly.wait(&server, "a").await);
    // A layer that was deleted is not there any more.
    let path = server.url(&format!("/v2/a/blobs/{}", assembly.digest()));
    assert_eq!(client().delete(path).send().await.unwrap().status(), 202);
    assert_eq!(assembly.poll(&server, "a").await, None);
}

#[tokio::test]
async fn a_registry_that_is_read_only_assembles_nothing() {
    let Fixture {
        root,
        server,
        mut assembly,
    } = Fixture::new().await;
    assembly.upload(&server, "a").await;
    server.wait_for_diff_ids().await;
    drop(server);
    let read_only = ("REGISTRY_STORAGE_MAINTENANCE_READONLY", "{enabled: true}");
    let server = Server::start_with(root.path(), &[read_only]);
    let response = assembly.post(&server, "a").await;
    assert_error(response, StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED").await;
    let extensions = server.get("/v2/_oci/ext/discover").await;
    let extensions = extensions.text().await.unwrap();
    assert!(!extensions.contains("layers/assemble"), "{extensions}");
    // The index can still be read.
    index(&server, "a", &assembly.base).await;
}
