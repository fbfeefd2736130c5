//! Saying who one is: challenges, Basic, and Bearer tokens with the scopes that a request needs.
//!
//! Credentials go to the registry that they are for and to the token server that it names, over
//! TLS where the registry itself is spoken to over TLS, and nowhere else.

mod scopes;
mod token;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use http::StatusCode;
use http::header::WWW_AUTHENTICATE;
use url::Url;

use super::{Client, Error};
use token::Token;

/// How the user is known to a registry.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// A name and a password, or what serves as one.
    Password {
        /// The name.
        username: String,
        /// The password.
        password: String,
    },
    /// A token that is exchanged for others ("identity token" in Docker's configuration).
    IdentityToken(String),
}

impl Credentials {
    /// Whom they are for, as messages say it.
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

/// Takes the name of a host that a secret is about to be sent to in the clear.
pub(super) type CleartextWarning = Arc<dyn Fn(&str) + Send + Sync>;

/// What this client knows of logging in at its registry.
#[derive(Default)]
pub(super) struct ClientAuth {
    pub(super) credentials: Option<Credentials>,
    challenge: Mutex<ChallengeState>,
    /// One question to the token server at a time: many requests notice at once that theirs ran
    /// out, and one answer serves all of them.
    token_request_lock: tokio::sync::Mutex<()>,
    warn: Option<CleartextWarning>,
    has_warned: AtomicBool,
}

impl std::fmt::Debug for ClientAuth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Auth")
            .field("learned", &self.challenge)
            .finish_non_exhaustive()
    }
}

/// What the registry's challenge asked for.
#[derive(Debug, Default)]
enum ChallengeState {
    /// It has not challenged yet.
    #[default]
    NotChallenged,
    /// The credentials themselves.
    Basic,
    /// Tokens from a server of its choice.
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

    /// The token for these scopes, and the server to renew it at.
    fn cached_token(&self, scopes: &[String]) -> Option<(token::TokenServer, Token)> {
        match &*self.challenge() {
            ChallengeState::NotChallenged | ChallengeState::Basic => None,
            ChallengeState::Bearer { server, tokens } => {
                Some((server.clone(), tokens.get(scopes)?.clone()))
            }
        }
    }

    fn cache_token(&self, server: &token::TokenServer, scopes: &[String], token: Token) {
        let mut learned = self.challenge();
        match &mut *learned {
            ChallengeState::Bearer {
                server: known,
                tokens,
            } if known == server => {
                tokens.insert(scopes.to_vec(), token);
            }
            ChallengeState::NotChallenged
            | ChallengeState::Basic
            | ChallengeState::Bearer { .. } => {
                *learned = ChallengeState::Bearer {
                    server: server.clone(),
                    tokens: HashMap::from([(scopes.to_vec(), token)]),
                };
            }
        }
    }
}

impl Client {
    /// Whether the registry has asked who the caller is, and was told.
    pub fn has_logged_in(&self) -> bool {
        !matches!(&*self.auth.challenge(), ChallengeState::NotChallenged)
    }

    /// The request with whatever the registry is known to want; a token that is about to expire
    /// is renewed first. A request to anywhere but the registry goes as it is.
    ///
    /// # Errors
    /// The token server does not give a token.
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
        let _turn = self.auth.token_request_lock.lock().await;
        let token = match self.auth.cached_token(scopes) {
            // Another request was here first.
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

    /// Learns from a 401 to a request that was sent at `asked` what the registry wants; yields
    /// whether the same request is worth sending again.
    ///
    /// # Errors
    /// The token server does not give a token, or is one that must not see credentials.
    pub(super) async fn handle_challenge(
        &self,
        response: &reqwest::Response,
        scopes: &[String],
        asked: Instant,
    ) -> Result<bool, Error> {
        if response.status() != StatusCode::UNAUTHORIZED
            || response.url().origin() != self.base.origin()
        {
            return Ok(false);
        }
        let headers = response.headers().get_all(WWW_AUTHENTICATE);
        let texts = headers.iter().filter_map(|value| value.to_str().ok());
        let challenges: Vec<http_auth::ChallengeRef<'_>> = texts
            .filter_map(|text| http_auth::parse_challenges(text).ok())
            .flatten()
            .collect();
        let of = |scheme: &str| {
            let mut all = challenges.iter();
            all.find(|challenge| challenge.scheme.eq_ignore_ascii_case(scheme))
        };
        if let Some(bearer) = of("bearer") {
            let server = self.token_server(bearer)?;
            let scopes_too = token::challenge_parameter(bearer, "scope").unwrap_or_default();
            let wanted = scopes::merge_scopes(scopes, &scopes_too);
            let _turn = self.auth.token_request_lock.lock().await;
            let news = self.auth.cached_token(scopes);
            if news.is_some_and(|(known, token)| known == server && token.requested_at > asked) {
                return Ok(true);
            }
            let token = self.request_token(&server, &wanted).await?;
            self.auth.cache_token(&server, scopes, token);
            return Ok(true);
        }
        let password = matches!(self.auth.credentials, Some(Credentials::Password { .. }));
        if of("basic").is_none() || !password {
            return Ok(false);
        }
        let mut learned = self.auth.challenge();
        let news = !matches!(*learned, ChallengeState::Basic);
        *learned = ChallengeState::Basic;
        Ok(news)
    }

    /// The request with name and password, as it goes to `url`.
    fn basic(&self, request: reqwest::RequestBuilder, url: &Url) -> reqwest::RequestBuilder {
        match &self.auth.credentials {
            Some(Credentials::Password { username, password }) => {
                self.warn_if_in_clear(url);
                request.basic_auth(username, Some(password))
            }
            Some(Credentials::IdentityToken(_)) | None => request,
        }
    }

    /// Says, once, that a secret is about to travel where everybody on the way can read it.
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
