//! Shows how the disk is used.

use hyper::Response;

use super::super::body::ResponseBody;
use super::super::request_body::RequestBody;
use super::{PageError, PageRequest, build};
use crate::page::{CollectionPlan, StorageView};
use crate::registry::Walk;

/// Shows how the disk is used.
pub(super) async fn show(
    request: &PageRequest<'_>,
    body: &RequestBody,
) -> Result<Response<ResponseBody>, PageError> {
    request.authorize_list()?;
    let (config, server) = (request.config, &request.app.server);
    let plan = CollectionPlan {
        is_enabled: config.imgsync.gc.is_enabled && !config.storage.is_read_only,
        next: server.collection_schedule.next(),
        removes_untagged: config
            .imgsync
            .retention
            .iter()
            .any(|rule| rule.untagged.is_some()),
        undo: config.imgsync.gc.undo,
    };
    let (registry, frame) = (request.app.registry.clone(), request.frame());
    let (now, upstreams) = (frame.now, server.upstreams.last_outcomes());
    let measured = server.storage_meter.latest();
    let page = move |_: &Walk<'_>| {
        let view = StorageView::gather(&registry, now, plan, upstreams.clone())?;
        Ok(view.render(&frame, measured.as_deref()))
    };
    build(request, body, page).await
}
