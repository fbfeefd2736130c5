//! Serves the extension that assembles layers from other layers and a delta
//! ([`imgsync_oci::ext::assemble`]).

use hyper::header::LOCATION;
use hyper::{Response, StatusCode};
use imgsync_oci::endpoint::{Action, RepositoryOperation};
use imgsync_oci::ext::assemble::{AssembleRequest, AssemblyState, MAX_ASSEMBLE_REQUEST_BYTES};
use imgsync_oci::{Digest, Endpoint, ErrorCode, Repository};
use serde_json::json;

use super::app::App;
use super::blocking::{run_blocking, try_blocking};
use super::body::ResponseBody;
use super::caller::Caller;
use super::changes;
use super::error_response::ErrorResponse;
use super::request_body::RequestBody;
use super::responses::{self, header_value};
use crate::auth::AccessScope;
use crate::events::{ChangeAction, RegistryChange};
use crate::registry::Error;

/// Serves `POST /v2/<name>/_imgsync/layers/assemble`. It requires the permissions to push and to pull.
pub(super) async fn post(
    app: &App,
    caller: &Caller,
    repository: Repository,
    body: &mut RequestBody,
) -> Result<Response<ResponseBody>, ErrorResponse> {
    check_access(app, caller, &repository)?;
    let (limit, too_long) = (MAX_ASSEMBLE_REQUEST_BYTES, ErrorCode::BodyTooLarge);
    let buffered = app.body_buffers.read(body, limit, too_long).await?;
    let request = AssembleRequest::parse(&buffered.bytes)
        .map_err(|error| ErrorResponse::new(ErrorCode::BodyInvalid, error.to_string()))?;
    // Content of an upstream is not offered as a base.
    if let (Some(_), Some(base)) = (
        app.upstreams.upstream_for(&repository),
        request.bases.first(),
    ) {
        return Err(Error::BlobUnknown(base.clone()).into());
    }
    let operation = RepositoryOperation::GetAssembly {
        diff_id: request.diff_id.clone(),
    };
    let location = Endpoint::within(&repository, operation);
    let (registry, user) = (app.registry.clone(), caller.user().cloned());
    let target = repository.clone();
    let start = move || {
        let user = user.as_ref().map(|user| user.as_str());
        registry.start_assembly(&target, &request, user)
    };
    let state = run_blocking(start).await?.map_err(|error| match error {
        Error::UploadBusy { .. } => ErrorResponse::busy(ErrorCode::Unavailable, error.to_string()),
        error => error.into(),
    })?;
    let mut response = state_response(StatusCode::ACCEPTED, &state);
    // The request ends the push of a layer that the repository holds already.
    note_push(app, &mut response, &repository, &state);
    let headers = response.headers_mut();
    headers.insert(LOCATION, header_value(location.path()));
    Ok(response)
}

/// Serves `GET /v2/<name>/_imgsync/layers/assemble/<diffID>`. It requires the same permissions.
pub(super) async fn get(
    app: &App,
    caller: &Caller,
    repository: Repository,
    diff_id: Digest,
) -> Result<Response<ResponseBody>, ErrorResponse> {
    check_access(app, caller, &repository)?;
    let (registry, target) = (app.registry.clone(), repository.clone());
    let (state, is_first) = try_blocking(move || {
        let state = registry.assembly_state(&target, &diff_id)?;
        Ok::<_, Error>((state, registry.report_assembled(&target, &diff_id)))
    })
    .await?;
    let mut response = state_response(StatusCode::OK, &state);
    // The layer was assembled while no request ran.
    if is_first {
        note_push(app, &mut response, &repository, &state);
    }
    Ok(response)
}

/// Checks that delta uploads are enabled, and that the caller may also pull: the layer consists of what
/// the repository holds.
fn check_access(app: &App, caller: &Caller, repository: &Repository) -> Result<(), ErrorResponse> {
    if !app.config.load().imgsync.delta.is_enabled {
        return Err(ErrorResponse::new(ErrorCode::NotFound, ""));
    }
    if !caller.is_allowed(Action::Pull, repository) {
        return Err(caller.deny(&AccessScope::of(repository, &["pull"])));
    }
    Ok(())
}

fn state_response(status: StatusCode, state: &AssemblyState) -> Response<ResponseBody> {
    responses::json(status, format!("{}\n", json!(state)))
}

/// Notes the push of the layer, if the repository holds it.
fn note_push(
    app: &App,
    response: &mut Response<ResponseBody>,
    repository: &Repository,
    state: &AssemblyState,
) {
    if let AssemblyState::Held { blob } = state {
        changes::note(app, response, || {
            RegistryChange::blob(ChangeAction::Push, repository, &blob.digest, blob.size)
        });
    }
}
