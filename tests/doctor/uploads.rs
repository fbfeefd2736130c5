//! Tests what only an upload shows: the size of a request, the `Location` of a session, and what
//! happens after a lost connection.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use super::{DoctorFixture, tree};
use crate::support::prelude::*;
use crate::support::quirky::{QuirkyRegistry, RegistryQuirks};
use crate::support::{Nginx, NginxOptions, fake};

const MIB: u64 = 1 << 20;

#[test]
fn an_upload_is_continued_and_deleted() {
    let fixture = DoctorFixture::new();
    let (root, config) = (
        fixture.scratch.folder("root"),
        fixture.scratch.path("config.yml"),
    );
    let text = format!(
        "version: 0.1\n\
         storage: {{filesystem: {{rootdirectory: {root:?}}}, delete: {{enabled: true}}}}\n\
         http: {{addr: '127.0.0.1:0'}}\n"
    );
    std::fs::write(&config, text).unwrap();
    let server = Server::start_configured(&config, &root);
    let remote = format!("{}/team/app", server.address());
    let diagnosis = fixture.examine(0, &[&remote, "--write"]);
    diagnosis
        .has("push", "ok", &[])
        .has("location", "ok", &["relative"])
        .has("request-size", "ok", &["one of 16.8 MB was accepted"])
        .has("resume", "ok", &["uploads and downloads continue"]);
    assert!(
        !diagnosis.outcome.stdout.contains("\"note\""),
        "{}",
        diagnosis.outcome
    );
    // The garbage collection frees the space; no link to the blob and no session is left.
    let left = tree(&root.join("docker/registry/v2/repositories")).into_iter();
    let left: Vec<_> = left.filter(|path| path.is_file()).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn what_the_stock_registry_keeps_is_told() {
    if !programs_available(&["docker-registry"]) {
        return;
    }
    let fixture = DoctorFixture::new();
    let root = fixture.scratch.folder("root");
    let registry = StockRegistry::start(&root);
    let remote = format!("{}/team/app", registry.address());
    fixture
        .examine(0, &[&remote])
        .has("registry", "ok", &["registry/2.0"])
        .has("push", "ok", &[]);
    assert_eq!(tree(&root), BTreeSet::new());
    let diagnosis = fixture.examine(0, &[&remote, "--write"]);
    diagnosis
        .has(
            "location",
            "ok",
            &[&format!("http://{}", registry.address())],
        )
        .has(
            "resume",
            "warning",
            &["a blob starts again", "the stock registry does this"],
        );
    // The stock registry does not delete blobs by default.
    let note = "the registry does not delete blobs: sha256:";
    assert!(
        diagnosis.outcome.stdout.contains(note),
        "{}",
        diagnosis.outcome
    );
}

#[test]
fn nginx_with_its_default_and_with_the_recommended_settings() {
    if !programs_available(&["nginx", "openssl"]) {
        return;
    }
    let fixture = DoctorFixture::new();
    let server = Server::start(&fixture.scratch.folder("root"));
    let authority = CertificateAuthority::new(&fixture.scratch.folder("ca"));
    let pair = authority.sign("server", &["DNS:localhost", "IP:127.0.0.1"]);
    let options = NginxOptions {
        max_body_size: None,
        buffers_requests: true,
    };
    let ca = authority.certificate().display().to_string();
    let folder = fixture.scratch.folder("recommended");
    let nginx = Nginx::start(&folder, server.address(), &pair);
    let remote = format!("https://{}/app", nginx.address());
    fixture
        .examine(0, &[&remote, "--ca-file", &ca, "--write"])
        .all(&["location", "request-size", "resume"], "ok");
    drop(nginx);

    let folder = fixture.scratch.folder("default");
    let nginx = Nginx::start_with(&folder, server.address(), &pair, options);
    let remote = format!("https://{}/app", nginx.address());
    let limit = ["nginx/", "2.1 MB", "client_max_body_size 0;"];
    fixture
        .examine(0, &[&remote, "--ca-file", &ca])
        .has("request-size", "warning", &limit);
    fixture
        .examine(0, &[&remote, "--ca-file", &ca, "--write"])
        .has("request-size", "warning", &limit)
        .has("resume", "warning", &["  proxy_request_buffering off;"]);
}

#[test]
fn nginx_that_hides_the_address_from_the_registry() {
    if !programs_available(&["nginx", "openssl", "docker-registry"]) {
        return;
    }
    let fixture = DoctorFixture::new();
    let registry = StockRegistry::start(&fixture.scratch.folder("root"));
    let authority = CertificateAuthority::new(&fixture.scratch.folder("ca"));
    let pair = authority.sign("server", &["DNS:localhost"]);
    let ca = authority.certificate().display().to_string();
    let example = std::fs::read_to_string(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/nginx/imgsync.conf"),
    );
    let example = example.unwrap();
    let examine = |name: &str, config: &str| {
        let folder = fixture.scratch.folder(name);
        let nginx = Nginx::start_example(config, &folder, registry.address(), &pair);
        let host = format!("localhost:{}", nginx.address().port());
        let remote = format!("https://{host}/app");
        let diagnosis = fixture.examine(0, &[&remote, "--ca-file", &ca, "--write"]);
        (diagnosis, host)
    };
    let (diagnosis, _) = examine("right", &example);
    diagnosis.has("location", "ok", &["the address of the registry"]);
    let config = example
        .replace("proxy_set_header X-Forwarded-Proto $scheme;", "")
        .replace("proxy_set_header X-Forwarded-Host $http_host;", "")
        .replace("Host $http_host;", "Host $host;");
    let (diagnosis, host) = examine("wrong", &config);
    diagnosis.has(
        "location",
        "warning",
        &[
            "at http://localhost instead of https://localhost:",
            "imgsync corrects this",
            "  proxy_set_header Host $http_host;",
            "  proxy_set_header X-Forwarded-Proto $scheme;",
            &format!("  REGISTRY_HTTP_HOST: https://{host}"),
        ],
    );
}

#[test]
fn a_location_that_cannot_be_reached() {
    if !programs_available(&["docker-registry"]) {
        return;
    }
    let fixture = DoctorFixture::new();
    let root = fixture.scratch.folder("root");
    let http = ", host: 'http://registry.invalid:5000'";
    let registry = StockRegistry::start_configured(&root, "", http, "");
    let remote = format!("{}/app", registry.address());
    fixture
        .examine(4, &[&remote, "--write"])
        .has("push", "ok", &[])
        .has(
            "location",
            "fault",
            &[
                "http://registry.invalid:5000",
                "  REGISTRY_HTTP_HOST: http://127.0.0.1",
            ],
        );
}

/// Examines a registry with these deviations, with `--write`.
fn examine_quirky(code: i32, quirks: RegistryQuirks) -> super::Diagnosis {
    let fixture = DoctorFixture::new();
    let registry = QuirkyRegistry::start(quirks);
    let remote = format!("{}/app", registry.address());
    let diagnosis = fixture.examine(code, &[&remote, "--write"]);
    registry.assert_valid_requests();
    diagnosis
}

#[test]
fn registries_that_lose_the_bytes_of_a_broken_request() {
    examine_quirky(0, RegistryQuirks::default()).has(
        "resume",
        "warning",
        &["a request starts again", "proxy_request_buffering off;"],
    );
    // The registry notices the break only after the first request with the rest.
    static RESTS: AtomicUsize = AtomicUsize::new(0);
    let is_busy = RegistryQuirks {
        refuse_patch: |request, _| {
            let range = request.header("content-range")?;
            let is_first = range.starts_with("65536-") && RESTS.fetch_add(1, SeqCst) == 0;
            is_first.then(|| fake::status(416))
        },
        ..RegistryQuirks::default()
    };
    examine_quirky(0, is_busy).has("resume", "warning", &["a request starts again"]);
    assert_eq!(RESTS.load(SeqCst), 2);
    let loses_sessions = RegistryQuirks {
        status_of_get: 404,
        ..RegistryQuirks::default()
    };
    examine_quirky(0, loses_sessions).has("resume", "warning", &["a blob starts again"]);
    let takes_whole_blobs = RegistryQuirks {
        refuse_patch: |request, _| request.header("content-range").map(|_| fake::status(416)),
        ..RegistryQuirks::default()
    };
    examine_quirky(0, takes_whole_blobs).has("resume", "warning", &["in one request only"]);
}

#[test]
fn a_limit_that_is_noticed_only_while_the_body_is_read() {
    let quirks = RegistryQuirks {
        max_body_bytes: Some(2 * MIB),
        ..RegistryQuirks::default()
    };
    examine_quirky(0, quirks).has(
        "request-size",
        "warning",
        &["4.2 MB", "client_max_body_size 0;"],
    );
}
