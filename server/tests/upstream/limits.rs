//! Tests that the limits of the cache hold before a blob is fetched, and that blobs which do not fit
//! are sent without being stored.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use imgsync_oci::media;

use super::*;
use crate::support::{bytes, client, manifest};

/// Starts a cache of 100 kB.
fn start(upstream: &FakeServer) -> Running {
    let config = config(&upstream.address(), "", ", maxbytes: 100kB");
    Setup::new(&config).serve()
}

/// Returns an upstream with these blobs, which supports ranges.
fn upstream_with(blobs: &[&[u8]]) -> FakeServer {
    let blobs: Vec<_> = blobs
        .iter()
        .map(|blob| (Digest::of(blob), blob.to_vec()))
        .collect();
    FakeServer::start(move |request| {
        let blob = blobs
            .iter()
            .find(|(digest, _)| digest_in(request) == digest.to_string());
        match blob {
            Some((_, blob)) => part_of(blob, request),
            None => fake::status(404),
        }
    })
}

fn part_of(blob: &[u8], request: &Request) -> Reply {
    let Some(range) = request.header("range") else {
        return fake::status(200).body(blob);
    };
    let first = range.trim_start_matches("bytes=").trim_end_matches('-');
    let first: usize = first.parse().unwrap();
    let range = format!("bytes {first}-{}/{}", blob.len() - 1, blob.len());
    let reply = fake::status(206).header("Content-Range", range);
    reply.body(&blob[first..])
}

fn path(digest: &Digest) -> String {
    format!("/v2/up/app/blobs/{digest}")
}

/// Returns the ranges of the GET requests for a blob.
fn gets(upstream: &FakeServer, digest: &Digest) -> Vec<Option<String>> {
    let requests = upstream.requests().into_iter();
    let gets = requests
        .filter(|request| request.method == "GET" && digest_in(request) == digest.to_string());
    gets.map(|request| request.header("range").map(str::to_owned))
        .collect()
}

async fn get_range(running: &Running, digest: &Digest, range: &str) -> Vec<u8> {
    let request = client().get(format!("{}{}", running.url, path(digest)));
    let response = request.header("range", range).send().await.unwrap();
    assert_eq!(response.status(), 206);
    response.bytes().await.unwrap().into()
}

/// Returns the number of bytes in all files of the registry. The server may remove some meanwhile.
fn stored_bytes(running: &Running) -> u64 {
    let mut folders = vec![running.setup().path("registry")];
    let mut sum = 0;
    while let Some(folder) = folders.pop() {
        let entries = unless_removed(std::fs::read_dir(folder));
        for entry in entries.into_iter().flatten() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path())
            } else {
                sum += unless_removed(entry.metadata()).map_or(0, |metadata| metadata.len())
            }
        }
    }
    sum
}

fn unless_removed<T>(found: std::io::Result<T>) -> Option<T> {
    match found {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        found => Some(found.unwrap()),
    }
}

#[tokio::test]
async fn a_blob_larger_than_the_cache_is_sent_without_being_stored() {
    let blob = bytes(600_000);
    let digest = Digest::of(&blob);
    let upstream = upstream_with(&[&blob]);
    let running = start(&upstream);
    for _ in 0..2 {
        let (status, body) = get(&running, &path(&digest)).await;
        assert_eq!((status, body == blob), (200, true));
    }
    // The client reads the response that told the size.
    assert_eq!(gets(&upstream, &digest), [None, None]);
    assert!(
        stored_bytes(&running) < 50_000,
        "{}",
        stored_bytes(&running)
    );
    running.wait_for_log("does not fit into the cache").await;

    let middle = get_range(&running, &digest, "bytes=1000-300999").await;
    assert!(middle == blob[1000..301_000]);
    let tail = get_range(&running, &digest, "bytes=599000-").await;
    assert!(tail == blob[599_000..]);
    let past_the_end = client().get(format!("{}{}", running.url, path(&digest)));
    let past_the_end = past_the_end.header("range", "bytes=600000-").send().await;
    assert_eq!(past_the_end.unwrap().status(), 416);
}

#[tokio::test]
async fn a_blob_that_is_not_stored_is_verified_before_its_last_byte() {
    let blob = bytes(300_000);
    let digest = Digest::of(&blob);
    let mut wrong = blob.clone();
    wrong[1000] ^= 1;
    let upstream = FakeServer::start(move |request| part_of(&wrong, request));
    let running = start(&upstream);
    for range in ["bytes=0-", "bytes=299999-"] {
        let request = client().get(format!("{}{}", running.url, path(&digest)));
        let response = request.header("range", range).send().await.unwrap();
        assert_eq!(response.status(), 206);
        assert!(response.bytes().await.is_err(), "{range}");
    }
    running.wait_for_log("does not match its digest").await;
}

/// A hostile upstream has another large manifest for each tag.
#[tokio::test]
async fn manifests_do_not_grow_the_cache_without_end() {
    let upstream = FakeServer::start(|request| {
        let text = "v".repeat(3_000_000);
        let manifest = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": media::OCI_MANIFEST,
            "config": {"mediaType": media::OCI_CONFIG, "digest": Digest::of(b"{}"), "size": 2},
            "layers": [],
            "annotations": {"tag": request.target, "text": text},
        });
        let reply = fake::status(200).header("Content-Type", media::OCI_MANIFEST);
        reply.body(manifest.to_string().as_bytes())
    });
    let running = start(&upstream);
    for tag in 0..10 {
        let (status, body) = get(&running, &format!("/v2/up/app/manifests/v{tag}")).await;
        assert_eq!((status, body.len() > 3_000_000), (200, true), "{tag}");
    }
    let stored = stored_bytes(&running);
    assert!(stored < 20_000_000, "{stored}");
    running
        .wait_for_log("sending a manifest without storing it")
        .await;
}

/// An empty blob has no last byte.
#[tokio::test]
async fn a_blob_is_not_empty_because_its_upstream_says_so() {
    let upstream = FakeServer::start(|_| fake::status(200).body(b""));
    let running = start(&upstream);
    let (status, body) = get(&running, &path(&Digest::of(b"content"))).await;
    assert_eq!(status, 502, "{}", String::from_utf8_lossy(&body));
    let head = client().head(format!("{}{}", running.url, path(&Digest::of(b"other"))));
    assert_ne!(head.send().await.unwrap().status(), 200);
    let (status, body) = get(&running, &path(&Digest::of(b""))).await;
    assert_eq!((status, body.len()), (200, 0), "{}", running.log());
}

#[tokio::test]
async fn a_blob_that_is_not_stored_resumes_after_a_lost_connection() {
    let blob = bytes(300_000);
    let digest = Digest::of(&blob);
    let requests = AtomicUsize::new(0);
    let content = blob.clone();
    let upstream =
        FakeServer::start(
            move |request| match requests.fetch_add(1, Ordering::SeqCst) {
                0 => {
                    let length = content.len().to_string();
                    let cut = fake::status(200).header("Content-Length", length);
                    cut.body(&content[..123_456])
                }
                _ => part_of(&content, request),
            },
        );
    let running = start(&upstream);
    let (status, body) = get(&running, &path(&digest)).await;
    assert_eq!((status, body == blob), (200, true));
    let ranges = gets(&upstream, &digest);
    assert_eq!(ranges, [None, Some("bytes=123456-".to_owned())]);
}

#[tokio::test]
async fn a_cache_full_of_recent_blobs_takes_no_more() {
    let (first, second) = (bytes(70_000), bytes(60_000));
    let upstream = upstream_with(&[&first, &second]);
    let running = start(&upstream);
    let (first_digest, second_digest) = (Digest::of(&first), Digest::of(&second));
    for _ in 0..2 {
        let (status, body) = get(&running, &path(&first_digest)).await;
        assert_eq!((status, body == first), (200, true));
        let (status, body) = get(&running, &path(&second_digest)).await;
        assert_eq!((status, body == second), (200, true));
    }
    assert_eq!(gets(&upstream, &first_digest).len(), 1);
    assert!(gets(&upstream, &second_digest).len() > 1);
    assert!(
        stored_bytes(&running) < 100_000,
        "{}",
        stored_bytes(&running)
    );
}

#[tokio::test]
async fn a_push_may_name_blobs_that_are_larger_than_the_cache() {
    let (config, layer) = (b"{}", bytes(300_000));
    let upstream = upstream_with(&[config, &layer]);
    let running = start(&upstream);
    let digest = Digest::of(&layer);
    let head = client().head(format!("{}{}", running.url, path(&digest)));
    assert_eq!(head.send().await.unwrap().status(), 200);
    let put = client().put(format!("{}/v2/up/app/manifests/own", running.url));
    let put = put.header("content-type", media::OCI_MANIFEST);
    let put = put.body(manifest(config, &[&layer])).send().await.unwrap();
    assert_eq!(put.status(), 201, "{}", running.log());
    drop(upstream);
    let (status, body) = get(&running, &path(&digest)).await;
    assert_eq!((status, body == layer), (200, true));
}

#[tokio::test]
async fn many_large_blobs_at_once_do_not_fill_the_disk() {
    let upstream = FakeServer::start(|_| {
        let announced = (1_u64 << 40).to_string();
        fake::status(200)
            .header("Content-Length", announced)
            .body(vec![0; 500_000])
    });
    let running = Arc::new(start(&upstream));
    let pulls = (0..4_u8).map(|number| {
        let running = Arc::clone(&running);
        tokio::spawn(async move {
            let url = format!("{}{}", running.url, path(&Digest::of(&[number])));
            let mut response = client().get(url).send().await.unwrap();
            assert_eq!(response.status(), 200);
            assert!(response.chunk().await.unwrap().is_some());
        })
    });
    for pull in pulls.collect::<Vec<_>>() {
        pull.await.unwrap();
    }
    assert!(
        stored_bytes(&running) < 50_000,
        "{}",
        stored_bytes(&running)
    );
}
