//! Tests the freshness of tags, and an upstream that is down, limits requests, or does not answer.

use super::{CacheFixture, LONG_FRESHNESS, NO_FRESHNESS, PREFIX, blob, image, manifest, pull};
use crate::support::http::{Response, send};
use crate::support::prelude::*;

#[test]
fn the_server_starts_with_every_upstream_down_and_never_reports_not_found() {
    let closed_port = ReservedPort::new();
    let cache = CacheFixture::start_at(closed_port.address(), LONG_FRESHNESS, "");
    assert_eq!(cache.get("/v2/").status, 200);
    for target in [manifest("v1"), manifest(&digest(b"x")), blob(&digest(b"x"))] {
        let reply = cache.get(&target);
        reply.assert_error(502, "UNAVAILABLE");
        assert!(
            reply.text().contains("up.example: cannot connect"),
            "{}",
            reply.text()
        );
        assert!(!reply.text().contains("127.0.0.1"), "{}", reply.text());
    }
    let tags = cache.get(&format!("/v2/{PREFIX}/team/app/tags/list"));
    tags.assert_error(502, "UNAVAILABLE");
    // A name without an upstream is reported as not found.
    cache
        .get("/v2/team/app/manifests/v1")
        .assert_error(404, "MANIFEST_UNKNOWN");
    // A HEAD request for a blob is answered with 404, so that a push is not blocked.
    let target = blob(&digest(b"x"));
    assert_eq!(send(cache.address(), "HEAD", &target, &[], b"").status, 404);
    // Also with the section of the stock registry.
    let proxy = CacheFixture::start_with(&format!(
        "proxy: {{remoteurl: 'http://{}'}}\n",
        closed_port.address()
    ));
    proxy
        .get("/v2/team/app/manifests/v1")
        .assert_error(502, "UNAVAILABLE");
}

#[test]
fn cached_content_is_served_as_stale_while_the_upstream_is_down_or_limits() {
    let upstream = Upstream::start();
    let published = upstream.put("team/app", "v1", &image(5, 50_000));
    let cache = CacheFixture::start(&upstream, NO_FRESHNESS, "");
    pull(cache.address(), &published);
    let warning = |reply: &Response| reply.header("warning").map(str::to_owned);
    let fresh = cache.get(&manifest("v1"));
    assert_eq!((fresh.status, warning(&fresh)), (200, None));

    upstream.configure(|settings| settings.is_down = true);
    pull(cache.address(), &published);
    let stale = cache.get(&manifest("v1"));
    assert_eq!((stale.status, &stale.body), (200, &published.manifest));
    assert!(warning(&stale).unwrap().starts_with("110 "), "{stale:?}");
    // Content by digest is never stale.
    assert_eq!(warning(&cache.get(&manifest(&published.digest))), None);
    cache.get(&manifest("v2")).assert_error(502, "UNAVAILABLE");
    let tags = cache.get(&format!("/v2/{PREFIX}/team/app/tags/list"));
    assert_eq!(
        (tags.status, tags.json()["tags"][0].as_str()),
        (200, Some("v1"))
    );
    assert!(warning(&tags).unwrap().starts_with("110 "));
    assert!(
        cache
            .server
            .log()
            .contains("serving stale answers: up.example")
    );

    upstream.configure(|settings| {
        settings.is_down = false;
        settings.status = Some((429, Some(60)));
    });
    upstream.clear_requests();
    let limited = cache.get(&manifest("v2"));
    limited.assert_error(503, "UNAVAILABLE");
    assert_eq!(limited.header("retry-after"), Some("60"));
    // The upstream is not asked during `Retry-After`.
    let limited_again = cache.get(&manifest("v3"));
    limited_again.assert_error(503, "UNAVAILABLE");
    let seconds: u64 = limited_again
        .header("retry-after")
        .unwrap()
        .parse()
        .unwrap();
    assert!((1..=60).contains(&seconds), "{seconds}");
    assert_eq!(warning(&cache.get(&manifest("v1"))).unwrap()[..3], *"110");
    assert_eq!(upstream.requests().len(), 1, "{:?}", upstream.requests());
    let stale = cache.metric("imgsync_cache_requests_total{subject=\"manifest\",answer=\"stale\"}");
    assert!(stale >= 3, "{stale}");
}

#[test]
fn a_tag_is_checked_again_after_its_freshness_and_only_changes_are_fetched() {
    let upstream = Upstream::start();
    let first = upstream.put("team/app", "v1", &image(7, 50_000));
    let cache = CacheFixture::start(&upstream, NO_FRESHNESS, "");
    pull(cache.address(), &first);
    upstream.clear_requests();
    pull(cache.address(), &first);
    assert_eq!(
        (upstream.count("HEAD", "/v1"), upstream.requests().len()),
        (1, 1)
    );

    let second = upstream.put("team/app", "v1", &image(8, 50_000));
    assert_ne!(first.digest, second.digest);
    pull(cache.address(), &second);
    // The old manifest is still available by digest.
    assert_eq!(cache.get(&manifest(&first.digest)).body, first.manifest);

    upstream.remove("team/app", "v1");
    cache
        .get(&manifest("v1"))
        .assert_error(404, "MANIFEST_UNKNOWN");

    let fresh = CacheFixture::start(&upstream, LONG_FRESHNESS, "");
    upstream.put("team/app", "v1", &image(7, 50_000));
    pull(fresh.address(), &first);
    upstream.put("team/app", "v1", &image(8, 50_000));
    upstream.clear_requests();
    pull(fresh.address(), &first);
    assert!(upstream.requests().is_empty(), "{:?}", upstream.requests());
}

#[test]
fn missing_content_is_remembered_for_a_short_time() {
    let upstream = Upstream::start();
    let cache = CacheFixture::start(&upstream, LONG_FRESHNESS, "");
    for _ in 0..5 {
        cache
            .get(&manifest("v1"))
            .assert_error(404, "MANIFEST_UNKNOWN");
        cache
            .get(&blob(&digest(b"x")))
            .assert_error(404, "BLOB_UNKNOWN");
    }
    assert_eq!(upstream.count("GET", "/manifests/v1"), 1);
    assert!(upstream.count("GET", &digest(b"x")) <= 2);
    let published = upstream.put("team/app", "v1", &image(9, 5_000));
    wait_until("the tag to be found", || {
        (cache.get(&manifest("v1")).status == 200).then_some(())
    });
    pull(cache.address(), &published);
}

#[test]
fn a_read_only_server_serves_what_it_has_and_asks_no_upstream() {
    let upstream = Upstream::start();
    let published = upstream.put("team/app", "v1", &image(16, 5_000));
    let mut cache = CacheFixture::start(&upstream, NO_FRESHNESS, "");
    pull(cache.address(), &published);
    assert!(cache.server.stop().success());
    upstream.clear_requests();
    cache.restart_read_only();
    pull(cache.address(), &published);
    let stale = cache.get(&manifest("v1"));
    assert!(stale.status == 200 && stale.header("warning").is_some());
    cache.get(&manifest("v2")).assert_error(503, "UNAVAILABLE");
    cache
        .get(&blob(&digest(b"not here")))
        .assert_error(503, "UNAVAILABLE");
    assert_eq!(upstream.requests().len(), 0);
}

#[test]
fn an_upstream_that_does_not_answer_delays_one_request_only() {
    let upstream = Upstream::start();
    let published = upstream.put("team/app", "v1", &image(35, 5_000));
    let cache = CacheFixture::start(&upstream, NO_FRESHNESS, "");
    pull(cache.address(), &published);
    upstream.configure(|settings| settings.never_responds = true);
    // The HTTP client of the tests has a timeout of one minute.
    let stale = cache.get(&manifest("v1"));
    assert_eq!((stale.status, &stale.body), (200, &published.manifest));
    assert!(stale.header("warning").is_some());
    // The next request does not wait, because the upstream is not asked.
    let request_count = upstream.requests().len();
    assert!(cache.get(&manifest("v1")).header("warning").is_some());
    assert_eq!(upstream.requests().len(), request_count);
    upstream.configure(|settings| settings.never_responds = false);
}
