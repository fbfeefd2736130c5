//! Methods and URLs of requests.

use http::{Method, Uri};

use crate::Endpoint;

/// The longest part of an invalid request that an error repeats, for each byte of the request.
const MAX_DETAIL_RATIO: usize = 4;

/// An input is a request line without version: method, space, target. What is accepted is printed
/// as a valid target, and parsed from there as the same operation.
pub fn requests(data: &[u8]) {
    let Some((method, target)) = std::str::from_utf8(data)
        .ok()
        .and_then(|text| text.split_once(' '))
    else {
        return;
    };
    let Ok(method) = method.parse::<Method>() else {
        return;
    };
    let endpoint = match parse(&method, target) {
        Ok(endpoint) => endpoint,
        Err(error) => {
            assert!(error.detail.len() <= target.len() * MAX_DETAIL_RATIO + 256);
            return;
        }
    };
    let path = endpoint.path();
    assert!(path.starts_with("/v2/"), "{path}");
    assert!(path.bytes().all(|byte| byte.is_ascii_graphic()), "{path}");
    assert!(path.parse::<Uri>().is_ok(), "{path}");
    assert_eq!(parse(&endpoint.method(), &path).as_ref(), Ok(&endpoint));
    let (_, repository) = endpoint.access();
    assert_eq!(repository, endpoint.repository());
}

fn parse(method: &Method, target: &str) -> Result<Endpoint, crate::endpoint::EndpointError> {
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    Endpoint::parse(method, path, query)
}
