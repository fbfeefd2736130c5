//! Authenticates requests and issues tokens.
//!
//! This module must not decide what a caller may do: see [`Caller::authorize`].

use std::sync::Arc;

use hyper::Response;
use hyper::StatusCode;
use hyper::header::{AUTHORIZATION, CACHE_CONTROL, HeaderMap, HeaderValue, RETRY_AFTER};
use imgsync_oci::{Endpoint, ErrorCode};
use serde_json::json;

use super::app::App;
use super::body::ResponseBody;
use super::caller::Caller;
use super::challenge;
use super::error_response::ErrorResponse;
use super::forwarded::ForwardedInfo;
use super::repository_resolution;
use super::responses;
use crate::auth::{AuthenticationError, TOKEN_LIFETIME, required_scopes};
use crate::client_address::ClientAddress;

/// The `Retry-After` value, in seconds, for a client that is rejected because too many passwords
/// are being checked.
pub(super) const LOGIN_RETRY_AFTER: HeaderValue = HeaderValue::from_static("2");

/// Identifies the caller of a request from its `Authorization` header.
///
/// # Errors
/// [`ErrorCode::Unauthorized`] with a challenge if the login or the token is not valid.
/// [`ErrorCode::TooManyRequests`] if too many passwords from the client are being checked.
pub(super) async fn identify(
    app: &App,
    endpoint: &Endpoint,
    query: Option<&str>,
    headers: &HeaderMap,
    forwarded: &Arc<ForwardedInfo>,
) -> Result<Caller, ErrorResponse> {
    let auth = &app.auth;
    let caller = |user| Caller::new(Arc::clone(auth), user, Arc::clone(forwarded));
    let authorization = headers.get(AUTHORIZATION).map(HeaderValue::as_bytes);
    let is_token_request = *endpoint == Endpoint::TOKEN;
    // A token must not be used to request another token: a leaked one could be renewed forever.
    let is_basic_or_absent = authorization.is_none_or(is_basic);
    if is_token_request && !is_basic_or_absent && auth.realm().is_some() {
        return Err(challenge::log_in_for_token(auth));
    }
    let client = ClientAddress::from(forwarded.client);
    let identified = auth.identify(authorization, client).await;
    let refusal = identified.as_ref().err().map(refusal_label);
    let result = match identified {
        Ok(user) => Ok(caller(user)),
        Err(AuthenticationError::Busy) => Err(too_many_logins()),
        // Docker's daemon sends a mirror its login at Docker Hub. Pulls that are open to anyone
        // need no login. `docker login` asks for no repository, so a wrong login fails there.
        Err(AuthenticationError::InvalidLogin)
            if is_token_request
                && repository_resolution::is_anonymous_pull(app, &caller(None), query) =>
        {
            Ok(caller(None))
        }
        Err(AuthenticationError::InvalidLogin | AuthenticationError::InvalidToken)
            if is_token_request =>
        {
            Err(challenge::log_in_for_token(auth))
        }
        Err(AuthenticationError::InvalidLogin) => {
            let scopes = required_scopes(endpoint);
            Err(challenge::log_in(auth, &scopes, forwarded))
        }
        Err(AuthenticationError::InvalidToken) => {
            let scopes = required_scopes(endpoint);
            Err(challenge::renew_token(auth, &scopes, forwarded))
        }
    };
    if let (Err(_), Some(reason)) = (&result, refusal) {
        app.metrics.count_refused_login(reason);
    }
    result
}

/// Returns the label of a refused login in the metrics.
pub(super) fn refusal_label(error: &AuthenticationError) -> &'static str {
    match error {
        AuthenticationError::InvalidLogin => "login",
        AuthenticationError::InvalidToken => "token",
        AuthenticationError::Busy => "busy",
    }
}

/// Issues a token that identifies the caller (Docker's token specification).
pub(super) fn issue_token(app: &App, caller: &Caller) -> Response<ResponseBody> {
    let token = app.auth.issue_token(caller.user());
    // Some clients read `token`, others `access_token`.
    let body = json!({
        "token": token,
        "access_token": token,
        "expires_in": TOKEN_LIFETIME.as_secs(),
    });
    let mut response = responses::json(StatusCode::OK, format!("{body}\n"));
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn too_many_logins() -> ErrorResponse {
    let detail = "too many passwords are being checked; try again";
    let mut response = ErrorResponse::new(ErrorCode::TooManyRequests, detail);
    response.headers.insert(RETRY_AFTER, LOGIN_RETRY_AFTER);
    response
}

/// Returns whether an `Authorization` header uses the Basic scheme (RFC 7617).
fn is_basic(header: &[u8]) -> bool {
    let header = header.trim_ascii_start();
    header
        .get(..6)
        .is_some_and(|start| start.eq_ignore_ascii_case(b"basic "))
}
