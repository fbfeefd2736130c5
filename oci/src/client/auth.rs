//! Saying who one is: challenges, Basic, and Bearer tokens with the scopes that a request needs.
//!
//! Credentials go to the registry that they are for and to the token server that it names, over
//! TLS where the registry itself is spoken to over TLS, and nowhere else.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http::StatusCode;
use http::header::WWW_AUTHENTICATE;
use serde::Deserialize;
use url::Url;

use super::{Client, Error, SMALL_REQUEST};
use crate::Endpoint;
use crate::endpoint::Action;

/// A token that lives shorter than this is renewed before it is used again.
const MARGIN: Duration = Duration::from_secs(10);
/// What a token's life is where nobody says (Docker's token specification).
const DEFAULT_LIFE_SECONDS: u64 = 60;
/// Tokens are short; a larger answer is something else.
const LONGEST_TOKEN_ANSWER: usize = 256 * 1024;

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

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credentials")
    }
}

/// What this client knows of logging in at its registry.
#[derive(Debug, Default)]
pub(super) struct Auth {
    credentials: Option<Credentials>,
    learned: Mutex<Learned>,
}

/// What the registry's challenge asked for.
#[derive(Debug, Default)]
enum Learned {
    /// It has not challenged yet.
    #[default]
    Nothing,
    /// The credentials themselves.
    Basic,
    /// Tokens from a server of its choice.
    Bearer {
        realm: Url,
        service: Option<String>,
        tokens: HashMap<Vec<String>, Token>,
    },
}

#[derive(Clone)]
struct Token {
    value: String,
    until: Instant,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token")
    }
}

#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

impl Auth {
    pub(super) fn new(credentials: Option<Credentials>) -> Self {
        Self {
            credentials,
            learned: Mutex::default(),
        }
    }

    fn learned(&self) -> MutexGuard<'_, Learned> {
        self.learned.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Client {
    /// The scopes that an operation needs, as tokens name them.
    pub(super) fn scopes(&self, endpoint: &Endpoint) -> Vec<String> {
        let (action, repository) = endpoint.access();
        let actions = match action {
            Action::Check => return Vec::new(),
            Action::Catalog => return vec!["registry:catalog:*".to_owned()],
            Action::Push => "pull,push",
            // What the stock registry asks for.
            Action::Delete => "delete",
            // Where a push follows, reading asks for its scope at once: one token serves both.
            Action::Pull if self.pushes => "pull,push",
            Action::Pull => "pull",
        };
        let mut scopes: Vec<String> = repository
            .iter()
            .map(|repository| format!("repository:{repository}:{actions}"))
            .collect();
        if let Endpoint::StartUpload {
            mount: Some(mount), ..
        } = endpoint
        {
            scopes.extend(
                mount
                    .from
                    .iter()
                    .map(|from| format!("repository:{from}:pull")),
            );
        }
        scopes
    }

    /// The request with whatever the registry is known to want; a token that is about to expire
    /// is renewed first. A request to anywhere but the registry goes as it is.
    ///
    /// # Errors
    /// The token server does not give a token.
    pub(super) async fn authorized(
        &self,
        scopes: &[String],
        request: reqwest::RequestBuilder,
        url: &Url,
    ) -> Result<reqwest::RequestBuilder, Error> {
        if url.origin() != self.base.origin() {
            return Ok(request);
        }
        let stale = match &*self.auth.learned() {
            Learned::Nothing => return Ok(request),
            Learned::Basic => return Ok(self.basic(request)),
            Learned::Bearer {
                realm,
                service,
                tokens,
            } => match tokens.get(scopes) {
                Some(token) if token.until > Instant::now() + MARGIN => {
                    return Ok(request.bearer_auth(&token.value));
                }
                Some(_) => Some((realm.clone(), service.clone())),
                None => None,
            },
        };
        let Some((realm, service)) = stale else {
            return Ok(request);
        };
        let token = self.token(&realm, service.as_deref(), scopes).await?;
        let value = token.value.clone();
        self.keep(scopes, token);
        Ok(request.bearer_auth(value))
    }

    /// Learns from a 401 what the registry wants; yields whether the same request is worth
    /// sending again.
    ///
    /// # Errors
    /// The token server does not give a token, or is one that must not see credentials.
    pub(super) async fn learn(
        &self,
        response: &reqwest::Response,
        scopes: &[String],
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
            return self.learn_bearer(bearer, scopes).await;
        }
        let password = matches!(self.auth.credentials, Some(Credentials::Password { .. }));
        if of("basic").is_none() || !password {
            return Ok(false);
        }
        let mut learned = self.auth.learned();
        let news = !matches!(*learned, Learned::Basic);
        *learned = Learned::Basic;
        Ok(news)
    }

    async fn learn_bearer(
        &self,
        challenge: &http_auth::ChallengeRef<'_>,
        scopes: &[String],
    ) -> Result<bool, Error> {
        let parameter = |name: &str| {
            let mut all = challenge.params.iter();
            let found = all.find(|(key, _)| key.eq_ignore_ascii_case(name));
            found.map(|(_, value)| value.to_unescaped())
        };
        let odd = |what: &str| Error::Odd {
            registry: self.registry.clone(),
            operation: "a login".to_owned(),
            what: what.to_owned(),
        };
        let realm = parameter("realm").and_then(|realm| self.base.join(&realm).ok());
        let realm = realm.ok_or_else(|| odd("its challenge names no token server"))?;
        if self.base.scheme() == "https" && realm.scheme() != "https" {
            return Err(odd("its token server does not use TLS"));
        }
        let service = parameter("service");
        let token = self.token(&realm, service.as_deref(), scopes).await?;
        {
            let mut learned = self.auth.learned();
            if !matches!(&*learned, Learned::Bearer { realm: known, .. } if *known == realm) {
                let tokens = HashMap::new();
                *learned = Learned::Bearer {
                    realm,
                    service,
                    tokens,
                };
            }
        }
        self.keep(scopes, token);
        Ok(true)
    }

    fn keep(&self, scopes: &[String], token: Token) {
        if let Learned::Bearer { tokens, .. } = &mut *self.auth.learned() {
            tokens.insert(scopes.to_vec(), token);
        }
    }

    fn basic(&self, request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
        match &self.auth.credentials {
            Some(Credentials::Password { username, password }) => {
                request.basic_auth(username, Some(password))
            }
            Some(Credentials::IdentityToken(_)) | None => request,
        }
    }

    /// Asks the token server (Docker's token authentication specification; its OAuth2 form for
    /// identity tokens).
    async fn token(
        &self,
        realm: &Url,
        service: Option<&str>,
        scopes: &[String],
    ) -> Result<Token, Error> {
        let operation = || format!("a login at {}", realm.host_str().unwrap_or_default());
        let asked = Instant::now();
        let request = match &self.auth.credentials {
            Some(Credentials::IdentityToken(identity)) => {
                let mut form = form_urlencoded::Serializer::new(String::new());
                form.append_pair("grant_type", "refresh_token")
                    .append_pair("client_id", "imgsync")
                    .append_pair("refresh_token", identity)
                    .append_pair("scope", &scopes.join(" "));
                service.map(|service| form.append_pair("service", service));
                self.http
                    .post(realm.clone())
                    .header(
                        http::header::CONTENT_TYPE,
                        "application/x-www-form-urlencoded",
                    )
                    .body(form.finish())
            }
            Some(Credentials::Password { .. }) | None => {
                let mut url = realm.clone();
                {
                    let mut query = url.query_pairs_mut();
                    service.map(|service| query.append_pair("service", service));
                    for scope in scopes {
                        query.append_pair("scope", scope);
                    }
                }
                self.basic(self.http.get(url))
            }
        };
        let response = request
            .timeout(SMALL_REQUEST)
            .send()
            .await
            .map_err(|error| self.unreachable_during(operation(), error))?;
        if !response.status().is_success() {
            return Err(self.refused_during(operation(), response).await);
        }
        let body = self
            .bounded(&Endpoint::Check, response, LONGEST_TOKEN_ANSWER)
            .await?;
        let answer: Option<TokenAnswer> = serde_json::from_slice(&body).ok();
        let life = answer.as_ref().and_then(|answer| answer.expires_in);
        let value = answer.and_then(|answer| answer.token.or(answer.access_token));
        let value = value.filter(|value| !value.is_empty());
        Ok(Token {
            value: value.ok_or_else(|| Error::Odd {
                registry: self.registry.clone(),
                operation: operation(),
                what: "there is no token in it".to_owned(),
            })?,
            until: asked + Duration::from_secs(life.unwrap_or(DEFAULT_LIFE_SECONDS).min(86_400)),
        })
    }
}
