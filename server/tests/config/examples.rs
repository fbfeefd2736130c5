//! Tests typical configurations in files and variables.

use std::io::Write as _;

use crate::support::launch::{Running, Setup, stdout};
use crate::support::prelude::*;
use reqwest::Client;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// The configuration in the image of the stock registry, with other paths and addresses.
const STOCK_IMAGE: &str = "\
version: 0.1
log:
  level: debug
  fields:
    service: registry
    environment: development
storage:
  delete:
    enabled: true
  cache:
    blobdescriptor: inmemory
  filesystem:
    rootdirectory: {folder}/registry
  tag:
    concurrencylimit: 8
  maintenance:
    uploadpurging:
      enabled: false
http:
  addr: 127.0.0.1:0
  debug:
    addr: 127.0.0.1:0
    prometheus:
      enabled: true
      path: /metrics
  headers:
    X-Content-Type-Options: [nosniff]
health:
  storagedriver:
    enabled: true
    interval: 10s
    threshold: 3
";

/// The shortest valid configuration.
pub(super) const SHORT: &str = "\
version: 0.1
storage: {filesystem: {rootdirectory: '{folder}/registry'}}
http: {addr: '127.0.0.1:0'}
";

/// Pushes a blob to the registry at `root`. `base` is put before a relative `Location`.
async fn push(client: &Client, base: &str, root: &str, bytes: &[u8]) -> Response {
    let started = client.post(format!("{root}/v2/a/blobs/uploads/")).send();
    let started = started.await.unwrap();
    assert_eq!(started.status(), 202, "{}", started.text().await.unwrap());
    let location = header(&started, "location");
    let digest = Digest::of(bytes);
    let url = format!("{base}{location}?digest={digest}");
    client.put(url).body(bytes.to_vec()).send().await.unwrap()
}

pub(super) async fn get(url: String) -> Response {
    client().get(url).send().await.unwrap()
}

/// Adds a user with `imgsync-server htpasswd`, the password on standard input.
pub(super) fn add_user(setup: &Setup, user: &str, password: &str) {
    let file = setup.path("htpasswd");
    let arguments = ["htpasswd", "--cost", "4", file.to_str().unwrap(), user];
    let mut process = setup
        .program(&arguments)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = process.stdin.take().unwrap();
    stdin.write_all(format!("{password}\n").as_bytes()).unwrap();
    drop(stdin);
    assert!(process.wait().unwrap().success());
}

#[tokio::test]
async fn the_configuration_of_the_stock_image() {
    let server = Setup::new(STOCK_IMAGE).serve();
    let url = &server.url;
    let pushed = push(&client(), url, url, b"bytes").await;
    assert_eq!(pushed.status(), 201);
    assert_eq!(header(&pushed, "x-content-type-options"), "nosniff");
    let blob = format!("{url}/v2/a/blobs/{}", Digest::of(b"bytes"));
    assert_eq!(get(blob.clone()).await.bytes().await.unwrap(), "bytes");
    let missing = get(format!("{url}/v2/a/manifests/none")).await;
    assert_eq!(header(&missing, "x-content-type-options"), "nosniff");
    assert_eq!(missing.status(), 404);
    assert_eq!(client().delete(blob).send().await.unwrap().status(), 202);
    assert!(server.setup().path("registry/docker/registry/v2").is_dir());
    let debug = server.debug_url();
    let health = get(format!("{debug}/debug/health")).await;
    assert_eq!(health.status(), 200);
    assert_eq!(header(&health, "content-type"), "application/json");
    assert_eq!(health.text().await.unwrap(), "{}\n");
    let metrics = get(format!("{debug}/metrics")).await;
    assert!(header(&metrics, "content-type").starts_with("text/plain; version=0.0.4"));
    assert!(
        metrics
            .text()
            .await
            .unwrap()
            .contains("# TYPE imgsync_cache_requests_total counter")
    );
    for path in ["/debug/vars", "/v2/", "/"] {
        assert_eq!(get(format!("{debug}{path}")).await.status(), 404, "{path}");
    }
    let log = server.log();
    assert_eq!(log.matches("WARN").count(), 0, "{log}");
}

#[tokio::test]
async fn htpasswd_set_by_variables() {
    let setup = Setup::new(SHORT)
        .with("REGISTRY_AUTH", "htpasswd")
        .with("REGISTRY_AUTH_HTPASSWD_REALM", "Registry Realm")
        .with("REGISTRY_AUTH_HTPASSWD_PATH", "{folder}/htpasswd");
    add_user(&setup, "alice", "swordfish");
    let server = setup.serve();
    let url = format!("{}/v2/", server.url);
    let refused = get(url.clone()).await;
    assert_eq!(
        header(&refused, "www-authenticate"),
        "Basic realm=\"Registry Realm\""
    );
    assert_error(refused, StatusCode::UNAUTHORIZED, "UNAUTHORIZED").await;
    for (password, status) in [("swordfish", 200), ("wrong", 401)] {
        let request = client().get(&url).basic_auth("alice", Some(password));
        assert_eq!(request.send().await.unwrap().status(), status);
    }
    assert!(!server.log().contains("swordfish"));
}

#[tokio::test]
async fn tls_set_by_variables() {
    let setup = Setup::new(SHORT)
        .with("REGISTRY_HTTP_TLS_CERTIFICATE", "{folder}/certs/domain.crt")
        .with("REGISTRY_HTTP_TLS_KEY", "{folder}/certs/domain.key")
        .with("REGISTRY_HTTP_TLS_MINIMUMTLS", "tls1.3");
    std::fs::create_dir(setup.path("certs")).unwrap();
    let status = Command::new("openssl")
        .args([
            "req", "-newkey", "rsa:2048", "-nodes", "-sha256", "-x509", "-days", "2",
        ])
        .args(["-keyout", "certs/domain.key", "-out", "certs/domain.crt"])
        .args([
            "-subj",
            "/CN=localhost",
            "-addext",
            "subjectAltName=IP:127.0.0.1",
        ])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .current_dir(setup.folder.path())
        .stderr(Stdio::null())
        .status();
    assert!(status.unwrap().success());
    let certificate = std::fs::read(setup.path("certs/domain.crt")).unwrap();
    let server = setup.serve();
    assert!(
        server.url.starts_with("https://127.0.0.1:"),
        "{}",
        server.url
    );
    let certificate = reqwest::Certificate::from_pem(&certificate).unwrap();
    let client = Client::builder().no_proxy().tls_certs_only([certificate]);
    let client = client.build().unwrap();
    let url = &server.url;
    assert_eq!(push(&client, url, url, b"bytes").await.status(), 201);
    assert!(
        self::client()
            .get(format!("{url}/v2/"))
            .send()
            .await
            .is_err()
    );
}

#[tokio::test]
async fn deletes_must_be_enabled() {
    for (value, status) in [(None, 405), (Some("true"), 202), (Some("false"), 405)] {
        let mut setup = Setup::new(SHORT);
        if let Some(value) = value {
            setup = setup.with("REGISTRY_STORAGE_DELETE_ENABLED", value);
        }
        let server = setup.serve();
        let url = &server.url;
        assert_eq!(push(&client(), url, url, b"bytes").await.status(), 201);
        let blob = format!("{url}/v2/a/blobs/{}", Digest::of(b"bytes"));
        let deleted = client().delete(&blob).send().await.unwrap();
        assert_eq!(deleted.status(), status, "{value:?}");
        let found = get(blob).await.status();
        assert_eq!(found == 404, status == 202, "{value:?}");
    }
}

#[tokio::test]
async fn read_only_mode_set_by_a_variable() {
    // The stock registry 2.8 panics at this variable.
    let server = Setup::new(SHORT).serve();
    let url = &server.url;
    assert_eq!(push(&client(), url, url, b"{}").await.status(), 201);
    let image = manifest(b"{}", &[]);
    let tag = |url: &str| format!("{url}/v2/a/manifests/v1");
    let put = client()
        .put(tag(url))
        .header("content-type", media::OCI_MANIFEST);
    assert_eq!(put.body(image.clone()).send().await.unwrap().status(), 201);
    let config = std::fs::read_to_string(server.setup().path("config.yml")).unwrap();
    let root = server.setup().path("registry");
    server.signal("TERM");
    // The second server can lock the folder only after the first one has ended.
    let second = loop {
        let setup = Setup::new(&config)
            .with("REGISTRY_STORAGE_MAINTENANCE_READONLY_ENABLED", "true")
            .with("REGISTRY_STORAGE_DELETE_ENABLED", "true")
            .with(
                "REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY",
                root.to_str().unwrap(),
            );
        if server.log().contains("shutting down") && client().get(url).send().await.is_err() {
            break setup.serve();
        }
    };
    let url = &second.url;
    assert_eq!(get(tag(url)).await.bytes().await.unwrap(), image);
    let put = client()
        .put(tag(url))
        .header("content-type", media::OCI_MANIFEST);
    for request in [
        put.body(image),
        client().post(format!("{url}/v2/a/blobs/uploads/")),
        client().delete(tag(url)),
    ] {
        let response = request.send().await.unwrap();
        assert_eq!(header(&response, "allow"), "GET, HEAD");
        assert_error(response, StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED").await;
    }
}

#[tokio::test]
async fn prefix_and_external_address() {
    let config = SHORT.replace(
        "http: {",
        "http: {prefix: /my/nested/, host: 'https://reg.example.com:5000', ",
    );
    let server = Setup::new(&config).serve();
    let base = format!("{}/my/nested", server.url);
    for (path, status) in [
        ("", 200),
        ("/", 200),
        ("/v2/", 200),
        ("/v2/x/tags/list", 404),
    ] {
        assert_eq!(
            get(format!("{base}{path}")).await.status(),
            status,
            "{path}"
        );
    }
    for path in ["/v2/", "/", "/my/nestedv2/", "/my/v2/"] {
        let outside = get(format!("{}{path}", server.url)).await;
        assert_eq!(outside.status(), 404, "{path}");
        assert_eq!(header(&outside, "content-type"), "application/json");
    }
    let started = client().post(format!("{base}/v2/a/blobs/uploads/")).send();
    let location = header(&started.await.unwrap(), "location");
    let external = "https://reg.example.com:5000/my/nested/v2/a/blobs/uploads/";
    assert!(location.starts_with(external), "{location}");
    // With `relativeurls`, the server sends relative locations in spite of `host`.
    let server = Setup::new(&config)
        .with("REGISTRY_HTTP_RELATIVEURLS", "true")
        .serve();
    let root = format!("{}/my/nested", server.url);
    assert_eq!(
        push(&client(), &server.url, &root, b"bytes").await.status(),
        201
    );
}

#[tokio::test]
async fn configured_headers_are_sent() {
    let server = Setup::new(SHORT)
        .with("REGISTRY_HTTP_HEADERS_Access-Control-Allow-Origin", "['*']")
        .with(
            "REGISTRY_HTTP_HEADERS_Access-Control-Allow-Methods",
            "[HEAD, GET]",
        )
        .with("REGISTRY_HTTP_HEADERS_Content-Type", "[text/html]")
        .serve();
    for path in ["/v2/", "/", "/nowhere", "/v2/a/tags/list"] {
        let response = get(format!("{}{path}", server.url)).await;
        assert_eq!(header(&response, "access-control-allow-origin"), "*");
        let methods = response.headers().get_all("access-control-allow-methods");
        assert_eq!(methods.iter().collect::<Vec<_>>(), ["HEAD", "GET"]);
        if path != "/" {
            assert_eq!(
                header(&response, "content-type"),
                "application/json",
                "{path}"
            );
        }
    }
}

#[tokio::test]
async fn page_sizes_are_limited() {
    let config = format!("{SHORT}catalog: {{maxentries: 2}}\ntags: {{maxtags: 3}}\n");
    let server = Setup::new(&config).serve();
    let url = &server.url;
    for name in ["a", "b", "c"] {
        let push = client().post(format!(
            "{url}/v2/{name}/blobs/uploads/?digest={}",
            Digest::of(b"{}")
        ));
        assert_eq!(push.body("{}").send().await.unwrap().status(), 201);
        let put = client().put(format!("{url}/v2/{name}/manifests/v1"));
        let put = put
            .header("content-type", media::OCI_MANIFEST)
            .body(manifest(b"{}", &[]));
        assert_eq!(put.send().await.unwrap().status(), 201);
    }
    for (path, limit) in [("/v2/_catalog", 2), ("/v2/a/tags/list", 3)] {
        assert_eq!(get(format!("{url}{path}?n={limit}")).await.status(), 200);
        let response = get(format!("{url}{path}?n={}", limit + 1)).await;
        let errors = assert_error(
            response,
            StatusCode::BAD_REQUEST,
            "PAGINATION_NUMBER_INVALID",
        )
        .await;
        assert_eq!(errors[0].detail, serde_json::json!({ "n": limit + 1 }));
    }
    let first = get(format!("{url}/v2/_catalog")).await;
    assert_eq!(
        header(&first, "link"),
        "</v2/_catalog?last=b&n=2>; rel=\"next\""
    );
    assert_eq!(
        first.text().await.unwrap(),
        "{\"repositories\":[\"a\",\"b\"]}\n"
    );
}

#[tokio::test]
async fn listening_on_a_unix_socket() {
    let config = "version: 0.1\nstorage: {filesystem: {rootdirectory: '{folder}/registry'}}\n\
                  http: {net: unix, addr: '{folder}/socket'}\n";
    let server = Setup::new(config).serve();
    assert!(server.url.starts_with("unix://") && server.url.ends_with("/socket"));
    let socket = server.setup().path("socket");
    let mut stream = tokio::net::UnixStream::connect(&socket).await.unwrap();
    let request = b"GET /v2/ HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.ends_with("{}"),
        "{answer}"
    );
}

#[tokio::test]
async fn the_path_of_the_file_set_by_a_variable() {
    let setup = Setup::new(SHORT).with("REGISTRY_CONFIGURATION_PATH", "{folder}/config.yml");
    let output = setup.program(&["config"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(
        stdout(&output).contains("addr: 127.0.0.1:0  # /"),
        "{}",
        stdout(&output)
    );
    // Variables of other programs and those that Kubernetes sets for a service cause no error.
    let server: Running = setup
        .with("OTEL_TRACES_EXPORTER", "none")
        .with("REGISTRY_PORT", "tcp://10.0.0.1:5000")
        .with("REGISTRY_SERVICE_HOST", "10.0.0.1")
        .with("REGISTRY_SOMETHING_ELSE", "x")
        .serve();
    assert_eq!(get(format!("{}/v2/", server.url)).await.status(), 200);
    let log = server.log();
    assert_eq!(log.matches("WARN").count(), 1, "{log}");
    assert!(
        log.contains("REGISTRY_SOMETHING_ELSE: no such setting, ignored"),
        "{log}"
    );
}
