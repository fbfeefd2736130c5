//! Deletes tags and repositories, and restores them.

use std::collections::BTreeSet;

use hyper::Response;
use imgsync_oci::endpoint::RepositoryOperation;
use imgsync_oci::ext::trash::RestoreResponse;
use imgsync_oci::{Endpoint, Reference, Repository, Tag};

use super::super::body::ResponseBody;
use super::super::request_body::RequestBody;
use super::super::{changes, dispatch, trash};
use super::login::read_form;
use super::{PageError, PageRequest, redirect};
use crate::page::{ChangeKind, changed_link};

/// What a form names: a tag, or without one the repository.
struct ChangeTarget {
    repository: Repository,
    tag: Option<Tag>,
}

/// Reads a form that the page has shown to this login.
async fn read_target(
    request: &PageRequest<'_>,
    body: &mut RequestBody,
) -> Result<ChangeTarget, PageError> {
    let form = read_form(request, body).await?;
    request.check_form(&form)?;
    Ok(ChangeTarget {
        repository: form.repository()?,
        tag: form.tag("tag")?,
    })
}

/// Deletes the tag of a form, or without one the repository.
pub(super) async fn delete(
    request: &PageRequest<'_>,
    body: &mut RequestBody,
) -> Result<Response<ResponseBody>, PageError> {
    let target = read_target(request, body).await?;
    let operation = match target.tag.clone().map(Reference::Tag) {
        Some(reference) => RepositoryOperation::DeleteManifest { reference },
        None => RepositoryOperation::DeleteRepository,
    };
    let endpoint = Endpoint::within(&target.repository, operation);
    request.authorize(&endpoint)?;
    let PageRequest { app, parts, .. } = request;
    let (caller, headers) = (&request.visitor.caller, &parts.headers);
    let mut deleted = dispatch(app, request.config, caller, endpoint, headers, body).await?;
    changes::record(app, caller, request.forwarded, parts, &mut deleted).await;
    Ok(show_change(request, ChangeKind::Deleted, &target))
}

/// Restores the tag of a form, or without one the repository.
pub(super) async fn restore(
    request: &PageRequest<'_>,
    body: &mut RequestBody,
) -> Result<Response<ResponseBody>, PageError> {
    let target = read_target(request, body).await?;
    let restore = Endpoint::within(&target.repository, RepositoryOperation::Restore);
    request.authorize(&restore)?;
    let reference = target.tag.clone().map(Reference::Tag);
    let PageRequest { app, parts, .. } = request;
    let restored = trash::restore_content(app, &target.repository, reference).await?;
    let mut response = show_change(request, restored_kind(&restored.response), &target);
    restored.note_pushes(app, &mut response);
    let caller = &request.visitor.caller;
    changes::record(app, caller, request.forwarded, parts, &mut response).await;
    Ok(response)
}

/// Returns what a restoration has done. Tags that point at other images now are left alone.
fn restored_kind(response: &RestoreResponse) -> ChangeKind {
    // A tag that was deleted more than once is restored from the last deletion.
    let restored: BTreeSet<&String> = response.tags.iter().collect();
    let occupied: BTreeSet<&String> = response.occupied.iter().collect();
    let kept_tags = occupied.difference(&restored).count();
    if kept_tags > 0 && response.tag_count + response.manifest_count == 0 {
        return ChangeKind::Kept;
    }
    ChangeKind::Restored { kept_tags }
}

/// Sends the browser to the page that shows what was changed.
fn show_change(
    request: &PageRequest<'_>,
    kind: ChangeKind,
    target: &ChangeTarget,
) -> Response<ResponseBody> {
    let (repository, tag) = (&target.repository, target.tag.as_ref());
    let token = request.change_token(kind, repository, tag);
    redirect(&changed_link(kind, repository, tag, &token))
}
