//! Shows an image. This is no pull: it is not recorded, and no upstream is asked.

use hyper::Response;
use imgsync_oci::Endpoint;
use imgsync_oci::endpoint::RepositoryOperation;

use super::super::body::ResponseBody;
use super::super::request_body::RequestBody;
use super::{PageError, PageRequest, build};
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
    let (registry, frame) = (request.app.registry.clone(), request.frame());
    let page = move |walk: &Walk<'_>| {
        let view = ImageView::gather(&registry, &repository, &reference, walk)?;
        Ok(view.render(&frame, undo))
    };
    build(request, body, page).await
}
