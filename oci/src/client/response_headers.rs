//! Parses headers of responses. A malformed header counts as missing.

use std::time::{Duration, SystemTime};

use http::header::{CONTENT_TYPE, LAST_MODIFIED, RETRY_AFTER};
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

/// Returns the media type, without parameters.
pub(super) fn media_type(headers: &HeaderMap) -> Option<String> {
    let value = text(headers, &CONTENT_TYPE)?;
    Some(value.split(';').next()?.trim().to_owned())
}

/// Returns whether the headers are those of a web page.
pub(super) fn is_web_page(headers: &HeaderMap) -> bool {
    media_type(headers).is_some_and(|media_type| {
        let media_type = media_type.to_ascii_lowercase();
        media_type == "text/html" || media_type == "application/xhtml+xml"
    })
}

/// Returns the time to wait of `Retry-After`: seconds, or the time until a date (RFC 9110, section
/// 10.2.3), which is zero for a date in the past.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    if let Some(seconds) = number(headers, &RETRY_AFTER) {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(text(headers, &RETRY_AFTER)?).ok()?;
    Some(date.duration_since(SystemTime::now()).unwrap_or_default())
}

pub(super) fn last_modified(headers: &HeaderMap) -> Option<SystemTime> {
    httpdate::parse_http_date(text(headers, &LAST_MODIFIED)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_in_seconds_and_until_a_date() {
        let parse = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, value.parse().unwrap());
            retry_after(&headers)
        };
        assert_eq!(parse("120"), Some(Duration::from_secs(120)));
        let soon = SystemTime::now() + Duration::from_secs(100);
        let soon = parse(&httpdate::fmt_http_date(soon)).unwrap();
        assert!(soon <= Duration::from_secs(100) && soon > Duration::from_secs(50));
        assert_eq!(parse("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::ZERO));
        assert_eq!(parse("soon"), None);
    }
}
