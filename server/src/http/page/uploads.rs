//! Shows the uploads in progress.

use hyper::{Response, StatusCode};
use imgsync_oci::endpoint::{Pagination, RegistryOperation};

use super::super::blocking::try_blocking;
use super::super::body::ResponseBody;
use super::{PageError, PageRequest, html};
use crate::page::UploadsView;

/// Shows the uploads in progress: the whole page, or the part that changes.
pub(super) async fn show(request: &PageRequest<'_>) -> Result<Response<ResponseBody>, PageError> {
    let page = Pagination::default();
    request.authorize(&RegistryOperation::Catalog { page }.into())?;
    let registry = request.app.registry.clone();
    let view = try_blocking(move || UploadsView::gather(&registry)).await?;
    let frame = request.frame();
    let shown = match request.query.text("part") {
        "rows" => view.render_rows(&frame),
        _ => view.render(&frame),
    };
    Ok(html(StatusCode::OK, shown))
}
