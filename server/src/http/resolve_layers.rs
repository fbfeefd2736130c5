//! Serves the extension that resolves layers by diffID ([`imgsync_oci::ext::resolve`]).

use hyper::{Response, StatusCode};
use imgsync_oci::endpoint::Action;
use imgsync_oci::ext::resolve::{MAX_RESOLVE_REQUEST_BYTES, ResolveRequest};
use imgsync_oci::{ErrorCode, Repository};
use serde_json::json;

use super::app::App;
use super::blocking::try_blocking;
use super::body::ResponseBody;
use super::caller::Caller;
use super::error_response::ErrorResponse;
use super::request_body::RequestBody;
use super::responses;
use crate::auth::AccessScope;

/// Serves `POST /v2/<name>/_imgsync/layers/resolve`. It requires the permission to pull, and with
/// `mount` also the permission to push. A read-only registry reports the layers and mounts none.
pub(super) async fn post(
    app: &App,
    caller: &Caller,
    repository: Repository,
    body: &mut RequestBody,
) -> Result<Response<ResponseBody>, ErrorResponse> {
    let (limit, too_long) = (MAX_RESOLVE_REQUEST_BYTES, ErrorCode::BodyTooLarge);
    let buffered = app.body_buffers.read(body, limit, too_long).await?;
    let request = ResolveRequest::parse(&buffered.bytes)
        .map_err(|error| ErrorResponse::new(ErrorCode::BodyInvalid, error.to_string()))?;
    if request.mount && !caller.is_allowed(Action::Push, &repository) {
        return Err(caller.deny(&AccessScope::push(&repository)));
    }
    let is_mounting = request.mount && !app.config.load().storage.is_read_only;
    let (registry, caller) = (app.registry.clone(), caller.clone());
    let result = try_blocking(move || {
        let may_pull = |source: &Repository| caller.is_allowed(Action::Pull, source);
        registry.resolve_layers(&repository, &request, &may_pull, is_mounting)
    })
    .await?;
    Ok(responses::json(
        StatusCode::OK,
        format!("{}\n", json!(result)),
    ))
}
