//! Shows a repository with its tags.

use hyper::{Response, StatusCode};
use imgsync_oci::Endpoint;
use imgsync_oci::endpoint::{Pagination, RepositoryOperation};

use super::super::body::ResponseBody;
use super::super::request_body::RequestBody;
use super::{PageError, PageRequest, html};
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
    };
    let registry = request.app.registry.clone();
    let gather = move |walk: &Walk<'_>| RepositoryView::gather(&registry, &query, walk);
    let view = request.app.walks.run(&body.client(), gather).await?;
    let measured = request.app.server.storage_meter.latest();
    Ok(html(
        StatusCode::OK,
        view.render(&request.frame(), measured.as_deref(), undo),
    ))
}
