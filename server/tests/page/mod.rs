//! Tests of the page for browsers. A browser that runs it is in `tests/page`.

mod changes;
mod hostile;
mod logins;
mod memory;
mod root;
mod views;

use std::io::Write as _;
use std::time::{Duration, Instant};

use reqwest::redirect::Policy;
use reqwest::{Client, RequestBuilder};

use crate::support::prelude::*;

const PASSWORD: &str = "correct horse";

/// A browser at the page of a server: it keeps the cookie, and follows no redirects.
struct Browser<'a> {
    server: &'a Server,
    client: Client,
    cookie: Option<String>,
}

impl<'a> Browser<'a> {
    fn new(server: &'a Server) -> Self {
        let client = Client::builder().no_proxy().redirect(Policy::none());
        Self {
            server,
            client: client.build().unwrap(),
            cookie: None,
        }
    }

    /// Returns a browser that is logged in as alice.
    async fn logged_in(server: &'a Server) -> Self {
        let mut browser = Self::new(server);
        let response = browser.log_in("alice", PASSWORD, "").await;
        assert_eq!(response.status(), 303);
        browser
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.client.request(method, self.server.url(path));
        let request = request.header("accept", "text/html,*/*;q=0.8");
        match &self.cookie {
            Some(cookie) => request.header("cookie", cookie),
            None => request,
        }
    }

    async fn get(&self, page: &str) -> Response {
        let path = format!("/_imgsync/{page}");
        self.request(Method::GET, &path).send().await.unwrap()
    }

    /// Returns the text of a page, which must exist.
    async fn page(&self, page: &str) -> String {
        let response = self.get(page).await;
        assert_eq!(response.status(), 200, "{page}");
        response.text().await.unwrap()
    }

    /// Returns the request that sends a form from the page itself.
    fn form(&self, page: &str, fields: &[(&str, &str)]) -> RequestBuilder {
        let request = self.request(Method::POST, &format!("/_imgsync/{page}"));
        let body = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(fields)
            .finish();
        let origin = self.server.url("/");
        request
            .header("origin", origin.trim_end_matches('/'))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(body)
    }

    async fn log_in(&mut self, user: &str, password: &str, next: &str) -> Response {
        let fields = [("user", user), ("password", password), ("next", next)];
        let response = self.form("login", &fields).send().await.unwrap();
        if let Some(cookie) = response.headers().get("set-cookie") {
            let cookie = cookie.to_str().unwrap().split(';').next();
            self.cookie = cookie.map(str::to_owned);
        }
        response
    }

    /// Returns the token of the forms that the page shows.
    async fn token(&self) -> String {
        let page = self.page("uploads").await;
        between(&page, "name=\"token\" value=\"", "\"").to_owned()
    }
}

/// Returns the text after `start`, up to `end`.
fn between<'a>(text: &'a str, start: &str, end: &str) -> &'a str {
    let (_, rest) = text
        .split_once(start)
        .unwrap_or_else(|| panic!("no {start} in {text}"));
    rest.split_once(end).unwrap().0
}

/// Starts a server with the user alice on a folder.
fn start_with_logins(root: &Path, more: &[(&str, &str)]) -> Server {
    let users = root.join("users");
    if !users.exists() {
        let mut process = Command::new(env!("CARGO_BIN_EXE_imgsync-server"))
            .args(["htpasswd", "--cost", "4"])
            .args([&*users, Path::new("alice")])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        writeln!(process.stdin.take().unwrap(), "{PASSWORD}").unwrap();
        assert!(process.wait().unwrap().success());
    }
    let mut variables = vec![
        ("REGISTRY_AUTH", "htpasswd"),
        ("REGISTRY_AUTH_HTPASSWD_REALM", "registry"),
        ("REGISTRY_AUTH_HTPASSWD_PATH", users.to_str().unwrap()),
    ];
    variables.extend(more);
    Server::start_with(root, &variables)
}

/// Waits until a page contains a text.
async fn wait_for(browser: &Browser<'_>, page: &str, text: &str) -> String {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let shown = browser.page(page).await;
        if shown.contains(text) {
            return shown;
        }
        assert!(Instant::now() < deadline, "no {text:?} in {shown}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// An image with this config and labels, of one layer for each word.
async fn push(
    server: &Server,
    repository: &str,
    reference: &str,
    config: &str,
    words: &[&str],
) -> Digest {
    server.push_blob(repository, config.as_bytes()).await;
    for word in words {
        server.push_blob(repository, word.as_bytes()).await;
    }
    let layers: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
    let bytes = manifest(config.as_bytes(), &layers);
    let pushed = server.put_manifest(repository, reference, media::OCI_MANIFEST, &bytes);
    assert_eq!(pushed.await.status(), 201);
    Digest::of(&bytes)
}

async fn wait_until(condition: impl AsyncFn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition().await {
        assert!(Instant::now() < deadline, "waited too long");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
