//! Which layers are held, over HTTP (`imgsync_oci::ext::resolve`).

use hyper::header::HeaderMap;
use hyper::{Response, StatusCode};
use imgsync_oci::endpoint::Action;
use imgsync_oci::ext::resolve::{MOST_REQUEST_BYTES, Request};
use imgsync_oci::{Code, Repository};
use serde_json::json;

use super::body::Body;
use super::caller::Caller;
use super::failure::Failure;
use super::received::Received;
use super::{App, attempt, receive, reply};
use crate::auth::Wanted;

/// `POST /v2/<name>/_imgsync/layers/resolve`, for a caller who may pull; with `mount`, who may push
/// as well. A read-only registry links nothing, and says where the layers are.
pub(super) async fn layers(
    app: &App,
    caller: &Caller,
    repository: Repository,
    headers: &HeaderMap,
    body: Received,
) -> Result<Response<Body>, Failure> {
    let (limit, too_long) = (MOST_REQUEST_BYTES, Code::BodyTooLarge);
    let bytes = receive::whole(body, headers, limit, too_long, app.patience).await?;
    let request = Request::parse(&bytes)
        .map_err(|error| Failure::new(Code::BodyInvalid, error.to_string()))?;
    if request.mount && !caller.may(Action::Push, &repository) {
        return Err(caller.refuse(&Wanted::push(&repository)));
    }
    let is_mounting = request.mount && !app.config.load().storage.is_read_only;
    let (registry, caller) = (app.registry.clone(), caller.clone());
    let answer = attempt(move || {
        let may_pull = |other: &Repository| caller.may(Action::Pull, other);
        registry.resolve(&repository, &request, &may_pull, is_mounting)
    })
    .await?;
    Ok(reply::json(StatusCode::OK, format!("{}\n", json!(answer))))
}
