//! The one door: every operation passes here before anything is done, and is told how to knock.

use std::sync::Arc;

use hyper::Response;
use hyper::StatusCode;
use hyper::header::{
    AUTHORIZATION, CACHE_CONTROL, HeaderMap, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE,
};
use imgsync_oci::{Code, Endpoint};
use serde_json::{Value, json};

use super::App;
use super::body::Body;
use super::caller::Caller;
use super::failure::Failure;
use super::forwarded::Origin;
use super::meaning;
use super::reply::{self, value};
use crate::auth::{Auth, Scheme, TOKEN_LIFE, Unknown, Wanted, wanted};

/// When to come again, in seconds, after too many passwords came at once.
const PAUSE: HeaderValue = HeaderValue::from_static("2");

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
    origin: &Arc<Origin>,
) -> Result<Caller, Failure> {
    let auth = &app.auth;
    let caller = |user| Caller::new(Arc::clone(auth), user, Arc::clone(origin));
    let authorization = headers.get(AUTHORIZATION).map(HeaderValue::as_bytes);
    // A token that leaked could be renewed for ever.
    if *endpoint == Endpoint::Token
        && authorization.is_some_and(|header| !is_basic(header))
        && let Some(realm) = auth.realm()
    {
        return Err(unauthorized(&[], Some(basic(&realm))));
    }
    let user = match auth.identify(authorization).await {
        Ok(user) => user,
        Err(Unknown::Busy) => {
            let detail = "too many passwords are being checked; try again";
            let mut failure = Failure::new(Code::TooManyRequests, detail);
            failure.headers.insert(RETRY_AFTER, PAUSE);
            return Err(failure);
        }
        // Docker's daemon logs in at its mirrors as at the Hub. What anyone may do needs no login;
        // a login that is tried asks for nothing, and must fail.
        Err(Unknown::Login)
            if *endpoint == Endpoint::Token
                && meaning::is_for_anyone(app, &caller(None), query) =>
        {
            None
        }
        // A token is asked for with a name and a password.
        Err(Unknown::Login | Unknown::Token) if *endpoint == Endpoint::Token => {
            return Err(unauthorized(&[], auth.realm().map(|realm| basic(&realm))));
        }
        Err(Unknown::Login) => return Err(challenge(auth, &wanted(endpoint), origin)),
        Err(Unknown::Token) => {
            let mut failure = challenge(auth, &wanted(endpoint), origin);
            if let Some(header) = failure.headers.get_mut(WWW_AUTHENTICATE)
                && let Ok(text) = header.to_str()
                && text.starts_with("Bearer ")
            {
                *header = value(format!("{text},error=\"invalid_token\""));
            }
            return Err(failure);
        }
    };
    Ok(caller(user))
}

/// A token that says who the caller is (Docker's token specification).
pub(super) fn token(app: &App, caller: &Caller) -> Response<Body> {
    let token = app.auth.token(caller.user());
    // Clients know the one name or the other.
    let answer = json!({
        "token": token,
        "access_token": token,
        "expires_in": TOKEN_LIFE.as_secs(),
    });
    let mut response = reply::json(StatusCode::OK, format!("{answer}\n"));
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The answer to somebody who must say who they are, and how.
pub(super) fn challenge(auth: &Auth, all: &[Wanted], origin: &Origin) -> Failure {
    let challenge = auth.scheme().map(|(scheme, realm)| match scheme {
        Scheme::Basic => basic(&realm),
        Scheme::Token => {
            let server = quoted(&origin.url(&Endpoint::Token.path()));
            let mut text = format!("Bearer realm={server},service={}", quoted(&realm));
            if !all.is_empty() {
                text += &format!(",scope={}", quoted(&scope(all)));
            }
            text
        }
    });
    unauthorized(all, challenge)
}

fn unauthorized(all: &[Wanted], challenge: Option<String>) -> Failure {
    let mut failure = Failure::new(Code::Unauthorized, detail(all));
    if let Some(challenge) = challenge {
        failure.headers.insert(WWW_AUTHENTICATE, value(challenge));
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

fn basic(realm: &str) -> String {
    format!("Basic realm={}", quoted(realm))
}

/// What was missing, as the stock registry lists it.
pub(super) fn detail(all: &[Wanted]) -> Value {
    let entries = all.iter().flat_map(|wanted| {
        wanted.actions.iter().map(|action| {
            json!({"Type": wanted.kind, "Class": "", "Name": wanted.name, "Action": action})
        })
    });
    match all.is_empty() {
        true => Value::Null,
        false => entries.collect(),
    }
}

fn scope(all: &[Wanted]) -> String {
    let scopes = all.iter().map(
        |Wanted {
             kind,
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
