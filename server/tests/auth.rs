//! Logins: who gets in, how everybody else is told to, and what it costs.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use support::{Server, client, faults, header};

const PASSWORD: &str = "correct horse";

/// A folder with users, and a server that knows them.
struct Setup {
    folder: tempfile::TempDir,
    server: Server,
}

impl Setup {
    /// alice and bob; anyone may pull what the pattern names.
    fn start(pattern: &str) -> Self {
        Self::with_users(pattern, &[("alice", "4"), ("bob", "4")])
    }

    fn with_users(pattern: &str, users: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("htpasswd");
        for (user, cost) in users {
            assert!(set(&path, user, PASSWORD, cost).status.success());
        }
        let pattern = format!("[{pattern}]");
        let server = Server::start_with(
            &folder.path().join("root"),
            &[
                ("REGISTRY_AUTH", "htpasswd"),
                ("REGISTRY_AUTH_HTPASSWD_REALM", "a \"realm\""),
                ("REGISTRY_AUTH_HTPASSWD_PATH", path.to_str().unwrap()),
                ("REGISTRY_IMGSYNC_ANONYMOUS_PULL", &pattern),
            ],
        );
        Self { folder, server }
    }

    fn htpasswd(&self) -> PathBuf {
        self.folder.path().join("htpasswd")
    }

    fn get(&self, path: &str) -> RequestBuilder {
        client().get(self.server.url(path))
    }

    /// What a user with the right password gets.
    async fn status_of(&self, user: &str, password: &str) -> StatusCode {
        let request = self.get("/v2/").basic_auth(user, Some(password));
        request.send().await.unwrap().status()
    }

    /// Pushes a blob and a manifest as alice.
    async fn push(&self, repository: &str) {
        let (config, url) = (b"{}", |path: &str| {
            self.server.url(&format!("/v2/{repository}{path}"))
        });
        let digest = imgsync_oci::Digest::of(config);
        let blob = client().post(url(&format!("/blobs/uploads/?digest={digest}")));
        let blob = blob.basic_auth("alice", Some(PASSWORD)).body(&config[..]);
        assert_eq!(blob.send().await.unwrap().status(), 201);
        let manifest = client().put(url("/manifests/v1"));
        let manifest = manifest
            .basic_auth("alice", Some(PASSWORD))
            .header("content-type", imgsync_oci::media::OCI_MANIFEST)
            .body(support::manifest(config, &[]));
        assert_eq!(manifest.send().await.unwrap().status(), 201);
    }
}

/// `imgsync-server htpasswd`, with a password on standard input.
fn set(path: &Path, user: &str, password: &str, cost: &str) -> Output {
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
    // It may have ended before it asked for one.
    let _ = writeln!(process.stdin.take().unwrap(), "{password}");
    process.wait_with_output().unwrap()
}

fn challenge(response: &Response) -> String {
    header(response, "www-authenticate")
}

#[tokio::test]
async fn who_is_not_known_is_told_how_to_log_in() {
    let setup = Setup::start("");
    let digest = imgsync_oci::Digest::of(b"x");
    let entry = |name: &str, action: &str| serde_json::json!({"Type": "repository", "Class": "", "Name": name, "Action": action});
    let upload = format!("/v2/a/blobs/uploads/?mount={digest}&from=b/c");
    for (method, path, detail) in [
        ("GET", "/v2/", serde_json::Value::Null),
        ("GET", "/v2/a/tags/list", vec![entry("a", "pull")].into()),
        (
            "POST",
            &*upload,
            vec![entry("a", "pull"), entry("a", "push"), entry("b/c", "pull")].into(),
        ),
        (
            "DELETE",
            "/v2/a/manifests/v1",
            vec![entry("a", "delete")].into(),
        ),
        (
            "GET",
            "/v2/_catalog",
            vec![serde_json::json!({
                "Type": "registry", "Class": "", "Name": "catalog", "Action": "*"
            })]
            .into(),
        ),
    ] {
        for password in [None, Some("wrong")] {
            let request = client().request(method.parse().unwrap(), setup.server.url(path));
            let request = match password {
                Some(password) => request.basic_auth("alice", Some(password)),
                None => request,
            };
            let response = request.send().await.unwrap();
            assert_eq!(challenge(&response), r#"Basic realm="a \"realm\"""#);
            let faults = faults(response, StatusCode::UNAUTHORIZED, "UNAUTHORIZED").await;
            assert_eq!(faults[0].detail, detail, "{method} {path}");
        }
    }
    let head = client().head(setup.server.url("/v2/a/manifests/v1")).send();
    assert_eq!(head.await.unwrap().status(), 401);
    for bad in [
        "Basic",
        "Basic !",
        "Digest username=alice",
        "Bearer a.b.c",
        "",
    ] {
        let response = setup.get("/v2/").header("authorization", bad).send();
        assert_eq!(response.await.unwrap().status(), 401, "{bad}");
    }
    assert_eq!(setup.status_of("alice", PASSWORD).await, 200);
    assert_eq!(setup.get("/").send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn anyone_pulls_what_a_pattern_names_and_pushing_needs_a_login() {
    let setup = Setup::start("public/**");
    setup.push("public/team/app").await;
    setup.push("private").await;
    for (path, status) in [
        ("/v2/public/team/app/manifests/v1", 200),
        ("/v2/public/team/app/tags/list", 200),
        ("/v2/public/none/manifests/v1", 404),
        ("/v2/private/manifests/v1", 401),
        // What is not there answers as what is not theirs.
        ("/v2/none/manifests/v1", 401),
        ("/v2/_catalog", 401),
        ("/v2/", 401),
    ] {
        let response = setup.get(path).send().await.unwrap();
        assert_eq!(response.status(), status, "{path}");
        let wrong = setup.get(path).basic_auth("alice", Some("x")).send();
        assert_eq!(wrong.await.unwrap().status(), 401, "{path}");
    }
    let upload = setup.server.url("/v2/public/team/app/blobs/uploads/");
    let response = client().post(&upload).send().await.unwrap();
    let expected = format!(
        "Bearer realm=\"{}\",service=\"a \\\"realm\\\"\",\
         scope=\"repository:public/team/app:pull,push\"",
        setup.server.url("/v2/_imgsync/token")
    );
    assert_eq!(challenge(&response), expected);
    faults(response, StatusCode::UNAUTHORIZED, "UNAUTHORIZED").await;
    // The layers of what anyone may pull can be asked for by anyone; linking them is a push.
    for (mount, status) in [(false, 200), (true, 401)] {
        let url = setup
            .server
            .url("/v2/public/team/app/_imgsync/layers/resolve");
        let body = serde_json::json!({"diffIDs": [], "mount": mount}).to_string();
        let response = client().post(url).body(body).send().await.unwrap();
        assert_eq!(response.status(), status, "mount: {mount}");
    }
}

#[tokio::test]
async fn tokens_are_asked_for_as_docker_does() {
    let setup = Setup::start("public/*");
    setup.push("public/app").await;
    let ask = || setup.get("/v2/_imgsync/token?service=x&scope=repository:a:pull&account=alice");
    let token = async |request: RequestBuilder| {
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(header(&response, "cache-control"), "no-store");
        let answer: serde_json::Value = response.json().await.unwrap();
        assert_eq!(answer["token"], answer["access_token"]);
        assert!(answer["expires_in"].as_u64().unwrap() >= 60);
        answer["token"].as_str().unwrap().to_owned()
    };
    let alice = token(ask().basic_auth("alice", Some(PASSWORD))).await;
    let anyone = token(ask()).await;
    for (path, of_alice, of_anyone) in [
        ("/v2/", 200, 401),
        ("/v2/public/app/manifests/v1", 200, 200),
        ("/v2/private/manifests/v1", 404, 401),
        // A token buys no other one.
        ("/v2/_imgsync/token", 401, 401),
    ] {
        for (token, status) in [(&alice, of_alice), (&anyone, of_anyone)] {
            let response = setup.get(path).bearer_auth(token).send().await.unwrap();
            assert_eq!(response.status(), status, "{path}");
        }
    }
    let wrong = ask().basic_auth("alice", Some("x")).send().await.unwrap();
    assert!(challenge(&wrong).starts_with("Basic "));
    faults(wrong, StatusCode::UNAUTHORIZED, "UNAUTHORIZED").await;
    let forged = alice.replace(&hex::encode("alice"), &hex::encode("bob"));
    let response = setup.get("/v2/").bearer_auth(forged).send().await.unwrap();
    assert!(challenge(&response).ends_with(",error=\"invalid_token\""));
    // A user that is gone takes their token along, at once.
    let path = setup.htpasswd();
    let gone = htpasswd(&[path.to_str().unwrap(), "alice", "--delete"], "");
    assert!(gone.status.success());
    setup.server.signal("HUP");
    eventually(async || setup.status_of("alice", PASSWORD).await == 401).await;
    let response = setup.get("/v2/").bearer_auth(alice).send().await.unwrap();
    assert_eq!(response.status(), 401);
}

#[tokio::test]
async fn an_upload_session_belongs_to_who_opened_it() {
    let setup = Setup::start("");
    let send = async |user: &str, method: &str, path: &str, body: &'static str| {
        let request = client().request(method.parse().unwrap(), setup.server.url(path));
        let request = request.basic_auth(user, Some(PASSWORD)).body(body);
        request.send().await.unwrap()
    };
    let opened = send("alice", "POST", "/v2/a/blobs/uploads/", "").await;
    let session = header(&opened, "location");
    assert_eq!(send("alice", "PATCH", &session, "by").await.status(), 202);
    let last = format!("{session}?digest={}", imgsync_oci::Digest::of(b"bytes"));
    for (method, path) in [
        ("GET", &session),
        ("PATCH", &session),
        ("PUT", &last),
        ("DELETE", &session),
    ] {
        let response = send("bob", method, path, "").await;
        faults(response, StatusCode::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN").await;
    }
    assert_eq!(send("alice", "GET", &session, "").await.status(), 204);
    assert_eq!(send("alice", "PUT", &last, "tes").await.status(), 201);
}

#[tokio::test]
async fn users_come_and_go_while_the_server_runs() {
    let setup = Setup::start("");
    let path = setup.htpasswd();
    let said = |output: &Output| String::from_utf8_lossy(&output.stdout).trim().to_owned();
    assert_eq!(setup.status_of("alice", PASSWORD).await, 200);
    assert_eq!(said(&set(&path, "carol", "x", "4")), "added user carol");
    assert_eq!(said(&set(&path, "alice", "new", "4")), "changed user alice");
    // No signal: the file's change is enough.
    eventually(async || setup.status_of("carol", "x").await == 200).await;
    assert_eq!(setup.status_of("alice", PASSWORD).await, 401);
    assert_eq!(setup.status_of("alice", "new").await, 200);
    assert_eq!(setup.status_of("bob", PASSWORD).await, 200);
    let deleted = htpasswd(&[path.to_str().unwrap(), "carol", "--delete"], "");
    assert_eq!(said(&deleted), "deleted user carol");
    setup.server.signal("HUP");
    eventually(async || setup.status_of("carol", "x").await == 401).await;
    // A file that is gone shuts nobody out.
    std::fs::rename(&path, path.with_extension("away")).unwrap();
    setup.server.signal("HUP");
    setup.server.wait_for_log("cannot read the htpasswd file");
    assert_eq!(setup.status_of("bob", PASSWORD).await, 200);

    for (arguments, password, word) in [
        (vec!["a:b"], "x", "invalid user name"),
        (vec!["dora"], "", "empty"),
        (vec!["dora", "--cost", "40"], "x", "40"),
        (vec!["dora", "--delete"], "x", "no user"),
    ] {
        let arguments = [&[path.to_str().unwrap()], &*arguments].concat();
        let output = htpasswd(&arguments, password);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && error.contains(word), "{error}");
    }
}

#[tokio::test]
async fn a_damaged_line_shuts_out_nobody_else() {
    let setup = Setup::start("");
    let path = setup.htpasswd();
    let good = std::fs::read_to_string(&path).unwrap();
    let text = format!("nonsense\r\nmallory:hunter2\n\n# {good}{good}dora:$apr1$x$y\n");
    std::fs::write(&path, text).unwrap();
    setup.server.signal("HUP");
    setup.server.wait_for_log("dora");
    assert_eq!(setup.status_of("alice", PASSWORD).await, 200);
    for (user, password) in [("mallory", "hunter2"), ("dora", "x"), ("nonsense", "")] {
        assert_eq!(setup.status_of(user, password).await, 401, "{user}");
    }
    let log = setup.server.log();
    assert!(log.contains("line 1: expected USER:HASH"), "{log}");
    assert!(
        !log.contains("hunter2") && !log.contains("nonsense"),
        "{log}"
    );
}

#[tokio::test]
async fn whatever_stands_in_the_header_is_a_login_that_fails() {
    let setup = Setup::start("public/*");
    let encoded = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(bytes);
    let long = "x".repeat(40_000);
    for header in [
        format!("Basic {}", encoded(format!("alice:{long}").as_bytes())),
        format!("Basic {}", encoded(format!("{long}:x").as_bytes())),
        format!("Basic {}", encoded(b"alice\n:x")),
        format!("Basic {}", encoded(b"alice\0:x")),
        format!("Basic {}", encoded(b"\xff\xfe:x")),
        format!("Basic {}", encoded(b"alice")),
        format!("Basic {}", encoded(b":")),
        format!("Basic {long}"),
        format!("Bearer {long}"),
        "Bearer ".to_owned(),
        format!("Bearer {}.99999999999999999999.00", hex::encode("alice")),
        format!("Bearer {}.9999999999.", hex::encode("alice")),
        "Bearer ../../etc/passwd".to_owned(),
        format!("Negotiate {long}"),
    ] {
        for path in ["/v2/", "/v2/public/app/tags/list", "/v2/_imgsync/token"] {
            let response = setup.get(path).header("authorization", &header).send();
            let response = response.await.unwrap();
            faults(response, StatusCode::UNAUTHORIZED, "UNAUTHORIZED").await;
        }
    }
    // The first one counts, and no second one can make up for it.
    let request = setup.get("/v2/").basic_auth("alice", Some("x"));
    let request = request.basic_auth("alice", Some(PASSWORD)).send();
    assert_eq!(request.await.unwrap().status(), 401);
    assert_eq!(setup.status_of("alice", PASSWORD).await, 200);
}

#[test]
fn it_does_not_start_without_its_users() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("none");
    for (path, words) in [
        (missing.as_path(), "imgsync-server htpasswd"),
        (folder.path(), "Docker creates one"),
    ] {
        let output = support::command(&folder.path().join("root"))
            .env("REGISTRY_AUTH_HTPASSWD_REALM", "r")
            .env("REGISTRY_AUTH_HTPASSWD_PATH", path)
            .stderr(Stdio::piped())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(
            said.contains(&path.display().to_string()) && said.contains(words),
            "{said}"
        );
    }
}

#[tokio::test]
async fn nothing_secret_is_logged_and_a_challenge_is_no_error() {
    let setup = Setup::start("public/*");
    assert_eq!(setup.status_of("alice", PASSWORD).await, 200);
    assert_eq!(setup.status_of("alice", "a wrong secret").await, 401);
    let answer = setup
        .get("/v2/_imgsync/token")
        .basic_auth("alice", Some(PASSWORD));
    let answer: serde_json::Value = answer.send().await.unwrap().json().await.unwrap();
    let token = answer["token"].as_str().unwrap();
    let checked = setup.get("/v2/").bearer_auth(token).send().await.unwrap();
    assert_eq!(checked.status(), 200);
    assert_eq!(
        setup.get("/v2/a/tags/list").send().await.unwrap().status(),
        401
    );
    setup.server.wait_for_log("/v2/a/tags/list");
    let log = setup.server.log();
    let base64 = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    for secret in [
        PASSWORD,
        "a wrong secret",
        &base64(&format!("alice:{PASSWORD}")),
        &base64("alice:a wrong secret"),
        token,
        "$2y$",
    ] {
        assert!(!log.contains(secret), "{secret} is in {log}");
    }
    assert!(!log.contains("ERROR") && !log.contains("WARN"), "{log}");
}

#[tokio::test]
async fn an_operator_is_told_of_passwords_in_the_clear_and_of_proxies_that_are_not_believed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("htpasswd");
    assert!(set(&path, "alice", PASSWORD, "4").status.success());
    let variables = [
        ("REGISTRY_AUTH_HTPASSWD_REALM", "r"),
        ("REGISTRY_AUTH_HTPASSWD_PATH", path.to_str().unwrap()),
        ("REGISTRY_IMGSYNC_ANONYMOUS_PULL", "[public/*]"),
        ("REGISTRY_IMGSYNC_TRUSTEDPROXIES", "[10.0.0.0/8]"),
    ];
    let root = folder.path().join("root");
    let mut server = Server::start_at("0.0.0.0:0", &root, &variables);
    server.address = server.address.replace("0.0.0.0", "127.0.0.1");
    for _ in 0..2 {
        let request = client().get(server.url("/v2/"));
        let request = request.header("x-forwarded-proto", "https");
        let response = request.header("x-forwarded-for", "203.0.113.9").send();
        let own = format!("realm=\"http://{}/v2/", server.address);
        assert!(challenge(&response.await.unwrap()).contains(&own));
    }
    server.wait_for_log("/v2/");
    let log = server.log();
    assert_eq!(
        log.matches("passwords come to http://0.0.0.0:").count(),
        1,
        "{log}"
    );
    assert_eq!(log.matches("imgsync.trustedproxies").count(), 1, "{log}");
    assert!(!log.contains("203.0.113.9"), "{log}");
    drop(server);

    let trusting = [
        &variables[..3],
        &[("REGISTRY_IMGSYNC_TRUSTEDPROXIES", "[127.0.0.1]")],
    ];
    let server = Server::start_with(&root, &trusting.concat());
    let request = client().get(server.url("/v2/"));
    let request = request.header("x-forwarded-proto", "https");
    let response = request.header("x-forwarded-for", "203.0.113.9").send();
    let theirs = format!("realm=\"https://{}/v2/", server.address);
    assert!(challenge(&response.await.unwrap()).contains(&theirs));
    server.wait_for_log("203.0.113.9");
}

/// F13: the stock registry computes a bcrypt at every request, and a cheap one for users that it
/// does not know, so that time tells who they are.
#[tokio::test]
async fn a_login_costs_once_and_time_tells_nobodys_name() {
    let users: Vec<String> = (0..7).map(|number| format!("user{number}")).collect();
    let mut all: Vec<_> = users.iter().map(|user| (user.as_str(), "10")).collect();
    all.push(("cheap", "4"));
    let setup = Setup::with_users("", &all);
    let client = client();
    let url = setup.server.url("/v2/");
    let time = async |user: &str, password: &str, expected: u16| {
        let began = Instant::now();
        let request = client.get(&url).basic_auth(user, Some(password));
        assert_eq!(request.send().await.unwrap().status(), expected);
        began.elapsed()
    };
    client.get(&url).send().await.unwrap();
    let (mut first, mut again) = (Vec::new(), Vec::new());
    let (mut wrong, mut cheap, mut unknown) = (Vec::new(), Vec::new(), Vec::new());
    for user in &users {
        first.push(time(user, PASSWORD, 200).await);
        again.push(time(user, PASSWORD, 200).await);
        wrong.push(time(user, "x", 401).await);
        cheap.push(time("cheap", "x", 401).await);
        unknown.push(time("nobody", "x", 401).await);
    }
    let [first, again, wrong, cheap, unknown] = [first, again, wrong, cheap, unknown].map(median);
    assert!(first > again * 10, "first {first:?}, again {again:?}");
    for other in [wrong, cheap] {
        let ratio = other.as_secs_f64() / unknown.as_secs_f64();
        let told = format!("wrong {other:?}, unknown {unknown:?}");
        assert!((0.33..3.0).contains(&ratio), "{told}");
    }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

#[tokio::test]
async fn a_flood_of_passwords_is_turned_away_and_those_who_are_known_get_in() {
    let setup = Setup::with_users("", &[("alice", "10")]);
    let client = client();
    assert_eq!(setup.status_of("alice", PASSWORD).await, 200);
    let flood = (0..300).map(|number| {
        let request = client.get(setup.server.url("/v2/"));
        request.basic_auth("alice", Some(number.to_string())).send()
    });
    let known = async |client: &Client| {
        let request = client.get(setup.server.url("/v2/"));
        let request = request.basic_auth("alice", Some(PASSWORD));
        request.send().await.unwrap().status()
    };
    let (answers, known) =
        futures::future::join(futures::future::join_all(flood), known(&client)).await;
    assert_eq!(known, 200);
    let mut turned_away = 0;
    for answer in answers {
        let answer = answer.unwrap();
        match answer.status().as_u16() {
            401 => {}
            429 => {
                assert!(!header(&answer, "retry-after").is_empty());
                turned_away += 1;
                faults(answer, StatusCode::TOO_MANY_REQUESTS, "TOOMANYREQUESTS").await;
            }
            other => panic!("{other}"),
        }
    }
    assert!(turned_away > 0);
    assert_eq!(setup.status_of("alice", "x").await, 401);
}

async fn eventually(is_so: impl AsyncFn() -> bool) {
    let began = Instant::now();
    while !is_so().await {
        assert!(began.elapsed() < Duration::from_secs(60), "waited too long");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
