//! Tests what an upstream of the cache cannot do to this server and its clients. The pull-through
//! cache as a whole is tested in `tests/cache`.

mod claims;
mod full_disk;
mod limits;
mod proxy_access;
mod redirects;

use imgsync_oci::Digest;

use crate::fake::{self, FakeServer, Reply, Request};
use crate::support::launch::{Running, Setup};

const BASE: &str = "version: 0.1\nstorage: {filesystem: {rootdirectory: '{folder}/registry'}}\n\
                    http: {addr: '127.0.0.1:0'}\n";

/// Returns the configuration of a cache with the upstream `up` at `remote`. `cache` and `upstream`
/// are added to their sections, as `, key: value`.
fn config(remote: &str, upstream: &str, cache: &str) -> String {
    format!(
        "{BASE}imgsync: {{cache: {{upstreams: [{{prefix: up, remoteurl: 'http://{remote}'{upstream}}}]\
         {cache}}}}}\n"
    )
}

/// Returns the digest in the path of a request.
fn digest_in(request: &Request) -> &str {
    request.target.rsplit('/').next().unwrap()
}

async fn get(running: &Running, path: &str) -> (u16, Vec<u8>) {
    let client = crate::support::client();
    let response = client
        .get(format!("{}{path}", running.url))
        .send()
        .await
        .unwrap();
    let status = response.status().as_u16();
    (status, response.bytes().await.unwrap_or_default().into())
}
