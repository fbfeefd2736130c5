//! Tests of putting and getting manifests, and of manifests that are refused.

use crate::support::prelude::*;

#[tokio::test]
async fn by_tag_and_by_digest() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(root.path());
    let manifest = server.push_image("team/app", "v1", "word").await;
    let digest = Digest::of(&manifest);
    for reference in ["v1", &digest.to_string()] {
        let path = format!("/v2/team/app/manifests/{reference}");
        for response in [server.head(&path).await, server.get(&path).await] {
            assert_eq!(response.status(), 200);
            for (name, value) in [
                ("content-type", media::OCI_MANIFEST),
                ("docker-content-digest", &digest.to_string()),
                ("etag", &format!("\"{digest}\"")),
                ("content-length", &manifest.len().to_string()),
            ] {
                assert_eq!(header(&response, name), value, "{name}");
            }
            let body = response.bytes().await.unwrap();
            assert!(body.is_empty() || body == manifest);
        }
        for etag in [format!("\"{digest}\""), digest.to_string()] {
            let request = client()
                .get(server.url(&path))
                .header("if-none-match", etag);
            let response = request.send().await.unwrap();
            assert_eq!(response.status(), 304);
            assert_eq!(
                header(&response, "docker-content-digest"),
                digest.to_string()
            );
        }
    }
    // After another push the tag has the new manifest, and the digest still has the old one.
    let next = server.push_image("team/app", "v1", "next").await;
    let path = |reference: String| format!("/v2/team/app/manifests/{reference}");
    assert_eq!(
        server.get(&path("v1".into())).await.bytes().await.unwrap(),
        next
    );
    assert_eq!(
        server
            .get(&path(digest.to_string()))
            .await
            .bytes()
            .await
            .unwrap(),
        manifest
    );
    // The tag is the same after a restart.
    drop(server);
    let server = Server::start(root.path());
    assert_eq!(
        server.get(&path("v1".into())).await.bytes().await.unwrap(),
        next
    );
}

#[tokio::test]
async fn put_by_digest() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(root.path());
    let image = server.push_image("a", "v1", "word").await;
    for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
        let digest = Digest::of_with(algorithm, &image).to_string();
        let response = server
            .put_manifest("a", &digest, media::OCI_MANIFEST, &image)
            .await;
        assert_eq!(response.status(), 201);
        assert_eq!(header(&response, "docker-content-digest"), digest);
        assert_eq!(
            header(&response, "location"),
            format!("/v2/a/manifests/{digest}")
        );
        let response = server.get(&format!("/v2/a/manifests/{digest}")).await;
        assert_eq!(header(&response, "docker-content-digest"), digest);
        assert_eq!(response.bytes().await.unwrap(), image);
    }
    let other = Digest::of(b"other").to_string();
    let response = server
        .put_manifest("a", &other, media::OCI_MANIFEST, &image)
        .await;
    assert_error(response, StatusCode::BAD_REQUEST, "DIGEST_INVALID").await;
    let response = server.get(&format!("/v2/a/manifests/{other}")).await;
    assert_error(response, StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN").await;
}

#[tokio::test]
async fn indexes_and_docker_media_types() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(root.path());
    let image = server.push_image("a", "v1", "word").await;
    let index = serde_json::json!({
        "schemaVersion": 2,
        "manifests": [descriptor(media::OCI_MANIFEST, &image)],
    });
    let index = index.to_string().into_bytes();
    let response = server
        .put_manifest("a", "all", media::OCI_INDEX, &index)
        .await;
    assert_eq!(response.status(), 201);
    let response = server.get("/v2/a/manifests/all").await;
    assert_eq!(header(&response, "content-type"), media::OCI_INDEX);
    // The child of the index is not in repository `b`.
    let response = server
        .put_manifest("b", "all", media::OCI_INDEX, &index)
        .await;
    let missing = assert_error(response, StatusCode::BAD_REQUEST, "MANIFEST_BLOB_UNKNOWN").await;
    assert_eq!(missing[0].detail, Digest::of(&image).to_string());

    let docker = String::from_utf8(image)
        .unwrap()
        .replace(media::OCI_MANIFEST, media::DOCKER_MANIFEST);
    let with_parameter = format!("{}; charset=utf-8", media::DOCKER_MANIFEST);
    let response = server
        .put_manifest("a", "docker", &with_parameter, docker.as_bytes())
        .await;
    assert_eq!(response.status(), 201);
    let response = server.get("/v2/a/manifests/docker").await;
    assert_eq!(header(&response, "content-type"), media::DOCKER_MANIFEST);
}

#[tokio::test]
async fn a_response_names_a_limited_number_of_missing_layers() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(root.path());
    server.push_blob("a", b"config").await;
    let layers: Vec<_> = (0..1100).map(|number: u32| number.to_be_bytes()).collect();
    let layers: Vec<&[u8]> = layers.iter().map(|layer| &layer[..]).collect();
    let response = server
        .put_manifest(
            "a",
            "v1",
            media::OCI_MANIFEST,
            &manifest(b"config", &layers),
        )
        .await;
    let missing = assert_error(response, StatusCode::BAD_REQUEST, "MANIFEST_BLOB_UNKNOWN").await;
    assert_eq!(missing.len(), 1000);
}

#[tokio::test]
async fn referenced_content_must_exist() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(root.path());
    server.push_blob("a", b"config").await;
    server.push_blob("elsewhere", b"layer").await;
    let incomplete = manifest(b"config", &[b"layer", b"another", b"layer"]);
    let response = server
        .put_manifest("a", "v1", media::OCI_MANIFEST, &incomplete)
        .await;
    let missing = assert_error(response, StatusCode::BAD_REQUEST, "MANIFEST_BLOB_UNKNOWN").await;
    let mut details: Vec<_> = missing
        .iter()
        .map(|error| error.detail.as_str().unwrap())
        .collect();
    details.sort_unstable();
    let mut expected = [
        Digest::of(b"layer").to_string(),
        Digest::of(b"another").to_string(),
    ];
    expected.sort_unstable();
    assert_eq!(details, expected);
    let response = server.get("/v2/a/manifests/v1").await;
    assert_error(response, StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN").await;
    let response = server
        .get(&format!("/v2/a/manifests/{}", Digest::of(&incomplete)))
        .await;
    assert_error(response, StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN").await;
    assert_error(
        server.get("/v2/a/tags/list").await,
        StatusCode::NOT_FOUND,
        "NAME_UNKNOWN",
    )
    .await;
    // A subject may be pushed later, and foreign layers are not stored in the registry.
    let mut image: serde_json::Value = serde_json::from_slice(&manifest(b"config", &[])).unwrap();
    image["subject"] = descriptor(media::OCI_MANIFEST, b"not here yet");
    let foreign = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
    image["layers"] = serde_json::json!([descriptor(foreign, b"far away")]);
    let image = image.to_string();
    let response = server
        .put_manifest("a", "v1", media::OCI_MANIFEST, image.as_bytes())
        .await;
    assert_eq!(response.status(), 201);
}

#[tokio::test]
async fn manifests_that_the_stock_registry_accepts() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(root.path());
    let child = server.push_image("a", "child", "word").await;
    server.push_blob("a", b"config").await;
    server.push_blob("a", b"layer").await;
    let null = serde_json::Value::Null;
    let image: serde_json::Value =
        serde_json::from_slice(&manifest(b"config", &[b"layer"])).unwrap();
    let mut cases = Vec::new();
    for (path, key) in [("", "layers"), ("", "annotations"), ("/layers/0", "urls")] {
        let mut image = image.clone();
        image.pointer_mut(path).unwrap()[key] = null.clone();
        cases.push((media::OCI_MANIFEST, image));
    }
    let mut without_type = image;
    without_type["layers"][0]
        .as_object_mut()
        .unwrap()
        .remove("mediaType");
    cases.push((media::OCI_MANIFEST, without_type));
    let index = serde_json::json!({ "schemaVersion": 2, "mediaType": media::OCI_INDEX });
    for platform in [
        serde_json::json!({}),
        serde_json::json!({ "architecture": "amd64" }),
    ] {
        let mut index = index.clone();
        index["manifests"] = serde_json::json!([descriptor(media::OCI_MANIFEST, &child)]);
        index["manifests"][0]["platform"] = platform;
        cases.push((media::OCI_INDEX, index));
    }
    let mut empty = index;
    empty["manifests"] = null;
    cases.push((media::OCI_INDEX, empty));
    for (media_type, manifest) in cases {
        let manifest = manifest.to_string();
        let put = server
            .put_manifest("a", "v1", media_type, manifest.as_bytes())
            .await;
        assert_eq!(put.status(), 201, "{manifest}");
        let response = server.get("/v2/a/manifests/v1").await;
        assert_eq!(response.status(), 200, "{manifest}");
        assert_eq!(header(&response, "content-type"), media_type);
        assert_eq!(response.bytes().await.unwrap(), manifest);
    }
    let urls = serde_json::json!(vec![""; 101]);
    let mut many: serde_json::Value =
        serde_json::from_slice(&manifest(b"config", &[b"layer"])).unwrap();
    many["layers"][0]["urls"] = urls;
    let many = many.to_string();
    let put = server.put_manifest("a", "many", media::OCI_MANIFEST, many.as_bytes());
    assert_error(put.await, StatusCode::BAD_REQUEST, "MANIFEST_INVALID").await;
}

#[tokio::test]
async fn invalid_manifests_are_refused() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(root.path());
    let image = server.push_image("a", "v1", "word").await;
    let without_type = String::from_utf8(image.clone()).unwrap();
    let without_type =
        without_type.replace(&format!("\"mediaType\":\"{}\",", media::OCI_MANIFEST), "");
    for (media_type, bytes) in [
        (media::OCI_MANIFEST, &b"{"[..]),
        (media::OCI_MANIFEST, b"[]"),
        (media::OCI_MANIFEST, b""),
        (media::OCI_INDEX, &image),
        (media::DOCKER_MANIFEST, &image),
        ("text/plain", &image),
        // Docker's media types must be in the manifest itself: without a `mediaType`, the server would
        // later serve the manifest as an OCI manifest.
        (media::DOCKER_MANIFEST, without_type.as_bytes()),
    ] {
        let response = server.put_manifest("a", "bad", media_type, bytes).await;
        assert_error(response, StatusCode::BAD_REQUEST, "MANIFEST_INVALID").await;
    }
    let response = server
        .put_manifest("a", "bare", media::OCI_MANIFEST, without_type.as_bytes())
        .await;
    assert_eq!(response.status(), 201);
    for tag in ["-x", ".x", &"x".repeat(129)] {
        let response = server
            .put_manifest("a", tag, media::OCI_MANIFEST, &image)
            .await;
        assert_error(response, StatusCode::BAD_REQUEST, "TAG_INVALID").await;
    }
    let response = server.get("/v2/a/manifests/bad").await;
    assert_error(response, StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN").await;
}

#[tokio::test]
async fn manifests_are_limited_to_4_mib() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(root.path());
    server.push_blob("a", b"config").await;
    let mut image: serde_json::Value = serde_json::from_slice(&manifest(b"config", &[])).unwrap();
    image["annotations"] = serde_json::json!({ "padding": "" });
    let padding = 4 * 1024 * 1024 - image.to_string().len();
    image["annotations"]["padding"] = "x".repeat(padding).into();
    let image = image.to_string();
    let response = server
        .put_manifest("a", "large", media::OCI_MANIFEST, image.as_bytes())
        .await;
    assert_eq!(response.status(), 201);
    let response = server.get("/v2/a/manifests/large").await;
    assert!(response.bytes().await.unwrap() == image);

    for larger in [
        format!("{image} "),
        format!("{image}{}", " ".repeat(1024 * 1024)),
    ] {
        let response = server.put_manifest("a", "larger", media::OCI_MANIFEST, larger.as_bytes());
        assert_error(
            response.await,
            StatusCode::PAYLOAD_TOO_LARGE,
            "MANIFEST_INVALID",
        )
        .await;
        // Send the manifest again, without a Content-Length.
        let parts: Vec<_> = larger
            .as_bytes()
            .chunks(100_000)
            .map(<[u8]>::to_vec)
            .collect();
        let parts = futures::stream::iter(parts.into_iter().map(Ok::<_, std::io::Error>));
        let request = client().put(server.url("/v2/a/manifests/larger"));
        let response = request
            .body(reqwest::Body::wrap_stream(parts))
            .send()
            .await
            .unwrap();
        assert_error(response, StatusCode::PAYLOAD_TOO_LARGE, "MANIFEST_INVALID").await;
    }
    let response = server.get("/v2/a/manifests/larger").await;
    assert_error(response, StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN").await;
}

/// `validation.manifests.indexes` of the stock registry 3.0.
#[tokio::test]
async fn an_index_can_be_pushed_without_all_of_its_platforms() {
    let prefix = "REGISTRY_VALIDATION_MANIFESTS_INDEXES";
    let platforms = format!("{prefix}_PLATFORMS");
    let (architecture, os) = (
        format!("{prefix}_PLATFORMLIST_0_ARCHITECTURE"),
        format!("{prefix}_PLATFORMLIST_0_OS"),
    );
    let listed = [(&*architecture, "amd64"), (&*os, "linux")];
    for (mode, has_amd64, status) in [
        ("all", true, 400),
        ("none", false, 201),
        ("list", true, 201),
        ("list", false, 400),
    ] {
        let root = tempfile::tempdir().unwrap();
        let mut variables = vec![(&*platforms, mode)];
        variables.extend(listed);
        let server = Server::start_with(root.path(), &variables);
        let image = if has_amd64 {
            server.push_image("a", "v1", "word").await
        } else {
            manifest(b"absent", &[])
        };
        let child = |bytes: &[u8], architecture: &str| {
            let mut child = descriptor(media::OCI_MANIFEST, bytes);
            child["platform"] = serde_json::json!({"architecture": architecture, "os": "linux"});
            child
        };
        let index = serde_json::json!({
            "schemaVersion": 2,
            "manifests": [child(&image, "amd64"), child(b"elsewhere", "arm64")],
        });
        let index = index.to_string();
        let put = server.put_manifest("a", "multi", media::OCI_INDEX, index.as_bytes());
        assert_eq!(put.await.status().as_u16(), status, "{mode} {has_amd64}");
    }
}
