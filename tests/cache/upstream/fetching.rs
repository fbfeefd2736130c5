//! Tests downloads of blobs: each is downloaded once, resumed after an error, verified, and sent to
//! clients while it arrives.

use std::sync::Barrier;
use std::time::Duration;

use super::{CacheFixture, LONG_FRESHNESS, PREFIX, blob, image, manifest, open_get, pull};
use crate::support::http::{get, send};
use crate::support::prelude::*;
use crate::support::upstream::PublishedImage;

#[test]
fn eight_pulls_at_once_download_each_blob_once() {
    let upstream = Upstream::start();
    let published = upstream.put("team/app", "v1", &image(1, 3 << 20));
    let cache = CacheFixture::start(&upstream, LONG_FRESHNESS, "");
    upstream.configure(|settings| settings.pause_blob_at = Some(100_000));
    let address = cache.address();
    let large: Vec<_> = published
        .blobs
        .iter()
        .filter(|(_, blob)| blob.len() > 200_000)
        .collect();
    assert_eq!(large.len(), 2);
    let reading = Barrier::new(9);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let reply = get(address, &manifest("v1"));
                assert_eq!(reply.body, published.manifest, "{}", reply.text());
                let responses = large.iter().map(|(digest, bytes)| {
                    let mut response = open_get(address, &blob(digest), "");
                    assert_eq!((response.status, response.length), (200, bytes.len()));
                    let start = response.take(1000);
                    (response, start, bytes)
                });
                let responses: Vec<_> = responses.collect();
                // All clients have the first bytes while the upstream holds back the last ones.
                reading.wait();
                for (response, mut bytes, expected) in responses {
                    bytes.extend(response.rest());
                    assert!(bytes == *expected);
                }
            });
        }
        reading.wait();
        upstream.configure(|settings| settings.pause_blob_at = None);
    });
    pull(address, &published);
    for (digest, _) in &published.blobs {
        assert_eq!(upstream.count("GET", digest), 1, "{digest}");
    }
    assert_eq!(upstream.count("GET", "/manifests/v1"), 1);
    let misses = cache.metric("imgsync_cache_requests_total{subject=\"blob\",answer=\"miss\"}");
    assert!(misses >= 3, "{misses}");
    let received = cache.metric(&format!(
        "imgsync_upstream_bytes_total{{upstream=\"{PREFIX}\"}}"
    ));
    let sizes: usize = published.blobs.iter().map(|(_, blob)| blob.len()).sum();
    assert_eq!(received, (sizes + published.manifest.len()) as u64);
}

#[test]
fn ranges_are_served_during_a_download_and_leaving_clients_do_not_stop_it() {
    let upstream = Upstream::start();
    let published = upstream.put("team/app", "v1", &image(3, 1 << 20));
    let cache = CacheFixture::start(&upstream, LONG_FRESHNESS, "");
    upstream.configure(|settings| settings.pause_blob_at = Some(200_000));
    let (name, bytes) = &published.blobs[0];
    let part = |range: &str| {
        open_get(
            cache.address(),
            &blob(name),
            &format!("Range: bytes={range}\r\n"),
        )
    };
    let mut first = part("1000-1999");
    assert_eq!((first.status, first.length), (206, 1000));
    let range = format!("content-range: bytes 1000-1999/{}", bytes.len());
    assert!(first.head.to_lowercase().contains(&range), "{}", first.head);
    assert!(first.take(1000) == bytes[1000..2000]);
    let past_the_end = part(&format!("{}-", bytes.len()));
    assert_eq!(past_the_end.status, 416);
    // These bytes arrive when the upstream continues. The first client has left by then.
    let last = part("-5000");
    assert_eq!((last.status, last.length), (206, 5000));
    drop((first, part("0-").take(10)));
    upstream.configure(|settings| settings.pause_blob_at = None);
    assert!(last.rest() == bytes[bytes.len() - 5000..]);
    wait_until("the blob to be stored", || {
        let reply = send(cache.address(), "HEAD", &blob(name), &[], b"");
        let is_kept =
            cache.metric("imgsync_cache_requests_total{subject=\"blob\",answer=\"hit\"}") > 0;
        let whole = get(cache.address(), &blob(name));
        assert!(reply.status == 200 && whole.body == *bytes);
        is_kept.then_some(())
    });
    assert_eq!(upstream.count("GET", name), 1);
}

#[test]
fn an_interrupted_download_continues_at_its_offset() {
    let upstream = Upstream::start();
    let published = upstream.put("team/app", "v1", &image(11, 1 << 20));
    let cache = CacheFixture::start(&upstream, LONG_FRESHNESS, "");
    let (name, bytes) = &published.blobs[0];
    upstream.configure(|settings| settings.cut_blob_at = Some(300_000));
    let reply = cache.get(&blob(name));
    assert!(reply.status == 200 && reply.body == *bytes);
    let ranges: Vec<_> = upstream
        .requests()
        .into_iter()
        .filter(|request| request.method == "GET")
        .collect();
    let ranges: Vec<_> = ranges
        .iter()
        .map(|request| request.header("range"))
        .collect();
    assert_eq!(ranges, [None, Some("bytes=300000-")]);

    // An upstream that ignores ranges sends everything again, and no client gets a byte twice.
    let (name, bytes) = &published.blobs[1];
    upstream.configure(|settings| {
        settings.cut_blob_at = Some(100_000);
        settings.ignores_ranges = true;
    });
    let reply = cache.get(&blob(name));
    assert!(reply.status == 200 && reply.body == *bytes);
}

#[test]
fn an_upstream_that_refuses_ranges_is_read_from_the_start() {
    let upstream = Upstream::start();
    let published = upstream.put("team/app", "v1", &image(12, 1 << 20));
    let cache = CacheFixture::start(&upstream, LONG_FRESHNESS, "");
    upstream.configure(|settings| {
        settings.cut_blob_at = Some(300_000);
        settings.rejects_ranges = true;
    });
    let (name, bytes) = &published.blobs[0];
    let reply = cache.get(&blob(name));
    assert!(reply.status == 200 && reply.body == *bytes);
}

#[test]
fn a_wrong_content_length_never_gives_a_complete_response() {
    let upstream = Upstream::start();
    let published = upstream.put("team/app", "v1", &image(14, 1 << 20));
    let cache = CacheFixture::start(&upstream, LONG_FRESHNESS, "");
    let announced = 300_000;
    upstream.configure(|settings| settings.wrong_content_length = Some(announced));
    let (name, bytes) = &published.blobs[0];
    let response = open_get(cache.address(), &blob(name), "");
    assert_eq!((response.status, response.length), (200, announced));
    assert!(response.rest().len() < announced);
    let reply = cache.get(&blob(name));
    assert!(reply.status == 200 && reply.body == *bytes);
}

#[test]
fn a_download_continues_after_a_restart_of_the_server() {
    let upstream = Upstream::start();
    let published = upstream.put("team/app", "v1", &image(13, 1 << 20));
    let mut cache = CacheFixture::start(&upstream, LONG_FRESHNESS, "");
    let (name, bytes) = &published.blobs[0];
    upstream.configure(|settings| settings.pause_blob_at = Some(300_000));
    let mut response = open_get(cache.address(), &blob(name), "");
    response.take(299_000);
    drop(response);
    assert!(cache.server.stop().success());
    upstream.configure(|settings| settings.pause_blob_at = None);
    upstream.clear_requests();
    cache.restart();
    let reply = cache.get(&blob(name));
    assert!(reply.status == 200 && reply.body == *bytes);
    let requests = upstream.requests();
    let range = requests
        .iter()
        .find(|request| request.method == "GET")
        .unwrap()
        .header("range");
    let first: usize = range.unwrap()["bytes=".len()..]
        .trim_end_matches('-')
        .parse()
        .unwrap();
    assert!((299_000..=300_000).contains(&first), "{first}");
}

#[test]
fn wrong_bytes_are_never_stored_or_sent_completely() {
    let upstream = Upstream::start();
    let published = upstream.put("team/app", "v1", &image(15, 200_000));
    let cache = CacheFixture::start(&upstream, LONG_FRESHNESS, "");
    upstream.configure(|settings| settings.corrupts_content = true);
    let (name, bytes) = &published.blobs[0];
    let response = open_get(cache.address(), &blob(name), "");
    assert_eq!((response.status, response.length), (200, bytes.len()));
    assert!(response.rest().len() < bytes.len());
    cache
        .get(&manifest(&published.digest))
        .assert_error(502, "UNAVAILABLE");
    upstream.configure(|settings| settings.corrupts_content = false);
    pull(cache.address(), &published);
    let failures = format!("imgsync_upstream_failures_total{{upstream=\"{PREFIX}\",kind=\"odd\"}}");
    assert_eq!(cache.metric(&failures), 2);
}

/// Changes the time of all marks of a cached repository, so that it seems unused for longer.
fn age(root: &Path, repository: &str, by: Duration) {
    let mut folders = vec![root.join("imgsync")];
    let mut aged = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path
                .display()
                .to_string()
                .contains(&format!("{repository}/_marks/"))
            {
                let file = std::fs::File::options().append(true).open(&path).unwrap();
                let before = file.metadata().unwrap().modified().unwrap();
                file.set_modified(before - by).unwrap();
                aged += 1;
            }
        }
    }
    assert!(aged > 0, "{repository} has no marks");
}

#[test]
fn a_full_cache_evicts_the_least_recently_used_image_only() {
    let upstream = Upstream::start();
    let with = |seed| {
        Image::new(vec![
            layer("shared", noise(50, 200_000)),
            layer("own", noise(seed, 300_000)),
        ])
    };
    let (old, new) = (with(51), with(52));
    let (old, new) = (
        upstream.put("team/old", "v1", &old),
        upstream.put("team/new", "v1", &new),
    );
    let mut cache = CacheFixture::start(&upstream, LONG_FRESHNESS, "");
    let pull = |cache: &CacheFixture, repository: &str, published: &PublishedImage| {
        let get = |rest: &str| cache.get(&format!("/v2/{repository}/{rest}"));
        let manifest = get("manifests/v1");
        assert!(manifest.body == published.manifest, "{}", manifest.text());
        for (name, bytes) in &published.blobs {
            assert!(
                get(&format!("blobs/{name}")).body == *bytes,
                "{repository}: {name}"
            );
        }
    };
    pull(&cache, "up.example/team/old", &old);
    pull(&cache, "up.example/team/new", &new);
    // The pushed image shares blobs with cached ones, and is larger than the cache may be.
    let pushed = Upstream::start().put("x", "v1", &with(53));
    for (name, bytes) in &pushed.blobs {
        let target = format!("/v2/team/ours/blobs/uploads/?digest={name}");
        assert_eq!(
            send(cache.address(), "POST", &target, &[], bytes).status,
            201
        );
    }
    let media_type = [("Content-Type", "application/vnd.oci.image.manifest.v1+json")];
    let target = "/v2/team/ours/manifests/v1";
    let put = send(
        cache.address(),
        "PUT",
        target,
        &media_type,
        &pushed.manifest,
    );
    assert_eq!(put.status, 201, "{}", put.text());

    assert!(cache.server.stop().success());
    let root = cache.scratch.path("registry");
    age(&root, "team/old", Duration::from_secs(2 * 3600));
    age(&root, "team/new", Duration::from_secs(3600));
    let config = cache.scratch.path("config.yml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(
        &config,
        text.replace("cache: {", "cache: {maxbytes: 600kB, "),
    )
    .unwrap();
    upstream.configure(|settings| settings.is_down = true);
    cache.restart();
    wait_until("the eviction", || {
        (cache.metric("imgsync_cache_evicted_images_total") > 0).then_some(())
    });
    pull(&cache, "up.example/team/new", &new);
    pull(&cache, "team/ours", &pushed);
    let evicted = cache.get("/v2/up.example/team/old/manifests/v1");
    evicted.assert_error(502, "UNAVAILABLE");
    upstream.configure(|settings| settings.is_down = false);
    pull(&cache, "up.example/team/old", &old);
}

#[test]
fn memory_stays_small_with_slow_clients() {
    let _heavy = serial::heavy();
    let upstream = Upstream::start();
    let large = Image::new(
        (0..6)
            .map(|seed| layer("large", noise(40 + seed, 24 << 20)))
            .collect(),
    );
    let published = upstream.put("team/app", "v1", &large);
    let cache = CacheFixture::start(&upstream, LONG_FRESHNESS, "");
    let address = cache.address();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            // These clients read all layers at once, and all start before any continues.
            let responses: Vec<_> = published
                .blobs
                .iter()
                .map(|(digest, bytes)| {
                    let mut response = open_get(address, &blob(digest), "");
                    let start = response.take(1);
                    (response, start, bytes)
                })
                .collect();
            scope.spawn(|| {
                for (response, mut bytes, expected) in responses {
                    bytes.extend(response.rest());
                    assert!(bytes == *expected);
                }
            });
        }
    });
    for (digest, _) in &published.blobs {
        assert_eq!(upstream.count("GET", digest), 1);
    }
    let peak = cache.server.peak_memory();
    assert!(peak < 50_000_000, "{peak} bytes of memory");
}
