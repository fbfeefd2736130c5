//! Builds the responses to callers without permission: a challenge to log in, or a denial.
//!
//! This module must not decide who is allowed to do what: [`AccessController`] does.

use hyper::header::WWW_AUTHENTICATE;
use imgsync_oci::{Endpoint, ErrorCode};
use serde_json::{Value, json};

use super::error_response::ErrorResponse;
use super::forwarded::ForwardedInfo;
use super::responses::header_value;
use crate::auth::{AccessController, AccessScope, AuthScheme};

/// Builds the response to a caller without a login, or with a wrong one: a 401 with a challenge in
/// the scheme that this server uses, for the scopes that are missing.
pub(super) fn log_in(
    auth: &AccessController,
    scopes: &[AccessScope],
    forwarded: &ForwardedInfo,
) -> ErrorResponse {
    unauthorized(scopes, challenge(auth, scopes, forwarded, ""))
}

/// Builds the response to a caller whose token was rejected: as [`log_in`], with the reason (RFC
/// 6750, section 3.1).
pub(super) fn renew_token(
    auth: &AccessController,
    scopes: &[AccessScope],
    forwarded: &ForwardedInfo,
) -> ErrorResponse {
    let error = ",error=\"invalid_token\"";
    unauthorized(scopes, challenge(auth, scopes, forwarded, error))
}

/// Builds a challenge in the scheme of this server. `error` is the last parameter of a Bearer
/// challenge.
fn challenge(
    auth: &AccessController,
    scopes: &[AccessScope],
    forwarded: &ForwardedInfo,
    error: &str,
) -> Option<String> {
    let (scheme, realm) = auth.scheme()?;
    Some(match scheme {
        AuthScheme::Basic => basic_challenge(&realm),
        AuthScheme::Token => bearer_challenge(&realm, scopes, forwarded) + error,
    })
}

/// Builds the response to a token request without a valid login: a 401 with a Basic challenge.
pub(super) fn log_in_for_token(auth: &AccessController) -> ErrorResponse {
    unauthorized(&[], auth.realm().map(|realm| basic_challenge(&realm)))
}

/// Builds the response to a user who is logged in and lacks this permission: a 403.
pub(super) fn deny(scope: &AccessScope) -> ErrorResponse {
    ErrorResponse::new(
        ErrorCode::Denied,
        missing_access(std::slice::from_ref(scope)),
    )
}

fn unauthorized(scopes: &[AccessScope], challenge: Option<String>) -> ErrorResponse {
    let mut response = ErrorResponse::new(ErrorCode::Unauthorized, missing_access(scopes));
    if let Some(challenge) = challenge {
        response
            .headers
            .insert(WWW_AUTHENTICATE, header_value(challenge));
    }
    response
}

fn basic_challenge(realm: &str) -> String {
    format!("Basic realm={}", quoted(realm))
}

fn bearer_challenge(realm: &str, scopes: &[AccessScope], forwarded: &ForwardedInfo) -> String {
    let token_url = quoted(&forwarded.url(&Endpoint::TOKEN.path()));
    let mut challenge = format!("Bearer realm={token_url},service={}", quoted(realm));
    if !scopes.is_empty() {
        let scopes: Vec<String> = scopes.iter().map(AccessScope::to_string).collect();
        challenge += &format!(",scope={}", quoted(&scopes.join(" ")));
    }
    challenge
}

/// Lists the permissions that are missing, in the form of the stock registry.
fn missing_access(scopes: &[AccessScope]) -> Value {
    if scopes.is_empty() {
        return Value::Null;
    }
    let entries = scopes.iter().flat_map(|scope| {
        scope.actions.iter().map(|action| {
            json!({"Type": scope.resource_type, "Class": "", "Name": scope.name, "Action": action})
        })
    });
    entries.collect()
}

/// Returns a quoted string (RFC 9110, section 5.6.4).
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
