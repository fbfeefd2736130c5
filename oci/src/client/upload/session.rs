//! The state of an upload session between requests and between runs.

use http::HeaderName;
use http::header::{CONTENT_LENGTH, LOCATION};
use serde::{Deserialize, Serialize};
use url::Url;

use super::super::{Client, Error, SMALL_REQUEST_TIMEOUT, response_headers};
use crate::{Digest, Endpoint, Repository};

const CHUNK_MIN_HEADER: HeaderName = HeaderName::from_static("oci-chunk-min-length");
const CHUNK_MAX_HEADER: HeaderName = HeaderName::from_static("oci-chunk-max-length");

/// An open upload session: its URL and its offset. A later process can continue a session that was
/// saved to disk; the names of the fields are part of the format.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UploadSession {
    /// The URL of the next request; opaque, and new after every response.
    pub(super) location: Url,
    /// The number of bytes that the registry has confirmed.
    pub(super) offset: u64,
    pub(super) chunk_min: Option<u64>,
    pub(super) chunk_max: Option<u64>,
    /// The scopes of a token for the session.
    pub(super) scopes: Vec<String>,
    /// Whether the login was renewed after the previous request, which was rejected.
    #[serde(skip)]
    pub(super) was_login_renewed: bool,
}

impl UploadSession {
    /// Returns the number of bytes that the registry has confirmed.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Returns the ID of the session, for registries whose URLs end with it.
    pub fn id(&self) -> Option<&str> {
        let last = self.location.path_segments()?.next_back();
        last.filter(|id| !id.is_empty())
    }

    /// Sets the offset, for a registry that has reported a wrong one.
    pub fn set_offset(&mut self, offset: u64) {
        self.offset = offset;
    }

    /// Returns the smallest chunk in bytes that the registry accepts, except for the last one.
    pub fn chunk_min(&self) -> Option<u64> {
        self.chunk_min
    }

    /// Returns the largest chunk in bytes that the registry accepts.
    pub fn chunk_max(&self) -> Option<u64> {
        self.chunk_max
    }

    /// Returns the URL that finishes the session.
    pub(super) fn finish_url(&self, digest: &Digest) -> Url {
        let mut url = self.location.clone();
        url.query_pairs_mut()
            .append_pair("digest", &digest.to_string());
        url
    }
}

impl Client {
    /// Returns whether a session is an upload to this repository of this registry, as far as its
    /// URL tells: the URL is at the registry itself, and below the repository if it is a URL of the
    /// distribution API. A session that was read from a file may be anybody's.
    pub fn is_upload_to(&self, session: &UploadSession, repository: &Repository) -> bool {
        let location = &session.location;
        self.is_registry_url(location) && is_path_of(location.path(), repository)
    }

    /// Sends the request that opens a session.
    pub(in super::super) async fn request_session(
        &self,
        endpoint: &Endpoint,
    ) -> Result<reqwest::Response, Error> {
        self.retry(|| async {
            let request = self
                .request(endpoint)
                .timeout(SMALL_REQUEST_TIMEOUT)
                .header(CONTENT_LENGTH, 0);
            self.send_once(endpoint, request).await
        })
        .await
    }

    /// Returns the session that a response with status 202 has opened.
    pub(in super::super) fn opened_session(
        &self,
        endpoint: &Endpoint,
        response: &reqwest::Response,
    ) -> Result<UploadSession, Error> {
        let headers = response.headers();
        Ok(UploadSession {
            location: self.next_location(&endpoint.to_string(), response)?,
            offset: 0,
            chunk_min: response_headers::number(headers, &CHUNK_MIN_HEADER),
            chunk_max: response_headers::number(headers, &CHUNK_MAX_HEADER),
            scopes: self.scopes(endpoint),
            was_login_renewed: false,
        })
    }

    /// Returns the URL of the next request from the `Location` header, which may be relative.
    pub(super) fn next_location(
        &self,
        operation: &str,
        response: &reqwest::Response,
    ) -> Result<Url, Error> {
        response_headers::text(response.headers(), &LOCATION)
            .and_then(|location| response.url().join(location).ok())
            .filter(|url| matches!(url.scheme(), "http" | "https"))
            .map(|url| correct_origin(url, response.url()))
            .ok_or_else(|| Error::InvalidResponse {
                registry: self.registry.clone(),
                operation: operation.to_owned(),
                what: "there is no valid Location".to_owned(),
            })
    }
}

/// Returns whether a path may be that of an upload to a repository. Some registries have paths of
/// their own for uploads, without the repository's name.
fn is_path_of(path: &str, repository: &Repository) -> bool {
    // Registries decode and normalize paths in different ways.
    let is_plain = !path.contains('%') && !path.contains("//");
    let root = Endpoint::CHECK.path();
    let is_other = path.starts_with(&root) && !path.starts_with(&format!("{root}{repository}/"));
    is_plain && !is_other
}

/// Corrects the URL of a session that a registry behind a proxy builds from the request that it
/// sees. A proxy that terminates TLS may hide the scheme, and one that forwards `Host` without the
/// port hides the port: `proxy_set_header Host $host` of nginx does. The URL then names the host
/// that sent the response, without a port, and the origin of the response is used.
fn correct_origin(mut next: Url, from: &Url) -> Url {
    if next.host_str() != from.host_str() {
        return next;
    }
    let lost_the_port = next.port().is_none() && from.port().is_some();
    let lost_tls = from.scheme() == "https" && next.scheme() == "http";
    if lost_the_port || lost_tls && next.port() == from.port() {
        // Only special schemes, with a host: this cannot fail.
        let _ = next.set_scheme(from.scheme());
        let _ = next.set_port(from.port());
    }
    next
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_of_another_repository_is_recognized() {
        let repository: Repository = "team/app".parse().unwrap();
        for (path, expected) in [
            ("/v2/team/app/blobs/uploads/1", true),
            ("/artifacts-uploads/namespaces/x/uploads/1", true),
            ("/v2/team/application/blobs/uploads/1", false),
            ("/v2/other/blobs/uploads/1", false),
            ("//v2/other/blobs/uploads/1", false),
            ("/%762/other/blobs/uploads/1", false),
        ] {
            assert_eq!(is_path_of(path, &repository), expected, "{path}");
        }
    }

    #[test]
    fn a_session_stays_at_the_registry() {
        for (from, to, expected) in [
            ("https://a/x", "http://a/u?s=1", "https://a/u?s=1"),
            ("https://a:5000/x", "http://a:5000/u", "https://a:5000/u"),
            ("https://a/x", "http://b/u", "http://b/u"),
            ("http://a/x", "http://a/u", "http://a/u"),
            // The port is lost, and with it the scheme.
            ("http://a:5000/x", "http://a/u?s=1", "http://a:5000/u?s=1"),
            ("https://a:5000/x", "https://a/u", "https://a:5000/u"),
            ("https://a:5000/x", "http://a/u", "https://a:5000/u"),
            // Another port that is stated may be a store for uploads.
            ("http://a:5000/x", "http://a:5001/u", "http://a:5001/u"),
            ("http://a:5000/x", "https://b/u", "https://b/u"),
        ] {
            let (from, to) = (Url::parse(from).unwrap(), Url::parse(to).unwrap());
            let case = format!("{to} in a response of {from}");
            assert_eq!(correct_origin(to, &from).to_string(), expected, "{case}");
        }
    }
}
