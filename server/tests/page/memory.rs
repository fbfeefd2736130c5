//! Tests that a page is small, and the memory of the server bounded, whatever was pushed.

use futures::future::join_all;
use serde_json::{Map, Value, json};

use super::{Browser, push};
use crate::support::prelude::*;

const MAX_PAGE_BYTES: usize = 256 * 1024;
/// How much all pages together may add. Without bounds, each one takes more than that.
const MAX_GROWTH_KIB: u64 = 96 * 1024;
const REQUESTS: usize = 50;

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
