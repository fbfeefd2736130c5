//! Tests what clients without a login get from the stock registry's `proxy`, as Docker's daemon asks
//! its `registry-mirrors`.

use reqwest::StatusCode;

use super::*;
use crate::support::{client, manifest};

/// alice with the password `secret`.
const USERS: &str = "alice:$2y$04$UeV4w0qLbS3AO1wlkmVNhugx5EBDpr8zmAX5S9arlVvhoQFXytDNC\n";
const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Starts an upstream with the image `library/app:v1` of one config, and returns its manifest.
fn hub() -> (FakeServer, Vec<u8>) {
    let image = manifest(b"upstream", &[]);
    let content = image.clone();
    let hub = FakeServer::start(move |request| {
        let (digest, bytes) = (Digest::of(&content), &content);
        let config = Digest::of(b"upstream");
        match request.target.strip_prefix("/v2/library/app/") {
            Some(path) if path == "manifests/v1" || path == format!("manifests/{digest}") => {
                let reply = fake::status(200).header("Content-Type", OCI_MANIFEST);
                let reply = reply.header("Docker-Content-Digest", digest.to_string());
                reply
                    .header("Content-Length", bytes.len().to_string())
                    .body(bytes.clone())
            }
            Some(path) if path == format!("blobs/{config}") => {
                let reply = fake::status(200).header("Content-Length", "8");
                reply.body("upstream")
            }
            _ => fake::status(404),
        }
    });
    (hub, image)
}

fn start(hub: &FakeServer, pattern: &str) -> Running {
    let remote = hub.address();
    let setup = Setup::new(&format!(
        "{BASE}auth: {{htpasswd: {{realm: r, path: '{{folder}}/users'}}}}\n\
         proxy: {{remoteurl: 'http://{remote}'}}\n\
         imgsync: {{anonymous: {{pull: [{pattern}]}}}}\n"
    ));
    std::fs::write(setup.path("users"), USERS).unwrap();
    setup.serve()
}

/// Pushes an image with this config as alice, and returns its manifest.
async fn push(running: &Running, repository: &str, config: &[u8]) -> Vec<u8> {
    let put = async |request: reqwest::RequestBuilder| {
        let request = request.basic_auth("alice", Some("secret"));
        assert_eq!(request.send().await.unwrap().status(), StatusCode::CREATED);
    };
    let base = format!("{}/v2/{repository}", running.url);
    let digest = Digest::of(config);
    let upload = client().post(format!("{base}/blobs/uploads/?digest={digest}"));
    put(upload.body(config.to_vec())).await;
    let image = manifest(config, &[]);
    let request = client().put(format!("{base}/manifests/pushed"));
    put(request
        .header("content-type", OCI_MANIFEST)
        .body(image.clone()))
    .await;
    image
}

#[tokio::test]
async fn a_pattern_opens_what_the_proxy_fetches_and_nothing_that_was_pushed() {
    let (hub, image) = hub();
    for pattern in ["'docker.io/**'", "'docker.io/library/*'"] {
        let running = start(&hub, pattern);
        let own = push(&running, "library/app", b"own").await;
        push(&running, "team/app", b"other").await;
        let (status, body) = get(&running, "/v2/library/app/manifests/v1").await;
        assert_eq!((status, body), (200, image.clone()));
        let config = Digest::of(b"upstream");
        let (status, body) = get(&running, &format!("/v2/library/app/blobs/{config}")).await;
        assert_eq!((status, &body[..]), (200, &b"upstream"[..]));
        for closed in [
            "/v2/library/app/manifests/pushed".to_owned(),
            format!("/v2/library/app/manifests/{}", Digest::of(&own)),
            format!("/v2/library/app/blobs/{}", Digest::of(b"own")),
            "/v2/library/app/tags/list".to_owned(),
            "/v2/team/app/manifests/pushed".to_owned(),
            "/v2/_catalog".to_owned(),
        ] {
            assert_eq!(get(&running, &closed).await.0, 401, "{closed}");
        }
        // Docker's daemon gets a token although it sends its login at Docker Hub.
        let ping = client().get(format!("{}/v2/", running.url)).send();
        let ping = ping.await.unwrap();
        let challenge = ping.headers()["www-authenticate"].to_str().unwrap();
        let realm = challenge.strip_prefix("Bearer realm=\"").unwrap();
        let realm = realm.split('"').next().unwrap();
        for scope in ["library/app", "other/app"] {
            let url = format!("{realm}?scope=repository:{scope}:pull");
            let login = client().get(url).basic_auth("hubuser", Some("hubpassword"));
            let is_open = pattern.contains("**") || scope == "library/app";
            let status = if is_open { 200 } else { 401 };
            assert_eq!(login.send().await.unwrap().status(), status, "{scope}");
        }
        let log = running.log();
        for line in [
            format!(
                "upstream {}: repositories that no other upstream has",
                hub.address()
            ),
            "without a login, anyone may pull docker.io/".to_owned(),
            "Docker sends no login to a mirror: its registry-mirrors get".to_owned(),
        ] {
            assert!(log.contains(&line), "{line}: {log}");
        }
    }
}

#[tokio::test]
async fn without_a_pattern_a_mirror_is_closed_and_the_log_says_so() {
    let (hub, _) = hub();
    let running = start(&hub, "'public/**'");
    assert_eq!(get(&running, "/v2/library/app/manifests/v1").await.0, 401);
    let log = running.log();
    assert!(
        log.contains("set imgsync.anonymous.pull to [docker.io/**]"),
        "{log}"
    );
    assert_eq!(hub.requests().len(), 0);
}
