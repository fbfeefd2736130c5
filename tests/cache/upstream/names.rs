//! Tests names: which repository they mean, which are allowed, and lists of tags and referrers.

use super::{CacheFixture, LONG_FRESHNESS, PREFIX, blob, image, manifest, open_get, pull};
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::fake::{self, FakeServer};
use crate::support::http::send;
use crate::support::prelude::*;
use crate::support::upstream::PublishedImage;

#[test]
fn only_allowed_repositories_are_fetched() {
    let upstream = Upstream::start();
    upstream.put("secret/app", "v1", &image(21, 5_000));
    let published = upstream.put("team/app", "v1", &image(22, 5_000));
    let cache = CacheFixture::start(&upstream, LONG_FRESHNESS, ", repositories: ['team/*']");
    pull(cache.address(), &published);
    upstream.clear_requests();
    for rest in [
        "manifests/v1".to_owned(),
        "tags/list".to_owned(),
        format!("blobs/{}", published.blobs[0].0),
        format!("manifests/{}", published.digest),
    ] {
        let reply = cache.get(&format!("/v2/{PREFIX}/secret/app/{rest}"));
        reply.assert_error(403, "DENIED");
    }
    assert!(upstream.requests().is_empty(), "{:?}", upstream.requests());
    // No name makes the server contact another host.
    for target in [
        "/v2/team/app/manifests/v1?ns=127.0.0.1:1",
        "/v2/team/app/manifests/v1?ns=evil.example",
        "/v2/evil.example/team/app/manifests/v1",
    ] {
        assert_eq!(cache.get(target).status, 404, "{target}");
    }
    assert!(upstream.requests().is_empty());
}

#[test]
fn names_are_resolved_as_clients_expect() {
    let (hub, other) = (Upstream::start(), Upstream::start());
    let nginx = hub.put("library/nginx", "v1", &image(23, 5_000));
    let app = other.put("owner/app", "v1", &image(24, 5_000));
    let cache = CacheFixture::start_with(&format!(
        "imgsync:\n  cache:\n    upstreams:\n    - {{prefix: docker.io, remoteurl: 'http://{}'}}\n    \
         - {{prefix: ghcr.io, remoteurl: 'http://{}', namespaces: [packages.example]}}\n",
        hub.address(),
        other.address(),
    ));
    let manifest_of = |target: &str| {
        let reply = cache.get(target);
        (
            reply.status,
            reply.header("docker-content-digest").map(str::to_owned),
        )
    };
    for (target, found) in [
        // By the prefix of the upstream.
        (
            "/v2/docker.io/library/nginx/manifests/v1".to_owned(),
            &nginx,
        ),
        ("/v2/docker.io/nginx/manifests/v1".to_owned(), &nginx),
        ("/v2/ghcr.io/owner/app/manifests/v1".to_owned(), &app),
        // Like containerd, with `ns`.
        (
            "/v2/library/nginx/manifests/v1?ns=docker.io".to_owned(),
            &nginx,
        ),
        ("/v2/owner/app/manifests/v1?ns=ghcr.io".to_owned(), &app),
        (
            "/v2/owner/app/manifests/v1?ns=packages.example".to_owned(),
            &app,
        ),
        (
            format!("/v2/owner/app/manifests/v1?ns={}", other.address()),
            &app,
        ),
        // Like Docker's daemon, with a plain name.
        ("/v2/library/nginx/manifests/v1".to_owned(), &nginx),
    ] {
        assert_eq!(
            manifest_of(&target),
            (200, Some(found.digest.clone())),
            "{target}"
        );
    }
    assert_eq!(manifest_of("/v2/owner/app/manifests/v1").0, 404);
    // A local repository has precedence over the mirror.
    let local_image = image(25, 5_000);
    let push = |repository: &str, published: &PublishedImage| {
        for (name, bytes) in &published.blobs {
            let target = format!("/v2/{repository}/blobs/uploads/?digest={name}");
            assert_eq!(
                send(cache.address(), "POST", &target, &[], bytes).status,
                201
            );
        }
        let media_type = [("Content-Type", "application/vnd.oci.image.manifest.v1+json")];
        let target = format!("/v2/{repository}/manifests/v1");
        let put = send(
            cache.address(),
            "PUT",
            &target,
            &media_type,
            &published.manifest,
        );
        assert_eq!(put.status, 201, "{}", put.text());
    };
    let published = Upstream::start().put("x", "v1", &local_image);
    push("library/nginx", &published);
    let found = manifest_of("/v2/library/nginx/manifests/v1");
    assert_eq!(found, (200, Some(published.digest.clone())));
    let found = manifest_of("/v2/docker.io/library/nginx/manifests/v1");
    assert_eq!(found, (200, Some(nginx.digest.clone())));
    // Pushes work while the upstream of the mirror is down.
    hub.configure(|settings| settings.is_down = true);
    let target = format!("/v2/team/new/blobs/{}", published.blobs[0].0);
    assert_eq!(send(cache.address(), "HEAD", &target, &[], b"").status, 404);
    assert_eq!(cache.get("/v2/team/new/manifests/v1").status, 404);
    push("team/new", &published);
}

#[test]
fn lists_have_upstream_and_local_entries() {
    let upstream = Upstream::start();
    let published = upstream.put("team/app", "v1", &image(29, 5_000));
    upstream.put("team/app", "v2", &image(30, 5_000));
    let cache = CacheFixture::start(&upstream, LONG_FRESHNESS, "");
    pull(cache.address(), &published);
    let media_type = [("Content-Type", "application/vnd.oci.image.manifest.v1+json")];
    let put = send(
        cache.address(),
        "PUT",
        &manifest("ours"),
        &media_type,
        &published.manifest,
    );
    assert_eq!(put.status, 201, "{}", put.text());
    let tags = format!("/v2/{PREFIX}/team/app/tags/list");
    assert_eq!(
        cache.get(&tags).json()["tags"],
        serde_json::json!(["ours", "v1", "v2"])
    );
    let page = cache.get(&format!("{tags}?n=2"));
    assert_eq!(page.json()["tags"], serde_json::json!(["ours", "v1"]));
    assert!(page.header("link").unwrap().contains("last=v1"), "{page:?}");

    let signature = serde_json::json!({
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": digest(b"signature"), "size": 9, "artifactType": "application/x.signature",
    });
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [signature]});
    upstream.set_referrers("team/app", &published.digest, index.to_string());
    let referrers = format!("/v2/{PREFIX}/team/app/referrers/{}", published.digest);
    let listed = cache.get(&referrers).json();
    assert_eq!(listed["manifests"], serde_json::json!([signature]));
    let filtered = cache.get(&format!("{referrers}?artifactType=other")).json();
    assert_eq!(filtered["manifests"], serde_json::json!([]));

    // An upstream that is down is an error, not an empty list.
    upstream.configure(|settings| settings.is_down = true);
    let fetched = upstream.put("team/app", "v3", &image(28, 5_000)).digest;
    let of = |digest: &str| cache.get(&format!("/v2/{PREFIX}/team/app/referrers/{digest}"));
    of(&fetched).assert_error(502, "UNAVAILABLE");
    let stale = of(&published.digest);
    assert_eq!(stale.json()["manifests"], serde_json::json!([]));
    assert!(stale.header("warning").is_some());
}

#[test]
fn a_blob_is_served_only_in_repositories_where_the_upstream_has_it() {
    let upstream = Upstream::start();
    let shared = image(31, 1 << 20);
    let published = upstream.put("team/app", "v1", &shared);
    upstream.put("other/app", "v1", &shared);
    upstream.put("secret/app", "v1", &image(33, 5_000));
    let cache = CacheFixture::start(&upstream, LONG_FRESHNESS, "");
    let (name, bytes) = &published.blobs[0];
    let of = |repository: &str| format!("/v2/{PREFIX}/{repository}/blobs/{name}");
    upstream.configure(|settings| settings.pause_blob_at = Some(100_000));
    let mut first = open_get(cache.address(), &of("team/app"), "");
    first.take(1000);
    // During the download for another repository, and after it.
    let mut second = open_get(cache.address(), &of("other/app"), "");
    second.take(1000);
    cache
        .get(&of("secret/app"))
        .assert_error(404, "BLOB_UNKNOWN");
    upstream.configure(|settings| settings.pause_blob_at = None);
    assert_eq!(
        (first.rest().len(), second.rest().len()),
        (bytes.len() - 1000, bytes.len() - 1000)
    );
    cache
        .get(&of("secret/app"))
        .assert_error(404, "BLOB_UNKNOWN");
    upstream.configure(|settings| settings.is_down = true);
    for repository in ["team/app", "other/app"] {
        assert!(cache.get(&of(repository)).body == *bytes);
    }
    assert_eq!(upstream.count("GET", name), 1);

    // A request for a blob as a manifest does not hide the blob.
    upstream.configure(|settings| settings.is_down = false);
    let (config, bytes) = published.blobs.last().unwrap();
    cache
        .get(&manifest(config))
        .assert_error(404, "MANIFEST_UNKNOWN");
    assert!(cache.get(&blob(config)).body == *bytes);
}

/// Some pages may be empty, but a list that does not end is an error, after a few requests.
#[test]
fn an_endless_list_of_tags_is_an_error() {
    let pages = AtomicUsize::new(0);
    let upstream = FakeServer::start(move |request| {
        if request.line().ends_with("/tags/list") {
            let page = pages.fetch_add(1, Ordering::Relaxed);
            let next = format!("</v2/team/app/tags/list?last={page}>; rel=\"next\"");
            let empty = "{\"name\": \"team/app\", \"tags\": []}";
            fake::status(200).header("link", next).body(empty)
        } else {
            fake::status(404)
        }
    });
    let address = upstream.address().parse().unwrap();
    let cache = CacheFixture::start_at(address, LONG_FRESHNESS, "");
    let tags = cache.get(&format!("/v2/{PREFIX}/team/app/tags/list"));
    tags.assert_error(502, "UNAVAILABLE");
    assert_eq!(upstream.requests().len(), 10);
}
