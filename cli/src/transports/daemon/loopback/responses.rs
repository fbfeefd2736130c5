//! The responses of the registry on the loopback interface.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use http_body_util::Full;

/// A response.
pub(super) type LoopbackResponse = Response<Full<Bytes>>;

const DOCKER_CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
const DOCKER_UPLOAD_UUID: HeaderName = HeaderName::from_static("docker-upload-uuid");

/// Returns a response without a body.
pub(super) fn empty(status: StatusCode) -> LoopbackResponse {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    response
}

/// Returns the request for a login.
pub(super) fn unauthorized() -> LoopbackResponse {
    let challenge = "Basic realm=\"imgsync\"";
    with_headers(
        StatusCode::UNAUTHORIZED,
        [(header::WWW_AUTHENTICATE, challenge)],
    )
}

/// Returns the refusal of an upload. The engine does not repeat a request that is denied, and sends
/// no other request over a connection whose last request was not read.
pub(super) fn denied() -> LoopbackResponse {
    let body = r#"{"errors":[{"code":"DENIED","message":"imgsync does not need this layer"}]}"#;
    let headers = [
        (header::CONNECTION, "close"),
        (header::CONTENT_TYPE, "application/json"),
    ];
    let mut response = with_headers(StatusCode::FORBIDDEN, headers);
    *response.body_mut() = Full::from(body);
    response
}

/// Returns the response for an open upload session of which `received` bytes have arrived.
pub(super) fn session(location: &str, id: &str, received: u64) -> LoopbackResponse {
    let range = format!("0-{}", received.saturating_sub(1));
    let headers = [
        (header::LOCATION, location),
        (header::RANGE, &range),
        (DOCKER_UPLOAD_UUID, id),
    ];
    with_headers(StatusCode::ACCEPTED, headers)
}

/// Returns the response for a stored blob or manifest.
pub(super) fn created(location: &str, digest: &str) -> LoopbackResponse {
    let headers = [
        (header::LOCATION, location),
        (DOCKER_CONTENT_DIGEST, digest),
    ];
    with_headers(StatusCode::CREATED, headers)
}

/// Returns the response to a `HEAD` request for a blob of that size in bytes.
pub(super) fn blob(digest: &str, size: u64) -> LoopbackResponse {
    let size = size.to_string();
    let headers = [
        (header::CONTENT_LENGTH, &*size),
        (header::CONTENT_TYPE, "application/octet-stream"),
        (DOCKER_CONTENT_DIGEST, digest),
    ];
    with_headers(StatusCode::OK, headers)
}

fn with_headers<'a>(
    status: StatusCode,
    headers: impl IntoIterator<Item = (HeaderName, &'a str)>,
) -> LoopbackResponse {
    let mut response = empty(status);
    for (name, value) in headers {
        // All values are made from digests, numbers and names of ours.
        if let Ok(value) = HeaderValue::from_str(value) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}
