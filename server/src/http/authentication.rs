//! The one door: every operation passes here before anything is done, and is told how to knock.

use std::sync::Arc;

use hyper::Response;
use hyper::StatusCode;
use hyper::header::{
    AUTHORIZATION, CACHE_CONTROL, HeaderMap, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE,
};
use imgsync_oci::{Endpoint, ErrorCode};
use serde_json::{Value, json};

use super::App;
use super::body::ResponseBody;
use super::caller::Caller;
use super::error_response::ErrorResponse;
use super::forwarded::ForwardedInfo;
use super::repository_resolution;
use super::responses::{self, header_value};
use crate::auth::{
    AccessController, AccessScope, AuthScheme, AuthenticationError, TOKEN_LIFETIME, required_scopes,
};

/// When to come again, in seconds, after too many passwords came at once.
const LOGIN_RETRY_AFTER: HeaderValue = HeaderValue::from_static("2");

/// Finds out who asks.
///
/// # Errors
/// [`Code::Unauthorized`] with a challenge: they said who they are, wrongly.
/// [`Code::TooManyRequests`] when too many passwords are to be checked.
pub(super) async fn identify(
    app: &App,
    endpoint: &Endpoint,
    query: Option<&str>,
    headers: &HeaderMap,
    origin: &Arc<ForwardedInfo>,
) -> Result<Caller, ErrorResponse> {
    let auth = &app.auth;
    let caller = |user| Caller::new(Arc::clone(auth), user, Arc::clone(origin));
    let authorization = headers.get(AUTHORIZATION).map(HeaderValue::as_bytes);
    // A token that leaked could be renewed for ever.
    if *endpoint == Endpoint::TOKEN
        && authorization.is_some_and(|header| !is_basic(header))
        && let Some(realm) = auth.realm()
    {
        return Err(unauthorized(&[], Some(basic_challenge(&realm))));
    }
    let user = match auth.identify(authorization).await {
        Ok(user) => user,
        Err(AuthenticationError::Busy) => {
            let detail = "too many passwords are being checked; try again";
            let mut failure = ErrorResponse::new(ErrorCode::TooManyRequests, detail);
            failure.headers.insert(RETRY_AFTER, LOGIN_RETRY_AFTER);
            return Err(failure);
        }
        // Docker's daemon logs in at its mirrors as at the Hub. What anyone may do needs no login;
        // a login that is tried asks for nothing, and must fail.
        Err(AuthenticationError::InvalidLogin)
            if *endpoint == Endpoint::TOKEN
                && repository_resolution::is_anonymous_pull(app, &caller(None), query) =>
        {
            None
        }
        // A token is asked for with a name and a password.
        Err(AuthenticationError::InvalidLogin | AuthenticationError::InvalidToken)
            if *endpoint == Endpoint::TOKEN =>
        {
            return Err(unauthorized(
                &[],
                auth.realm().map(|realm| basic_challenge(&realm)),
            ));
        }
        Err(AuthenticationError::InvalidLogin) => {
            return Err(challenge(auth, &required_scopes(endpoint), origin));
        }
        Err(AuthenticationError::InvalidToken) => {
            let mut failure = challenge(auth, &required_scopes(endpoint), origin);
            if let Some(header) = failure.headers.get_mut(WWW_AUTHENTICATE)
                && let Ok(text) = header.to_str()
                && text.starts_with("Bearer ")
            {
                *header = header_value(format!("{text},error=\"invalid_token\""));
            }
            return Err(failure);
        }
    };
    Ok(caller(user))
}

/// A token that says who the caller is (Docker's token specification).
pub(super) fn issue_token(app: &App, caller: &Caller) -> Response<ResponseBody> {
    let token = app.auth.issue_token(caller.user());
    // Clients know the one name or the other.
    let answer = json!({
        "token": token,
        "access_token": token,
        "expires_in": TOKEN_LIFETIME.as_secs(),
    });
    let mut response = responses::json(StatusCode::OK, format!("{answer}\n"));
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The answer to somebody who must say who they are, and how.
pub(super) fn challenge(
    auth: &AccessController,
    all: &[AccessScope],
    origin: &ForwardedInfo,
) -> ErrorResponse {
    let challenge = auth.scheme().map(|(scheme, realm)| match scheme {
        AuthScheme::Basic => basic_challenge(&realm),
        AuthScheme::Token => {
            let server = quoted(&origin.url(&Endpoint::TOKEN.path()));
            let mut text = format!("Bearer realm={server},service={}", quoted(&realm));
            if !all.is_empty() {
                text += &format!(",scope={}", quoted(&scope(all)));
            }
            text
        }
    });
    unauthorized(all, challenge)
}

fn unauthorized(all: &[AccessScope], challenge: Option<String>) -> ErrorResponse {
    let mut failure = ErrorResponse::new(ErrorCode::Unauthorized, denied_access(all));
    if let Some(challenge) = challenge {
        failure
            .headers
            .insert(WWW_AUTHENTICATE, header_value(challenge));
    }
    failure
}

/// Whether an `Authorization` header holds a name and a password (RFC 7617).
fn is_basic(header: &[u8]) -> bool {
    let header = header.trim_ascii_start();
    header
        .get(..6)
        .is_some_and(|start| start.eq_ignore_ascii_case(b"basic "))
}

fn basic_challenge(realm: &str) -> String {
    format!("Basic realm={}", quoted(realm))
}

/// What was missing, as the stock registry lists it.
pub(super) fn denied_access(all: &[AccessScope]) -> Value {
    let entries = all.iter().flat_map(|wanted| {
        wanted.actions.iter().map(|action| {
            json!({"Type": wanted.resource_type, "Class": "", "Name": wanted.name, "Action": action})
        })
    });
    match all.is_empty() {
        true => Value::Null,
        false => entries.collect(),
    }
}

fn scope(all: &[AccessScope]) -> String {
    let scopes = all.iter().map(
        |AccessScope {
             resource_type: kind,
             name,
             actions,
         }| format!("{kind}:{name}:{}", actions.join(",")),
    );
    scopes.collect::<Vec<_>>().join(" ")
}

/// A quoted string (RFC 9110, section 5.6.4).
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
