//! Shows how the disk is used.

use hyper::{Response, StatusCode};
use imgsync_oci::endpoint::{Pagination, RegistryOperation};

use super::super::blocking::try_blocking;
use super::super::body::ResponseBody;
use super::{PageError, PageRequest, html};
use crate::page::{CollectionPlan, StorageView};

/// Shows how the disk is used.
pub(super) async fn show(request: &PageRequest<'_>) -> Result<Response<ResponseBody>, PageError> {
    let page = Pagination::default();
    request.authorize(&RegistryOperation::Catalog { page }.into())?;
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
    let view = try_blocking(move || StorageView::gather(&registry, now, plan, upstreams)).await?;
    let measured = server.storage_meter.latest();
    Ok(html(
        StatusCode::OK,
        view.render(&frame, measured.as_deref()),
    ))
}
