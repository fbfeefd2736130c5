//! Turns failed requests and error responses into errors.

use http::header::SERVER;
use url::Url;

use super::address_policy::refusal_in;
use super::error::{Error, chain, redirect_suffix};
use super::{Client, ConnectErrorKind, response_headers};
use crate::{Endpoint, Registry, api_error};

impl Client {
    /// Returns the error for a response with an error status, with the errors in its body.
    pub(super) async fn status_error(
        &self,
        endpoint: &Endpoint,
        response: reqwest::Response,
    ) -> Error {
        self.status_error_during(endpoint.to_string(), response)
            .await
    }

    pub(super) async fn status_error_during(
        &self,
        operation: String,
        response: reqwest::Response,
    ) -> Error {
        self.status_error_from(&self.registry, operation, response)
            .await
    }

    /// Returns the error for a response of `server_name`, which may be a token server.
    pub(super) async fn status_error_from(
        &self,
        server_name: &Registry,
        operation: String,
        response: reqwest::Response,
    ) -> Error {
        const MAX_ERROR_BODY_BYTES: usize = 64 * 1024;
        let status = response.status();
        let credentials = self.credential_use(response.headers());
        let server = response_headers::text(response.headers(), &SERVER).map(Box::from);
        let retry_after = response_headers::retry_after(response.headers());
        let body = self
            .read_bounded(&operation, response, MAX_ERROR_BODY_BYTES)
            .await;
        let body = body.unwrap_or_default();
        let server = server.or_else(|| page_signature(&body).map(Box::from));
        Error::Status {
            registry: server_name.clone(),
            operation,
            status,
            faults: api_error::parse_error_body(&body),
            server,
            retry_after,
            is_login: false,
            credentials: Box::new(credentials),
        }
    }

    /// Rejects a web page in place of a response. Blobs may have any type, and are not checked.
    ///
    /// # Errors
    /// Returns [`Error::WebPage`].
    pub(super) fn reject_web_page(
        &self,
        endpoint: &Endpoint,
        response: &reqwest::Response,
    ) -> Result<(), Error> {
        use crate::endpoint::RepositoryOperation::{GetBlob, HeadBlob};
        let is_blob = matches!(
            endpoint,
            Endpoint::Repository(_, GetBlob { .. } | HeadBlob { .. })
        );
        let is_page = response_headers::is_web_page(response.headers());
        if is_blob || !is_page || !response.status().is_success() {
            return Ok(());
        }
        Err(Error::WebPage {
            registry: self.registry.clone(),
            operation: endpoint.to_string(),
        })
    }

    pub(super) fn invalid_response(&self, endpoint: &Endpoint, what: String) -> Error {
        Error::InvalidResponse {
            registry: self.registry.clone(),
            operation: endpoint.to_string(),
            what,
        }
    }

    pub(super) fn connection_lost(&self, endpoint: &Endpoint, what: String) -> Error {
        Error::ConnectionLost {
            registry: self.registry.clone(),
            operation: endpoint.to_string(),
            what,
        }
    }

    /// Returns the error for a URL whose host must not be contacted.
    pub(super) fn forbidden_address(&self, url: &Url, operation: String, reason: String) -> Error {
        let host = url.host_str().unwrap_or_default();
        let port = url.port().map_or(String::new(), |port| format!(":{port}"));
        Error::ForbiddenAddress {
            registry: self.registry.clone(),
            operation,
            host: format!("{host}{port}"),
            reason,
        }
    }

    /// Returns the error for a request to `server` that got no response.
    pub(super) fn request_error(
        &self,
        server: &Registry,
        operation: String,
        error: reqwest::Error,
    ) -> Error {
        if let (Some(refusal), Some(url)) = (refusal_in(&error), error.url()) {
            return self.forbidden_address(url, operation, refusal.reason.clone());
        }
        // A registry may redirect to another host, for example to an object store.
        let elsewhere = error.url().filter(|url| url.origin() != self.base.origin());
        let elsewhere = elsewhere
            .and_then(registry_of_url)
            .filter(|host| host != server);
        let redirected_by = elsewhere.is_some().then(|| server.clone());
        let registry = elsewhere.unwrap_or_else(|| server.clone());
        if !error.is_connect() {
            let what = chain(&error.without_url()) + &redirect_suffix(redirected_by.as_ref());
            return Error::ConnectionLost {
                registry,
                operation,
                what,
            };
        }
        let (kind, what) = ConnectErrorKind::classify(&error.without_url());
        let kind = match kind {
            // The name was resolved before, so this may be a laptop that changes networks.
            ConnectErrorKind::UnknownHost if self.has_answered() => ConnectErrorKind::Network,
            kind => kind,
        };
        Error::Connect {
            registry,
            redirected_by,
            what,
            kind,
        }
    }
}

/// Returns the host and port of a URL as an address.
pub(super) fn registry_of_url(url: &Url) -> Option<Registry> {
    let host = url.host_str()?;
    match url.port() {
        Some(port) => format!("{host}:{port}").parse().ok(),
        None => host.parse().ok(),
    }
}

/// Returns the name of the program at the end of an error page, where nginx and its derivatives
/// write it: `<hr><center>nginx/1.22.1</center>`.
fn page_signature(page: &[u8]) -> Option<&str> {
    const MAX_SIGNATURE_BYTES: usize = 60;
    let page = std::str::from_utf8(page).ok()?;
    let (_, signed) = page.rsplit_once("<center>")?;
    let (name, _) = signed.split_once("</center>")?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "/.-_ ()".contains(c);
    let is_name = !name.is_empty() && name.len() <= MAX_SIGNATURE_BYTES && name.chars().all(plain);
    is_name.then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_page_names_its_program() {
        let page = b"<html><center><h1>413 Too Large</h1></center><hr><center>openresty</center>";
        assert_eq!(page_signature(page), Some("openresty"));
        assert_eq!(page_signature(b"<center><script></center>"), None);
        assert_eq!(page_signature(b"{}"), None);
        assert_eq!(page_signature(b"\xff"), None);
    }
}
