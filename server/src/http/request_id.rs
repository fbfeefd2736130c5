//! The id of a request, in the log and in the response.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use imgsync_oci::endpoint::UploadId;

/// The header with the id, in requests and responses.
pub(super) const REQUEST_ID_HEADER: HeaderName = HeaderName::from_static("x-request-id");
/// The longest id that is accepted from a proxy.
const MAX_REQUEST_ID_BYTES: usize = 128;

/// A random prefix that distinguishes this run of the server from others.
static RUN_PREFIX: LazyLock<String> =
    LazyLock::new(|| UploadId::random().to_string().chars().take(8).collect());
/// The number of ids that were generated.
static REQUEST_COUNTER: AtomicU64 = AtomicU64::new(0);

/// The id of a request: the one from a trusted proxy, or else a new one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RequestId(HeaderValue);

impl RequestId {
    /// Reads the id from the headers if the proxy is trusted, or generates one.
    pub(super) fn of(headers: &HeaderMap, is_trusted: bool) -> Self {
        let received = headers.get(REQUEST_ID_HEADER).filter(|_| is_trusted);
        match received.filter(|value| is_valid(value.as_bytes())) {
            Some(value) => Self(value.clone()),
            None => Self::new(),
        }
    }

    fn new() -> Self {
        let text = format!(
            "{}-{:x}",
            *RUN_PREFIX,
            REQUEST_COUNTER.fetch_add(1, Ordering::Relaxed)
        );
        Self(super::responses::header_value(text))
    }

    /// Returns the id as a header value.
    pub(super) fn header(&self) -> HeaderValue {
        self.0.clone()
    }

    /// Returns the id as text.
    pub(super) fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }
}

/// Returns whether an id is short and safe to log.
fn is_valid(text: &[u8]) -> bool {
    let is_allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:/+=@".contains(byte);
    !text.is_empty() && text.len() <= MAX_REQUEST_ID_BYTES && text.iter().all(is_allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_valid_ids_from_trusted_proxies_are_accepted() {
        let id = |value: &str, is_trusted| {
            let value = HeaderValue::from_str(value).unwrap();
            let headers = HeaderMap::from_iter([(REQUEST_ID_HEADER, value)]);
            RequestId::of(&headers, is_trusted).as_str().to_owned()
        };
        assert_eq!(id("a-1.2:x", true), "a-1.2:x");
        assert_ne!(id("a-1.2:x", false), "a-1.2:x");
        for bad in [
            "",
            "a b",
            "a\"b",
            "a=\"\t",
            &"x".repeat(MAX_REQUEST_ID_BYTES + 1),
        ] {
            assert_ne!(id(bad, true), bad);
        }
        assert_ne!(RequestId::new(), RequestId::new());
    }
}
