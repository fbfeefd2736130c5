//! Which repository a request is about: the one that its path names, or another that its client
//! means by that. The names are in `upstream`; here stands who may mean what.

use hyper::header::{AUTHORIZATION, HeaderMap, HeaderValue, USER_AGENT};
use imgsync_oci::endpoint::{Action, RepositoryOperation};
use imgsync_oci::{Endpoint, ErrorCode, Repository};
use serde_json::json;

use super::caller::Caller;
use super::error_response::ErrorResponse;
use super::{App, try_blocking};

/// How clients call themselves that ask a mirror with `?ns=` and never without: containerd, and all
/// that is made with its library. So does our own tool, which asks no mirrors.
const NS_AWARE_USER_AGENTS: [&[u8]; 3] = [b"containerd/", b"buildkit/", b"imgsync/"];

/// An operation, as it is meant.
pub(super) struct ResolvedOperation {
    pub(super) endpoint: Endpoint,
    /// The same operation on the repository that the path names, where it was taken for a question
    /// to a mirror and nothing else than this path says so.
    pub(super) fallback: Option<Endpoint>,
}

/// Finds out what a request means. Whoever asks, the answer shows nothing of a repository that
/// they may not pull from: it counts as one that is not there.
///
/// # Errors
/// It cannot be a repository's name.
pub(super) async fn resolve_repository(
    app: &App,
    caller: &Caller,
    endpoint: Endpoint,
    query: Option<&str>,
    headers: &HeaderMap,
) -> Result<ResolvedOperation, ErrorResponse> {
    let plainly = |endpoint| ResolvedOperation {
        endpoint,
        fallback: None,
    };
    let Some(repository) = endpoint.repository().cloned() else {
        return Ok(plainly(endpoint));
    };
    if app.upstreams.is_empty() {
        return Ok(plainly(endpoint));
    }
    if let Some(namespace) = Endpoint::namespace(query) {
        let is_own = |name: &str| caller.is_own_host(name);
        let meant = app
            .upstreams
            .resolve_namespace(&namespace, &repository, is_own);
        let meant = meant.ok_or_else(|| {
            let name = format!("{namespace}/{repository}");
            ErrorResponse::new(ErrorCode::NameUnknown, json!({ "name": name }))
        })?;
        let meant = app.upstreams.expand_hub_name(meant);
        return Ok(plainly(endpoint.with_repository(meant)));
    }
    let full = app.upstreams.expand_hub_name(repository.clone());
    if full != repository {
        return Ok(plainly(endpoint.with_repository(full)));
    }
    match app.upstreams.mirror_repository(&repository) {
        Some(_) if is_local_only(caller, headers) => Ok(plainly(endpoint)),
        Some(mirrored) => {
            let has_shown = headers.contains_key(AUTHORIZATION);
            resolve_mirrored(app, caller, endpoint, (repository, mirrored), has_shown).await
        }
        None => Ok(plainly(endpoint)),
    }
}

/// Whether a plain name can only mean a repository of this server. Who is about to push asks what
/// is there, and would leave out what is only at a mirror's upstream: whoever is logged in, and
/// clients that give `ns` where they ask a mirror.
fn is_local_only(caller: &Caller, headers: &HeaderMap) -> bool {
    let agent = headers.get(USER_AGENT).map(HeaderValue::as_bytes);
    let says_ns = |agent: &[u8]| {
        NS_AWARE_USER_AGENTS
            .iter()
            .any(|name| agent.starts_with(name))
    };
    caller.user().is_some() || agent.is_some_and(says_ns)
}

/// A name that Docker's daemon would ask a mirror for, but that may be a repository of ours.
async fn resolve_mirrored(
    app: &App,
    caller: &Caller,
    endpoint: Endpoint,
    (repository, mirrored): (Repository, Repository),
    has_shown: bool,
) -> Result<ResolvedOperation, ErrorResponse> {
    let plainly = |endpoint| {
        Ok(ResolvedOperation {
            endpoint,
            fallback: None,
        })
    };
    let may_push = caller.is_allowed(Action::Push, &repository);
    let Endpoint::Repository(_, operation) = &endpoint else {
        return plainly(endpoint);
    };
    match operation {
        RepositoryOperation::GetManifest { .. }
        | RepositoryOperation::HeadManifest { .. }
        | RepositoryOperation::GetBlob { .. }
        | RepositoryOperation::ListTags { .. }
        | RepositoryOperation::ListReferrers { .. } => {}
        // Asked before a blob is pushed, and by nobody who pulls.
        RepositoryOperation::HeadBlob { .. } if !may_push => {}
        _ => return plainly(endpoint),
    }
    let mirrored = app.upstreams.expand_hub_name(mirrored);
    if !caller.is_allowed(Action::Pull, &mirrored) {
        return plainly(endpoint);
    }
    if caller.is_allowed(Action::Pull, &repository) {
        let (registry, name) = (app.registry.clone(), repository);
        if try_blocking(move || registry.has_repository(&name)).await? {
            return plainly(endpoint);
        }
    }
    // Many ask without their login first, also before they push. Docker's daemon never does.
    if !may_push && !has_shown {
        return Err(caller.challenge(&endpoint));
    }
    let plain = may_push.then(|| endpoint.clone());
    Ok(ResolvedOperation {
        endpoint: endpoint.with_repository(mirrored),
        fallback: plain,
    })
}

/// Whether all that a token is asked for is pulling what anyone may pull: who asks with a login of
/// another registry, as Docker's daemon asks its mirrors with the Hub's, needs none here.
pub(super) fn is_anonymous_pull(app: &App, anyone: &Caller, query: Option<&str>) -> bool {
    let Some(names) = Endpoint::token_pull_repositories(query) else {
        return false;
    };
    names.iter().all(|name| {
        let full = app.upstreams.expand_hub_name(name.clone());
        let mirrored = app.upstreams.mirror_repository(&full);
        let mirrored = mirrored.map(|mirrored| app.upstreams.expand_hub_name(mirrored));
        let may = |name: &Repository| anyone.is_allowed(Action::Pull, name);
        may(&full) || mirrored.as_ref().is_some_and(may)
    })
}
