//! Tests proxies that limit the size of a request.

use super::{EXIT_TARGET, QuirksFixture, is_chunk, make_image};
use crate::support::fake::{Reply, Request, status};
use crate::support::prelude::*;
use crate::support::quirky::{QuirkyRegistry, RegistryQuirks};

fn nginx_reply() -> Reply {
    let page = "<html>\r\n<head><title>413 Request Entity Too Large</title></head>\r\n<body>\r\n\
                <center><h1>413 Request Entity Too Large</h1></center>\r\n\
                <hr><center>nginx/1.22.1</center>\r\n</body>\r\n</html>\r\n";
    status(413).header("Server", "nginx/1.22.1").body(page)
}

fn openresty_reply() -> Reply {
    status(413).body("<html><body><hr><center>openresty</center></body></html>")
}

/// The push finds the limit and the next push knows it, also if the proxy resets the connection
/// instead of answering.
#[test]
fn the_limit_of_a_proxy_is_found_and_cached() {
    for (too_large, responds_early) in [
        (nginx_reply as fn() -> Reply, false),
        (nginx_reply, true),
        (openresty_reply, true),
        (|| status(413), true),
    ] {
        let fixture = QuirksFixture::new();
        let registry = QuirkyRegistry::start(RegistryQuirks {
            max_body_bytes: Some(100_000),
            too_large_response: too_large,
            responds_early,
            ..RegistryQuirks::default()
        });
        fixture.assert_push_succeeds(&registry);
        let too_large = |requests: &[Request]| {
            let announced = requests
                .iter()
                .map(|request| request.header("content-length"));
            let sizes = announced.flatten().map(|text| text.parse::<u64>());
            sizes.flatten().filter(|size| *size > 100_000).count()
        };
        let before = registry.requests();
        assert!(too_large(&before) > 0);
        let other = make_image(2);
        let address = registry.address();
        fixture.push_image(&other, address, "app:v2").succeeded();
        registry.assert_valid_requests();
        assert_eq!(too_large(&registry.requests()[before.len()..]), 0);
    }
}

/// The error names the proxy, the limit and the setting to change.
#[test]
fn a_limit_that_is_too_low_is_explained() {
    type Case = (fn() -> Reply, &'static [&'static str]);
    let cases: [Case; 4] = [
        (
            nginx_reply,
            &["nginx/1.22.1 in front of", "client_max_body_size 0;"],
        ),
        (
            openresty_reply,
            &["openresty in front of", "client_max_body_size 0;"],
        ),
        (
            || status(413).header("Server", "cloudflare"),
            &["cloudflare in front of", "by plan"],
        ),
        (
            || status(413),
            &["a proxy in front of", "client_max_body_size"],
        ),
    ];
    for (too_large, words) in cases {
        let registry = QuirkyRegistry::start(RegistryQuirks {
            max_body_bytes: Some(10_000),
            too_large_response: too_large,
            ..RegistryQuirks::default()
        });
        let fixture = QuirksFixture::new();
        let outcome = fixture.push(registry.address());
        let outcome = outcome.failed(EXIT_TARGET, &["refused a request of 65.5 kB", "hint:"]);
        outcome.failed(EXIT_TARGET, words);
        // Each attempt sends half as much as the one before. The config is within the limit.
        let requests = registry.requests();
        let is_refused = |request: &&Request| {
            let length = request.header("content-length");
            let length = length.and_then(|length| length.parse::<u64>().ok());
            request.method == "PATCH" && length.is_some_and(|length| length > 10_000)
        };
        assert!(requests.iter().filter(is_refused).count() <= 6);
    }
}

#[test]
fn a_minimum_chunk_above_the_limit_is_explained() {
    let registry = QuirkyRegistry::start(RegistryQuirks {
        max_body_bytes: Some(150_000),
        too_large_response: nginx_reply,
        min_chunk_bytes: Some(200 * 1024),
        ..RegistryQuirks::default()
    });
    let outcome = QuirksFixture::new().push(registry.address());
    outcome.failed(
        EXIT_TARGET,
        &["no chunks below 204.8 kB", "client_max_body_size 0;"],
    );
    assert!(registry.count("PATCH", "") <= 8);
}

#[test]
fn a_blob_that_is_refused_in_chunks_and_as_a_whole_is_explained() {
    let registry = QuirkyRegistry::start(RegistryQuirks {
        max_body_bytes: Some(200_000),
        too_large_response: nginx_reply,
        refuse_patch: |request, _| is_chunk(request).then(|| status(405)),
        ..RegistryQuirks::default()
    });
    let outcome = QuirksFixture::new().push(registry.address());
    outcome.failed(
        EXIT_TARGET,
        &["only in one request", "client_max_body_size 0;"],
    );
}

/// A manifest cannot be sent in chunks.
#[test]
fn a_manifest_that_a_proxy_refuses_is_explained() {
    let registry = QuirkyRegistry::start(RegistryQuirks {
        max_body_bytes: Some(300),
        too_large_response: nginx_reply,
        ..RegistryQuirks::default()
    });
    let fixture = QuirksFixture::new();
    let small = Image::new(vec![layer("data", b"hello".to_vec())]);
    let outcome = fixture.push_image(&small, registry.address(), "app:v1");
    outcome.failed(EXIT_TARGET, &["413", "client_max_body_size 0;"]);
}
