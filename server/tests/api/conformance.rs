//! Tests the requirements of the OCI distribution-spec (1.1, and additions of its main branch), in
//! the order of its chapters.

use crate::support::prelude::*;
use serde_json::json;

const OCTETS: &str = "application/octet-stream";

async fn send(server: &Server, method: Method, path: &str, body: &[u8]) -> Response {
    let request = client().request(method, server.url(path));
    request.body(body.to_vec()).send().await.unwrap()
}

/// Checks that GET returns the content, and that HEAD returns the same headers.
async fn assert_pulled(server: &Server, path: &str, content: &[u8], digest: &Digest) {
    let head = server.head(path).await;
    let get = server.get(path).await;
    for response in [&head, &get] {
        assert_eq!(response.status(), 200, "{path}");
        assert_eq!(
            header(response, "docker-content-digest"),
            digest.to_string()
        );
        assert_eq!(
            header(response, "content-length"),
            content.len().to_string()
        );
    }
    assert_eq!(
        header(&head, "content-type"),
        header(&get, "content-type"),
        "{path}"
    );
    assert!(get.bytes().await.unwrap() == content, "{path}");
}

// Pull

#[tokio::test]
async fn the_api_is_announced() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(root.path());
    assert_eq!(server.get("/v2/").await.status(), 200);
    let response = server.get("/v2/_oci/ext/discover").await;
    assert_eq!(header(&response, "content-type"), "application/json");
    let list: serde_json::Value = response.json().await.unwrap();
    let extensions = list["extensions"].as_array().unwrap();
    let own = extensions
        .iter()
        .find(|extension| extension["name"] == "_imgsync");
    assert_eq!(
        own.unwrap()["endpoints"],
        json!([
            "_imgsync/layers/resolve",
            "_imgsync/repository/delete",
            "_imgsync/trash/restore",
            "_imgsync/layers/index",
            "_imgsync/layers/assemble"
        ])
    );
    for extension in extensions {
        assert!(extension["url"].is_string());
    }
}

#[tokio::test]
async fn manifests_and_blobs_are_pulled_by_tag_and_by_digest() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(root.path());
    let image = server.push_image("team/app", "v1", "word").await;
    let digest = Digest::of(&image);
    for reference in ["v1", &digest.to_string()] {
        let path = format!("/v2/team/app/manifests/{reference}");
        assert_pulled(&server, &path, &image, &digest).await;
    }
    let layer = b"the layer of word";
    let layer_digest = Digest::of(layer);
    let path = format!("/v2/team/app/blobs/{layer_digest}");
    assert_pulled(&server, &path, layer, &layer_digest).await;
    // The server sends the stored manifest in spite of another `Accept` header.
    let request = client().get(server.url("/v2/team/app/manifests/v1"));
    let response = request.header("accept", OCTETS).send().await.unwrap();
    assert_eq!(header(&response, "content-type"), media::OCI_MANIFEST);
}

#[tokio::test]
async fn missing_content_is_not_found() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(root.path());
    server.push_image("a", "v1", "word").await;
    let missing = Digest::of(b"nobody");
    for (path, code) in [
        ("/v2/a/manifests/none".to_owned(), "MANIFEST_UNKNOWN"),
        ("/v2/none/manifests/v1".to_owned(), "MANIFEST_UNKNOWN"),
        (format!("/v2/a/manifests/{missing}"), "MANIFEST_UNKNOWN"),
        (format!("/v2/a/blobs/{missing}"), "BLOB_UNKNOWN"),
        ("/v2/none/tags/list".to_owned(), "NAME_UNKNOWN"),
    ] {
        assert_error(server.get(&path).await, StatusCode::NOT_FOUND, code).await;
        let head = server.head(&path).await;
        // Lists have no HEAD.
        assert!([404, 405].contains(&head.status().as_u16()), "{path}");
        assert_eq!(head.bytes().await.unwrap().len(), 0);
    }
    // A blob of another repository is not found in this one.
    let layer = Digest::of(b"the layer of word");
    let response = server.get(&format!("/v2/none/blobs/{layer}")).await;
    assert_error(response, StatusCode::NOT_FOUND, "BLOB_UNKNOWN").await;
}

// Push: blobs

#[tokio::test]
async fn blobs_of_all_sizes_and_algorithms_are_accepted_in_every_form() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(root.path());
    for (size, algorithm) in [
        (0, Algorithm::Sha256),
        (0, Algorithm::Sha512),
        (1, Algorithm::Sha256),
        (70_001, Algorithm::Sha256),
        (70_002, Algorithm::Sha512),
        (1_000_003, Algorithm::Sha512),
    ] {
        let content = bytes(size);
        let digest = Digest::of_with(algorithm, &content);
        let name = algorithm.as_str();
        for form in ["one", "post-put", "chunks"] {
            let repository = format!("r{size}/{name}/{form}");
            let start = format!("/v2/{repository}/blobs/uploads/");
            let done = match form {
                "one" => {
                    let path = format!("{start}?digest={digest}");
                    send(&server, Method::POST, &path, &content).await
                }
                "post-put" => {
                    let open = send(&server, Method::POST, &start, b"").await;
                    assert_eq!(open.status(), 202);
                    server
                        .put(&header(&open, "location"), &digest, &content)
                        .await
                }
                _ => {
                    let path = format!("{start}?digest-algorithm={name}");
                    let open = send(&server, Method::POST, &path, b"").await;
                    assert_eq!(open.status(), 202);
                    let mut location = header(&open, "location");
                    let mut first = 0;
                    for chunk in content.chunks(30_000) {
                        let patched = server.patch(&location, first, chunk).await;
                        assert_eq!(patched.status(), 202);
                        first += chunk.len() as u64;
                        assert_eq!(header(&patched, "range"), format!("0-{}", first - 1));
                        location = header(&patched, "location");
                    }
                    server.put(&location, &digest, b"").await
                }
            };
            assert_eq!(done.status(), 201, "{repository}");
            let path = format!("/v2/{repository}/blobs/{digest}");
            assert_eq!(header(&done, "location"), path);
            assert_eq!(header(&done, "docker-content-digest"), digest.to_string());
            assert_pulled(&server, &path, &content, &digest).await;
        }
    }
}

#[tokio::test]
async fn unknown_and_wrongly_announced_algorithms() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(root.path());
    let path = "/v2/a/blobs/uploads/?digest-algorithm=md5";
    let response = send(&server, Method::POST, path, b"").await;
    assert_error(response, StatusCode::BAD_REQUEST, "DIGEST_INVALID").await;
    // The announced algorithm is a hint: another one is accepted at the end.
    let path = "/v2/a/blobs/uploads/?digest-algorithm=sha512";
    let open = send(&server, Method::POST, path, b"").await;
    let location = header(&open, "location");
    let digest = Digest::of(b"content");
    assert_eq!(
        server.put(&location, &digest, b"content").await.status(),
        201
    );
    // A session reports its offset, and can be cancelled.
    let location = server.start_upload("a").await;
    server.patch(&location, 0, b"some").await;
    let status = server.get(&location).await;
    assert_eq!(
        (status.status(), header(&status, "range")),
        (StatusCode::NO_CONTENT, "0-3".to_owned())
    );
    let cancelled = send(&server, Method::DELETE, &location, b"").await;
    assert_eq!(cancelled.status(), 204);
    for method in [Method::GET, Method::PATCH, Method::DELETE] {
        let response = send(&server, method, &location, b"").await;
        assert_error(response, StatusCode::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN").await;
    }
}

#[tokio::test]
async fn a_chunk_out_of_order_is_refused_also_as_the_last_one() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(root.path());
    let location = server.start_upload("a").await;
    assert_eq!(server.patch(&location, 0, b"0123").await.status(), 202);
    for first in [0, 3, 5, 400] {
        let response = server.patch(&location, first, b"45").await;
        assert_eq!(header(&response, "range"), "0-3");
        assert!(!header(&response, "location").is_empty());
        assert_error(response, StatusCode::RANGE_NOT_SATISFIABLE, "RANGE_INVALID").await;
        let digest = Digest::of(b"012345");
        let request = client()
            .put(server.url(&format!("{location}?digest={digest}")))
            .header("content-range", format!("{first}-{}", first + 1))
            .body("45");
        let response = request.send().await.unwrap();
        assert_eq!(header(&response, "range"), "0-3");
        assert_error(response, StatusCode::RANGE_NOT_SATISFIABLE, "RANGE_INVALID").await;
    }
    let digest = Digest::of(b"012345");
    assert_eq!(server.put(&location, &digest, b"45").await.status(), 201);
}

#[tokio::test]
async fn mounts_with_and_without_a_source() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(root.path());
    for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
        let content = b"content".as_slice();
        let digest = Digest::of_with(algorithm, content);
        let path = format!("/v2/source/blobs/uploads/?digest={digest}");
        assert_eq!(
            send(&server, Method::POST, &path, content).await.status(),
            201
        );
        let name = algorithm.as_str();
        for (target, query) in [
            ("named", format!("mount={digest}&from=source")),
            ("any", format!("mount={digest}")),
        ] {
            let path = format!("/v2/{target}/{name}/blobs/uploads/?{query}");
            let response = send(&server, Method::POST, &path, b"").await;
            assert_eq!(response.status(), 201, "{path}");
            let path = format!("/v2/{target}/{name}/blobs/{digest}");
            assert_eq!(header(&response, "location"), path);
            assert_pulled(&server, &path, content, &digest).await;
        }
        let missing = Digest::of_with(algorithm, b"nobody");
        for query in [
            format!("mount={digest}&from=other"),
            format!("mount={missing}&from=source"),
            format!("mount={missing}"),
            format!("mount={digest}&from=Not%20A%20Name"),
        ] {
            let path = format!("/v2/lacking/blobs/uploads/?{query}");
            let response = send(&server, Method::POST, &path, b"").await;
            assert_eq!(response.status(), 202, "{path}");
            // A mount that is not possible opens a normal upload session.
            let (location, content) = (header(&response, "location"), query.as_bytes());
            let done = server.put(&location, &Digest::of(content), content).await;
            assert_eq!(done.status(), 201);
        }
    }
}

// Push: manifests

#[tokio::test]
async fn a_manifest_put_by_digest_can_set_tags() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(root.path());
    let image = server.push_image("a", "v1", "word").await;
    for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
        let digest = Digest::of_with(algorithm, &image);
        let name = algorithm.as_str();
        let tags: Vec<String> = (0..12).map(|i| format!("{name}-{i}")).collect();
        let query: Vec<String> = tags.iter().map(|tag| format!("tag={tag}")).collect();
        let reference = format!("{digest}?{}", query.join("&"));
        let response = server
            .put_manifest("a", &reference, media::OCI_MANIFEST, &image)
            .await;
        assert_eq!(response.status(), 201);
        assert_eq!(
            header(&response, "location"),
            format!("/v2/a/manifests/{digest}")
        );
        let values = response.headers().get_all("oci-tag").iter();
        let oci_tags: Vec<_> = values.map(|tag| tag.to_str().unwrap().to_owned()).collect();
        assert_eq!(oci_tags, tags);
        for reference in tags.iter().chain([&digest.to_string()]) {
            let path = format!("/v2/a/manifests/{reference}");
            assert_pulled(&server, &path, &image, &digest).await;
        }
    }
    let digest = Digest::of(&image);
    let bad = format!("{digest}?tag=fine&tag=-bad");
    let response = server
        .put_manifest("a", &bad, media::OCI_MANIFEST, &image)
        .await;
    assert_error(response, StatusCode::BAD_REQUEST, "TAG_INVALID").await;
    let response = server.get("/v2/a/manifests/fine").await;
    assert_error(response, StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN").await;
    let many = format!("{digest}?{}", "&tag=x".repeat(200));
    let response = server
        .put_manifest("a", &many, media::OCI_MANIFEST, &image)
        .await;
    assert_error(response, StatusCode::URI_TOO_LONG, "TAG_INVALID").await;
}

#[tokio::test]
async fn all_kinds_of_manifests_are_accepted() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(root.path());
    let image = server.push_image("a", "v1", "word").await;
    let config = server.push_blob("a", b"{}").await;
    let nested = json!({
        "schemaVersion": 2, "mediaType": media::OCI_INDEX,
        "manifests": [descriptor(media::OCI_MANIFEST, &image)],
    });
    let nested = nested.to_string().into_bytes();
    let foreign_layer = json!({
        "mediaType": "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        "digest": Digest::of(b"far away"), "size": 8, "urls": ["https://example.com/far"],
    });
    let artifact = json!({
        "schemaVersion": 2, "mediaType": media::OCI_MANIFEST,
        "artifactType": "application/x.thing",
        "config": {
            "mediaType": "application/vnd.oci.empty.v1+json", "digest": config, "size": 2,
            "data": "e30=",
        },
        "layers": [foreign_layer],
        "annotations": { "a": "b" },
        "org.example.custom": { "field": [1, 2, 3] },
    });
    for (tag, media_type, manifest) in [
        ("image", media::OCI_MANIFEST, artifact.to_string()),
        (
            "empty",
            media::OCI_INDEX,
            json!({
                "schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": [],
            })
            .to_string(),
        ),
        (
            "index",
            media::OCI_INDEX,
            String::from_utf8(nested.clone()).unwrap(),
        ),
        (
            "nested",
            media::OCI_INDEX,
            json!({
                "schemaVersion": 2, "mediaType": media::OCI_INDEX,
                "artifactType": "application/x.list",
                "manifests": [descriptor(media::OCI_INDEX, &nested)],
            })
            .to_string(),
        ),
        (
            "docker",
            media::DOCKER_MANIFEST_LIST,
            json!({
                "schemaVersion": 2, "mediaType": media::DOCKER_MANIFEST_LIST,
                "manifests": [descriptor(media::OCI_MANIFEST, &image)],
            })
            .to_string(),
        ),
    ] {
        let response = server
            .put_manifest("a", tag, media_type, manifest.as_bytes())
            .await;
        assert_eq!(response.status(), 201, "{tag}");
        let digest = Digest::of(manifest.as_bytes());
        let path = format!("/v2/a/manifests/{tag}");
        assert_pulled(&server, &path, manifest.as_bytes(), &digest).await;
        assert_eq!(header(&server.get(&path).await, "content-type"), media_type);
    }
    // The cache of BuildKit is an index that lists layers.
    let layer_type = "application/vnd.oci.image.layer.v1.tar+gzip";
    for (word, status) in [("the layer of word", 201), ("nobody's layer", 400)] {
        let cache = json!({
            "schemaVersion": 2, "mediaType": media::OCI_INDEX,
            "manifests": [
                descriptor(layer_type, word.as_bytes()),
                descriptor("application/vnd.buildkit.cacheconfig.v0", b"{}"),
            ],
        });
        let cache = cache.to_string().into_bytes();
        let response = server
            .put_manifest("a", "cache", media::OCI_INDEX, &cache)
            .await;
        assert_eq!(response.status(), status, "{word}");
    }
    let incomplete = manifest(b"{}", &[b"nobody has this"]);
    let response = server
        .put_manifest("a", "lacking", media::OCI_MANIFEST, &incomplete)
        .await;
    assert_error(response, StatusCode::BAD_REQUEST, "MANIFEST_BLOB_UNKNOWN").await;
}
