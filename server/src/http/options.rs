//! Serves `OPTIONS`: the preflight requests of browsers (Fetch standard, "CORS-preflight request").
//! Browsers send them without credentials, so they are served without a login.

use hyper::header::ALLOW;
use hyper::{Method, Response, StatusCode};
use imgsync_oci::Endpoint;

use super::body::ResponseBody;
use super::error_response::ErrorResponse;
use super::responses;

/// Lists the methods of a path. The CORS headers come from the configuration (`http.headers`),
/// which adds them to every response.
pub(super) fn respond(path: &str, query: Option<&str>) -> Response<ResponseBody> {
    match Endpoint::parse(&Method::OPTIONS, path, query) {
        // The parser lists the methods that the path supports.
        Err(error) if !error.allow.is_empty() => {
            let methods: Vec<&str> = error.allow.iter().map(Method::as_str).collect();
            let mut response = responses::empty(StatusCode::OK);
            let allow = responses::header_value(methods.join(", "));
            response.headers_mut().insert(ALLOW, allow);
            response
        }
        Err(error) => ErrorResponse::from(error).into_response(),
        // Unreachable: no operation uses this method.
        Ok(_) => responses::empty(StatusCode::OK),
    }
}
