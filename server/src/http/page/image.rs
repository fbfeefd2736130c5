//! Shows an image. This is no pull: it is not recorded, and no upstream is asked.

use hyper::{Response, StatusCode};
use imgsync_oci::Endpoint;
use imgsync_oci::endpoint::RepositoryOperation;

use super::super::body::ResponseBody;
use super::super::request_body::RequestBody;
use super::{PageError, PageRequest, headers};
use crate::page::ImageView;
use crate::registry::Walk;

/// Shows an image.
pub(super) async fn show(
    request: &PageRequest<'_>,
    body: &RequestBody,
) -> Result<Response<ResponseBody>, PageError> {
    let (repository, reference) = (request.query.repository()?, request.query.reference()?);
    let get = RepositoryOperation::GetManifest {
        reference: reference.clone(),
    };
    request.authorize(&Endpoint::within(&repository, get))?;
    let undo = request
        .may_delete(&repository)
        .then_some(request.config.imgsync.gc.undo);
    let registry = request.app.registry.clone();
    let gather = move |walk: &Walk<'_>| ImageView::gather(&registry, &repository, &reference, walk);
    let view = request.app.walks.run(&body.client(), gather).await?;
    let page = view.render(&request.frame(), undo).into_bytes();
    // Labels and annotations can be long.
    let page = request.app.body_buffers.response(page, None).await?;
    let mut response = super::responses::with_body(StatusCode::OK, page);
    headers::set_html(&mut response);
    Ok(response)
}
