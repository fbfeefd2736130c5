//! Tokens and token servers (Docker's token authentication specification; for identity tokens its
//! OAuth2 form).

#[cfg(any(test, fuzzing))]
pub(super) mod fuzz;

use std::time::{Duration, Instant};

use serde_json::{Map, Value};
use url::Url;

use super::super::failed_requests::registry_of_url;
use super::super::send::execute;
use super::super::{Client, Error, SMALL_REQUEST_TIMEOUT};
use super::Credentials;
use super::challenge::Challenge;

/// The time before its end at which a token is renewed; half of its lifetime if that is shorter.
const TOKEN_RENEWAL_MARGIN: Duration = Duration::from_secs(10);
/// The lifetime of a token if the response states none.
const DEFAULT_TOKEN_SECONDS: u64 = 60;
/// The longest lifetime that is used, whatever the response states.
const MAX_TOKEN_SECONDS: u64 = 86_400;
/// The largest response of a token server in bytes. Tokens are short.
const MAX_TOKEN_RESPONSE_BYTES: usize = 256 * 1024;

/// The token server that a challenge names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TokenServer {
    realm: Url,
    service: Option<String>,
}

/// A token and its lifetime.
#[derive(Clone)]
pub(super) struct Token {
    pub(super) value: String,
    /// The time of the request.
    pub(super) requested_at: Instant,
    lifetime: Duration,
    /// The requested scopes.
    pub(super) scopes: Vec<String>,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token")
    }
}

impl Token {
    /// Reports whether the token is still valid when a request with it arrives.
    pub(super) fn is_fresh(&self) -> bool {
        self.requested_at.elapsed() + TOKEN_RENEWAL_MARGIN.min(self.lifetime / 2) < self.lifetime
    }
}

/// Reads the response of a token server: the token, and its lifetime in seconds. Members of another
/// type than the specification's count as missing, as far as they have no obvious meaning.
fn parse_token_response(body: &[u8]) -> Option<(String, u64)> {
    let answer: Map<String, Value> = serde_json::from_slice(body).ok()?;
    let text = |name: &str| answer.get(name)?.as_str().filter(|text| !text.is_empty());
    let token = text("token").or_else(|| text("access_token"))?.to_owned();
    let seconds = answer.get("expires_in").and_then(parse_seconds);
    Some((token, seconds.unwrap_or(DEFAULT_TOKEN_SECONDS)))
}

/// Returns a lifetime in whole seconds: a number, or the text of one. A negative lifetime makes no
/// sense, and counts as missing.
fn parse_seconds(value: &Value) -> Option<u64> {
    let seconds = match value {
        Value::String(text) => text.trim().parse().ok()?,
        value => value.as_f64()?,
    };
    // A conversion of floating-point numbers saturates.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    (seconds >= 0.0).then_some(seconds as u64)
}

impl Client {
    /// Returns the token server that a challenge names.
    ///
    /// # Errors
    /// Fails if the challenge names none, or one without TLS although the registry uses TLS.
    pub(super) fn token_server(&self, challenge: &Challenge) -> Result<TokenServer, Error> {
        let invalid = |what: &str| Error::InvalidResponse {
            registry: self.registry.clone(),
            operation: "a login".to_owned(),
            what: what.to_owned(),
        };
        let realm = challenge.parameter("realm");
        let realm = realm.and_then(|realm| self.base.join(realm).ok());
        let realm = realm
            .filter(|realm| matches!(realm.scheme(), "http" | "https"))
            .ok_or_else(|| invalid("its challenge has no valid realm"))?;
        if self.base.scheme() == "https" && realm.scheme() != "https" {
            return Err(invalid(
                "its token server does not use TLS, so no password is sent there",
            ));
        }
        Ok(TokenServer {
            realm,
            service: challenge.parameter("service").map(str::to_owned),
        })
    }

    /// Requests a token for these scopes.
    ///
    /// # Errors
    /// Fails if the token server cannot be reached, rejects the login, or returns no token. The error
    /// names the token server, not the registry.
    pub(super) async fn request_token(
        &self,
        server: &TokenServer,
        scopes: &[String],
    ) -> Result<Token, Error> {
        let requested_at = Instant::now();
        let operation = || format!("a login for {}", self.registry);
        // Messages name the token server by its host, or the registry if the host is no address.
        let named = registry_of_url(&server.realm).unwrap_or_else(|| self.registry.clone());
        let request = self
            .token_request(&operation(), server, scopes)?
            .timeout(SMALL_REQUEST_TIMEOUT);
        let response = execute(request)
            .await
            .map_err(|error| self.request_error(&named, operation(), error))?;
        if !response.status().is_success() {
            let refused = self.status_error_from(&named, operation(), response).await;
            return Err(refused.into_login_error());
        }
        let body = self
            .read_bounded(&operation(), response, MAX_TOKEN_RESPONSE_BYTES)
            .await?;
        let answer = parse_token_response(&body).ok_or_else(|| Error::InvalidResponse {
            registry: named,
            operation: operation(),
            what: "there is no token".to_owned(),
        });
        let (value, lifetime) = answer?;
        Ok(Token {
            value,
            requested_at,
            lifetime: Duration::from_secs(lifetime.min(MAX_TOKEN_SECONDS)),
            scopes: scopes.to_vec(),
        })
    }

    fn token_request(
        &self,
        operation: &str,
        server: &TokenServer,
        scopes: &[String],
    ) -> Result<reqwest::RequestBuilder, Error> {
        let TokenServer { realm, service } = server;
        let http = self.http_for(operation, realm)?;
        Ok(match &self.auth.credentials {
            Some(Credentials::IdentityToken(identity)) => {
                self.record_credentials_sent(realm);
                let mut form = form_urlencoded::Serializer::new(String::new());
                form.append_pair("grant_type", "refresh_token")
                    .append_pair("client_id", "imgsync")
                    .append_pair("refresh_token", identity)
                    .append_pair("scope", &scopes.join(" "));
                form.extend_pairs(service.iter().map(|service| ("service", service)));
                http.post(realm.clone())
                    .header(
                        http::header::CONTENT_TYPE,
                        "application/x-www-form-urlencoded",
                    )
                    .body(form.finish())
            }
            Some(Credentials::Password { .. }) | None => {
                let mut url = realm.clone();
                if service.is_some() || !scopes.is_empty() {
                    url.query_pairs_mut()
                        .extend_pairs(service.iter().map(|service| ("service", service)))
                        .extend_pairs(scopes.iter().map(|scope| ("scope", scope)));
                }
                self.basic(http.get(url), realm)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::challenge::parse_challenges;
    use super::*;
    use http::HeaderMap;
    use http::header::WWW_AUTHENTICATE;

    #[test]
    fn token_responses_of_other_servers_are_read() {
        let parse = |body: &str| parse_token_response(body.as_bytes());
        let token = |seconds| Some(("t".to_owned(), seconds));
        for (life, seconds) in [
            ("", DEFAULT_TOKEN_SECONDS),
            (r#","expires_in":300"#, 300),
            (r#","expires_in":300.5"#, 300),
            (r#","expires_in":"300""#, 300),
            (r#","expires_in":-1"#, DEFAULT_TOKEN_SECONDS),
            (r#","expires_in":"soon""#, DEFAULT_TOKEN_SECONDS),
            (r#","expires_in":null"#, DEFAULT_TOKEN_SECONDS),
            (r#","expires_in":[]"#, DEFAULT_TOKEN_SECONDS),
            (r#","expires_in":1e300"#, u64::MAX),
        ] {
            let body = format!(r#"{{"token":"t"{life}}}"#);
            assert_eq!(parse(&body), token(seconds), "{body}");
        }
        for body in [
            r#"{"token":"","access_token":"t"}"#,
            r#"{"token":null,"access_token":"t"}"#,
            r#"{"token":"old","token":"t"}"#,
        ] {
            assert_eq!(parse(body), token(DEFAULT_TOKEN_SECONDS), "{body}");
        }
        for body in [r#"{"token":""}"#, r#"{"token":7}"#, "[]", "<html>", ""] {
            assert_eq!(parse(body), None, "{body}");
        }
    }

    #[test]
    fn a_token_is_renewed_before_its_end() {
        let fresh = |life| {
            let token = Token {
                value: String::new(),
                requested_at: Instant::now(),
                lifetime: Duration::from_secs(life),
                scopes: Vec::new(),
            };
            token.is_fresh()
        };
        assert!(fresh(300) && fresh(11) && fresh(4));
        assert!(!fresh(0));
    }

    #[test]
    fn a_password_leaves_a_registry_with_tls_only_for_servers_with_tls() {
        let server = |realm: &str, scheme| {
            let client = Client::new(&"registry.example.com".parse().unwrap(), scheme).unwrap();
            let text = format!("Bearer realm=\"{realm}\"");
            let headers = HeaderMap::from_iter([(WWW_AUTHENTICATE, text.parse().unwrap())]);
            let server = client.token_server(&parse_challenges(&headers)[0]);
            server.map(|server| server.realm)
        };
        use super::super::super::UrlScheme::{Http, Https};
        assert!(server("http://auth.example.com/token", Https).is_err());
        assert!(server("ftp://auth.example.com/token", Http).is_err());
        let good = server("https://auth.example.com/token", Https).unwrap();
        assert_eq!(good.as_str(), "https://auth.example.com/token");
        let own = server("/token", Https).unwrap();
        assert_eq!(own.as_str(), "https://registry.example.com/token");
    }
}
