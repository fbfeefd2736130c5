//! Proxies that limit the size of requests.

use super::{Stage, TARGET, image_of, is_chunk};
use crate::support::fake::{Reply, Request, status};
use crate::support::prelude::*;
use crate::support::quirky::{Manners, Quirky};

fn nginx() -> Reply {
    let page = "<html>\r\n<head><title>413 Request Entity Too Large</title></head>\r\n<body>\r\n\
                <center><h1>413 Request Entity Too Large</h1></center>\r\n\
                <hr><center>nginx/1.22.1</center>\r\n</body>\r\n</html>\r\n";
    status(413).header("Server", "nginx/1.22.1").body(page)
}

fn openresty() -> Reply {
    status(413).body("<html><body><hr><center>openresty</center></body></html>")
}

/// The limit of a proxy is found, kept to, and known the next time: also where all that comes of a
/// large request is a reset.
#[test]
fn the_limit_of_a_proxy_is_found_once() {
    for (too_large, hangs_up) in [
        (nginx as fn() -> Reply, false),
        (nginx, true),
        (openresty, true),
        (|| status(413), true),
    ] {
        let stage = Stage::new();
        let registry = Quirky::start(Manners {
            most: Some(100_000),
            too_large,
            hangs_up,
            ..Manners::default()
        });
        stage.gets_through(&registry);
        let too_large = |requests: &[Request]| {
            let announced = requests.iter().map(|it| it.header("content-length"));
            let sizes = announced.flatten().map(|text| text.parse::<u64>());
            sizes.flatten().filter(|size| *size > 100_000).count()
        };
        let before = registry.seen();
        assert!(too_large(&before) > 0);
        let other = image_of(2);
        let address = registry.address();
        stage.push_image(&other, address, "app:v2").succeeded();
        registry.assert_content();
        assert_eq!(too_large(&registry.seen()[before.len()..]), 0);
    }
}

/// A limit below which no push is worth it: the error names who, how much, and the line to write.
#[test]
fn a_limit_that_is_too_low_is_explained() {
    type Case = (fn() -> Reply, &'static [&'static str]);
    let cases: [Case; 4] = [
        (
            nginx,
            &["nginx/1.22.1 in front of", "client_max_body_size 0;"],
        ),
        (
            openresty,
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
        let registry = Quirky::start(Manners {
            most: Some(10_000),
            too_large,
            ..Manners::default()
        });
        let stage = Stage::new();
        let outcome = stage.push(registry.address());
        let outcome = outcome.failed(TARGET, &["refuses a request of 65.5 kB", "hint:"]);
        outcome.failed(TARGET, words);
        // A handful of tries, each half as large as the one before.
        assert!(registry.count("PATCH", "") <= 6);
    }
}

#[test]
fn a_least_chunk_above_the_proxy_s_limit_is_explained() {
    let registry = Quirky::start(Manners {
        most: Some(150_000),
        too_large: nginx,
        chunk_min: Some(200 * 1024),
        ..Manners::default()
    });
    let outcome = Stage::new().push(registry.address());
    outcome.failed(
        TARGET,
        &["no chunks below 204.8 kB", "client_max_body_size 0;"],
    );
    assert!(registry.count("PATCH", "") <= 8);
}

#[test]
fn a_blob_that_may_neither_come_in_chunks_nor_as_a_whole_is_explained() {
    let registry = Quirky::start(Manners {
        most: Some(200_000),
        too_large: nginx,
        refuses: |request, _| is_chunk(request).then(|| status(405)),
        ..Manners::default()
    });
    let outcome = Stage::new().push(registry.address());
    outcome.failed(TARGET, &["only in one request", "client_max_body_size 0;"]);
}

/// A manifest cannot be cut in pieces.
#[test]
fn a_manifest_that_a_proxy_refuses_is_explained() {
    let registry = Quirky::start(Manners {
        most: Some(300),
        too_large: nginx,
        ..Manners::default()
    });
    let stage = Stage::new();
    let small = Image::new(vec![layer("data", b"hello".to_vec())]);
    let outcome = stage.push_image(&small, registry.address(), "app:v1");
    outcome.failed(TARGET, &["413", "client_max_body_size 0;"]);
}
