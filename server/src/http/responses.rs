//! Builds responses, and the headers that many of them share.

use hyper::body::Body as _;
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue, LOCATION, WARNING};
use hyper::{Response, StatusCode};
use imgsync_oci::{Digest, Endpoint};

use super::body::{ResponseBody, full};
use super::page::SameOriginOnly;
use crate::upstream::Freshness;

/// The header with the digest of the content that is served or stored.
pub(super) const CONTENT_DIGEST_HEADER: HeaderName =
    HeaderName::from_static("docker-content-digest");
/// The header with the id of an upload session.
pub(super) const UPLOAD_UUID_HEADER: HeaderName = HeaderName::from_static("docker-upload-uuid");
/// The header by which Docker recognizes a registry.
const API_VERSION_HEADER: HeaderName = HeaderName::from_static("docker-distribution-api-version");

/// Formats a header value; empty if the text cannot be one, which is impossible for valid names,
/// digests and numbers.
pub(super) fn header_value(text: impl std::fmt::Display) -> HeaderValue {
    HeaderValue::try_from(text.to_string()).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// Creates a response without content.
pub(super) fn empty(status: StatusCode) -> Response<ResponseBody> {
    with_body(status, full(""))
}

/// Creates a response with a body.
pub(super) fn with_body(status: StatusCode, body: ResponseBody) -> Response<ResponseBody> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
}

/// Creates a JSON response.
pub(super) fn json(status: StatusCode, text: String) -> Response<ResponseBody> {
    json_body(status, full(text))
}

/// Creates a response with JSON in its body.
pub(super) fn json_body(status: StatusCode, body: ResponseBody) -> Response<ResponseBody> {
    let mut response = with_body(status, body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// Creates the response of the API version check.
pub(super) fn check() -> Response<ResponseBody> {
    json(StatusCode::OK, "{}".to_owned())
}

/// Creates the response to a push: 201 with location and digest. The location is relative, which
/// works behind any proxy.
pub(super) fn created(location: &Endpoint, digest: &Digest) -> Response<ResponseBody> {
    let mut response = empty(StatusCode::CREATED);
    let headers = response.headers_mut();
    headers.insert(LOCATION, header_value(location.path()));
    headers.insert(CONTENT_DIGEST_HEADER, header_value(digest));
    response
}

/// Turns the response to a GET into the response to a HEAD: the same headers without a body.
pub(super) fn without_body(response: Response<ResponseBody>) -> Response<ResponseBody> {
    let (mut parts, body) = response.into_parts();
    if let Some(len) = body.size_hint().exact()
        && !parts.headers.contains_key(CONTENT_LENGTH)
        && parts.status != StatusCode::NO_CONTENT
        && parts.status != StatusCode::NOT_MODIFIED
    {
        parts.headers.insert(CONTENT_LENGTH, len.into());
    }
    Response::from_parts(parts, full(""))
}

/// Adds a warning that the response may be out of date (RFC 7234, section 5.5.1).
pub(super) fn warn_if_stale(response: &mut Response<ResponseBody>, freshness: Freshness) {
    match freshness {
        Freshness::Fresh => {}
        Freshness::Stale => {
            let warning = HeaderValue::from_static("110 imgsync \"Response is Stale\"");
            response.headers_mut().insert(WARNING, warning);
        }
    }
}

/// Adds the API version and the configured headers, but for the page none that let foreign scripts
/// read it. Headers that the response already has take
/// precedence.
pub(super) fn add_common_headers(
    mut response: Response<ResponseBody>,
    configured: &[(String, Vec<String>)],
) -> Response<ResponseBody> {
    let is_same_origin_only = response
        .extensions_mut()
        .remove::<SameOriginOnly>()
        .is_some();
    let headers = response.headers_mut();
    headers.insert(API_VERSION_HEADER, HeaderValue::from_static("registry/2.0"));
    for (name, values) in configured {
        // Unreachable: the configuration accepts only valid names.
        let Ok(name) = HeaderName::try_from(name.as_str()) else {
            continue;
        };
        let is_for_scripts = name.as_str().starts_with("access-control-");
        if !headers.contains_key(&name) && (!is_for_scripts || !is_same_origin_only) {
            for text in values {
                headers.append(name.clone(), header_value(text));
            }
        }
    }
    response
}
