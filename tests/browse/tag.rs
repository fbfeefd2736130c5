//! Tests `imgsync tag`: no bytes move, in the same repository and into another one.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use super::{BrowseFixture, built_image, repository};
use crate::support::meddler::{response, start_meddler};
use crate::support::prelude::*;
use crate::support::seed::{OCI_INDEX, index, referrers_tag};

fn image(name: &str) -> Image {
    built_image(&[("COPY app /", &[(name, &[3; 3000])])], &Value::Null)
}

#[test]
fn a_tag_is_added_and_moved() {
    let Some(fixture) = BrowseFixture::new() else {
        return;
    };
    for address in fixture.addresses() {
        let app = repository(address, "team/app");
        let [first, second] = ["one", "two"].map(|name| app.push_image(None, &image(name)));
        let both = index(&[("linux/amd64", &first), ("linux/arm64", &second)]);
        app.push_manifest("v1", OCI_INDEX, &both);
        app.push_image(Some("stable"), &image("two"));
        let name = |tag: &str| format!("{address}/team/app:{tag}");

        let tagged = fixture.run(&["tag", &name("v1"), "v1.0", "stable", &name("latest")]);
        let tagged = tagged.succeeded();
        let expected = ["v1.0", "stable", "latest"]
            .map(|tag| format!("tagged {}@{}\n", name(tag), digest(&both)));
        assert_eq!(tagged.stdout, expected.concat());
        let before = format!(
            "{} pointed at {} before; to move it back: imgsync tag {address}/team/app@{} stable",
            name("stable"),
            digest(&second),
            digest(&second)
        );
        assert!(tagged.stderr.contains(&before), "{tagged}");
        for tag in ["v1.0", "stable", "latest"] {
            let stored = check::at_registry(address, &format!("team/app:{tag}"));
            assert_eq!(stored.manifest, digest(&both));
        }

        let again = fixture
            .json(&["tag", "--json", &name("v1"), "stable"])
            .remove(0);
        assert_eq!(
            (&again["changed"], &again["before"]),
            (&json!(false), &json!(digest(&both)))
        );
        let by_digest = format!("{address}/team/app@{}", digest(&first));
        let back = fixture
            .json(&["tag", "--json", &by_digest, "stable"])
            .remove(0);
        assert_eq!(
            (&back["changed"], &back["digest"]),
            (&json!(true), &json!(digest(&first)))
        );

        fixture
            .run(&["tag", &name("none"), "v3"])
            .failed(4, &["there is no", "imgsync ls"]);
        fixture
            .run(&["tag", &name("v1"), "example.com/app:v1"])
            .failed(2, &["another registry", "imgsync mirror"]);
    }
}

#[test]
fn another_repository_gets_the_image_and_its_signatures_by_mounts() {
    let Some(fixture) = BrowseFixture::new() else {
        return;
    };
    for (address, has_referrers) in fixture.addresses().into_iter().zip([true, false]) {
        let app = repository(address, "team/app");
        let [first, second] = ["one", "two"].map(|name| app.push_image(None, &image(name)));
        let both = index(&[("linux/amd64", &first), ("linux/arm64", &second)]);
        app.push_manifest("v1", OCI_INDEX, &both);
        let signature = app.push_artifact(None, &both, b"signature");
        if !has_referrers {
            let (tag, list) = referrers_tag(&both, &[&signature]);
            app.push_manifest(&tag, OCI_INDEX, &list);
        }

        let (source, target) = (
            format!("{address}/team/app:v1"),
            format!("{address}/prod/app"),
        );
        let tagged = fixture.json(&["tag", "--json", &source, &target]).remove(0);
        assert_eq!(tagged["target"], format!("{target}:v1"));
        assert!(tagged["mounted"].as_u64().unwrap() > 0, "{tagged}");
        assert!(tagged["referrers"].as_u64().unwrap() > 0, "{tagged}");
        let stored = check::at_registry(address, "prod/app:v1");
        assert_eq!(stored.manifest, digest(&both));
        let found = format!("/v2/prod/app/manifests/{}", digest(&signature));
        assert_eq!(http::get(address, &found).status, 200);
        let listed = if has_referrers {
            format!("/v2/prod/app/referrers/{}", digest(&both))
        } else {
            format!("/v2/prod/app/manifests/{}", referrers_tag(&both, &[]).0)
        };
        let listed = http::get(address, &listed).text();
        assert!(listed.contains(&digest(&signature)), "{listed}");
    }
}

/// A registry that does not mount opens an upload session, or refuses the request.
#[test]
fn without_mounts_nothing_is_sent_and_no_tag_is_set() {
    let scratch = Scratch::new();
    let imgsync = Imgsync::new(&scratch.folder("home"));
    let server = Server::start(&scratch.folder("root"));
    repository(server.address(), "team/app").push_image(Some("v1"), &image("one"));
    let denied = r#"{"errors": [{"code": "DENIED", "message": "not yours"}]}"#;
    for is_refused in [false, true] {
        let cancelled = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&cancelled);
        let address = server.address();
        let registry = start_meddler(address, move |request, forward| {
            assert_ne!(request.method, "PATCH");
            assert_ne!(request.method, "PUT");
            if request.method == "DELETE" {
                count.fetch_add(1, Ordering::SeqCst);
            }
            let is_mount = request.target.contains("mount=");
            match (is_mount, is_refused) {
                (true, true) => response(403, denied),
                (true, false) => {
                    http::send(address, "POST", "/v2/prod/app/blobs/uploads/", &[], b"")
                }
                (false, _) => forward(),
            }
        });
        let host = registry.address();
        let (source, target) = (format!("{host}/team/app:v1"), format!("{host}/prod/app:v1"));
        let outcome = run(imgsync.command().args(["tag", &source, &target]));
        if is_refused {
            let outcome = outcome.failed(5, &["403", "not yours"]);
            assert!(!outcome.stderr.contains("imgsync mirror"), "{outcome}");
        } else {
            outcome.failed(4, &["did not mount", "imgsync mirror"]);
        }
        let there = http::get(address, "/v2/prod/app/manifests/v1");
        assert_eq!(there.status, 404);
        if !is_refused {
            assert!(
                cancelled.load(Ordering::SeqCst) > 0,
                "the session stays open"
            );
        }
    }
}
