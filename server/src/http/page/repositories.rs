//! Shows the list of repositories.

use hyper::{Response, StatusCode};
use imgsync_oci::endpoint::{Pagination, RegistryOperation};

use super::super::body::ResponseBody;
use super::super::request_body::RequestBody;
use super::{PageError, PageRequest, html};
use crate::page::{RepositoriesQuery, RepositoriesView};

/// Shows a page of the list.
pub(super) async fn show(
    request: &PageRequest<'_>,
    body: &RequestBody,
) -> Result<Response<ResponseBody>, PageError> {
    let page = Pagination::default();
    request.authorize(&RegistryOperation::Catalog { page }.into())?;
    let query = RepositoriesQuery {
        after: request.query.text("after").to_owned(),
        search: request.query.text("search").trim().to_lowercase(),
    };
    let registry = request.app.registry.clone();
    let gather =
        move |walk: &crate::registry::Walk<'_>| RepositoriesView::gather(&registry, &query, walk);
    let view = request.app.walks.run(&body.client(), gather).await?;
    let measured = request.app.server.storage_meter.latest();
    Ok(html(
        StatusCode::OK,
        view.render(&request.frame(), measured.as_deref()),
    ))
}
