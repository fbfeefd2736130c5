//! Shows the list of repositories.

use hyper::Response;

use super::super::body::ResponseBody;
use super::super::request_body::RequestBody;
use super::{PageError, PageRequest, build};
use crate::page::{RepositoriesQuery, RepositoriesView};
use crate::registry::Walk;

/// Shows a page of the list.
pub(super) async fn show(
    request: &PageRequest<'_>,
    body: &RequestBody,
) -> Result<Response<ResponseBody>, PageError> {
    request.authorize_list()?;
    let query = RepositoriesQuery {
        after: request.query.text("after").to_owned(),
        search: request.query.text("search").trim().to_lowercase(),
    };
    let (registry, frame) = (request.app.registry.clone(), request.frame());
    let measured = request.app.server.storage_meter.latest();
    let page = move |walk: &Walk<'_>| {
        let view = RepositoriesView::gather(&registry, &query, walk)?;
        Ok(view.render(&frame, measured.as_deref()))
    };
    build(request, body, page).await
}
