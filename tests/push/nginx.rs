//! Tests pushes through nginx with limits on the size of a request: the push finds a chunk size
//! that nginx accepts.

use crate::support::authority::CertificateAndKey;
use crate::support::prelude::*;
use crate::support::{Nginx, NginxOptions};

struct NginxFixture {
    imgsync: Imgsync,
    server: Server,
    authority: CertificateAuthority,
    pair: CertificateAndKey,
    /// Dropped last: the server must have stopped before its folder is deleted.
    scratch: Scratch,
}

impl NginxFixture {
    /// Returns `None` if nginx or openssl is missing.
    fn new() -> Option<Self> {
        if !programs_available(&["nginx", "openssl"]) {
            return None;
        }
        let scratch = Scratch::new();
        let authority = CertificateAuthority::new(&scratch.folder("ca"));
        Some(Self {
            imgsync: Imgsync::new(&scratch.folder("home")),
            server: Server::start(&scratch.folder("root")),
            pair: authority.sign("server", &["DNS:localhost", "IP:127.0.0.1"]),
            authority,
            scratch,
        })
    }

    fn nginx(&self, options: NginxOptions) -> Nginx {
        let folder = self.scratch.folder("nginx");
        Nginx::start_with(&folder, self.server.address(), &self.pair, options)
    }

    /// Writes an archive with three layers that do not compress. One is larger than every limit in
    /// these tests.
    fn image(&self, seed: u64) -> (Image, PathBuf) {
        let sizes = [20_000_000, 5_000_000, 300_000];
        let layers = sizes.iter().zip(seed..);
        let layers = layers.map(|(size, seed)| layer("data", noise(seed, *size)));
        let image = Image::new(layers.collect());
        let path = self.scratch.path(&format!("image-{seed}.tar"));
        archive::write_tar(&image.docker_archive("app:v1"), &path);
        (image, path)
    }

    fn push(&self, options: &[&str], path: &Path, remote: &str) -> Outcome {
        let ca = self.authority.certificate();
        let mut options = options.to_vec();
        options.extend(["--json", "--ca-file", ca.to_str().unwrap()]);
        self.imgsync
            .push_with(&options, path.to_str().unwrap(), remote)
    }
}

/// The summary of a push.
struct Reported {
    /// The bytes of blobs that were sent, each counted once.
    sent: u64,
    /// The bytes that were sent again.
    resent: u64,
    /// The notes about the limit of the proxy.
    limits: usize,
}

fn reported(outcome: &Outcome) -> Reported {
    let events = outcome.stdout.lines().map(|line| {
        let event: serde_json::Value = serde_json::from_str(line).expect("JSON");
        event
    });
    let events: Vec<_> = events.collect();
    let outcome = events.iter().find(|event| event["event"] == "outcome");
    let outcome = outcome.expect("an outcome");
    let text = |event: &serde_json::Value| event["text"].as_str().unwrap_or_default().to_owned();
    let is_limit = |text: &String| text.contains("too large") && text.contains("client_max_body");
    Reported {
        sent: outcome["sent"].as_u64().expect("a number"),
        resent: outcome["resent"].as_u64().expect("a number"),
        limits: events.iter().map(text).filter(is_limit).count(),
    }
}

/// Pushes two images through nginx with these limits. The first push must be refused at least
/// `min_refused` times, the second one not at all.
fn assert_chunk_size_is_found(
    max_body_size: Option<&'static str>,
    buffers_requests: bool,
    min_refused: usize,
) {
    let Some(fixture) = NginxFixture::new() else {
        return;
    };
    let nginx = fixture.nginx(NginxOptions {
        max_body_size,
        buffers_requests,
    });
    let remote = |name: &str| format!("{}/{name}", nginx.address());
    let (image, path) = fixture.image(1);
    let outcome = fixture.push(&[], &path, &remote("app:v1")).succeeded();
    let found = check::at_registry(fixture.server.address(), "app:v1");
    assert_eq!(found.config, image.id());
    let refused = nginx.too_large_count();
    let Reported {
        sent,
        resent,
        limits,
    } = reported(&outcome);
    eprintln!(
        "{max_body_size:?}, buffers: {buffers_requests}: {refused} requests too large, {sent} bytes \
         sent, and {resent} again"
    );
    assert_eq!(sent, found.size());
    // However many requests were refused, there is one note.
    assert_eq!(limits, refused.min(1), "{outcome}");
    assert_eq!(resent > 0, refused > 0, "{outcome}");
    // The push finds the limit after few refused requests.
    assert!((min_refused..=10).contains(&refused), "{}", nginx.log());

    // The cache has the limit of this host.
    let (image, path) = fixture.image(11);
    let outcome = fixture.push(&[], &path, &remote("app:v2")).succeeded();
    let found = check::at_registry(fixture.server.address(), "app:v2");
    assert_eq!(found.config, image.id());
    assert_eq!(nginx.too_large_count(), refused, "{}", nginx.log());
    let second = reported(&outcome);
    let counted = (second.sent, second.resent, second.limits);
    assert_eq!(counted, (found.size(), 0, 0), "{outcome}");
}

#[test]
fn a_limit_of_one_mebibyte() {
    assert_chunk_size_is_found(Some("1m"), false, 1);
}

#[test]
fn a_limit_of_one_mebibyte_with_request_buffering() {
    assert_chunk_size_is_found(Some("1m"), true, 1);
}

#[test]
fn a_limit_of_eight_mebibytes() {
    assert_chunk_size_is_found(Some("8m"), false, 0);
}

#[test]
fn a_limit_of_eight_mebibytes_with_request_buffering() {
    assert_chunk_size_is_found(Some("8m"), true, 0);
}

#[test]
fn the_default_limit() {
    assert_chunk_size_is_found(None, false, 1);
}

#[test]
fn the_default_limit_with_request_buffering() {
    assert_chunk_size_is_found(None, true, 1);
}

/// If the limit is below the smallest chunk, the error names the proxy and the setting to change.
#[test]
fn a_limit_below_the_smallest_chunk_is_explained() {
    let Some(fixture) = NginxFixture::new() else {
        return;
    };
    let nginx = fixture.nginx(NginxOptions {
        max_body_size: Some("16k"),
        buffers_requests: false,
    });
    let (_, path) = fixture.image(1);
    let remote = format!("{}/app:v1", nginx.address());
    let ca = fixture.authority.certificate();
    let options = ["--ca-file", ca.to_str().unwrap()];
    let outcome = fixture
        .imgsync
        .push_with(&options, path.to_str().unwrap(), &remote);
    outcome.failed(4, &["nginx", "client_max_body_size"]);
}
