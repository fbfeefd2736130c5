//! Pushes to a server with a cache.

use super::{CacheFixture, FRESH, PREFIX, STALE, blob, image, manifest, nowhere, pull};
use crate::support::archive::write_tar;
use crate::support::http::send;
use crate::support::prelude::*;
use crate::support::upstream::PublishedImage;

#[test]
fn a_tag_that_was_pushed_here_is_ours() {
    let upstream = Upstream::start();
    upstream.put("team/app", "v1", &image(19, 20_000));
    let cache = CacheFixture::before(&upstream, STALE, "");
    // Its blobs lie upstream, under the same name: the push is told so, and they are fetched.
    let ours = image(20, 20_000);
    let published = upstream.put("team/app", "other", &ours);
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
fn what_is_pushed_does_not_depend_on_an_upstream() {
    let cache = CacheFixture::at(nowhere(), FRESH, "");
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
fn the_stock_section_works_beside_pushes() {
    let upstream = Upstream::start();
    let theirs = upstream.put("library/nginx", "v1", &image(37, 50_000));
    let (there, ours) = (Upstream::start(), image(38, 50_000));
    let ours = there.put("x", "v1", &ours);
    let cache = CacheFixture::with(&format!(
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
    check("library/nginx", &theirs);
    for state in ["up", "down"] {
        upstream.configure(|settings| settings.is_down = state == "down");
        let name = format!("team/{state}");
        for (digest, bytes) in &ours.blobs {
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
        let put = send(cache.address(), "PUT", &target, &media_type, &ours.manifest);
        assert_eq!(put.status, 201, "{}", put.text());
        check(&name, &ours);
        check("library/nginx", &theirs);
    }
}
