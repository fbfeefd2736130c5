//! Tests of authentication: logins, tokens, challenges, and their cost.

mod access;
mod cost;
mod deltas;
mod log;
mod uploads;
mod users;

use std::io::Write as _;
use std::process::Output;
use std::time::{Duration, Instant};

use crate::support::prelude::*;
use reqwest::RequestBuilder;

const PASSWORD: &str = "correct horse";

/// A server with an htpasswd file.
struct AuthServer {
    folder: tempfile::TempDir,
    server: Server,
}

impl AuthServer {
    /// Starts a server with the users alice and bob. Everybody may pull from the repositories that
    /// match the pattern.
    fn start(pattern: &str) -> Self {
        Self::with_users(pattern, &[("alice", "4"), ("bob", "4")])
    }

    fn with_users(pattern: &str, users: &[(&str, &str)]) -> Self {
        Self::with(pattern, users, &[])
    }

    /// Starts a server with these users, each with a bcrypt cost, and environment variables.
    fn with(pattern: &str, users: &[(&str, &str)], variables: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("htpasswd");
        for (user, cost) in users {
            assert!(set_password(&path, user, PASSWORD, cost).status.success());
        }
        let pattern = format!("[{pattern}]");
        let mut all = vec![
            ("REGISTRY_AUTH", "htpasswd"),
            ("REGISTRY_AUTH_HTPASSWD_REALM", "a \"realm\""),
            ("REGISTRY_AUTH_HTPASSWD_PATH", path.to_str().unwrap()),
            ("REGISTRY_IMGSYNC_ANONYMOUS_PULL", &pattern),
        ];
        all.extend(variables);
        let server = Server::start_with(&folder.path().join("root"), &all);
        Self { folder, server }
    }

    fn htpasswd(&self) -> PathBuf {
        self.folder.path().join("htpasswd")
    }

    fn get(&self, path: &str) -> RequestBuilder {
        client().get(self.server.url(path))
    }

    /// Returns the status of `GET /v2/` with this login.
    async fn status_of(&self, user: &str, password: &str) -> StatusCode {
        let request = self.get("/v2/").basic_auth(user, Some(password));
        request.send().await.unwrap().status()
    }

    /// Pushes a blob and a manifest as alice.
    async fn push(&self, repository: &str) {
        let config = b"{}";
        let url = |path: &str| self.server.url(&format!("/v2/{repository}{path}"));
        let digest = Digest::of(config);
        let blob = client().post(url(&format!("/blobs/uploads/?digest={digest}")));
        let blob = blob.basic_auth("alice", Some(PASSWORD)).body(&config[..]);
        assert_eq!(blob.send().await.unwrap().status(), 201);
        let manifest = client().put(url("/manifests/v1"));
        let manifest = manifest
            .basic_auth("alice", Some(PASSWORD))
            .header("content-type", media::OCI_MANIFEST)
            .body(crate::support::manifest(config, &[]));
        assert_eq!(manifest.send().await.unwrap().status(), 201);
    }
}

/// Adds a user or changes their password with `imgsync-server htpasswd`.
fn set_password(path: &Path, user: &str, password: &str, cost: &str) -> Output {
    htpasswd(&[path.to_str().unwrap(), user, "--cost", cost], password)
}

fn htpasswd(arguments: &[&str], password: &str) -> Output {
    let mut process = Command::new(env!("CARGO_BIN_EXE_imgsync-server"))
        .arg("htpasswd")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The process may end before it reads the password, for example after a wrong argument.
    let _ = writeln!(process.stdin.take().unwrap(), "{password}");
    process.wait_with_output().unwrap()
}

fn challenge(response: &Response) -> String {
    header(response, "www-authenticate")
}

async fn wait_until(condition: impl AsyncFn() -> bool) {
    let began = Instant::now();
    while !condition().await {
        assert!(began.elapsed() < Duration::from_secs(60), "waited too long");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
