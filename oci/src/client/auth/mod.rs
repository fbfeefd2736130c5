//! Authentication: challenges, Basic, and Bearer tokens with the scopes of a request.
//!
//! Credentials are sent to their registry and to the token server that it names, and nowhere else.
//! If the registry uses TLS, the token server must use it too.

mod scopes;
mod token;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use http::header::WWW_AUTHENTICATE;
use http::{HeaderMap, StatusCode};
use url::Url;

use super::{Client, Error};
use token::Token;
#[cfg(any(test, fuzzing))]
pub use token::fuzz::challenges as fuzz_challenges;

/// The credentials of a user at a registry.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// A username and a password or access token.
    Password {
        /// The username.
        username: String,
        /// The password.
        password: String,
    },
    /// A refresh token, which Docker's configuration calls an identity token.
    IdentityToken(String),
}

impl Credentials {
    /// Returns the account, for messages.
    pub fn account(&self) -> &str {
        match self {
            Self::Password { username, .. } => username,
            Self::IdentityToken(_) => "the stored identity token",
        }
    }
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credentials")
    }
}

/// Called with the name of the host to which a secret is about to be sent without encryption.
pub(super) type CleartextWarning = Arc<dyn Fn(&str) + Send + Sync>;

/// The authentication state of a client.
#[derive(Default)]
pub(super) struct ClientAuth {
    pub(super) credentials: Option<Credentials>,
    challenge: Mutex<ChallengeState>,
    /// Allows one token request at a time: many requests notice at once that their token expired, and
    /// one new token serves all of them.
    token_request_lock: tokio::sync::Mutex<()>,
    warn: Option<CleartextWarning>,
    has_warned: AtomicBool,
}

impl std::fmt::Debug for ClientAuth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientAuth")
            .field("challenge", &self.challenge)
            .finish_non_exhaustive()
    }
}

/// The authentication that the registry asked for in its challenge.
#[derive(Debug, Default)]
enum ChallengeState {
    /// There was no challenge yet.
    #[default]
    NotChallenged,
    /// Basic authentication with the credentials.
    Basic,
    /// Tokens of a token server, by their scopes.
    Bearer {
        server: token::TokenServer,
        tokens: HashMap<Vec<String>, Token>,
    },
}

impl ClientAuth {
    pub(super) fn new(credentials: Option<Credentials>, warn: Option<CleartextWarning>) -> Self {
        Self {
            credentials,
            warn,
            ..Self::default()
        }
    }

    fn challenge(&self) -> MutexGuard<'_, ChallengeState> {
        self.challenge
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the token for these scopes, and the token server that renews it.
    fn cached_token(&self, scopes: &[String]) -> Option<(token::TokenServer, Token)> {
        match &*self.challenge() {
            ChallengeState::NotChallenged | ChallengeState::Basic => None,
            ChallengeState::Bearer { server, tokens } => {
                Some((server.clone(), tokens.get(scopes)?.clone()))
            }
        }
    }

    fn cache_token(&self, server: &token::TokenServer, scopes: &[String], token: Token) {
        let mut state = self.challenge();
        match &mut *state {
            ChallengeState::Bearer {
                server: known,
                tokens,
            } if known == server => {
                tokens.insert(scopes.to_vec(), token);
            }
            ChallengeState::NotChallenged
            | ChallengeState::Basic
            | ChallengeState::Bearer { .. } => {
                *state = ChallengeState::Bearer {
                    server: server.clone(),
                    tokens: HashMap::from([(scopes.to_vec(), token)]),
                };
            }
        }
    }
}

impl Client {
    /// Reports whether the registry has asked for a login, and got one.
    pub fn has_logged_in(&self) -> bool {
        !matches!(&*self.auth.challenge(), ChallengeState::NotChallenged)
    }

    /// Adds the authentication that the registry is known to require. A token that is about to expire
    /// is renewed first. Requests to other hosts are returned unchanged.
    ///
    /// # Errors
    /// Fails if the token server does not issue a token.
    pub(super) async fn authorize(
        &self,
        scopes: &[String],
        request: reqwest::RequestBuilder,
        url: &Url,
    ) -> Result<reqwest::RequestBuilder, Error> {
        if url.origin() != self.base.origin() {
            return Ok(request);
        }
        if matches!(&*self.auth.challenge(), ChallengeState::Basic) {
            return Ok(self.basic(request, url));
        }
        let Some((_, token)) = self.auth.cached_token(scopes) else {
            return Ok(request);
        };
        if token.is_fresh() {
            return Ok(request.bearer_auth(&token.value));
        }
        let _guard = self.auth.token_request_lock.lock().await;
        let token = match self.auth.cached_token(scopes) {
            // Another request renewed the token meanwhile.
            Some((_, token)) if token.is_fresh() => token,
            Some((server, old)) => {
                let token = self.request_token(&server, &old.scopes).await?;
                self.auth.cache_token(&server, scopes, token.clone());
                token
            }
            None => return Ok(request),
        };
        Ok(request.bearer_auth(&token.value))
    }

    /// Handles the challenge in a 401 response to a request that was sent at `sent_at`. Returns whether
    /// the same request should be sent again.
    ///
    /// # Errors
    /// Fails if the token server does not issue a token, or must not get credentials.
    pub(super) async fn handle_challenge(
        &self,
        response: &reqwest::Response,
        scopes: &[String],
        sent_at: Instant,
    ) -> Result<bool, Error> {
        if response.status() != StatusCode::UNAUTHORIZED
            || response.url().origin() != self.base.origin()
        {
            return Ok(false);
        }
        let challenges = parse_challenges(response.headers());
        let of = |scheme: &str| {
            let mut all = challenges.iter();
            all.find(|challenge| challenge.scheme.eq_ignore_ascii_case(scheme))
        };
        if let Some(bearer) = of("bearer") {
            let server = self.token_server(bearer)?;
            let challenged = token::challenge_parameter(bearer, "scope").unwrap_or_default();
            let requested = scopes::merge_scopes(scopes, &challenged);
            let _guard = self.auth.token_request_lock.lock().await;
            let cached = self.auth.cached_token(scopes);
            if cached.is_some_and(|(cached_server, token)| {
                cached_server == server && token.requested_at > sent_at
            }) {
                return Ok(true);
            }
            let token = self.request_token(&server, &requested).await?;
            self.auth.cache_token(&server, scopes, token);
            return Ok(true);
        }
        let password = matches!(self.auth.credentials, Some(Credentials::Password { .. }));
        if of("basic").is_none() || !password {
            return Ok(false);
        }
        let mut state = self.auth.challenge();
        let is_new = !matches!(*state, ChallengeState::Basic);
        *state = ChallengeState::Basic;
        Ok(is_new)
    }

    /// Adds username and password to a request to `url`.
    fn basic(&self, request: reqwest::RequestBuilder, url: &Url) -> reqwest::RequestBuilder {
        match &self.auth.credentials {
            Some(Credentials::Password { username, password }) => {
                self.warn_if_in_clear(url);
                request.basic_auth(username, Some(password))
            }
            Some(Credentials::IdentityToken(_)) | None => request,
        }
    }

    /// Warns, once, that a secret is about to be sent without encryption.
    fn warn_if_in_clear(&self, url: &Url) {
        let host = url.host_str().unwrap_or_default();
        if url.scheme() != "http" || crate::name::is_loopback(host) {
            return;
        }
        if let Some(warn) = &self.auth.warn
            && !self.auth.has_warned.swap(true, Ordering::Relaxed)
        {
            warn(host);
        }
    }
}

/// Returns the challenges in all `WWW-Authenticate` headers. Leaves out headers that are malformed.
fn parse_challenges(headers: &HeaderMap) -> Vec<http_auth::ChallengeRef<'_>> {
    let headers = headers.get_all(WWW_AUTHENTICATE);
    let texts = headers.iter().filter_map(|value| value.to_str().ok());
    let parsed = texts.filter_map(|text| http_auth::parse_challenges(text).ok());
    parsed.flatten().collect()
}
