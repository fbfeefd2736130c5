//! Tags that are asked for again, and an upstream that is down, limits, or is silent.

use super::{Cache, FRESH, PREFIX, STALE, blob, image, manifest, nowhere, pull};
use crate::support::http::{Reply, send};
use crate::support::prelude::*;

#[test]
fn the_server_starts_with_every_upstream_down_and_never_says_not_found() {
    let cache = Cache::at(nowhere(), FRESH, "");
    assert_eq!(cache.get("/v2/").status, 200);
    for target in [manifest("v1"), manifest(&digest(b"x")), blob(&digest(b"x"))] {
        let reply = cache.get(&target);
        reply.refused(502, "UNAVAILABLE");
        assert!(
            reply.text().contains("up.example: cannot connect"),
            "{}",
            reply.text()
        );
        assert!(!reply.text().contains("127.0.0.1"), "{}", reply.text());
    }
    let tags = cache.get(&format!("/v2/{PREFIX}/team/app/tags/list"));
    tags.refused(502, "UNAVAILABLE");
    // What is not behind it is not there, and that is known.
    cache
        .get("/v2/team/app/manifests/v1")
        .refused(404, "MANIFEST_UNKNOWN");
    // But whoever pushes sends what is not here, and is not held up.
    let target = blob(&digest(b"x"));
    assert_eq!(send(cache.address(), "HEAD", &target, &[], b"").status, 404);
    // The same for the stock registry's own section.
    let proxy = Cache::with(&format!("proxy: {{remoteurl: 'http://{}'}}\n", nowhere()));
    proxy
        .get("/v2/team/app/manifests/v1")
        .refused(502, "UNAVAILABLE");
}

#[test]
fn what_was_fetched_is_served_while_the_upstream_is_down_or_limits_and_marked_stale() {
    let upstream = Upstream::start();
    let published = upstream.put("team/app", "v1", &image(5, 50_000));
    let cache = Cache::before(&upstream, STALE, "");
    pull(cache.address(), &published);
    let warning = |reply: &Reply| reply.header("warning").map(str::to_owned);
    let fresh = cache.get(&manifest("v1"));
    assert_eq!((fresh.status, warning(&fresh)), (200, None));

    upstream.behave(|manners| manners.is_down = true);
    pull(cache.address(), &published);
    let stale = cache.get(&manifest("v1"));
    assert_eq!((stale.status, &stale.body), (200, &published.manifest));
    assert!(warning(&stale).unwrap().starts_with("110 "), "{stale:?}");
    // By digest nothing can be stale.
    assert_eq!(warning(&cache.get(&manifest(&published.digest))), None);
    cache.get(&manifest("v2")).refused(502, "UNAVAILABLE");
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

    upstream.behave(|manners| {
        manners.is_down = false;
        manners.status = Some((429, Some(60)));
    });
    upstream.forget();
    let limited = cache.get(&manifest("v2"));
    limited.refused(503, "UNAVAILABLE");
    assert_eq!(limited.header("retry-after"), Some("60"));
    // It asked for peace, and gets it.
    let again = cache.get(&manifest("v3"));
    again.refused(503, "UNAVAILABLE");
    let seconds: u64 = again.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&seconds), "{seconds}");
    assert_eq!(warning(&cache.get(&manifest("v1"))).unwrap()[..3], *"110");
    assert_eq!(upstream.seen().len(), 1, "{:?}", upstream.seen());
    let stale = cache.metric("imgsync_cache_requests_total{subject=\"manifest\",answer=\"stale\"}");
    assert!(stale >= 3, "{stale}");
}

#[test]
fn a_tag_is_asked_for_anew_after_its_time_and_only_what_changed_is_fetched() {
    let upstream = Upstream::start();
    let first = upstream.put("team/app", "v1", &image(7, 50_000));
    let cache = Cache::before(&upstream, STALE, "");
    pull(cache.address(), &first);
    upstream.forget();
    pull(cache.address(), &first);
    assert_eq!(
        (upstream.count("HEAD", "/v1"), upstream.seen().len()),
        (1, 1)
    );

    let second = upstream.put("team/app", "v1", &image(8, 50_000));
    assert_ne!(first.digest, second.digest);
    pull(cache.address(), &second);
    // What others hold by digest is still there.
    assert_eq!(cache.get(&manifest(&first.digest)).body, first.manifest);

    upstream.remove("team/app", "v1");
    cache.get(&manifest("v1")).refused(404, "MANIFEST_UNKNOWN");

    let fresh = Cache::before(&upstream, FRESH, "");
    upstream.put("team/app", "v1", &image(7, 50_000));
    pull(fresh.address(), &first);
    upstream.put("team/app", "v1", &image(8, 50_000));
    upstream.forget();
    pull(fresh.address(), &first);
    assert!(upstream.seen().is_empty(), "{:?}", upstream.seen());
}

#[test]
fn what_is_not_there_is_asked_for_once_and_soon_again() {
    let upstream = Upstream::start();
    let cache = Cache::before(&upstream, FRESH, "");
    for _ in 0..5 {
        cache.get(&manifest("v1")).refused(404, "MANIFEST_UNKNOWN");
        cache.get(&blob(&digest(b"x"))).refused(404, "BLOB_UNKNOWN");
    }
    assert_eq!(upstream.count("GET", "/manifests/v1"), 1);
    assert!(upstream.count("GET", &digest(b"x")) <= 2);
    let published = upstream.put("team/app", "v1", &image(9, 5_000));
    until("the tag to be found", || {
        (cache.get(&manifest("v1")).status == 200).then_some(())
    });
    pull(cache.address(), &published);
}

#[test]
fn a_registry_that_is_read_only_serves_what_it_has_and_asks_nobody() {
    let upstream = Upstream::start();
    let published = upstream.put("team/app", "v1", &image(16, 5_000));
    let mut cache = Cache::before(&upstream, STALE, "");
    pull(cache.address(), &published);
    assert!(cache.server.stop().success());
    upstream.forget();
    cache.read_only();
    pull(cache.address(), &published);
    let stale = cache.get(&manifest("v1"));
    assert!(stale.status == 200 && stale.header("warning").is_some());
    cache.get(&manifest("v2")).refused(503, "UNAVAILABLE");
    cache
        .get(&blob(&digest(b"not here")))
        .refused(503, "UNAVAILABLE");
    assert_eq!(upstream.seen().len(), 0);
}

#[test]
fn an_upstream_that_says_nothing_keeps_nobody_waiting_for_long() {
    let upstream = Upstream::start();
    let published = upstream.put("team/app", "v1", &image(35, 5_000));
    let cache = Cache::before(&upstream, STALE, "");
    pull(cache.address(), &published);
    upstream.behave(|manners| manners.is_silent = true);
    // The client of this test gives up after a minute.
    let stale = cache.get(&manifest("v1"));
    assert_eq!((stale.status, &stale.body), (200, &published.manifest));
    assert!(stale.header("warning").is_some());
    // The next one does not wait at all: it is not asked.
    let asked = upstream.seen().len();
    assert!(cache.get(&manifest("v1")).header("warning").is_some());
    assert_eq!(upstream.seen().len(), asked);
    upstream.behave(|manners| manners.is_silent = false);
}
