//! Tests the lists of tags and repositories, their pages, and paths that are no endpoints.

use crate::support::prelude::*;

/// Returns the names in a page of a list, and the path of the next page.
async fn names(response: Response, key: &str) -> (Vec<String>, Option<String>) {
    assert_eq!(response.status(), 200);
    assert_eq!(header(&response, "content-type"), "application/json");
    let link = header(&response, "link");
    let next = link
        .strip_prefix('<')
        .map(|link| link.strip_suffix(">; rel=\"next\"").unwrap());
    let next = next.map(str::to_owned);
    let body: serde_json::Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
    let names = body[key]
        .as_array()
        .unwrap()
        .iter()
        .map(|name| name.as_str().unwrap().to_owned());
    (names.collect(), next)
}

/// Returns all pages of a list, by following the `Link` headers.
async fn pages(server: &Server, first: &str, key: &str) -> Vec<Vec<String>> {
    let (mut pages, mut next) = (Vec::new(), Some(first.to_owned()));
    while let Some(path) = next {
        let (page, next_path) = names(server.get(&path).await, key).await;
        pages.push(page);
        next = next_path;
    }
    pages
}

#[tokio::test]
async fn tags() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(root.path());
    assert_error(
        server.get("/v2/a/b/tags/list").await,
        StatusCode::NOT_FOUND,
        "NAME_UNKNOWN",
    )
    .await;
    let tags = ["1.10", "1.9", "V2", "_x", "latest", "v1"];
    for tag in ["latest", "1.9", "_x", "V2", "1.10", "v1"] {
        server.push_image("a/b", tag, "word").await;
    }
    // The folder of a tag without its link, as a stock registry may leave it, is not listed.
    let repository = root.path().join("docker/registry/v2/repositories/a/b");
    std::fs::create_dir_all(repository.join("_manifests/tags/gone/index/sha256")).unwrap();
    let list = "/v2/a/b/tags/list";
    assert_eq!(pages(&server, list, "tags").await, [tags.to_vec()]);
    let page = |n: usize| format!("{list}?n={n}");
    assert_eq!(
        pages(&server, &page(4), "tags").await,
        [&tags[..4], &tags[4..]]
    );
    assert_eq!(
        pages(&server, &page(3), "tags").await,
        [&tags[..3], &tags[3..]]
    );
    assert_eq!(pages(&server, &page(6), "tags").await, [tags.to_vec()]);
    assert_eq!(pages(&server, &page(0), "tags").await, [[""; 0]]);
    assert_eq!(
        pages(&server, "/v2/a/b/tags/list?last=V2", "tags").await,
        [&tags[3..]]
    );
    assert_eq!(
        pages(&server, "/v2/a/b/tags/list?last=zz", "tags").await,
        [[""; 0]]
    );
    let body = server.get(list).await.text().await.unwrap();
    assert!(
        body.starts_with(r#"{"name":"a/b","tags":["1.10","#),
        "{body}"
    );
    for n in ["-1", "x", ""] {
        let response = server.get(&format!("{list}?n={n}")).await;
        assert_error(
            response,
            StatusCode::BAD_REQUEST,
            "PAGINATION_NUMBER_INVALID",
        )
        .await;
    }
}

#[tokio::test]
async fn the_catalog() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(root.path());
    assert_eq!(
        pages(&server, "/v2/_catalog", "repositories").await,
        [[""; 0]]
    );
    let repositories = ["a", "a-b", "a/b", "a/b/c", "z"];
    for repository in ["z", "a/b/c", "a", "a-b", "a/b"] {
        server.push_image(repository, "v1", "word").await;
    }
    // Blobs and uploads alone do not make a repository.
    server.push_blob("blobs/only", b"content").await;
    server.start_upload("uploads/only").await;
    assert_eq!(
        pages(&server, "/v2/_catalog", "repositories").await,
        [repositories]
    );
    for size in 1..6 {
        let expected: Vec<_> = repositories.chunks(size).collect();
        let first = format!("/v2/_catalog?n={size}");
        assert_eq!(pages(&server, &first, "repositories").await, expected);
    }
}

#[tokio::test]
async fn base_paths_and_unknown_paths() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(root.path());
    for path in ["/v2/", "/v2"] {
        let response = server.get(path).await;
        assert_eq!(response.status(), 200);
        assert_eq!(
            header(&response, "docker-distribution-api-version"),
            "registry/2.0"
        );
        assert_eq!(response.text().await.unwrap(), "{}");
    }
    let response = server.get("/").await;
    assert_eq!(
        (response.status(), response.text().await.unwrap().len()),
        (StatusCode::OK, 0)
    );
    for (path, status, code) in [
        ("/v1/_ping", 404, "UNSUPPORTED"),
        ("/v2/a/what/is/this", 404, "UNSUPPORTED"),
        ("/favicon.ico", 404, "UNSUPPORTED"),
        ("/v2/UPPER/tags/list", 400, "NAME_INVALID"),
        ("/v2/a//b/tags/list", 400, "NAME_INVALID"),
        ("/v2/a/..%2f..%2fb/tags/list", 400, "NAME_INVALID"),
        ("/v2/_uploads/tags/list", 400, "NAME_INVALID"),
        ("/v2/a%ff/tags/list", 400, "NAME_INVALID"),
        ("/v2/a/referrers/sha256:x", 400, "DIGEST_INVALID"),
    ] {
        let response = server.get(path).await;
        assert_error(response, StatusCode::from_u16(status).unwrap(), code).await;
    }
    let name = "x".repeat(256);
    let response = server.get(&format!("/v2/{name}/tags/list")).await;
    assert_error(response, StatusCode::BAD_REQUEST, "NAME_INVALID").await;
    for (method, path, allow) in [
        (
            Method::PATCH,
            "/v2/a/manifests/v1",
            "GET, HEAD, PUT, DELETE",
        ),
        (Method::POST, "/v2/_oci/ext/discover", "GET"),
        (Method::POST, "/v2/a/tags/list", "GET"),
        (Method::GET, "/v2/a/blobs/uploads/", "POST"),
        (Method::PUT, "/v2/", "GET, HEAD"),
    ] {
        let response = client()
            .request(method, server.url(path))
            .body("x")
            .send()
            .await
            .unwrap();
        assert_eq!(header(&response, "allow"), allow);
        assert_error(response, StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED").await;
    }
}
