//! Entity tags: the digest of the content, which never changes (RFC 9110, section 8.8.3).

use hyper::header::{HeaderMap, HeaderValue, IF_NONE_MATCH};
use imgsync_oci::Digest;

use super::responses::header_value;

/// Returns the entity tag of content: its digest.
pub(super) fn etag(digest: &Digest) -> HeaderValue {
    header_value(format_args!("\"{digest}\""))
}

/// Returns whether `If-None-Match` names the content. Some clients leave out the quotes.
pub(super) fn is_cached_by_client(headers: &HeaderMap, digest: &Digest) -> bool {
    let digest = digest.to_string();
    let tags = headers
        .get_all(IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok());
    tags.flat_map(|value| value.split(',')).any(|tag| {
        let tag = tag.trim();
        let tag = tag.strip_prefix("W/").unwrap_or(tag);
        tag == "*" || tag.trim_matches('"') == digest
    })
}
