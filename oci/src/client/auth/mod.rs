//! Authentication: challenges, Basic, and Bearer tokens with the scopes of a request.
//!
//! Credentials are sent to their registry and to the token server that it names, and nowhere else.
//! If the registry uses TLS, the token server must use it too.

pub(super) mod challenge;
mod scopes;
mod token;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use http::{HeaderMap, StatusCode};
use url::Url;

use super::{Client, Error};
use challenge::{Challenge, parse_challenges};
#[cfg(any(test, fuzzing))]
pub use token::fuzz::challenges as fuzz_challenges;
use token::{Token, TokenServer};

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

/// Tells how far a request that failed made use of the credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CredentialUse {
    /// There are none.
    NoCredentials {
        /// The variables that the program would have read credentials from, for messages.
        variables: Option<&'static str>,
    },
    /// They were sent to the registry or to its token server.
    Sent {
        /// The account, for messages.
        account: Box<str>,
    },
    /// They were accepted, but do not permit the request (RFC 6750, section 3.1:
    /// `insufficient_scope`).
    Insufficient {
        /// The account, for messages.
        account: Box<str>,
    },
    /// They were not sent, because the registry did not ask for them in a way that the client
    /// supports.
    NotSent {
        /// The account, for messages.
        account: Box<str>,
        /// The authentication schemes that the response asks for.
        schemes: Vec<String>,
    },
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
    /// Whether the credentials were sent to the registry or to its token server.
    were_credentials_sent: AtomicBool,
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
    Basic {
        /// When the first challenge arrived. A request that began before was sent without them.
        since: Instant,
    },
    /// Tokens of a token server, by their scopes.
    Bearer {
        server: TokenServer,
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
    fn cached_token(&self, scopes: &[String]) -> Option<(TokenServer, Token)> {
        match &*self.challenge() {
            ChallengeState::NotChallenged | ChallengeState::Basic { .. } => None,
            ChallengeState::Bearer { server, tokens } => {
                Some((server.clone(), tokens.get(scopes)?.clone()))
            }
        }
    }

    fn cache_token(&self, server: &TokenServer, scopes: &[String], token: Token) {
        let mut state = self.challenge();
        match &mut *state {
            ChallengeState::Bearer {
                server: known,
                tokens,
            } if known == server => {
                tokens.insert(scopes.to_vec(), token);
            }
            ChallengeState::NotChallenged
            | ChallengeState::Basic { .. }
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

    /// Returns how far the credentials were used, for the error of a response with these headers.
    pub(super) fn credential_use(&self, headers: &HeaderMap) -> CredentialUse {
        let Some(credentials) = &self.auth.credentials else {
            let variables = self.login_variables;
            return CredentialUse::NoCredentials { variables };
        };
        let account = credentials.account().into();
        let challenges = parse_challenges(headers);
        if self.auth.were_credentials_sent.load(Ordering::Relaxed) {
            let is_insufficient =
                |challenge: &Challenge| challenge.parameter("error") == Some("insufficient_scope");
            return if challenges.iter().any(is_insufficient) {
                CredentialUse::Insufficient { account }
            } else {
                CredentialUse::Sent { account }
            };
        }
        let schemes = challenges.into_iter().map(|challenge| challenge.scheme);
        let schemes = schemes.collect();
        CredentialUse::NotSent { account, schemes }
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
        if matches!(&*self.auth.challenge(), ChallengeState::Basic { .. }) {
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

    /// Handles the challenge in a 401 response to a request that got its login after `began_at` and was
    /// sent at `sent_at`. Returns whether the same request should be sent again.
    ///
    /// # Errors
    /// Fails if the token server does not issue a token, or must not get credentials.
    pub(super) async fn handle_challenge(
        &self,
        response: &reqwest::Response,
        scopes: &[String],
        (began_at, sent_at): (Instant, Instant),
    ) -> Result<bool, Error> {
        if response.status() != StatusCode::UNAUTHORIZED
            || response.url().origin() != self.base.origin()
        {
            return Ok(false);
        }
        let challenges = parse_challenges(response.headers());
        let may_use_basic = matches!(self.auth.credentials, Some(Credentials::Password { .. }))
            && challenges.iter().any(|challenge| challenge.is("basic"));
        let mut bearer = challenges.iter().filter(|challenge| challenge.is("bearer"));
        let bearer = match bearer.next() {
            Some(bearer) => match self.token_server(bearer) {
                Ok(server) => Some((bearer, server)),
                Err(_) if may_use_basic => None,
                Err(error) => return Err(error),
            },
            None => None,
        };
        if let Some((bearer, server)) = bearer {
            let challenged = bearer.parameter("scope").unwrap_or_default();
            let requested = scopes::merge_scopes(scopes, challenged);
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
        if !may_use_basic {
            return Ok(false);
        }
        let mut state = self.auth.challenge();
        if let ChallengeState::Basic { since } = &*state {
            // Of several first requests at a time, only one finds the state unchanged.
            return Ok(began_at < *since);
        }
        let since = Instant::now();
        *state = ChallengeState::Basic { since };
        Ok(true)
    }

    /// Adds username and password to a request to `url`.
    fn basic(&self, request: reqwest::RequestBuilder, url: &Url) -> reqwest::RequestBuilder {
        match &self.auth.credentials {
            Some(Credentials::Password { username, password }) => {
                self.record_credentials_sent(url);
                request.basic_auth(username, Some(password))
            }
            Some(Credentials::IdentityToken(_)) | None => request,
        }
    }

    /// Records that credentials are about to be sent, and warns, once, if there is no encryption.
    fn record_credentials_sent(&self, url: &Url) {
        self.auth
            .were_credentials_sent
            .store(true, Ordering::Relaxed);
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
