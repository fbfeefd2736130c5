//! Checks that a request which changes something was sent by the page itself, not by a foreign
//! website in the same browser.

use hyper::header::{HeaderMap, HeaderName, ORIGIN};

/// Tells where a request comes from (Fetch Metadata Request Headers).
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The scheme of the address in the browser.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BrowserScheme {
    Http,
    Https,
}

/// Returns the scheme by which the browser reaches this server; `None` if the request comes from
/// elsewhere, or does not say where it comes from. `is_own` tells whether a host, with its port, is
/// this server.
pub(super) fn own_origin(
    headers: &HeaderMap,
    is_own: impl Fn(&str) -> bool,
) -> Option<BrowserScheme> {
    let site = headers.get(FETCH_SITE);
    if site.is_some_and(|site| site != "same-origin") {
        return None;
    }
    let mut origins = headers.get_all(ORIGIN).into_iter();
    let origin = origins.next()?.to_str().ok()?;
    if origins.next().is_some() {
        return None;
    }
    let (scheme, host) = origin.split_once("://")?;
    let scheme = match scheme {
        "https" => BrowserScheme::Https,
        "http" => BrowserScheme::Http,
        _ => return None,
    };
    is_own(host).then_some(scheme)
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    fn check(headers: &[(&'static str, &'static str)]) -> Option<BrowserScheme> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_static(value));
        }
        own_origin(&map, |host| host == "registry.lan:5000")
    }

    #[test]
    fn only_the_address_of_the_request_is_the_own_origin() {
        let http = ("origin", "http://registry.lan:5000");
        assert_eq!(check(&[http]), Some(BrowserScheme::Http));
        let same = ("sec-fetch-site", "same-origin");
        assert_eq!(check(&[http, same]), Some(BrowserScheme::Http));
        let https = ("origin", "https://registry.lan:5000");
        assert_eq!(check(&[https]), Some(BrowserScheme::Https));
        for foreign in [
            &[][..],
            &[("origin", "null")],
            &[("origin", "http://registry.lan")],
            &[("origin", "http://registry.lan:5001")],
            &[("origin", "http://evil.example.com")],
            &[("origin", "http://registry.lan:5000.evil.example.com")],
            &[("origin", "file://registry.lan:5000")],
            &[("origin", "http://")],
            &[http, ("origin", "http://evil.example.com")],
            &[http, ("sec-fetch-site", "same-site")],
            &[http, ("sec-fetch-site", "cross-site")],
            &[http, ("sec-fetch-site", "none")],
        ] {
            assert_eq!(check(foreign), None, "{foreign:?}");
        }
    }
}
