//! `OPTIONS`: what browsers ask before another site's page may talk to a registry (Fetch standard,
//! "CORS-preflight request"). They ask without credentials, so that comes before all logins.

use hyper::header::ALLOW;
use hyper::{Method, Response, StatusCode};
use imgsync_oci::Endpoint;

use super::body::ResponseBody;
use super::error_response::ErrorResponse;
use super::responses;

/// The methods that a path has, without a body; which headers a page may send and read is the
/// operator's word, in the headers that every answer carries.
pub(super) fn respond(path: &str, query: Option<&str>) -> Response<ResponseBody> {
    match Endpoint::parse(&Method::OPTIONS, path, query) {
        // The methods that would have been right.
        Err(refusal) if !refusal.allow.is_empty() => {
            let methods: Vec<&str> = refusal.allow.iter().map(Method::as_str).collect();
            let mut response = responses::empty(StatusCode::OK);
            let allow = responses::header_value(methods.join(", "));
            response.headers_mut().insert(ALLOW, allow);
            response
        }
        Err(refusal) => ErrorResponse::from(refusal).into_response(),
        // No operation has this method.
        Ok(_) => responses::empty(StatusCode::OK),
    }
}
