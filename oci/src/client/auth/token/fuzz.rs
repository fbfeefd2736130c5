//! A fuzz target: the challenges of a registry, and links to the next page.

use std::sync::LazyLock;

use http::header::WWW_AUTHENTICATE;
use http::{HeaderMap, HeaderValue};
use reqwest::RequestBuilder;

use super::super::Client;
use super::super::challenge::parse_challenges;
use super::super::scopes::merge_scopes;
use super::TokenServer;
use crate::client::UrlScheme;
use crate::client::lists::next_link;

/// Each line of an input is a header. No password leaves a registry with TLS for a server without,
/// and a challenge that is written from the parsed one means the same.
pub fn challenges(data: &[u8]) {
    let mut headers = HeaderMap::new();
    for line in data.split(|byte| *byte == b'\n').take(16) {
        if let Ok(value) = HeaderValue::from_bytes(line) {
            headers.append(WWW_AUTHENTICATE, value);
        }
        if let Ok(text) = std::str::from_utf8(line)
            && let Some(target) = next_link(text)
        {
            assert!(text.contains(&format!("<{target}>")));
        }
    }
    for challenge in parse_challenges(&headers) {
        let scope = challenge.parameter("scope").unwrap_or_default();
        check_scopes(scope);
        let [plain, tls] = &*CLIENTS;
        if let Ok(server) = tls.token_server(&challenge) {
            assert_eq!(server.realm.scheme(), "https");
            check_request(tls, &server, scope);
        }
        if let Ok(server) = plain.token_server(&challenge) {
            assert!(matches!(server.realm.scheme(), "http" | "https"));
            check_request(plain, &server, scope);
            check_printed(plain, &server);
        }
    }
}

/// A client without TLS, and one with TLS.
static CLIENTS: LazyLock<[Client; 2]> = LazyLock::new(|| {
    [UrlScheme::Http, UrlScheme::Https].map(|scheme| {
        let registry = "registry.example.com".parse().ok();
        match registry.map(|registry| Client::new(&registry, scheme)) {
            Some(Ok(client)) => client,
            failed => panic!("{failed:?}"),
        }
    })
});

fn check_scopes(challenge: &str) {
    let ours = ["repository:a/b:pull,push".to_owned()];
    let merged = merge_scopes(&ours, challenge);
    assert_eq!(merged[0], ours[0]);
    for scope in &merged[1..] {
        assert!(!scope.is_empty() && !scope.contains(' ') && challenge.contains(scope));
    }
}

/// The request goes to the realm, and its query has the service and the scope as they were parsed.
fn check_request(client: &Client, server: &TokenServer, scope: &str) {
    let scopes = [scope.to_owned()];
    let request = client.token_request("a login", server, &scopes);
    let Ok(Ok(request)) = request.map(RequestBuilder::build) else {
        panic!("no request for {}", server.realm);
    };
    let url = request.url();
    assert_eq!(
        (url.origin(), url.path()),
        (server.realm.origin(), server.realm.path())
    );
    let query: Vec<_> = url.query_pairs().collect();
    assert!(query.contains(&("scope".into(), scope.into())));
    if let Some(service) = &server.service {
        assert!(query.contains(&("service".into(), service.into())));
    }
}

fn check_printed(client: &Client, server: &TokenServer) {
    let quoted = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
    let mut printed = format!("Bearer realm=\"{}\"", quoted(server.realm.as_str()));
    if let Some(service) = &server.service {
        printed += &format!(",service=\"{}\"", quoted(service));
    }
    let Ok(printed) = HeaderValue::from_str(&printed) else {
        return;
    };
    let parsed = parse_challenges(&HeaderMap::from_iter([(WWW_AUTHENTICATE, printed)]));
    assert_eq!(client.token_server(&parsed[0]).ok().as_ref(), Some(server));
}
