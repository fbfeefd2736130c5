//! Tests pushes to a server with a cache.

use super::{CacheFixture, LONG_FRESHNESS, NO_FRESHNESS, PREFIX, blob, image, manifest, pull};
use crate::support::archive::write_tar;
use crate::support::http::send;
use crate::support::prelude::*;
use crate::support::upstream::PublishedImage;

#[test]
fn a_pushed_tag_is_not_replaced_by_the_upstream() {
    let upstream = Upstream::start();
    upstream.put("team/app", "v1", &image(19, 20_000));
    let cache = CacheFixture::start(&upstream, NO_FRESHNESS, "");
    // The upstream has these blobs under the same name: they are reported as present, and fetched.
    let pushed = image(20, 20_000);
    let published = upstream.put("team/app", "other", &pushed);
    for (name, _) in &published.blobs {
        assert_eq!(
            send(cache.address(), "HEAD", &blob(name), &[], b"").status,
            200
        );
    }
    let media_type = [("Content-Type", "application/vnd.oci.image.manifest.v1+json")];
    let put = send(
        cache.address(),
        "PUT",
        &manifest("v1"),
        &media_type,
        &published.manifest,
    );
    assert_eq!(put.status, 201, "{}", put.text());
    upstream.clear_requests();
    for _ in 0..2 {
        pull(cache.address(), &published);
        upstream.configure(|settings| settings.is_down = true);
    }
    assert!(upstream.requests().is_empty(), "{:?}", upstream.requests());
    let reply = cache.get(&manifest("v1"));
    assert_eq!((reply.status, reply.header("warning")), (200, None));
}

#[test]
fn pushes_do_not_depend_on_an_upstream() {
    let closed_port = ReservedPort::new();
    let cache = CacheFixture::start_at(closed_port.address(), LONG_FRESHNESS, "");
    let image = image(70, 100_000);
    let archive = cache.scratch.path("image.tar");
    write_tar(&image.docker_archive("app:v1"), &archive);
    let tool = Imgsync::new(&cache.scratch.folder("home"));
    let remote = format!("{}/{PREFIX}/team/app:v1", cache.address());
    tool.push(&archive.display().to_string(), &remote)
        .succeeded();
    assert_eq!(cache.get(&manifest("v1")).status, 200);
    assert_eq!(cache.get(&manifest("v2")).status, 502);
}

#[test]
fn the_section_of_the_stock_registry_works_with_pushes() {
    let upstream = Upstream::start();
    let cached = upstream.put("library/nginx", "v1", &image(37, 50_000));
    let (other_upstream, pushed) = (Upstream::start(), image(38, 50_000));
    let pushed = other_upstream.put("x", "v1", &pushed);
    let cache = CacheFixture::start_with(&format!(
        "proxy: {{remoteurl: 'http://{}', ttl: 1h}}\n",
        upstream.address()
    ));
    let check = |name: &str, published: &PublishedImage| {
        let reply = cache.get(&format!("/v2/{name}/manifests/v1"));
        assert!(reply.body == published.manifest, "{}", reply.text());
        for (digest, bytes) in &published.blobs {
            assert!(cache.get(&format!("/v2/{name}/blobs/{digest}")).body == *bytes);
        }
    };
    check("library/nginx", &cached);
    for state in ["up", "down"] {
        upstream.configure(|settings| settings.is_down = state == "down");
        let name = format!("team/{state}");
        for (digest, bytes) in &pushed.blobs {
            let target = format!("/v2/{name}/blobs/{digest}");
            assert_eq!(send(cache.address(), "HEAD", &target, &[], b"").status, 404);
            let target = format!("/v2/{name}/blobs/uploads/?digest={digest}");
            assert_eq!(
                send(cache.address(), "POST", &target, &[], bytes).status,
                201
            );
        }
        let media_type = [("Content-Type", "application/vnd.oci.image.manifest.v1+json")];
        let target = format!("/v2/{name}/manifests/v1");
        let put = send(
            cache.address(),
            "PUT",
            &target,
            &media_type,
            &pushed.manifest,
        );
        assert_eq!(put.status, 201, "{}", put.text());
        check(&name, &pushed);
        check("library/nginx", &cached);
    }
}
