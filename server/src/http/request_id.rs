//! What one request is called, in the log and in the answer.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use imgsync_oci::endpoint::UploadId;

/// The header that carries it, both ways.
pub(super) const REQUEST_ID_HEADER: HeaderName = HeaderName::from_static("x-request-id");
const MAX_REQUEST_ID_BYTES: usize = 128;

/// Tells this run of the server from others.
static RUN_PREFIX: LazyLock<String> =
    LazyLock::new(|| UploadId::random().to_string().chars().take(8).collect());
static REQUEST_COUNTER: AtomicU64 = AtomicU64::new(0);

/// A request's name: the one that a trusted proxy gave it, else a new one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RequestId(HeaderValue);

impl RequestId {
    pub(super) fn of(headers: &HeaderMap, is_trusted: bool) -> Self {
        let given = headers.get(REQUEST_ID_HEADER).filter(|_| is_trusted);
        match given.filter(|value| is_sane(value.as_bytes())) {
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

    pub(super) fn header(&self) -> HeaderValue {
        self.0.clone()
    }

    pub(super) fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }
}

fn is_sane(text: &[u8]) -> bool {
    let is_usual = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:/+=@".contains(byte);
    !text.is_empty() && text.len() <= MAX_REQUEST_ID_BYTES && text.iter().all(is_usual)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sane_names_from_trusted_proxies_are_taken() {
        let given = |value: &str, is_trusted| {
            let value = HeaderValue::from_str(value).unwrap();
            let headers = HeaderMap::from_iter([(REQUEST_ID_HEADER, value)]);
            RequestId::of(&headers, is_trusted).as_str().to_owned()
        };
        assert_eq!(given("a-1.2:x", true), "a-1.2:x");
        assert_ne!(given("a-1.2:x", false), "a-1.2:x");
        for bad in [
            "",
            "a b",
            "a\"b",
            "a=\"\t",
            &"x".repeat(MAX_REQUEST_ID_BYTES + 1),
        ] {
            assert_ne!(given(bad, true), bad);
        }
        assert_ne!(RequestId::new(), RequestId::new());
    }
}
