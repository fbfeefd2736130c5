//! Manifests: in, out, and refused.

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
        for known in [format!("\"{digest}\""), digest.to_string()] {
            let request = client()
                .get(server.url(&path))
                .header("if-none-match", known);
            let response = request.send().await.unwrap();
            assert_eq!(response.status(), 304);
            assert_eq!(
                header(&response, "docker-content-digest"),
                digest.to_string()
            );
        }
    }
    // The tag moves, the digest stays.
    let next = server.push_image("team/app", "v1", "next").await;
    let at = |reference: String| format!("/v2/team/app/manifests/{reference}");
    assert_eq!(
        server.get(&at("v1".into())).await.bytes().await.unwrap(),
        next
    );
    assert_eq!(
        server
            .get(&at(digest.to_string()))
            .await
            .bytes()
            .await
            .unwrap(),
        manifest
    );
    // And all of it survives.
    drop(server);
    let server = Server::start(root.path());
    assert_eq!(
        server.get(&at("v1".into())).await.bytes().await.unwrap(),
        next
    );
}

#[tokio::test]
async fn sent_under_a_digest() {
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
    faults(response, StatusCode::BAD_REQUEST, "DIGEST_INVALID").await;
    let response = server.get(&format!("/v2/a/manifests/{other}")).await;
    faults(response, StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN").await;
}

#[tokio::test]
async fn indexes_and_dockers_types() {
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
    // Its child is not in that repository.
    let response = server
        .put_manifest("b", "all", media::OCI_INDEX, &index)
        .await;
    let missing = faults(response, StatusCode::BAD_REQUEST, "MANIFEST_BLOB_UNKNOWN").await;
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
async fn what_it_names_must_be_there() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(root.path());
    server.push_blob("a", b"config").await;
    server.push_blob("elsewhere", b"layer").await;
    let lacking = manifest(b"config", &[b"layer", b"another", b"layer"]);
    let response = server
        .put_manifest("a", "v1", media::OCI_MANIFEST, &lacking)
        .await;
    let missing = faults(response, StatusCode::BAD_REQUEST, "MANIFEST_BLOB_UNKNOWN").await;
    let mut details: Vec<_> = missing
        .iter()
        .map(|fault| fault.detail.as_str().unwrap())
        .collect();
    details.sort_unstable();
    let mut expected = [
        Digest::of(b"layer").to_string(),
        Digest::of(b"another").to_string(),
    ];
    expected.sort_unstable();
    assert_eq!(details, expected);
    let response = server.get("/v2/a/manifests/v1").await;
    faults(response, StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN").await;
    let response = server
        .get(&format!("/v2/a/manifests/{}", Digest::of(&lacking)))
        .await;
    faults(response, StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN").await;
    faults(
        server.get("/v2/a/tags/list").await,
        StatusCode::NOT_FOUND,
        "NAME_UNKNOWN",
    )
    .await;
    // A subject may come later, and foreign layers never.
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
async fn what_the_stock_registry_takes_and_serves() {
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
    let mut bare = image;
    bare["layers"][0]
        .as_object_mut()
        .unwrap()
        .remove("mediaType");
    cases.push((media::OCI_MANIFEST, bare));
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
    faults(put.await, StatusCode::BAD_REQUEST, "MANIFEST_INVALID").await;
}

#[tokio::test]
async fn what_is_no_manifest() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(root.path());
    let image = server.push_image("a", "v1", "word").await;
    let bare = String::from_utf8(image.clone()).unwrap();
    let bare = bare.replace(&format!("\"mediaType\":\"{}\",", media::OCI_MANIFEST), "");
    for (media_type, bytes) in [
        (media::OCI_MANIFEST, &b"{"[..]),
        (media::OCI_MANIFEST, b"[]"),
        (media::OCI_MANIFEST, b""),
        (media::OCI_INDEX, &image),
        (media::DOCKER_MANIFEST, &image),
        ("text/plain", &image),
        // It would be served as OCI's later: Docker's types must stand in the manifest itself.
        (media::DOCKER_MANIFEST, bare.as_bytes()),
    ] {
        let response = server.put_manifest("a", "bad", media_type, bytes).await;
        faults(response, StatusCode::BAD_REQUEST, "MANIFEST_INVALID").await;
    }
    let response = server
        .put_manifest("a", "bare", media::OCI_MANIFEST, bare.as_bytes())
        .await;
    assert_eq!(response.status(), 201);
    for tag in ["-x", ".x", &"x".repeat(129)] {
        let response = server
            .put_manifest("a", tag, media::OCI_MANIFEST, &image)
            .await;
        faults(response, StatusCode::BAD_REQUEST, "TAG_INVALID").await;
    }
    let response = server.get("/v2/a/manifests/bad").await;
    faults(response, StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN").await;
}

#[tokio::test]
async fn four_mebibytes_and_not_a_byte_more() {
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
        faults(
            response.await,
            StatusCode::PAYLOAD_TOO_LARGE,
            "MANIFEST_INVALID",
        )
        .await;
        // Its length not told beforehand.
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
        faults(response, StatusCode::PAYLOAD_TOO_LARGE, "MANIFEST_INVALID").await;
    }
    let response = server.get("/v2/a/manifests/larger").await;
    faults(response, StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN").await;
}
