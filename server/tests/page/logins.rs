//! Tests logins of browsers, and what they may see.

use super::{Browser, PASSWORD, start_with_logins, wait_until};
use crate::support::prelude::*;

#[tokio::test]
async fn a_login_opens_a_session_that_ends_with_the_logout() {
    let root = tempfile::tempdir().unwrap();
    let server = start_with_logins(root.path(), &[]);
    let mut browser = Browser::new(&server);
    let response = browser.get("repository?name=team%2Fapp").await;
    assert_eq!(response.status(), 303);
    let next = "login?next=repository%3Fname%3Dteam%252Fapp";
    assert_eq!(header(&response, "location"), next);
    assert!(
        browser
            .page(next)
            .await
            .contains("value=\"repository?name=team%2Fapp\"")
    );

    let wrong = browser.log_in("alice", "wrong", "").await;
    assert_eq!(
        (wrong.status(), header(&wrong, "set-cookie")),
        (StatusCode::FORBIDDEN, String::new())
    );
    assert!(wrong.text().await.unwrap().contains("role=\"alert\""));
    let response = browser
        .log_in("alice", PASSWORD, "repository?name=team%2Fapp")
        .await;
    assert_eq!(response.status(), 303);
    assert_eq!(header(&response, "location"), "repository?name=team%2Fapp");
    let cookie = header(&response, "set-cookie");
    assert!(
        cookie.ends_with("; HttpOnly; SameSite=Strict; Max-Age=43200"),
        "{cookie}"
    );
    assert!(browser.page("").await.contains("<bdi>alice</bdi>"));
    // The access log has the name, but neither the password nor the id.
    let log = server.wait_for_log("user=alice");
    assert!(!log.contains(PASSWORD) && !log.contains(&browser.cookie.clone().unwrap()[16..]));

    let no_token = browser.form("logout", &[]).send().await.unwrap();
    assert_eq!(no_token.status(), 403);
    let token = browser.token().await;
    let response = browser
        .form("logout", &[("token", &token)])
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 303);
    assert!(header(&response, "set-cookie").contains("Max-Age=0"));
    assert_eq!(browser.get("").await.status(), 303);
}

#[tokio::test]
async fn other_methods_change_nothing() {
    let root = tempfile::tempdir().unwrap();
    let server = start_with_logins(root.path(), &[]);
    let browser = Browser::new(&server);
    let origin = server.url("/");
    for (method, page, allowed) in [
        (Method::PUT, "login", "GET, HEAD, POST"),
        (Method::DELETE, "login", "GET, HEAD, POST"),
        (Method::PATCH, "login", "GET, HEAD, POST"),
        (Method::OPTIONS, "login", "GET, HEAD, POST"),
        (Method::GET, "logout", "POST"),
        (Method::PUT, "delete", "POST"),
        (Method::POST, "storage", "GET, HEAD"),
    ] {
        let request = browser.request(method.clone(), &format!("/_imgsync/{page}"));
        let request = request
            .header("origin", origin.trim_end_matches('/'))
            .body(format!(
                "user=alice&password={}",
                PASSWORD.replace(' ', "+")
            ));
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 405, "{method} {page}");
        assert_eq!(header(&response, "allow"), allowed, "{method} {page}");
        assert_eq!(header(&response, "set-cookie"), "", "{method} {page}");
    }
}

#[tokio::test]
async fn a_session_ends_with_the_password_and_is_no_token() {
    let root = tempfile::tempdir().unwrap();
    let server = start_with_logins(root.path(), &[]);
    let mut browser = Browser::logged_in(&server).await;
    let cookie = browser.cookie.clone().unwrap();
    let (name, id) = cookie.split_once('=').unwrap();
    // Another server on the same host has another cookie.
    let address = server.url("/");
    let (_, port) = address.trim_end_matches('/').rsplit_once(':').unwrap();
    assert_eq!(name, format!("imgsync-session-{port}"));
    let as_token = client()
        .get(server.url("/v2/"))
        .bearer_auth(id)
        .send()
        .await
        .unwrap();
    assert_eq!(as_token.status(), 401);
    // A token of the API is no session.
    let token = client()
        .get(server.url("/v2/_imgsync/token"))
        .basic_auth("alice", Some(PASSWORD));
    let token: serde_json::Value = token.send().await.unwrap().json().await.unwrap();
    let token = token["token"].as_str().unwrap();
    let session = browser.cookie.replace(format!("{name}={token}"));
    assert_eq!(browser.get("").await.status(), 303);
    browser.cookie = session;
    assert_eq!(browser.get("").await.status(), 200);
    // The cookie is for the page only.
    let api = browser.request(Method::GET, "/v2/").send().await.unwrap();
    assert_eq!(api.status(), 401);
    std::fs::write(root.path().join("users"), "").unwrap();
    server.signal("HUP");
    wait_until(async || browser.get("").await.status() == 303).await;
}

#[tokio::test]
async fn a_login_is_secure_at_an_https_address_and_needs_the_own_origin() {
    let root = tempfile::tempdir().unwrap();
    let server = start_with_logins(root.path(), &[]);
    let browser = Browser::new(&server);
    let fields = [("user", "alice"), ("password", PASSWORD)];
    let send = |headers: &'static [(&str, &str)]| {
        let mut request = browser.form("login", &fields);
        for (name, value) in headers {
            let mut map = reqwest::header::HeaderMap::new();
            map.insert(*name, value.parse().unwrap());
            request = request.headers(map);
        }
        request.send()
    };
    for foreign in [
        &[("origin", "https://evil.example.com")][..],
        &[("origin", "null")],
        &[("sec-fetch-site", "cross-site")],
    ] {
        let response = send(foreign).await.unwrap();
        assert_eq!(response.status(), 403, "{foreign:?}");
        assert!(
            response
                .text()
                .await
                .unwrap()
                .contains("must pass the header Host")
        );
    }
    // A proxy that is trusted says how the browser reaches it.
    let proxied = [
        ("origin", "https://r.example.com"),
        ("x-forwarded-host", "r.example.com"),
        ("x-forwarded-proto", "https"),
    ];
    let response = send(Box::leak(Box::new(proxied))).await.unwrap();
    assert_eq!(response.status(), 303);
    assert!(header(&response, "set-cookie").ends_with("; Secure"));
}

#[tokio::test]
async fn anonymous_visitors_see_what_they_may_pull() {
    let root = tempfile::tempdir().unwrap();
    {
        let server = Server::start(root.path());
        server.push_image("public/app", "v1", "one").await;
        server.push_image("private", "v1", "one").await;
    }
    let anonymous = ("REGISTRY_IMGSYNC_ANONYMOUS_PULL", "[public/**]");
    let server = start_with_logins(root.path(), &[anonymous]);
    let browser = Browser::new(&server);
    let page = browser.page("image?name=public%2Fapp&reference=v1").await;
    assert!(page.contains("Log in") && !page.contains("action=\"delete\""));
    assert!(
        !page.contains("href=\"storage\""),
        "not for this visitor: {page}"
    );
    for page in [
        "",
        "storage",
        "uploads",
        "repository?name=private",
        "image?name=private&reference=v1",
        "repository?name=missing",
    ] {
        assert_eq!(browser.get(page).await.status(), 303, "{page}");
    }
    // The script would show a login page within the page.
    let part = browser.get("uploads?part=rows").await;
    assert_eq!(part.status(), 403);
    let part = part.text().await.unwrap();
    assert!(part.contains("\"login?next=uploads\""), "{part}");
    let browser = Browser::logged_in(&server).await;
    assert!(browser.page("").await.contains("name=private"));
}
