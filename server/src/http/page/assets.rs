//! Serves the static files of the page, without a login.

use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};

use super::super::body::{ResponseBody, full};
use super::super::responses;
use super::headers;
use crate::page::{ASSETS, Asset};

/// Returns the file with a name.
pub(super) fn find(name: &str) -> Option<&'static Asset> {
    ASSETS.iter().find(|asset| asset.name == name)
}

/// Serves a file.
pub(super) fn respond(asset: &'static Asset, is_read: bool) -> Response<ResponseBody> {
    let mut response = if is_read {
        responses::with_body(StatusCode::OK, full(asset.content))
    } else {
        responses::empty(StatusCode::METHOD_NOT_ALLOWED)
    };
    let sent = response.headers_mut();
    if is_read {
        sent.insert(CONTENT_TYPE, HeaderValue::from_static(asset.media_type));
        // A newer server has other files under the same names.
        sent.insert(CACHE_CONTROL, HeaderValue::from_static("max-age=300"));
    } else {
        sent.insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    headers::protect(&mut response);
    response
}
