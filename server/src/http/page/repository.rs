//! Shows a repository with its tags.

use hyper::Response;
use imgsync_oci::Endpoint;
use imgsync_oci::endpoint::{Pagination, RepositoryOperation};

use super::super::body::ResponseBody;
use super::super::request_body::RequestBody;
use super::{PageError, PageRequest, build};
use crate::page::{RepositoryQuery, RepositoryView};
use crate::registry::Walk;

/// Shows a page of the tags.
pub(super) async fn show(
    request: &PageRequest<'_>,
    body: &RequestBody,
) -> Result<Response<ResponseBody>, PageError> {
    let repository = request.query.repository()?;
    let page = Pagination::default();
    request.authorize(&Endpoint::within(
        &repository,
        RepositoryOperation::ListTags { page },
    ))?;
    let undo = request
        .may_delete(&repository)
        .then_some(request.config.imgsync.gc.undo);
    let query = RepositoryQuery {
        repository,
        page: request.query.page(),
        search: request.query.text("search").trim().to_owned(),
        undo,
    };
    let (registry, frame) = (request.app.registry.clone(), request.frame());
    let measured = request.app.server.storage_meter.latest();
    let page = move |walk: &Walk<'_>| {
        let view = RepositoryView::gather(&registry, &query, walk)?;
        Ok(view.render(&frame, measured.as_deref()))
    };
    build(request, body, page).await
}
