//! Repositories in step: everything arrives as it is, nothing moves twice, and what was cut goes
//! on.

mod faults;
mod logins;
mod whole;

use crate::support::prelude::*;
use crate::support::request_parser::ObservedRequest;

const FROM: &str = "team/app";
const TO: &str = "copy/app";

/// An image on two layers that all share, and one of its own.
fn version(number: usize) -> Image {
    let shared = [1, 2].map(|seed| layer("shared", noise(seed, 400_000)));
    let own = layer("own", noise(1000 + number as u64, 2_000 + number));
    Image::new(shared.into_iter().chain([own]).collect())
}

fn head(address: SocketAddr, repository: &str, reference: &str) -> Option<String> {
    let target = format!("/v2/{repository}/manifests/{reference}");
    let reply = http::get(address, &target);
    (reply.status == 200).then(|| digest(&reply.body))
}

fn large(seed: u64, size: usize) -> Image {
    Image::new(vec![layer("data", noise(seed, size))])
}

/// How many bytes of blobs a client sent.
fn written(requests: &[ObservedRequest]) -> u64 {
    let writes = requests.iter().filter(|request| request.writes_blob());
    writes.map(|request| request.body).sum()
}
