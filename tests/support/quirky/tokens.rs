//! Tokens with the scopes that a request needs.

use super::quirks::RegistryQuirks;
use crate::support::fake::{Reply, Request, status};

/// Issues tokens, and returns a challenge for a request without the token that it needs. A token
/// contains its own scopes.
pub(super) fn check_token(quirks: &RegistryQuirks, request: &Request) -> Option<Reply> {
    if !quirks.requires_token {
        return None;
    }
    if request.line() == "GET /token" {
        let scopes = request.query("scope").join(" ");
        let body = serde_json::json!({ "token": scopes.replace(' ', ";") });
        return Some(status(200).body(body.to_string()));
    }
    if matches!(&*request.method, "GET" | "HEAD") {
        return None;
    }
    let path = request.target.split('?').next().unwrap_or_default();
    let path = path.strip_prefix("/v2/").unwrap_or_default();
    let separators = ["/blobs/", "/manifests/", "/tags/", "/_imgsync/"];
    let name_end = separators.iter().filter_map(|part| path.find(part)).min();
    let repository = &path[..name_end.unwrap_or(path.len())];
    let action = match &*request.method {
        "PUT" | "PATCH" | "DELETE" => "push",
        "POST" if request.target.contains("/uploads/") => "push",
        _ => "pull",
    };
    let mut needed = vec![(repository.to_owned(), action)];
    needed.extend(request.query("from").into_iter().map(|from| (from, "pull")));
    let bearer = request.authorization().strip_prefix("Bearer ");
    let is_granted = |(repository, action): &(String, &str)| {
        let scopes = bearer.into_iter().flat_map(|token| token.split(';'));
        let mut grants = scopes.map(|scope| scope.trim_start_matches("repository:"));
        grants.any(|grant| {
            let (granted_repository, actions) = grant.split_once(':').unwrap_or_default();
            granted_repository == repository && actions.split(',').any(|granted| granted == *action)
        })
    };
    if needed.iter().all(is_granted) {
        return None;
    }
    let host = request.header("host").unwrap_or_default();
    let challenge = format!(r#"Bearer realm="http://{host}/token",service="quirky""#);
    Some(status(401).header("WWW-Authenticate", challenge))
}
