//! Sends single requests and measures their time.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::Value;

/// A client with one connection.
pub(super) struct TimedClient {
    runtime: tokio::runtime::Runtime,
    client: reqwest::Client,
    address: SocketAddr,
}

/// A response, and the time until all of it was received.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) time: Duration,
    /// The path and query of the next page.
    pub(super) next: Option<String>,
    body: Vec<u8>,
}

/// The size of a list of several pages, and the time that it took.
pub(super) struct Pages {
    /// The time of the first page.
    pub(super) first: Duration,
    /// The number of entries of the first page.
    pub(super) first_count: usize,
    /// The time of all pages together.
    pub(super) all: Duration,
    /// The number of entries of all pages.
    pub(super) count: usize,
}

impl TimedClient {
    pub(super) fn new(address: SocketAddr) -> Self {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        Self {
            runtime: builder.enable_all().build().expect("a runtime"),
            client: reqwest::Client::builder()
                .no_proxy()
                .build()
                .expect("a client"),
            address,
        }
    }

    pub(super) fn send(&self, method: reqwest::Method, target: &str) -> Answer {
        let url = format!("http://{}{target}", self.address);
        // The stock registry sends an OCI manifest only to clients that accept it.
        let request = self.client.request(method, url);
        let request = request.header("accept", "application/vnd.oci.image.manifest.v1+json");
        let began = Instant::now();
        self.runtime.block_on(async {
            let response = request.send().await.expect("an answer");
            let status = response.status().as_u16();
            let link = response.headers().get("link");
            let next = link.and_then(|link| next_page(link.to_str().ok()?));
            let body = response.bytes().await.expect("a body").to_vec();
            let time = began.elapsed();
            Answer {
                status,
                time,
                next,
                body,
            }
        })
    }

    pub(super) fn get(&self, target: &str) -> Answer {
        self.send(reqwest::Method::GET, target)
    }

    /// Requests a list and all pages that follow. `field` is the field with the entries. Returns
    /// `None` if the server does not know the list.
    pub(super) fn get_pages(&self, target: &str, field: &str) -> Option<Pages> {
        let (mut target, mut pages) = (target.to_owned(), None::<Pages>);
        loop {
            let answer = self.get(&target);
            if answer.status == 404 {
                return None;
            }
            assert_eq!(answer.status, 200, "{target}");
            let count = answer.entries(field);
            let pages = pages.get_or_insert(Pages {
                first: answer.time,
                first_count: count,
                all: Duration::ZERO,
                count: 0,
            });
            pages.all += answer.time;
            pages.count += count;
            match answer.next {
                Some(next) => target = next,
                None => break,
            }
        }
        pages
    }
}

impl Answer {
    fn entries(&self, field: &str) -> usize {
        let body: Value = serde_json::from_slice(&self.body).expect("JSON");
        body[field].as_array().map_or(0, Vec::len)
    }
}

/// Returns the target of a `Link` header with `rel="next"`, without the scheme and the host.
fn next_page(link: &str) -> Option<String> {
    let (target, relation) = link.strip_prefix('<')?.split_once('>')?;
    let path = match target.split_once("://") {
        Some((_, rest)) => &rest[rest.find('/')?..],
        None => target,
    };
    relation.contains("next").then(|| path.to_owned())
}
