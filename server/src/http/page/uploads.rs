//! Shows the uploads in progress.

use hyper::Response;

use super::super::body::ResponseBody;
use super::super::request_body::RequestBody;
use super::{PageError, PageRequest, build};
use crate::page::UploadsView;
use crate::registry::Walk;

/// Shows the uploads in progress: the whole page, or the part that changes.
pub(super) async fn show(
    request: &PageRequest<'_>,
    body: &RequestBody,
) -> Result<Response<ResponseBody>, PageError> {
    request.authorize_list()?;
    let (registry, frame) = (request.app.registry.clone(), request.frame());
    let is_part = request.is_for_part();
    let page = move |_: &Walk<'_>| {
        let view = UploadsView::gather(&registry)?;
        Ok(if is_part {
            view.render_rows(&frame)
        } else {
            view.render(&frame)
        })
    };
    build(request, body, page).await
}
