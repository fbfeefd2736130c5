//! Requests that the server refuses.

use super::{BadInputFixture, EXIT_USAGE, MANIFEST_HEADER, text, three_layers};
use crate::support::prelude::*;

#[test]
fn a_manifest_with_a_missing_blob_is_refused() {
    let fixture = BadInputFixture::new();
    let image = three_layers();
    let manifest = image.oci_manifest(&image.compressed());
    for target in [
        "/v2/good/manifests/v2".to_owned(),
        "/v2/good/manifests/v1".to_owned(),
        format!("/v2/new/manifests/{}", digest(&manifest)),
    ] {
        let reply = http::send(
            fixture.address(),
            "PUT",
            &target,
            &[MANIFEST_HEADER],
            &manifest,
        );
        assert!([400, 404].contains(&reply.status), "{}", reply.text());
        reply.assert_error(reply.status, "MANIFEST_BLOB_UNKNOWN");
        assert!(
            reply.text().contains(&digest(&image.config)),
            "{}",
            reply.text()
        );
    }
    // A blob in another repository does not count.
    let good = fixture.good.oci_manifest(&fixture.good.compressed());
    let reply = http::send(
        fixture.address(),
        "PUT",
        "/v2/new/manifests/v1",
        &[MANIFEST_HEADER],
        &good,
    );
    reply.assert_error(reply.status, "MANIFEST_BLOB_UNKNOWN");
    fixture.assert_unharmed();
}

#[test]
fn bytes_that_do_not_match_the_digest_are_refused() {
    let fixture = BadInputFixture::new();
    let bytes = noise(5, 200_000);
    let wrong = digest(b"other bytes");

    let location = fixture.upload("good", &bytes);
    let separator = if location.contains('?') { '&' } else { '?' };
    let target = format!("{location}{separator}digest={wrong}");
    http::send(fixture.address(), "PUT", &target, &[], b"").assert_error(400, "DIGEST_INVALID");

    let single = format!("/v2/new/blobs/uploads/?digest={wrong}");
    let reply = http::send(fixture.address(), "POST", &single, &[], &bytes);
    reply.assert_error(400, "DIGEST_INVALID");

    let target = format!("/v2/good/manifests/{wrong}");
    let manifest = fixture.good.oci_manifest(&fixture.good.compressed());
    let reply = http::send(
        fixture.address(),
        "PUT",
        &target,
        &[MANIFEST_HEADER],
        &manifest,
    );
    reply.assert_error(400, "DIGEST_INVALID");

    for name in [&wrong, &digest(&bytes)] {
        let reply = http::get(fixture.address(), &format!("/v2/good/blobs/{name}"));
        reply.assert_error(404, "BLOB_UNKNOWN");
    }
    fixture.assert_unharmed();
}

#[test]
fn invalid_repository_names_are_refused() {
    let fixture = BadInputFixture::new();
    let path = fixture.path("good.tar");
    for name in [
        "Upper", "a//b", "a/../b", "..", "a/", "-a", "a..b", "a b", "ü", "%2e%2e/a",
    ] {
        let remote = format!("{}/{name}:v1", fixture.address());
        let outcome = fixture.imgsync.push(text(&path), &remote);
        outcome.failed(EXIT_USAGE, &["error:", "repository name"]);
    }
    for name in [
        "Upper",
        "a//b",
        "a/../b",
        "%2e%2e",
        "a/%2e%2e/b",
        "-a",
        "a..b",
        "a%00b",
    ] {
        for (method, rest) in [
            ("GET", "tags/list"),
            ("GET", "manifests/v1"),
            ("PUT", "manifests/v1"),
            ("POST", "blobs/uploads/"),
        ] {
            let target = format!("/v2/{name}/{rest}");
            let reply = http::send(
                fixture.address(),
                method,
                &target,
                &[MANIFEST_HEADER],
                b"{}",
            );
            assert_eq!(reply.status, 400, "{method} {target}: {}", reply.text());
            reply.assert_error(400, "NAME_INVALID");
        }
    }
    fixture.assert_unharmed();
}

#[test]
fn a_manifest_of_5_mib_is_refused() {
    let fixture = BadInputFixture::new();
    let mut manifest = fixture.good.oci_manifest(&fixture.good.compressed());
    manifest.resize(5 * 1024 * 1024, b' ');
    let put = |headers: &[(&str, &str)]| {
        http::send(
            fixture.address(),
            "PUT",
            "/v2/good/manifests/v1",
            headers,
            &manifest,
        )
    };
    put(&[MANIFEST_HEADER]).assert_error(413, "MANIFEST_INVALID");
    fixture.assert_unharmed();
}
