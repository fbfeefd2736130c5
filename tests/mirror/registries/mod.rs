//! Tests mirrors between registries: everything is copied unchanged, nothing is copied twice, and
//! interrupted mirrors continue.

mod faults;
mod logins;
mod whole;

use crate::support::prelude::*;
use crate::support::request_parser::ObservedRequest;

const FROM: &str = "team/app";
const TO: &str = "copy/app";

/// Returns an image with two layers that all versions share, and one of its own.
fn version(number: usize) -> Image {
    let shared = [1, 2].map(|seed| layer("shared", noise(seed, 400_000)));
    let own_layer = layer("own", noise(1000 + number as u64, 2_000 + number));
    Image::new(shared.into_iter().chain([own_layer]).collect())
}

/// Returns the digest of a manifest, or `None` if the registry does not have it.
fn find_digest(address: SocketAddr, repository: &str, reference: &str) -> Option<String> {
    let target = format!("/v2/{repository}/manifests/{reference}");
    let reply = http::get(address, &target);
    (reply.status == 200).then(|| digest(&reply.body))
}

fn large_image(seed: u64, size: usize) -> Image {
    Image::new(vec![layer("data", noise(seed, size))])
}

/// Returns the bytes of blobs that a client sent.
fn sent_bytes(requests: &[ObservedRequest]) -> u64 {
    let writes = requests.iter().filter(|request| request.writes_blob());
    writes.map(|request| request.body).sum()
}
