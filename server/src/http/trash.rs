//! Serves the extensions that delete repositories and restore what was deleted
//! ([`imgsync_oci::ext::trash`]).

use hyper::{Response, StatusCode};
use imgsync_oci::ext::trash::{
    DeleteRepositoryResponse, MAX_RESTORED_NAMES, MAX_TRASH_REQUEST_BYTES, RestoreRequest,
    RestoreResponse,
};
use imgsync_oci::units::format_duration;
use imgsync_oci::{ErrorCode, Reference, Repository};
use serde_json::json;

use super::app::App;
use super::blocking::try_blocking;
use super::body::ResponseBody;
use super::changes;
use super::client_presence::ClientPresence;
use super::error_response::ErrorResponse;
use super::request_body::RequestBody;
use super::responses;
use super::restored_pushes::restored_pushes;
use crate::events::{OrderGuard, RegistryChange};
use crate::registry::{
    ContentTarget, DeletedRepository, Registry, RestoreReport, TrashEntry, Walk,
};

/// Serves `POST /v2/<name>/_imgsync/repository/delete`: deletes all tags and manifests.
pub(super) async fn delete_repository(
    app: &App,
    client: &ClientPresence,
    repository: Repository,
) -> Result<Response<ResponseBody>, ErrorResponse> {
    let (registry, target) = (app.registry.clone(), repository.clone());
    let order = app.events.order(&repository).await;
    let delete = move |walk: &Walk<'_>| registry.delete_repository(&target, walk);
    let DeletedRepository { tags, manifests } = app.walks.run(client, delete).await?;
    let body = json!(DeleteRepositoryResponse {
        tag_count: tags,
        manifest_count: manifests,
    });
    let mut response = responses::json(StatusCode::OK, format!("{body}\n"));
    changes::note_all(app, &mut response, order, || {
        vec![RegistryChange::deleted_repository(&repository)]
    });
    Ok(response)
}

/// Serves `POST /v2/<name>/_imgsync/trash/restore`: restores a tag, a manifest, or all of a
/// repository.
pub(super) async fn restore(
    app: &App,
    repository: Repository,
    body: &mut RequestBody,
) -> Result<Response<ResponseBody>, ErrorResponse> {
    let (limit, too_long) = (MAX_TRASH_REQUEST_BYTES, ErrorCode::BodyTooLarge);
    let buffered = app.body_buffers.read(body, limit, too_long).await?;
    let reference = RestoreRequest::parse(&buffered.bytes)
        .map_err(|error| ErrorResponse::new(ErrorCode::BodyInvalid, error.to_string()))?;
    let restored = restore_content(app, &repository, reference).await?;
    let body = json!(restored.response);
    let mut response = responses::json(StatusCode::OK, format!("{body}\n"));
    restored.note_pushes(app, &mut response);
    Ok(response)
}

/// The result of a restoration.
pub(super) struct RestoredContent {
    /// The answer to the client.
    pub(super) response: RestoreResponse,
    pushes: Vec<RegistryChange>,
    order: Option<OrderGuard>,
}

impl RestoredContent {
    /// Notes in a response what the receivers of events are told.
    pub(super) fn note_pushes(self, app: &App, response: &mut Response<ResponseBody>) {
        changes::note_all(app, response, self.order, || self.pushes);
    }
}

/// Restores a tag, a manifest, or all of a repository.
///
/// # Errors
/// [`ErrorCode::NotInTrash`] if nothing is restored, and it does not exist either.
pub(super) async fn restore_content(
    app: &App,
    repository: &Repository,
    reference: Option<Reference>,
) -> Result<RestoredContent, ErrorResponse> {
    let target = match &reference {
        None => ContentTarget::Repository(repository.clone()),
        Some(Reference::Tag(tag)) => ContentTarget::Tag(repository.clone(), tag.clone()),
        Some(Reference::Digest(digest)) => {
            ContentTarget::Manifest(repository.clone(), digest.clone())
        }
    };
    let (registry, events) = (app.registry.clone(), app.events.clone());
    let order = events.order(repository).await;
    let (report, pushes, is_present) = try_blocking({
        let (repository, reference) = (repository.clone(), reference.clone());
        move || {
            let report = registry.restore(&target)?;
            let pushes = restored_pushes(&events, &registry, &report);
            let is_present = is_present(&registry, &repository, reference.as_ref())?;
            Ok::<_, crate::registry::Error>((report, pushes, is_present))
        }
    })
    .await?;
    let response = summarize(&report);
    let is_empty =
        response.tag_count + response.manifest_count == 0 && response.occupied.is_empty();
    if is_empty && !is_present {
        let name = match &reference {
            None => repository.to_string(),
            Some(Reference::Tag(tag)) => format!("{repository}:{tag}"),
            Some(Reference::Digest(digest)) => format!("{repository}@{digest}"),
        };
        let undo = format_duration(app.config.load().imgsync.gc.undo);
        // A digest of which nothing is known counts as gone, too.
        let is_unknown = match &reference {
            Some(Reference::Digest(digest)) => report.gone.iter().all(|gone| gone == digest),
            _ => report.gone.is_empty(),
        };
        let detail = if is_unknown {
            format!(
                "{name} is not in the trash: it was never deleted, or is gone; what is deleted can \
                 be restored for {undo}"
            )
        } else {
            format!("{name} is gone: the trash has lost a part of it")
        };
        return Err(ErrorResponse::new(ErrorCode::NotInTrash, detail));
    }
    Ok(RestoredContent {
        response,
        pushes,
        order,
    })
}

/// Returns whether the content exists, so that there is nothing to restore.
fn is_present(
    registry: &Registry,
    repository: &Repository,
    reference: Option<&Reference>,
) -> Result<bool, crate::registry::Error> {
    match reference {
        None => registry.has_repository(repository),
        Some(reference) => match registry.manifest_size(repository, reference) {
            Ok(_) => Ok(true),
            Err(crate::registry::Error::ManifestUnknown(_)) => Ok(false),
            Err(error) => Err(error),
        },
    }
}

fn summarize(report: &RestoreReport) -> RestoreResponse {
    let mut response = RestoreResponse::default();
    for entry in &report.restored {
        match entry {
            TrashEntry::Tag { tag, .. } => {
                response.tag_count += 1;
                if response.tags.len() < MAX_RESTORED_NAMES {
                    response.tags.push(tag.to_string());
                }
            }
            TrashEntry::Revision { .. } => response.manifest_count += 1,
            TrashEntry::Layer { .. } | TrashEntry::Blob { .. } => {}
        }
    }
    let occupied = report.occupied.iter().map(|(_, tag)| tag.to_string());
    response.occupied = occupied.take(MAX_RESTORED_NAMES).collect();
    response.gone = report
        .gone
        .iter()
        .take(MAX_RESTORED_NAMES)
        .cloned()
        .collect();
    response
}
