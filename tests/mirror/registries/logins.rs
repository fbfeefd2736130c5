//! Tests tokens that expire, and redirects to other hosts.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::{FROM, TO, find_digest, version};
use crate::support::fake::{FakeServer, status};
use crate::support::prelude::*;
use crate::support::seed;
use crate::support::seed::OCI_MANIFEST;

/// Runs `imgsync mirror SOURCE TARGET` with a login at the source.
fn mirror_with_login(imgsync: &Imgsync, from: &str, to: &str) -> Outcome {
    let mut command = imgsync.command();
    command.env("IMGSYNC_SOURCE_USERNAME", "reader");
    command.env("IMGSYNC_SOURCE_PASSWORD", "pass");
    run(command.args(["mirror", from, to]))
}

#[test]
fn tokens_that_expire_during_a_mirror_are_renewed() {
    let scratch = Scratch::new();
    let source = Upstream::start();
    let target = Server::start(&scratch.folder("target"));
    source.configure(|settings| settings.token_login = Some(("reader", "pass", 30)));
    let tags: Vec<_> = (0..8).map(|number| format!("v{number}")).collect();
    let published = tags.iter().zip(0..);
    let published: Vec<_> = published
        .map(|(tag, number)| source.put(FROM, tag, &version(number)).digest)
        .collect();
    let imgsync = Imgsync::new(&scratch.folder("home"));
    let (from, to) = (
        format!("{}/{FROM}", source.address()),
        format!("{}/{TO}", target.address()),
    );
    run(imgsync.command().args(["mirror", &from, &to])).failed(
        5,
        &["or set IMGSYNC_SOURCE_USERNAME and IMGSYNC_SOURCE_PASSWORD"],
    );
    mirror_with_login(&imgsync, &from, &to).succeeded();
    for (tag, digest) in tags.iter().zip(&published) {
        assert_eq!(
            find_digest(target.address(), TO, tag).as_ref(),
            Some(digest)
        );
    }
}

/// The registry redirects every blob request to a storage server, with URLs that are valid for one
/// request. The storage server must not get the password.
#[test]
fn a_storage_server_with_expiring_urls_gets_no_password() {
    const CUT: usize = 30_000;
    let layer: String = (0..20_000).map(|number| format!("{number}\n")).collect();
    let (config, len) = ("{}".to_owned(), layer.len());
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST,
        "config": seed::descriptor("application/vnd.oci.empty.v1+json", config.as_bytes()),
        "layers": [seed::descriptor("text/plain", layer.as_bytes())],
    })
    .to_string();
    let content = layer.clone();
    let request_count = AtomicUsize::new(0);
    let storage = FakeServer::start(move |request| {
        if request.target.starts_with("/small") {
            return status(200).body("{}");
        }
        // The first URL has expired, the second response is cut, the third one continues.
        match request_count.fetch_add(1, Ordering::SeqCst) {
            0 => status(403).body("<Error>Request has expired</Error>"),
            1 => status(200)
                .header("Content-Length", len.to_string())
                .body(&content[..CUT]),
            _ => {
                let range = format!("bytes {CUT}-{}/{len}", len - 1);
                let reply = status(206).header("Content-Range", range);
                reply.body(&content[CUT..])
            }
        }
    });
    let (storage_address, small) = (storage.address(), digest(config.as_bytes()));
    let manifest_digest = digest(manifest.as_bytes());
    let header_digest = manifest_digest.clone();
    let url_count = AtomicUsize::new(0);
    let registry = FakeServer::start(move |request| {
        if request.authorization().is_empty() {
            return status(401).header("WWW-Authenticate", "Basic realm=\"here\"");
        }
        if request.target.contains("/manifests/sha256-") {
            return status(404);
        }
        if request.target.contains("/manifests/") {
            return status(200)
                .header("Content-Type", OCI_MANIFEST)
                .header("Docker-Content-Digest", &header_digest)
                .body(&*manifest);
        }
        if request.target.contains("/blobs/") {
            let is_small = request.target.ends_with(&small);
            let kind = if is_small { "small" } else { "large" };
            let number = url_count.fetch_add(1, Ordering::SeqCst);
            let location = format!("http://{storage_address}/{kind}?signature={number}");
            return status(307).header("Location", location);
        }
        status(404)
    });
    let scratch = Scratch::new();
    let target = Server::start(&scratch.folder("target"));
    let imgsync = Imgsync::new(&scratch.folder("home"));
    let from = format!("{}/{FROM}:v1", registry.address());
    let to = format!("{}/{TO}:v1", target.address());
    mirror_with_login(&imgsync, &from, &to).succeeded();
    let arrived = find_digest(target.address(), TO, "v1");
    assert_eq!(arrived, Some(manifest_digest));
    let blob = format!("/v2/{TO}/blobs/{}", digest(layer.as_bytes()));
    assert_eq!(http::get(target.address(), &blob).text(), layer);
    let seen = storage.requests();
    let large = seen
        .iter()
        .filter(|request| request.target.starts_with("/large"));
    let large: Vec<_> = large.collect();
    assert_eq!(large.len(), 3);
    let once: BTreeSet<_> = seen.iter().map(|request| &request.target).collect();
    assert_eq!(once.len(), seen.len(), "a URL was used twice");
    assert_eq!(large[2].header("range"), Some(&*format!("bytes={CUT}-")));
    assert!(
        seen.iter()
            .all(|request| request.authorization().is_empty())
    );
}
