//! Tests that content which others pushed is shown as text.

use serde_json::json;

use super::{Browser, push};
use crate::support::prelude::*;

const SCRIPT: &str = "</code></td><script src=//evil></script><img src=x onerror=alert(1)>";

#[tokio::test]
async fn hostile_configs_and_annotations_are_text() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(root.path());
    let browser = Browser::new(&server);
    let config = json!({
        "os": SCRIPT, "architecture": "\u{202e}", "created": SCRIPT,
        "history": [{"created_by": format!("RUN {SCRIPT}\u{1b}[31m")}],
        "config": {"Labels": {SCRIPT: SCRIPT, "a\u{2066}b": "\u{200b}"}, "User": SCRIPT, "Entrypoint": [SCRIPT]},
    });
    let config = config.to_string();
    let digest = push(&server, "app", "v1", &config, &["layer"]).await;
    let referrer = json!({
        "schemaVersion": 2, "mediaType": media::OCI_MANIFEST, "artifactType": SCRIPT,
        "config": descriptor("application/vnd.oci.empty.v1+json", b"{}"), "layers": [],
        "annotations": {"org.opencontainers.image.created": SCRIPT, SCRIPT: SCRIPT},
        "subject": {"mediaType": media::OCI_MANIFEST, "digest": digest, "size": 5},
    });
    server.push_blob("app", b"{}").await;
    let bytes = referrer.to_string().into_bytes();
    let reference = Digest::of(&bytes).to_string();
    let pushed = server
        .put_manifest("app", &reference, media::OCI_MANIFEST, &bytes)
        .await;
    assert_eq!(pushed.status(), 201);
    for page in [
        "image?name=app&reference=v1".to_owned(),
        format!("image?name=app&reference={reference}"),
        "repository?name=app".to_owned(),
    ] {
        let shown = browser.page(&page).await;
        assert!(shown.contains("&lt;script"), "{page}: {shown}");
        assert!(
            !shown.contains("<script src=//") && !shown.contains("<img src=x"),
            "{shown}"
        );
        let hidden = ['\u{202e}', '\u{2066}', '\u{200b}', '\u{1b}'];
        assert!(!shown.contains(hidden), "{page}: {shown}");
    }
    let image = browser.page("image?name=app&reference=v1").await;
    for code in ["U+202E", "U+2066", "U+200B", "U+001B"] {
        assert!(
            image.contains(&format!("<span class=\"mark\">{code}</span>")),
            "{image}"
        );
    }
}

#[tokio::test]
async fn hostile_queries_are_text() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(root.path());
    let browser = Browser::new(&server);
    server.push_image("app", "v1", "one").await;
    for page in [
        "?search=%22%3E%3Cscript%3E&after=%22%3E%3Cscript%3E",
        "repository?name=app&search=%22%3E%3Cscript%3E",
        "?done=deleted&name=app",
        "?done=deleted&name=%3Cscript%3E",
    ] {
        let shown = browser.page(page).await;
        assert!(
            !shown.contains("\"><script>") && !shown.contains("class=\"notice"),
            "{shown}"
        );
    }
    let huge = format!("?search={}", "a".repeat(8000));
    assert_eq!(browser.get(&huge).await.status(), 200);
}

#[tokio::test]
async fn an_image_of_a_damaged_config_is_shown() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(root.path());
    let browser = Browser::new(&server);
    for (tag, config) in [
        ("v1", "[]"),
        ("v2", "not json"),
        ("v3", "{\"history\": {}, \"config\": 5}"),
    ] {
        push(&server, "app", tag, config, &["layer"]).await;
        let page = browser
            .page(&format!("image?name=app&reference={tag}"))
            .await;
        assert!(
            page.contains("The image does not say how this layer was made."),
            "{page}"
        );
    }
    assert!(
        browser
            .page("repository?name=app")
            .await
            .contains("reference=v3")
    );
}
