//! Resolves the repository of a request: the one in its path, or the repository of an upstream that
//! the client addresses through this server as a mirror.
//!
//! This module decides which clients may address a mirror. Names are mapped by `upstream`. Start reading at [`resolve_repository`].

use hyper::header::{AUTHORIZATION, HeaderMap, HeaderValue, USER_AGENT};
use imgsync_oci::endpoint::{Action, RepositoryOperation};
use imgsync_oci::{Endpoint, ErrorCode, Repository};
use serde_json::json;

use super::app::App;
use super::blocking::try_blocking;
use super::caller::Caller;
use super::error_response::ErrorResponse;
use super::mirror_access::is_proxied_pull_allowed;

/// The `User-Agent` prefixes of clients that always send `?ns=` to a mirror: containerd and
/// programs with its library. imgsync uses no mirrors.
const NS_AWARE_USER_AGENTS: [&[u8]; 3] = [b"containerd/", b"buildkit/", b"imgsync/"];

/// An operation with its repository resolved.
pub(super) struct ResolvedOperation {
    /// The operation to perform.
    pub(super) endpoint: Endpoint,
    /// The operation on the repository in the path, if the request only looks like one to a mirror.
    /// The fallback is performed if the upstream fails.
    pub(super) fallback: Option<Endpoint>,
}

impl From<Endpoint> for ResolvedOperation {
    fn from(endpoint: Endpoint) -> Self {
        let fallback = None;
        Self { endpoint, fallback }
    }
}

/// Resolves the repository of a request. The result reveals nothing about a repository that the
/// caller may not pull from: it counts as missing.
///
/// # Errors
/// [`ErrorCode::NameUnknown`] if namespace and path form no valid repository name, and
/// [`ErrorCode::Unauthorized`] if a login decides what the request addresses.
pub(super) async fn resolve_repository(
    app: &App,
    caller: &Caller,
    endpoint: Endpoint,
    query: Option<&str>,
    headers: &HeaderMap,
) -> Result<ResolvedOperation, ErrorResponse> {
    let repository = endpoint.access().1.cloned();
    let Some(repository) = repository.filter(|_| !app.upstreams.is_empty()) else {
        return Ok(endpoint.into());
    };
    if let Some(namespace) = Endpoint::namespace(query) {
        let is_own_host = |name: &str| caller.is_own_host(name);
        let resolved = app
            .upstreams
            .resolve_namespace(&namespace, &repository, is_own_host);
        let resolved = resolved.ok_or_else(|| {
            let name = format!("{namespace}/{repository}");
            ErrorResponse::new(ErrorCode::NameUnknown, json!({ "name": name }))
        })?;
        let resolved = app.upstreams.expand_hub_name(resolved);
        return Ok(endpoint.with_repository(resolved).into());
    }
    let full_name = app.upstreams.expand_hub_name(repository.clone());
    if full_name != repository {
        return Ok(endpoint.with_repository(full_name).into());
    }
    let mirrored = app.upstreams.mirror_repository(&repository);
    let Some(mirrored) = mirrored.filter(|_| !is_local_only(caller, headers)) else {
        return Ok(endpoint.into());
    };
    let (names, has_credentials) = ((repository, mirrored), headers.contains_key(AUTHORIZATION));
    resolve_mirrored(app, caller, endpoint, names, has_credentials).await
}

/// Returns whether a name without a namespace must be a repository of this server. It must be for
/// users who are logged in and for clients that send `ns` to a mirror: before a push they look up
/// blobs, and would skip a blob that only the upstream has.
fn is_local_only(caller: &Caller, headers: &HeaderMap) -> bool {
    let user_agent = headers.get(USER_AGENT).map(HeaderValue::as_bytes);
    let is_ns_aware = |user_agent: &[u8]| {
        NS_AWARE_USER_AGENTS
            .iter()
            .any(|prefix| user_agent.starts_with(prefix))
    };
    caller.user().is_some() || user_agent.is_some_and(is_ns_aware)
}

/// Resolves a name that Docker's daemon may send to a mirror, and that may also be a repository of
/// this server.
async fn resolve_mirrored(
    app: &App,
    caller: &Caller,
    endpoint: Endpoint,
    (repository, mirrored): (Repository, Repository),
    has_credentials: bool,
) -> Result<ResolvedOperation, ErrorResponse> {
    let may_push = caller.is_allowed(Action::Push, &repository);
    let Endpoint::Repository(_, operation) = &endpoint else {
        return Ok(endpoint.into());
    };
    match operation {
        RepositoryOperation::GetManifest { .. }
        | RepositoryOperation::HeadManifest { .. }
        | RepositoryOperation::GetBlob { .. }
        | RepositoryOperation::ListTags { .. }
        | RepositoryOperation::ListReferrers { .. } => {}
        // Clients send it before they push a blob, not when they pull.
        RepositoryOperation::HeadBlob { .. } if !may_push => {}
        _ => return Ok(endpoint.into()),
    }
    let mirrored = app.upstreams.expand_hub_name(mirrored);
    if !caller.is_allowed(Action::Pull, &mirrored) {
        return Ok(endpoint.into());
    }
    if caller.is_allowed(Action::Pull, &repository) {
        let (registry, name) = (app.registry.clone(), repository);
        if try_blocking(move || registry.has_repository(&name)).await? {
            return Ok(endpoint.into());
        }
    }
    // Many clients send their first request without credentials, also before a push. Docker's
    // daemon never does.
    if !may_push && !has_credentials {
        return Err(caller.challenge(&endpoint));
    }
    let fallback = may_push.then(|| endpoint.clone());
    Ok(ResolvedOperation {
        endpoint: endpoint.with_repository(mirrored),
        fallback,
    })
}

/// Returns whether a token request is only for pulls that are open to anyone. Such a request needs
/// no valid login: Docker's daemon sends its mirrors the login of Docker Hub.
pub(super) fn is_anonymous_pull(app: &App, anonymous: &Caller, query: Option<&str>) -> bool {
    let Some(repositories) = Endpoint::token_pull_repositories(query) else {
        return false;
    };
    repositories.iter().all(|repository| {
        let full_name = app.upstreams.expand_hub_name(repository.clone());
        let mirrored = app.upstreams.mirror_repository(&full_name);
        let mirrored = mirrored.map(|mirrored| app.upstreams.expand_hub_name(mirrored));
        let is_open = |repository: &Repository| anonymous.is_allowed(Action::Pull, repository);
        is_open(&full_name)
            || mirrored.as_ref().is_some_and(is_open)
            || is_proxied_pull_allowed(app, anonymous, &full_name)
    })
}
