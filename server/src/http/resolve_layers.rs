//! Which layers are held, over HTTP (`imgsync_oci::ext::resolve`).

use hyper::header::HeaderMap;
use hyper::{Response, StatusCode};
use imgsync_oci::endpoint::Action;
use imgsync_oci::ext::resolve::{MAX_RESOLVE_REQUEST_BYTES, ResolveRequest};
use imgsync_oci::{ErrorCode, Repository};
use serde_json::json;

use super::body::ResponseBody;
use super::caller::Caller;
use super::error_response::ErrorResponse;
use super::request_body::RequestBody;
use super::{App, receive, responses, try_blocking};
use crate::auth::AccessScope;

/// `POST /v2/<name>/_imgsync/layers/resolve`, for a caller who may pull; with `mount`, who may push
/// as well. A read-only registry links nothing, and says where the layers are.
pub(super) async fn post(
    app: &App,
    caller: &Caller,
    repository: Repository,
    headers: &HeaderMap,
    body: RequestBody,
) -> Result<Response<ResponseBody>, ErrorResponse> {
    let (limit, too_long) = (MAX_RESOLVE_REQUEST_BYTES, ErrorCode::BodyTooLarge);
    let bytes = receive::read_whole(body, headers, limit, too_long, app.read_timeouts).await?;
    let request = ResolveRequest::parse(&bytes)
        .map_err(|error| ErrorResponse::new(ErrorCode::BodyInvalid, error.to_string()))?;
    if request.mount && !caller.is_allowed(Action::Push, &repository) {
        return Err(caller.deny(&AccessScope::push(&repository)));
    }
    let is_mounting = request.mount && !app.config.load().storage.is_read_only;
    let (registry, caller) = (app.registry.clone(), caller.clone());
    let answer = try_blocking(move || {
        let may_pull = |other: &Repository| caller.is_allowed(Action::Pull, other);
        registry.resolve_layers(&repository, &request, &may_pull, is_mounting)
    })
    .await?;
    Ok(responses::json(
        StatusCode::OK,
        format!("{}\n", json!(answer)),
    ))
}
