//! Tests of the debug address: metrics, and the health checks of orchestrators.

use crate::support::launch::{Running, Setup};
use crate::support::prelude::*;

const CONFIG: &str = "version: 0.1\nstorage: {filesystem: {rootdirectory: registry}}\n\
     http: {addr: '127.0.0.1:0', debug: {addr: '127.0.0.1:0', prometheus: {enabled: true}}}\n";

/// The password of alice is `secret`.
const USERS: &str = "alice:$2y$04$UeV4w0qLbS3AO1wlkmVNhugx5EBDpr8zmAX5S9arlVvhoQFXytDNC\n";

async fn get(url: String) -> Response {
    client().get(url).send().await.unwrap()
}

/// Pushes a blob to the repository `a`.
async fn push(server: &Running, bytes: &[u8]) {
    let digest = Digest::of(bytes);
    let url = format!("{}/v2/a/blobs/uploads/?digest={digest}", server.url);
    let pushed = client().post(url).body(bytes.to_vec()).send().await;
    assert_eq!(pushed.unwrap().status(), 201);
}

async fn metrics(server: &Running) -> String {
    let url = format!("{}/metrics", server.debug_url());
    assert!(
        server.log().contains(&format!("metrics at {url}")),
        "{}",
        server.log()
    );
    get(url).await.text().await.unwrap()
}

/// Returns the value of a time series, by its name and labels; `None` if it is absent.
fn value(metrics: &str, series: &str) -> Option<f64> {
    let mut lines = metrics.lines();
    let value = lines.find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    value.map(|value| value.parse().unwrap())
}

#[tokio::test]
async fn requests_are_counted_under_the_names_of_the_stock_registry() {
    let server = Setup::new(CONFIG).serve();
    let url = &server.url;
    let bytes = vec![7; 5000];
    push(&server, &bytes).await;
    let blob = format!("{url}/v2/a/blobs/{}", Digest::of(&bytes));
    assert_eq!(get(blob).await.bytes().await.unwrap(), bytes);
    get(format!("{url}/v2/a/manifests/none")).await;
    get(format!("{url}/no/api")).await;
    let text = metrics(&server).await;
    for (series, expected) in [
        (
            "registry_http_requests_total{code=\"200\",handler=\"blob\",method=\"get\"}",
            1.0,
        ),
        (
            "registry_http_requests_total{code=\"404\",handler=\"manifest\",method=\"get\"}",
            1.0,
        ),
        (
            "registry_http_requests_total{code=\"404\",handler=\"other\",method=\"get\"}",
            1.0,
        ),
        (
            "registry_http_request_duration_seconds_count{handler=\"blob\",method=\"get\"}",
            1.0,
        ),
        (
            "registry_http_request_size_bytes_sum{handler=\"blob_upload\"}",
            5000.0,
        ),
        (
            "registry_http_response_size_bytes_sum{handler=\"blob\"}",
            5000.0,
        ),
        (
            "registry_http_response_size_bytes_bucket{handler=\"blob\",le=\"8192\"}",
            1.0,
        ),
        (
            "registry_http_response_size_bytes_bucket{handler=\"blob\",le=\"4096\"}",
            0.0,
        ),
        ("registry_http_in_flight_requests{handler=\"blob\"}", 0.0),
    ] {
        assert_eq!(value(&text, series), Some(expected), "{series}\n{text}");
    }
    for name in ["process_resident_memory_bytes", "process_open_fds"] {
        assert!(value(&text, name).unwrap() > 1.0, "{text}");
    }
}

#[tokio::test]
async fn the_storage_is_measured_for_the_next_look() {
    let server = Setup::new(CONFIG).serve();
    push(&server, b"12345").await;
    let text = loop {
        let text = metrics(&server).await;
        if value(&text, "imgsync_storage_blobs").is_some() {
            break text;
        }
        tokio::task::yield_now().await;
    };
    for (series, expected) in [
        ("imgsync_storage_blobs", 1.0),
        ("imgsync_storage_blob_bytes", 5.0),
        ("imgsync_storage_open_uploads", 0.0),
        ("imgsync_storage_repositories", 1.0),
        ("imgsync_repository_bytes{repository=\"a\"}", 5.0),
    ] {
        assert_eq!(value(&text, series), Some(expected), "{series}\n{text}");
    }
    let size = value(&text, "imgsync_disk_size_bytes").unwrap();
    assert!(size >= value(&text, "imgsync_disk_free_bytes").unwrap());
}

#[tokio::test]
async fn refused_logins_are_counted() {
    let setup = Setup::new(&format!(
        "{CONFIG}auth: {{htpasswd: {{realm: here, path: users}}}}\n"
    ));
    std::fs::write(setup.path("users"), USERS).unwrap();
    let server = setup.serve();
    let check = |password: &'static str| {
        let request = client().get(format!("{}/v2/", server.url));
        request.basic_auth("alice", Some(password)).send()
    };
    assert_eq!(check("guess").await.unwrap().status(), 401);
    assert_eq!(check("secret").await.unwrap().status(), 200);
    let form = client().post(format!("{}/_imgsync/login", server.url));
    let form = form
        .header("origin", &server.url)
        .body("user=alice&password=guess");
    assert_eq!(form.send().await.unwrap().status(), 403);
    // A request without a login is no refused login.
    get(format!("{}/v2/", server.url)).await;
    let text = metrics(&server).await;
    let refused = value(&text, "imgsync_logins_refused_total{reason=\"login\"}");
    assert_eq!(refused, Some(2.0), "{text}");
}

#[tokio::test]
async fn health_checks_tell_a_lost_storage_folder() {
    let server = Setup::new(CONFIG).serve();
    let debug = server.debug_url();
    let status = async |path: &str| get(format!("{debug}{path}")).await.status().as_u16();
    assert_eq!(
        (status("/healthz").await, status("/readyz").await),
        (200, 200)
    );
    let root = server.setup().path("registry");
    std::fs::rename(&root, server.setup().path("moved")).unwrap();
    assert_eq!(
        (status("/healthz").await, status("/readyz").await),
        (200, 503)
    );
    let reason = get(format!("{debug}/readyz")).await.text().await.unwrap();
    assert!(reason.contains("storage folder"), "{reason}");
    std::fs::rename(server.setup().path("moved"), &root).unwrap();
    assert_eq!(status("/readyz").await, 200);
    let posted = client().post(format!("{debug}/readyz")).send().await;
    assert_eq!(posted.unwrap().status(), 405);
}
