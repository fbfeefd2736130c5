//! Tests that an upstream does not get the bytes of other repositories published by claiming their
//! digests.

use std::sync::Mutex;
use std::sync::mpsc;
use std::time::Instant;

use reqwest::RequestBuilder;

use super::*;
use crate::support::{bytes, client};

/// alice with the password `secret`.
const USERS: &str = "alice:$2y$04$UeV4w0qLbS3AO1wlkmVNhugx5EBDpr8zmAX5S9arlVvhoQFXytDNC\n";

/// Starts a cache with these upstreams, each with its prefix. Anonymous clients may pull from `up`
/// and `open`.
fn start(upstreams: &[(&str, &FakeServer)]) -> Running {
    let entries: Vec<_> = upstreams
        .iter()
        .map(|(prefix, upstream)| {
            format!(
                "{{prefix: {prefix}, remoteurl: 'http://{}'}}",
                upstream.address()
            )
        })
        .collect();
    let setup = Setup::new(&format!(
        "{BASE}auth: {{htpasswd: {{realm: r, path: '{{folder}}/users'}}}}\n\
         imgsync: {{anonymous: {{pull: ['up/**', 'open/**']}}, cache: {{upstreams: [{}]}}}}\n",
        entries.join(", ")
    ));
    std::fs::write(setup.path("users"), USERS).unwrap();
    setup.serve()
}

fn as_alice(request: RequestBuilder) -> RequestBuilder {
    request.basic_auth("alice", Some("secret"))
}

async fn push(running: &Running, repository: &str, bytes: &[u8]) -> Digest {
    let digest = Digest::of(bytes);
    let url = format!(
        "{}/v2/{repository}/blobs/uploads/?digest={digest}",
        running.url
    );
    let request = as_alice(client().post(url)).body(bytes.to_vec());
    assert_eq!(request.send().await.unwrap().status(), 201);
    digest
}

async fn get_as_alice(running: &Running, path: &str) -> (u16, Vec<u8>) {
    let request = as_alice(client().get(format!("{}{path}", running.url)));
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    (status, response.bytes().await.unwrap().into())
}

/// Returns an upstream that claims to have every blob, with this size, and has none.
fn liar(size: usize) -> FakeServer {
    FakeServer::start(move |request| match request.method.as_str() {
        "HEAD" => fake::status(200).header("Content-Length", size.to_string()),
        _ if request.header("range").is_some() => {
            let first = request.header("range").unwrap();
            let first = first.trim_start_matches("bytes=").trim_end_matches('-');
            let first: usize = first.parse().unwrap();
            let range = format!("bytes {first}-{}/{size}", size - 1);
            let rest = fake::status(206).body(vec![0; size - first]);
            rest.header("Content-Range", range)
        }
        _ => fake::status(404),
    })
}

fn count_gets(upstream: &FakeServer) -> usize {
    let requests = upstream.requests();
    requests
        .iter()
        .filter(|request| request.method == "GET")
        .count()
}

#[tokio::test]
async fn a_claimed_digest_does_not_publish_a_private_blob() {
    let private = bytes(40_000);
    let upstream = liar(private.len());
    let running = start(&[("up", &upstream)]);
    let digest = push(&running, "private/app", &private).await;
    let path = format!("/v2/up/x/blobs/{digest}");
    assert_eq!(get(&running, &path).await.0, 404);
    // alice may read the blob where it is, but that does not publish it.
    let other_path = format!("/v2/up/y/blobs/{digest}");
    let (status, body) = get_as_alice(&running, &other_path).await;
    assert_eq!((status, body == private), (200, true));
    assert_eq!(get(&running, &other_path).await.0, 404);
}

#[tokio::test]
async fn a_blob_that_anyone_may_pull_is_not_fetched_again() {
    let open = bytes(40_000);
    let upstream = liar(open.len());
    let running = start(&[("up", &upstream)]);
    let digest = push(&running, "open/app", &open).await;
    let (status, body) = get(&running, &format!("/v2/up/x/blobs/{digest}")).await;
    assert_eq!((status, body == open), (200, true));
    assert_eq!(count_gets(&upstream), 0);
}

#[tokio::test]
async fn a_blob_of_the_same_upstream_is_not_fetched_again() {
    let blob = bytes(40_000);
    let content = blob.clone();
    let upstream = FakeServer::start(move |_| fake::status(200).body(content.clone()));
    let running = start(&[("private", &upstream), ("up", &upstream)]);
    let digest = Digest::of(&blob);
    let (status, body) = get_as_alice(&running, &format!("/v2/private/x/blobs/{digest}")).await;
    assert_eq!((status, body == blob), (200, true));
    let (status, body) = get(&running, &format!("/v2/up/x/blobs/{digest}")).await;
    assert_eq!((status, body == blob), (200, true));
    assert_eq!(count_gets(&upstream), 1);
}

#[tokio::test]
async fn a_claimed_digest_does_not_publish_a_download_from_another_upstream() {
    let private = bytes(40_000);
    let digest = Digest::of(&private);
    // Sends half of the blob, then waits, then fails.
    let (half, size) = (private[..20_000].to_vec(), private.len());
    let (resume, resumed) = mpsc::channel::<()>();
    let resumed = Mutex::new(resumed);
    let honest = FakeServer::start(move |request| {
        match (request.method.as_str(), request.header("range")) {
            ("GET", None) => {
                let length = size.to_string();
                fake::status(200)
                    .header("Content-Length", length)
                    .body(half.clone())
            }
            ("GET", Some(_)) => {
                let _ = resumed.lock().unwrap().recv();
                fake::status(429).header("Retry-After", "60")
            }
            _ => fake::status(200).header("Content-Length", size.to_string()),
        }
    });
    let upstream = liar(private.len());
    let running = start(&[("private", &honest), ("up", &upstream)]);
    let url = format!("{}/v2/private/x/blobs/{digest}", running.url);
    let pull = tokio::spawn(async move {
        let response = as_alice(client().get(url)).send().await.unwrap();
        assert_eq!(response.status(), 200);
        response.bytes().await
    });
    let began = Instant::now();
    while count_gets(&honest) < 2 {
        assert!(began.elapsed().as_secs() < 60, "{}", running.log());
        tokio::task::yield_now().await;
    }
    assert_eq!(
        get(&running, &format!("/v2/up/x/blobs/{digest}")).await.0,
        404
    );

    // The half of the blob that remains belongs to the honest upstream too.
    drop(resume);
    assert!(pull.await.unwrap().is_err());
    assert_eq!(
        get(&running, &format!("/v2/up/y/blobs/{digest}")).await.0,
        404
    );
}
