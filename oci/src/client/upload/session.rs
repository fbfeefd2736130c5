//! An upload session, as it is kept between requests and between runs.

use http::header::LOCATION;
use serde::{Deserialize, Serialize};
use url::Url;

use super::super::{Client, Error, response_headers};
use crate::Digest;

/// An open upload session: where it is, and how far it has come. Can be put on disk and taken up
/// by a later process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UploadSession {
    /// Where the next request goes; opaque, and new after every answer.
    pub(super) location: Url,
    /// How many bytes the registry holds, as far as is known here.
    pub(super) offset: u64,
    pub(super) chunk_min: Option<u64>,
    pub(super) chunk_max: Option<u64>,
    /// What a token for the session must allow.
    pub(super) scopes: Vec<String>,
    /// Whether the login was renewed for the request before, which brought nothing.
    #[serde(skip)]
    pub(super) was_login_renewed: bool,
}

impl UploadSession {
    /// How many bytes the registry has confirmed.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Goes on from this byte: where the registry's word on what it holds has proved wrong.
    pub fn set_offset(&mut self, offset: u64) {
        self.offset = offset;
    }

    /// The smallest chunk that the registry takes, in bytes, the last one excepted.
    pub fn chunk_min(&self) -> Option<u64> {
        self.chunk_min
    }

    /// The largest chunk that the registry takes, in bytes.
    pub fn chunk_max(&self) -> Option<u64> {
        self.chunk_max
    }

    /// Where it is finished.
    pub(super) fn finish_url(&self, digest: &Digest) -> Url {
        let mut url = self.location.clone();
        url.query_pairs_mut()
            .append_pair("digest", &digest.to_string());
        url
    }
}

impl Client {
    /// Where the session goes on: relative or absolute, query and all.
    pub(super) fn next_location(
        &self,
        operation: &str,
        response: &reqwest::Response,
    ) -> Result<Url, Error> {
        response_headers::text(response.headers(), &LOCATION)
            .and_then(|location| response.url().join(location).ok())
            .filter(|url| matches!(url.scheme(), "http" | "https"))
            .map(|url| upgrade_to_https(url, response.url()))
            .ok_or_else(|| Error::InvalidResponse {
                registry: self.registry.clone(),
                operation: operation.to_owned(),
                what: "it names no Location to go on at".to_owned(),
            })
    }
}

/// Where a session goes on, over TLS if its answer came so: a registry behind a proxy that ends TLS
/// may not know of it, and names its own address with `http`.
fn upgrade_to_https(mut next: Url, from: &Url) -> Url {
    let same = |url: &Url| (url.host_str().map(str::to_owned), url.port());
    if from.scheme() == "https" && next.scheme() == "http" && same(&next) == same(from) {
        // Only special schemes, with a host: this cannot fail.
        let _ = next.set_scheme("https");
    }
    next
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_stays_encrypted_at_the_registry_itself() {
        let next = |from: &str, to: &str| {
            let (from, to) = (Url::parse(from).unwrap(), Url::parse(to).unwrap());
            upgrade_to_https(to, &from).to_string()
        };
        assert_eq!(next("https://a/x", "http://a/u?s=1"), "https://a/u?s=1");
        assert_eq!(
            next("https://a:5000/x", "http://a:5000/u"),
            "https://a:5000/u"
        );
        assert_eq!(next("https://a/x", "http://b/u"), "http://b/u");
        assert_eq!(next("http://a/x", "http://a/u"), "http://a/u");
    }
}
