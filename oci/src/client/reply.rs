//! What headers of an answer say; whatever is malformed reads as absent.

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName};

use crate::Digest;

pub(super) fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

pub(super) fn number(headers: &HeaderMap, name: &HeaderName) -> Option<u64> {
    text(headers, name)?.trim().parse().ok()
}

pub(super) fn digest(headers: &HeaderMap) -> Option<Digest> {
    let name = HeaderName::from_static("docker-content-digest");
    text(headers, &name)?.parse().ok()
}

/// The media type, without parameters.
pub(super) fn media_type(headers: &HeaderMap) -> Option<String> {
    let value = text(headers, &CONTENT_TYPE)?;
    Some(value.split(';').next()?.trim().to_owned())
}
