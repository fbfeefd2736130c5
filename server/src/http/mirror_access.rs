//! Opens the content of the stock registry's `proxy` to clients without a login.
//!
//! The repositories of the proxy have the same names as pushed ones, so a pattern that names them
//! opens only what came from the upstream, or will come from there: never what was pushed.

use imgsync_oci::endpoint::{Action, RepositoryOperation};
use imgsync_oci::{Endpoint, Reference, Repository};

use super::app::App;
use super::blocking::try_blocking;
use super::caller::Caller;
use super::error_response::ErrorResponse;
use crate::registry::{Error, ManifestState, TagState};

/// Returns whether a caller without a permission for a repository may pull this part of it, because
/// it belongs to the upstream of the proxy.
///
/// # Errors
/// The registry cannot be read.
pub(super) async fn is_open(
    app: &App,
    caller: &Caller,
    endpoint: &Endpoint,
) -> Result<bool, ErrorResponse> {
    let Endpoint::Repository(repository, operation) = endpoint else {
        return Ok(false);
    };
    if !is_proxied_pull_allowed(app, caller, repository) {
        return Ok(false);
    }
    let (registry, repository) = (app.registry.clone(), repository.clone());
    match operation.clone() {
        RepositoryOperation::GetManifest { reference }
        | RepositoryOperation::HeadManifest { reference } => {
            try_blocking(move || match reference {
                Reference::Tag(tag) => {
                    let state = registry.tag_state(&repository, &tag)?;
                    Ok::<_, Error>(state != TagState::Pushed)
                }
                Reference::Digest(digest) => {
                    let state = registry.manifest_state(&repository, &digest)?;
                    Ok(state != ManifestState::Pushed)
                }
            })
            .await
        }
        RepositoryOperation::GetBlob { digest } | RepositoryOperation::HeadBlob { digest } => {
            try_blocking(move || Ok::<_, Error>(!registry.is_pushed_blob(&repository, &digest)?))
                .await
        }
        _ => Ok(false),
    }
}

/// Returns whether the caller may pull from a repository of the proxy under one of its names.
pub(super) fn is_proxied_pull_allowed(app: &App, caller: &Caller, repository: &Repository) -> bool {
    let names = app.upstreams.proxied_names(repository);
    let mut names = names.iter();
    names.any(|name| caller.is_allowed(Action::Pull, name))
}
