//! Tests that a page is small, and the memory of the server bounded, whatever was pushed.

use futures::future::join_all;
use serde_json::{Map, Value, json};

use super::{Browser, push};
use crate::support::prelude::*;

const MAX_PAGE_BYTES: usize = 256 * 1024;
/// How much all pages together may add. Without bounds, each one takes more than that.
const MAX_GROWTH_KIB: u64 = 96 * 1024;
const REQUESTS: usize = 50;
/// How much pages may add whose manifests and configs are as hostile as possible.
const MAX_PARSING_GROWTH_KIB: u64 = 48 * 1024;

/// Returns names and values of 2000 characters that nobody sees, and after them of ones that must be
/// escaped.
fn hostile_pairs(count: usize) -> Value {
    let text = |number: usize| {
        let hidden = "\u{ad}\u{200b}".repeat(600);
        format!("{number:03}{hidden}{}", "\"".repeat(800))
    };
    let pairs = (0..count).map(|number| (text(number), json!(text(number))));
    Value::Object(pairs.collect::<Map<String, Value>>())
}

#[tokio::test]
async fn a_hostile_image_makes_a_small_page_in_bounded_memory() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(root.path());
    let long = "\u{ad}\u{200b}".repeat(500);
    let history: Vec<Value> = (0..90)
        .map(|_| json!({"created_by": long, "empty_layer": true}))
        .collect();
    let config = json!({
        "os": long, "history": history,
        "config": {"Labels": hostile_pairs(20), "User": long, "Entrypoint": [long]},
    });
    let config = config.to_string();
    assert!(config.len() < 512 * 1024, "{}", config.len());
    push(&server, "app", "plain", &config, &["layer"]).await;
    let plain = server
        .get("/v2/app/manifests/plain")
        .await
        .bytes()
        .await
        .unwrap();
    let mut manifest: Value = serde_json::from_slice(&plain).unwrap();
    manifest["annotations"] = hostile_pairs(200);
    let manifest = manifest.to_string().into_bytes();
    let pushed = server.put_manifest("app", "v1", media::OCI_MANIFEST, &manifest);
    assert_eq!(pushed.await.status(), 201);
    let before = server.peak_resident_kib();
    let browser = Browser::new(&server);
    let pages = join_all((0..REQUESTS).map(|_| browser.page("image?name=app&reference=v1"))).await;
    for page in &pages {
        assert!(page.len() < MAX_PAGE_BYTES, "{}", page.len());
        assert!(page.contains("Only the first "), "{page}");
        assert!(page.ends_with("</html>"), "{page}");
    }
    let growth = server.peak_resident_kib() - before;
    assert!(growth < MAX_GROWTH_KIB, "{growth} KiB");
}

#[tokio::test]
async fn a_page_of_manifests_with_many_annotations_takes_little_memory() {
    let root = tempfile::tempdir().unwrap();
    {
        let server = Server::start(root.path());
        let config = json!({"os": "linux", "architecture": "arm64"}).to_string();
        server.push_blob("app", config.as_bytes()).await;
        let annotations = (0..300_000).map(|number| (number.to_string(), json!("")));
        let annotations: Map<String, Value> = annotations.collect();
        let mut described = descriptor(
            "application/vnd.oci.image.config.v1+json",
            config.as_bytes(),
        );
        described["annotations"] = Value::Object(annotations);
        let mut children = Vec::new();
        for variant in ["v5", "v6", "v7"] {
            server.push_blob("app", variant.as_bytes()).await;
            let layer = descriptor("application/vnd.oci.image.layer.v1.tar", variant.as_bytes());
            let child = json!({
                "schemaVersion": 2, "mediaType": media::OCI_MANIFEST, "config": described, "layers": [layer],
            });
            let child = child.to_string().into_bytes();
            let digest = Digest::of(&child).to_string();
            let pushed = server.put_manifest("app", &digest, media::OCI_MANIFEST, &child);
            assert_eq!(pushed.await.status(), 201);
            let mut child = descriptor(media::OCI_MANIFEST, &child);
            child["platform"] = json!({"os": "linux", "architecture": "arm", "variant": variant});
            children.push(child);
        }
        let index =
            json!({"schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": children});
        let index = index.to_string().into_bytes();
        let pushed = server.put_manifest("app", "v1", media::OCI_INDEX, &index);
        assert_eq!(pushed.await.status(), 201);
    }
    // The push itself took memory.
    let server = Server::start(root.path());
    let browser = Browser::new(&server);
    browser.page("uploads").await;
    let before = server.peak_resident_kib();
    for page in ["repository?name=app", "image?name=app&reference=v1"] {
        assert!(browser.page(page).await.contains("linux/arm/v6"));
    }
    let growth = server.peak_resident_kib() - before;
    assert!(growth < MAX_PARSING_GROWTH_KIB, "{growth} KiB");
}

#[tokio::test]
async fn a_page_of_a_config_with_many_small_values_takes_little_memory() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(root.path());
    let config = format!("[{}{{}}]", "{\"\":0},".repeat(70_000));
    push(&server, "app", "v1", &config, &["layer"]).await;
    let browser = Browser::new(&server);
    browser.page("uploads").await;
    let before = server.peak_resident_kib();
    let pages = join_all((0..REQUESTS).map(|_| browser.page("image?name=app&reference=v1"))).await;
    assert_eq!(pages.len(), REQUESTS);
    let growth = server.peak_resident_kib() - before;
    assert!(growth < MAX_PARSING_GROWTH_KIB, "{growth} KiB");
}

#[tokio::test]
async fn tags_with_many_platforms_make_a_small_page() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(root.path());
    let config = json!({"os": "linux", "architecture": "arm64"}).to_string();
    let digest = push(&server, "app", "plain", &config, &["layer"]).await;
    let size = manifest(config.as_bytes(), &[b"layer"]).len();
    let child = |number: usize| {
        let os = format!("{number:02}{}", "\"".repeat(60));
        json!({"mediaType": media::OCI_MANIFEST, "digest": digest, "size": size,
            "platform": {"os": os, "architecture": "arm64"}})
    };
    let children: Vec<Value> = (0..32).map(child).collect();
    let index = json!({"schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": children});
    let index = index.to_string().into_bytes();
    for number in 0..30 {
        let tag = format!("{number:0128}");
        let pushed = server.put_manifest("app", &tag, media::OCI_INDEX, &index);
        assert_eq!(pushed.await.status(), 201);
    }
    let page = Browser::new(&server).page("repository?name=app").await;
    assert!(page.len() < MAX_PAGE_BYTES, "{}", page.len());
    assert!(page.contains("11&quot;") && page.contains("…"), "{page}");
}
