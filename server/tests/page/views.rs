//! Tests what the page shows.

use serde_json::json;

use super::{Browser, push, wait_for};
use crate::support::prelude::*;

const CONFIG: &str = r#"{"os": "linux", "architecture": "arm64", "created": "2026-01-02T03:04:05Z",
    "history": [{"created_by": "ADD root /"}, {"created_by": "ENV A=1", "empty_layer": true},
        {"created_by": "RUN /bin/sh -c make all # buildkit"}],
    "config": {"Labels": {"org.opencontainers.image.title": "An app"}, "Cmd": ["/app"]}}"#;

#[tokio::test]
async fn repositories_are_listed_with_their_sizes() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(root.path());
    let browser = Browser::new(&server);
    let empty = browser.page("").await;
    assert!(empty.contains("There is no repository yet."));
    assert!(empty.contains(&format!("imgsync push app:v1 {}", server.address)));
    push(&server, "team/app", "v1", CONFIG, &["one", "two"]).await;
    push(&server, "team/app", "v2", CONFIG, &["one", "three"]).await;
    push(&server, "copy", "v1", CONFIG, &["one", "two"]).await;
    // The first look asks for a measurement, which runs beside the requests.
    let page = wait_for(&browser, "", "Saved by sharing</dt><dd>").await;
    let measured = wait_for(&browser, "", "<dt>Repositories</dt><dd>2<small>").await;
    assert!(page.contains("href=\"repository?name=team%2Fapp\""));
    assert!(
        measured.contains("td class=\"number\" data-label=\"Tags\"><span>2</span>"),
        "{measured}"
    );
    let found = browser.page("?search=COP").await;
    assert!(found.contains("name=copy") && !found.contains("name=team"));
    assert!(
        browser
            .page("?search=nothing")
            .await
            .contains("Nothing matches the search.")
    );
    assert!(browser.page("?after=copy").await.contains("First page"));
}

#[tokio::test]
async fn thousands_of_tags_and_repositories_are_paged() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(root.path());
    let browser = Browser::new(&server);
    let manifest = server.push_image("many", "t000", "one").await;
    for number in 1..60 {
        let name = format!("r{number:03}");
        server.push_image(&name, "v1", "one").await;
        let tag = format!("t{number:03}");
        let pushed = server.put_manifest("many", &tag, media::OCI_MANIFEST, &manifest);
        assert_eq!(pushed.await.status(), 201);
    }
    let first = browser.page("").await;
    assert!(first.contains("after=r049\""), "{first}");
    let second = browser.page("?after=r049").await;
    assert!(second.contains("name=r050\"") && second.contains("name=r059\""));
    assert!(!second.contains("name=r049\"") && !second.contains("rel=\"next\""));

    let first = browser.page("repository?name=many").await;
    assert!(first.contains("Tags: 60") && first.contains("Page 1 of 3"));
    let last = browser.page("repository?name=many&page=3").await;
    assert_eq!(last.matches("reference=t").count(), 10);
    let found = browser.page("repository?name=many&search=t05").await;
    assert_eq!(found.matches("reference=t05").count(), 10);
    assert!(
        browser
            .page("repository?name=many&page=99")
            .await
            .contains("Nothing matches")
    );
}

#[tokio::test]
async fn an_image_is_shown_with_layers_labels_and_referrers() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(root.path());
    let browser = Browser::new(&server);
    let digest = push(&server, "team/app", "v1", CONFIG, &["one", "two"]).await;
    let signature = json!({
        "schemaVersion": 2, "mediaType": media::OCI_MANIFEST,
        "artifactType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "config": descriptor("application/vnd.oci.empty.v1+json", b"{}"), "layers": [],
        "subject": {"mediaType": media::OCI_MANIFEST, "digest": digest, "size": 5},
    });
    server.push_blob("team/app", b"{}").await;
    let bytes = signature.to_string().into_bytes();
    let tag = format!("sha256-{}.sbom", digest.hex());
    for reference in [Digest::of(&bytes).to_string(), tag.clone()] {
        let pushed = server.put_manifest("team/app", &reference, media::OCI_MANIFEST, &bytes);
        assert_eq!(pushed.await.status(), 201);
    }
    let page = browser.page("image?name=team%2Fapp&reference=v1").await;
    let command = format!("docker pull {}/team/app:v1", server.address);
    for part in [
        &*command,
        &format!("team/app@{digest}"),
        "linux/arm64",
        "2026-01-02T03:04:05Z",
        "RUN make all",
        "<tr class=\"step\">",
        "ENV A=1",
        "An app",
        "[&quot;/app&quot;]",
        "Signature",
        "SBOM",
        &tag,
    ] {
        assert!(page.contains(part), "no {part} in {page}");
    }
    assert!(!page.contains("action=\"delete\""), "nobody is logged in");
    let tags = browser.page("repository?name=team%2Fapp").await;
    assert!(tags.contains("linux/arm64") && tags.contains("just now") && tags.contains("never"));
    // To look at the page is no pull; to request a manifest is one.
    server.get("/v2/team/app/manifests/v1").await;
    assert!(
        browser
            .page("repository?name=team%2Fapp")
            .await
            .contains("today")
    );
    for missing in [
        "image?name=team%2Fapp&reference=v9",
        "image?name=other&reference=v1",
        "image?name=..&reference=v1",
        "image",
        "repository?name=other",
        "repository?name=%2e%2e%2fx",
    ] {
        assert_eq!(browser.get(missing).await.status(), 404, "{missing}");
    }
}

#[tokio::test]
async fn an_index_links_to_its_images() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(root.path());
    let browser = Browser::new(&server);
    let digest = push(&server, "app", "arm", CONFIG, &["one", "two"]).await;
    let index = json!({"schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": [
        {"mediaType": media::OCI_MANIFEST, "digest": digest, "size": manifest(CONFIG.as_bytes(), &[b"one", b"two"]).len(),
            "platform": {"os": "linux", "architecture": "arm64", "variant": "v8"}},
    ]});
    let bytes = index.to_string().into_bytes();
    let pushed = server
        .put_manifest("app", "v1", media::OCI_INDEX, &bytes)
        .await;
    assert_eq!(pushed.status(), 201);
    let page = browser.page("image?name=app&reference=v1").await;
    assert!(page.contains("linux/arm64/v8"));
    let link = format!("image?name=app&amp;reference=sha256%3A{}", digest.hex());
    assert!(page.contains(&link), "{page}");
    let child = browser.page(&link.replace("&amp;", "&")).await;
    assert!(child.contains("RUN make all"));
    assert!(
        browser
            .page("repository?name=app")
            .await
            .contains("linux/arm64/v8")
    );
}

#[tokio::test]
async fn uploads_are_shown_while_they_run() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(root.path());
    let browser = Browser::new(&server);
    assert!(
        browser
            .page("uploads")
            .await
            .contains("No upload is in progress.")
    );
    let location = server.start_upload("team/app").await;
    assert_eq!(server.patch(&location, 0, &[7; 1500]).await.status(), 202);
    let rows = browser.page("uploads?part=rows").await;
    assert!(
        rows.contains("team/app") && rows.contains("1.5 kB"),
        "{rows}"
    );
    assert!(!rows.contains("<html"));
    assert_eq!(
        server.patch(&location, 1500, &[7; 1500]).await.status(),
        202
    );
    assert!(browser.page("uploads?part=rows").await.contains("3.0 kB"));
    let digest = Digest::of(&[7; 3000]);
    assert_eq!(server.put(&location, &digest, b"").await.status(), 201);
    assert!(
        browser
            .page("uploads?part=rows")
            .await
            .contains("No upload is in progress.")
    );
}

#[tokio::test]
async fn the_sum_of_the_uploads_has_those_that_are_not_shown() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(root.path());
    for _ in 0..102 {
        let location = server.start_upload("app").await;
        assert_eq!(server.patch(&location, 0, &[7; 1000]).await.status(), 202);
    }
    let page = Browser::new(&server).page("uploads").await;
    assert!(
        page.contains("In progress: 102, received: 102.0 kB"),
        "{page}"
    );
    assert!(page.contains("2 more uploads are not shown."), "{page}");
}

#[tokio::test]
async fn the_storage_page_tells_what_a_collection_frees() {
    let root = tempfile::tempdir().unwrap();
    let history = root.path().join("imgsync/disk-history-1");
    std::fs::create_dir_all(history.parent().unwrap()).unwrap();
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let samples = [(now - 86_400, 1_000_000), (now - 3600, 2_500_000)]
        .map(|(time, bytes)| format!("{time} 9000000000 5000000000 {bytes} 0 0 0 0\n"));
    std::fs::write(&history, format!("damaged\n{}", samples.concat())).unwrap();
    let server = Server::start(root.path());
    let browser = Browser::new(&server);
    server.push_image("app", "v1", "one").await;
    server.push_image("app", "v1", "two").await;
    let page = wait_for(&browser, "storage", "manifests: 1;").await;
    assert!(
        page.contains("<svg") && page.contains("at first 1.0 MB, now "),
        "{page}"
    );
    assert!(page.contains("Largest repositories") && page.contains("A collection would free"));
    // The measurement adds a sample, because the last one is an hour old.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while std::fs::read_to_string(&history).unwrap().lines().count() != 3 {
        assert!(std::time::Instant::now() < deadline, "no sample was added");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn the_language_is_that_of_the_browser() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(root.path());
    let browser = Browser::new(&server);
    let page = browser.request(Method::GET, "/_imgsync/uploads");
    let page = page
        .header("accept-language", "zh-CN,zh;q=0.9,en;q=0.5")
        .send();
    let page = page.await.unwrap().text().await.unwrap();
    assert!(page.contains("<html lang=\"zh-CN\">") && page.contains("没有正在进行的上传。"));
    assert!(browser.page("uploads").await.contains("<html lang=\"en\">"));
}
