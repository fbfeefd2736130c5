//! Tests responses that violate the specification: the client reports success only if the operation
//! has succeeded.

use crate::fake::{FakeServer, Reply, Request, status};
use bytes::Bytes;
use futures::stream;
use imgsync_oci::client::upload::{UploadSession, UploadStart};
use imgsync_oci::client::{Client, Error, UrlScheme};
use imgsync_oci::ext::resolve::{ResolveRequest as Resolve, ResolveResponse};
use imgsync_oci::{Digest, Reference, Repository};

const MANIFEST: &str = "{}";
const DIGEST: &str = "Docker-Content-Digest";

fn client(registry: &FakeServer) -> Client {
    Client::new(&registry.address().parse().unwrap(), UrlScheme::Http).unwrap()
}

fn repository() -> Repository {
    "team/app".parse().unwrap()
}

async fn put(registry: &FakeServer) -> Result<(), Error> {
    let tag = Reference::Tag("v1".parse().unwrap());
    let bytes = Bytes::from(MANIFEST);
    client(registry)
        .put_manifest(&repository(), &tag, "application/json", bytes)
        .await
}

fn manifest_digest() -> String {
    Digest::of(MANIFEST.as_bytes()).to_string()
}

#[tokio::test]
async fn a_put_succeeds_only_if_the_registry_has_the_manifest() {
    let other = Digest::of(b"other").to_string();
    // The responses to PUT, HEAD and GET, whether the put succeeds, and the requests that it makes.
    type Answers = fn(&Request) -> Reply;
    let cases: [(Answers, bool, &[&str]); 6] = [
        (
            |_| status(201).header(DIGEST, manifest_digest()),
            true,
            &["PUT"],
        ),
        (|_| status(200), false, &["PUT", "HEAD", "GET"]),
        (
            |request| match &*request.method {
                "PUT" => status(201),
                _ => status(200).header(DIGEST, manifest_digest()),
            },
            true,
            &["PUT", "HEAD"],
        ),
        (
            |request| match &*request.method {
                "PUT" => status(202).header(DIGEST, manifest_digest()),
                _ => status(404),
            },
            false,
            &["PUT", "HEAD"],
        ),
        (
            |request| match &*request.method {
                "PUT" => status(204),
                _ => status(200).body(MANIFEST),
            },
            true,
            &["PUT", "HEAD", "GET"],
        ),
        (
            |request| match &*request.method {
                "PUT" => status(302).header("Location", "/elsewhere"),
                _ => status(200),
            },
            false,
            &["PUT"],
        ),
    ];
    for (answers, is_stored, methods) in cases {
        let registry = FakeServer::start(answers);
        let result = put(&registry).await;
        assert_eq!(result.is_ok(), is_stored, "{methods:?}: {result:?}");
        let requests = registry.requests();
        let sent: Vec<&str> = requests
            .iter()
            .map(|request| request.method.as_str())
            .collect();
        assert_eq!(sent, methods);
    }
    let registry = FakeServer::start(move |request| {
        let code = if request.method == "PUT" { 201 } else { 200 };
        status(code).header(DIGEST, other.clone())
    });
    let error = put(&registry).await.unwrap_err();
    assert!(matches!(error, Error::InvalidResponse { .. }), "{error}");
}

#[tokio::test]
async fn reads_follow_redirects_within_the_registry_and_writes_do_not() {
    let registry = FakeServer::start(|request| match &*request.target {
        "/there" => status(200).header("Content-Length", "4"),
        _ => status(307).header("Location", "/there"),
    });
    let client = client(&registry);
    let found = client.head_blob(&repository(), &Digest::of(b"blob")).await;
    assert_eq!(found.unwrap(), Some(4));
    let started = client.start_upload(&repository(), None).await;
    assert_eq!(started.unwrap_err().status().unwrap().as_u16(), 307);
    let digest = Digest::of(b"blob");
    let lines = [
        format!("HEAD /v2/team/app/blobs/{digest}"),
        "HEAD /there".to_owned(),
        "POST /v2/team/app/blobs/uploads/".to_owned(),
    ];
    assert_eq!(registry.lines(), lines);
}

async fn open(registry: &FakeServer) -> UploadSession {
    match client(registry).start_upload(&repository(), None).await {
        Ok(UploadStart::Open(session)) => session,
        other => panic!("{other:?}"),
    }
}

async fn append(registry: &FakeServer) -> Result<UploadSession, Error> {
    let mut session = open(registry).await;
    let bytes = stream::iter([Ok(Bytes::from("blob"))]);
    client(registry)
        .append_upload(&mut session, bytes, 4)
        .await?;
    Ok(session)
}

fn uploads(patch: impl Fn() -> Reply + Send + Sync + 'static) -> FakeServer {
    FakeServer::start(move |request| match &*request.method {
        "POST" => status(202).header("Location", "/session"),
        "PATCH" => patch(),
        _ => status(201),
    })
}

#[tokio::test]
async fn an_upload_keeps_its_url_without_a_new_location() {
    let registry = uploads(|| status(200));
    let session = append(&registry).await.unwrap();
    assert_eq!(session.offset(), 4);
    client(&registry)
        .finish_upload(&session, &Digest::of(b"blob"))
        .await
        .unwrap();
    let lines = registry.lines();
    assert_eq!(lines[1..], ["PATCH /session", "PUT /session"]);

    let registry = uploads(|| status(202).header("imgsync-upload-offset", "3"));
    assert_eq!(append(&registry).await.unwrap().offset(), 3);
    let registry = uploads(|| status(202).header("imgsync-upload-offset", "5"));
    let error = append(&registry).await.unwrap_err();
    assert!(matches!(error, Error::InvalidResponse { .. }), "{error}");
}

#[tokio::test]
async fn a_created_response_without_a_mount_is_invalid() {
    let registry = FakeServer::start(|_| status(201));
    let error = client(&registry).start_upload(&repository(), None).await;
    let error = error.unwrap_err();
    assert!(matches!(error, Error::InvalidResponse { .. }), "{error}");
}

async fn resolve(registry: &FakeServer) -> Result<Option<ResolveResponse>, Error> {
    let request = Resolve {
        diff_ids: vec![Digest::of(b"layer")],
        ..Resolve::default()
    };
    client(registry)
        .resolve_layers(&repository(), &request)
        .await
}

#[tokio::test]
async fn an_error_status_means_that_there_is_no_extension() {
    for (code, requests) in [(302, 1), (403, 1), (404, 1), (500, 2), (503, 2)] {
        let registry = FakeServer::start(move |_| status(code).header("Location", "/login"));
        let answer = resolve(&registry).await;
        assert_eq!(answer.unwrap(), None, "{code}");
        assert_eq!(registry.lines().len(), requests, "{code}");
    }
    let registry = FakeServer::start(|_| status(401));
    let answer = resolve(&registry).await;
    assert_eq!(answer.unwrap_err().status().unwrap().as_u16(), 401);
}

/// Some registries and proxies refuse the HEAD request of a manifest.
#[tokio::test]
async fn a_manifest_is_fetched_where_head_is_refused() {
    let tag = Reference::Tag("v1".parse().unwrap());
    for refusal in [400, 403, 405, 500, 501] {
        let registry = FakeServer::start(move |request| match &*request.method {
            "HEAD" => status(refusal),
            _ => status(200).body(MANIFEST),
        });
        let head = client(&registry).head_manifest(&repository(), &tag).await;
        let head = head.unwrap().unwrap();
        assert_eq!(head.digest.unwrap().to_string(), manifest_digest());
        assert_eq!(head.size, Some(2), "{refusal}");
        let methods: Vec<_> = registry.requests().into_iter().map(|r| r.method).collect();
        assert_eq!(methods, ["HEAD", "GET"], "{refusal}");
    }
    // A refusal of both is an error, and a missing manifest is none.
    let registry = FakeServer::start(|_| status(403));
    let head = client(&registry).head_manifest(&repository(), &tag).await;
    assert_eq!(head.unwrap_err().status().unwrap().as_u16(), 403);
    let registry = FakeServer::start(|_| status(404));
    let head = client(&registry).head_manifest(&repository(), &tag).await;
    assert_eq!(head.unwrap(), None);
    assert_eq!(registry.requests().len(), 1);
}

#[tokio::test]
async fn a_web_page_is_no_answer_of_a_registry() {
    let site = FakeServer::start(|_| {
        let page = status(200).header("Content-Type", "text/html; charset=utf-8");
        page.body("<html>Welcome</html>")
    });
    let tag = Reference::Tag("v1".parse().unwrap());
    let client = client(&site);
    for error in [
        client.check().await.unwrap_err(),
        client.head_manifest(&repository(), &tag).await.unwrap_err(),
        client
            .fetch_manifest(&repository(), &tag)
            .await
            .unwrap_err(),
        client.list_tags(&repository(), None).await.unwrap_err(),
        client.start_upload(&repository(), None).await.unwrap_err(),
    ] {
        assert!(matches!(error, Error::WebPage { .. }), "{error}");
    }
}

/// Our server states with these codes that a retry does not help.
#[tokio::test]
async fn a_failure_that_lasts_is_not_retried() {
    let tag = Reference::Tag("v1".parse().unwrap());
    for code in ["STORAGE_FORBIDDEN", "MANIFEST_DAMAGED"] {
        let registry = FakeServer::start(move |_| {
            status(500).body(format!(
                r#"{{"errors":[{{"code":"{code}","message":"why"}}]}}"#
            ))
        });
        let fetched = client(&registry).fetch_manifest(&repository(), &tag).await;
        assert!(fetched.unwrap_err().to_string().contains(code));
        assert_eq!(registry.requests().len(), 1);
        // A push replaces a damaged manifest.
        let pushing = client(&registry).with_login(None, true);
        let found = pushing.fetch_manifest(&repository(), &tag).await;
        assert_eq!(found.is_ok(), code == "MANIFEST_DAMAGED");
    }
}
