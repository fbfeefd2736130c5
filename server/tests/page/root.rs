//! Tests which clients get the page, and which headers protect it.

use super::Browser;
use crate::support::prelude::*;

#[tokio::test]
async fn only_browsers_are_sent_to_the_page() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(root.path());
    let browser = Browser::new(&server);
    let response = browser.request(Method::GET, "/").send().await.unwrap();
    assert_eq!(response.status(), 303);
    assert_eq!(header(&response, "location"), "_imgsync/");
    assert_eq!(header(&response, "vary"), "Accept");
    let to_folder = browser
        .request(Method::GET, "/_imgsync")
        .send()
        .await
        .unwrap();
    assert_eq!(header(&to_folder, "location"), "_imgsync/");

    for accept in [None, Some("*/*"), Some("application/json")] {
        let request = client().get(server.url("/"));
        let request = match accept {
            Some(accept) => request.header("accept", accept),
            None => request,
        };
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200, "{accept:?}");
        assert_eq!(header(&response, "vary"), "Accept");
        assert!(response.bytes().await.unwrap().is_empty());
    }
    let head = browser
        .request(Method::HEAD, "/_imgsync/")
        .send()
        .await
        .unwrap();
    assert_eq!(head.status(), 200);
    assert!(head.bytes().await.unwrap().is_empty());
    let post = browser.request(Method::POST, "/_imgsync/storage").send();
    assert_eq!(post.await.unwrap().status(), 405);
    let missing = browser.get("nothing").await;
    assert_eq!(missing.status(), 404);
    assert!(missing.text().await.unwrap().contains("Not found"));
}

#[tokio::test]
async fn the_page_can_be_turned_off() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start_with(root.path(), &[("REGISTRY_IMGSYNC_PAGE", "false")]);
    let browser = Browser::new(&server);
    let response = browser.request(Method::GET, "/").send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert!(response.bytes().await.unwrap().is_empty());
    for page in ["", "storage", "style.css"] {
        assert_eq!(browser.get(page).await.status(), 404, "{page}");
    }
}

#[tokio::test]
async fn a_strict_policy_protects_every_answer() {
    let root = tempfile::tempdir().unwrap();
    // For another user interface, whose scripts may use the API.
    let cors = "{Access-Control-Allow-Origin: ['https://ui.example'], X-Other: [a]}";
    let server = Server::start_with(root.path(), &[("REGISTRY_HTTP_HEADERS", cors)]);
    let browser = Browser::new(&server);
    for page in [
        "",
        "storage",
        "uploads",
        "uploads?part=rows",
        "nothing",
        "style.css",
        "page.js",
        "icon.svg",
    ] {
        let response = browser.get(page).await;
        let policy = header(&response, "content-security-policy");
        assert!(
            policy.starts_with("default-src 'none'; "),
            "{page}: {policy}"
        );
        assert!(!policy.contains("unsafe") && policy.contains("frame-ancestors 'none'"));
        assert_eq!(header(&response, "x-content-type-options"), "nosniff");
        assert_eq!(header(&response, "referrer-policy"), "same-origin");
        assert_eq!(
            header(&response, "access-control-allow-origin"),
            "",
            "{page}"
        );
        assert_eq!(header(&response, "x-other"), "a");
        let is_file = page.contains('.');
        assert_eq!(
            header(&response, "cache-control") == "no-store",
            !is_file,
            "{page}"
        );
        let text = response.text().await.unwrap();
        assert!(
            !text.contains(" style=") && !text.contains(" onclick="),
            "{page}"
        );
        assert!(
            !text
                .replace("http://www.w3.org/2000/svg", "")
                .contains("://"),
            "{page}"
        );
    }
    let api = server.get("/v2/").await;
    assert_eq!(
        header(&api, "access-control-allow-origin"),
        "https://ui.example"
    );
}

#[tokio::test]
async fn links_work_below_a_prefix() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start_with(root.path(), &[("REGISTRY_HTTP_PREFIX", "/some/where/")]);
    let browser = Browser::new(&server);
    for (path, location) in [
        ("/some/where/", "_imgsync/"),
        ("/some/where", "where/_imgsync/"),
    ] {
        let response = browser.request(Method::GET, path).send().await.unwrap();
        assert_eq!(header(&response, "location"), location, "{path}");
    }
    let page = browser
        .request(Method::GET, "/some/where/_imgsync/storage")
        .send();
    let page = page.await.unwrap().text().await.unwrap();
    assert!(
        page.contains("href=\"style.css\"") && !page.contains("=\"/"),
        "{page}"
    );
    assert_eq!(browser.get("storage").await.status(), 404);
}
