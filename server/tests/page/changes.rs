//! Tests deletions on the page: who may delete, and that a foreign website may not.

use super::{Browser, PASSWORD, start_with_logins, wait_until};
use crate::events::receiver::EventReceiver;
use crate::support::prelude::*;

async fn start(root: &Path, more: &[(&str, &str)]) -> Server {
    {
        let server = Server::start(root);
        server.push_image("team/app", "v1", "one").await;
        server.push_image("team/app", "v2", "two").await;
    }
    start_with_logins(root, more)
}

async fn exists(server: &Server, tag: &str) -> bool {
    let url = server.url(&format!("/v2/team/app/manifests/{tag}"));
    let head = client()
        .head(url)
        .basic_auth("alice", Some(PASSWORD))
        .send();
    head.await.unwrap().status() == 200
}

#[tokio::test]
async fn a_tag_is_deleted_and_restored() {
    let root = tempfile::tempdir().unwrap();
    let receiver = EventReceiver::start();
    let endpoint = [
        ("REGISTRY_NOTIFICATIONS_ENDPOINTS_0_NAME", "test"),
        ("REGISTRY_NOTIFICATIONS_ENDPOINTS_0_URL", &receiver.url()),
    ];
    let server = start(root.path(), &endpoint).await;
    let browser = Browser::logged_in(&server).await;
    let page = browser.page("image?name=team%2Fapp&reference=v1").await;
    assert!(page.contains("action=\"delete\"") && page.contains("Delete the tag"));
    let token = browser.token().await;
    let fields = [("token", &*token), ("name", "team/app"), ("tag", "v1")];
    let deleted = browser.form("delete", &fields).send().await.unwrap();
    assert_eq!(deleted.status(), 303);
    let location = header(&deleted, "location");
    assert!(!exists(&server, "v1").await && exists(&server, "v2").await);
    let page = browser.page(&location).await;
    assert!(page.contains("The tag v1 was deleted.") && page.contains("action=\"restore\""));
    let address = server.url("/team/app:v1<");
    let later = format!("imgsync undelete {}", address.trim_start_matches("http://"));
    assert!(page.contains(&later), "{page}");
    let repository = browser.page("repository?name=team%2Fapp").await;
    assert!(repository.contains("Deleted tags") && repository.contains("value=\"v1\""));
    // Nobody can write such an address.
    let forged = location.replace("tag=v1", "tag=v2");
    assert!(location.contains("tag=v1") && !browser.page(&forged).await.contains("was deleted"));
    let restored = browser.form("restore", &fields).send().await.unwrap();
    assert!(
        browser
            .page(&header(&restored, "location"))
            .await
            .contains("The tag v1 was restored.")
    );
    assert!(exists(&server, "v1").await);
    let repository = browser.page("repository?name=team%2Fapp").await;
    assert!(!repository.contains("Deleted tags"), "{repository}");
    let missing = [("token", &*token), ("name", "team/app"), ("tag", "v9")];
    assert_eq!(
        browser
            .form("delete", &missing)
            .send()
            .await
            .unwrap()
            .status(),
        404
    );
    let response = browser.form("restore", &missing).send().await.unwrap();
    assert!(response.text().await.unwrap().contains("not in the trash"));
    server.wait_for_log("path=/_imgsync/delete");
    let actions = || {
        let events = receiver.events().into_iter();
        let own = events.filter(|event| {
            event["target"]["tag"] == "v1"
                && event["actor"]["name"] == "alice"
                && event["action"] != "pull"
        });
        own.map(|event| event["action"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    wait_until(async || actions().ends_with(&["delete".to_owned(), "push".to_owned()])).await;
}

#[tokio::test]
async fn a_repository_is_deleted_and_restored() {
    let root = tempfile::tempdir().unwrap();
    let server = start(root.path(), &[]).await;
    let browser = Browser::logged_in(&server).await;
    assert!(
        browser
            .page("repository?name=team%2Fapp")
            .await
            .contains("Delete the repository")
    );
    let token = browser.token().await;
    let fields = [("token", &*token), ("name", "team/app")];
    let deleted = browser.form("delete", &fields).send().await.unwrap();
    let page = browser
        .page(&header(&deleted, "location").replace('.', ""))
        .await;
    assert!(
        page.contains("The repository team/app was deleted."),
        "{page}"
    );
    assert!(!exists(&server, "v1").await && !exists(&server, "v2").await);
    let restored = browser.form("restore", &fields).send().await.unwrap();
    assert_eq!(restored.status(), 303);
    assert!(exists(&server, "v1").await && exists(&server, "v2").await);
}

/// Pushes the image of a tag under another tag.
async fn retag(server: &Server, from: &str, to: &str) {
    let url = |tag: &str| server.url(&format!("/v2/team/app/manifests/{tag}"));
    let login = |request: reqwest::RequestBuilder| request.basic_auth("alice", Some(PASSWORD));
    let image = login(client().get(url(from))).send().await.unwrap();
    let image = image.bytes().await.unwrap();
    let put = client().put(url(to)).body(image);
    let put = login(put.header("content-type", media::OCI_MANIFEST));
    assert_eq!(put.send().await.unwrap().status(), 201);
}

#[tokio::test]
async fn a_tag_that_was_pushed_again_is_not_restored() {
    let root = tempfile::tempdir().unwrap();
    let server = start(root.path(), &[]).await;
    let browser = Browser::logged_in(&server).await;
    let token = browser.token().await;
    let send = async |page: &str, fields: &[(&str, &str)]| {
        let sent = browser.form(page, fields).send().await.unwrap();
        assert_eq!(sent.status(), 303);
        header(&sent, "location")
    };
    let tag = [("token", &*token), ("name", "team/app"), ("tag", "v1")];
    send("delete", &tag).await;
    retag(&server, "v2", "v1").await;
    let page = browser.page(&send("restore", &tag).await).await;
    let kept = "The tag v1 points at another image now, and was not changed.";
    assert!(
        page.contains(kept) && !page.contains("was restored"),
        "{page}"
    );
    // Of a repository, the other tags are restored.
    let v2 = [("token", &*token), ("name", "team/app"), ("tag", "v2")];
    send("delete", &v2).await;
    let whole = [("token", &*token), ("name", "team/app")];
    let location = send("restore", &whole).await;
    let page = browser.page(&location).await;
    let kept = "The repository team/app was restored. Tags that point at other images now, and were \
        not changed: 1";
    assert!(page.contains(kept), "{page}");
    assert!(exists(&server, "v2").await);
    let forged = location.replace("kept=1", "kept=2");
    assert!(location.contains("kept=1") && !browser.page(&forged).await.contains("was restored"));
    let page = browser.page(&send("restore", &whole).await).await;
    assert!(page.contains("Nothing was restored"), "{page}");
}

#[tokio::test]
async fn a_foreign_website_cannot_delete() {
    let root = tempfile::tempdir().unwrap();
    let server = start(root.path(), &[]).await;
    let browser = Browser::logged_in(&server).await;
    let token = browser.token().await;
    let full = [("token", &*token), ("name", "team/app"), ("tag", "v1")];
    let without_token = [("name", "team/app"), ("tag", "v1")];
    let other = Browser::logged_in(&server).await.token().await;
    let of_other = [("token", &*other), ("name", "team/app"), ("tag", "v1")];
    let replace = |name: &'static str, value: &'static str| {
        let mut headers = reqwest::header::HeaderMap::new();
        headers.insert(name, value.parse().unwrap());
        browser.form("delete", &full).headers(headers)
    };
    let mut no_cookie = Browser::new(&server);
    for request in [
        replace("origin", "https://evil.example.com"),
        replace("origin", "null"),
        replace("sec-fetch-site", "cross-site"),
        // The name of the website was pointed at this server.
        replace("host", "evil.example.com"),
        browser.form("delete", &without_token),
        browser.form("delete", &of_other),
        no_cookie.form("delete", &full),
        // A password that the browser remembers is not enough.
        no_cookie
            .form("delete", &full)
            .basic_auth("alice", Some(PASSWORD)),
        browser
            .request(Method::POST, "/_imgsync/delete")
            .body("name=team%2Fapp&tag=v1"),
    ] {
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 403);
    }
    let by_address = browser
        .get(&format!("delete?token={token}&name=team%2Fapp&tag=v1"))
        .await;
    assert_eq!(by_address.status(), 405);
    assert!(exists(&server, "v1").await);
    // A name that was pointed at this server is its own origin, but its browser has no session.
    no_cookie.cookie = None;
    let mut headers = reqwest::header::HeaderMap::new();
    headers.insert("host", "evil.example.com".parse().unwrap());
    headers.insert("origin", "http://evil.example.com".parse().unwrap());
    let rebound = no_cookie
        .form("delete", &full)
        .headers(headers)
        .send()
        .await
        .unwrap();
    assert_eq!(rebound.status(), 403);
    assert!(exists(&server, "v1").await);
    assert_eq!(
        browser.form("delete", &full).send().await.unwrap().status(),
        303
    );
}

#[tokio::test]
async fn nothing_can_be_deleted_without_logins_or_the_permission() {
    let root = tempfile::tempdir().unwrap();
    let disabled = ("REGISTRY_STORAGE_DELETE_ENABLED", "false");
    {
        let server = start(root.path(), &[disabled]).await;
        let browser = Browser::logged_in(&server).await;
        assert!(
            !browser
                .page("repository?name=team%2Fapp")
                .await
                .contains("action=\"delete\"")
        );
        let token = browser.token().await;
        let fields = [("token", &*token), ("name", "team/app"), ("tag", "v1")];
        assert_eq!(
            browser
                .form("delete", &fields)
                .send()
                .await
                .unwrap()
                .status(),
            403
        );
    }
    let server = Server::start(root.path());
    let browser = Browser::new(&server);
    let page = browser.page("repository?name=team%2Fapp").await;
    assert!(!page.contains("action=\"delete\"") && !page.contains("Log in"));
    let fields = [("token", ""), ("name", "team/app"), ("tag", "v1")];
    assert_eq!(
        browser
            .form("delete", &fields)
            .send()
            .await
            .unwrap()
            .status(),
        403
    );
    assert_eq!(browser.get("login").await.status(), 303);
    wait_until(async || exists(&server, "v1").await).await;
}
