//! Serves the lists of tags (OCI distribution-spec, "Listing Tags") and of repositories (Docker's
//! catalog).

use hyper::header::LINK;
use hyper::{Response, StatusCode};
use imgsync_oci::endpoint::{Pagination, RegistryOperation, RepositoryOperation};
use imgsync_oci::{Endpoint, ErrorCode, Repository};
use serde::Serialize;
use serde_json::json;

use super::app::App;
use super::body::ResponseBody;
use super::client_presence::ClientPresence;
use super::error_response::ErrorResponse;
use super::responses::{self, header_value};
use crate::memory_budget::MemoryLease;
use crate::registry::{Error, Walk};
use crate::upstream;

/// The size of a catalog page if neither the client nor the configuration sets one.
const DEFAULT_CATALOG_ENTRIES: u64 = 1000;

/// The body of a list of tags.
#[derive(Serialize)]
struct TagList<'a> {
    name: &'a str,
    tags: &'a [String],
}

/// The body of a list of repositories.
#[derive(Serialize)]
struct RepositoryList<'a> {
    repositories: &'a [String],
}

/// Serves `GET /v2/<name>/tags/list`.
pub(super) async fn tags(
    app: &App,
    client: &ClientPresence,
    repository: Repository,
    page: Pagination,
    max: u64,
) -> Result<Response<ResponseBody>, ErrorResponse> {
    check_page_limit(&page, max)?;
    let Some(upstream) = app.upstreams.upstream_for(&repository) else {
        return local_tags(app, client, repository, page).await;
    };
    let (registry, listed_repository) = (app.registry.clone(), repository.clone());
    let local_page = upstream::local_page(&page);
    let list =
        move |walk: &Walk<'_>| match registry.list_tags(&listed_repository, &local_page, walk) {
            Err(Error::NameUnknown(_)) => Ok(None),
            listed => listed.map(|page| Some(page.names)),
        };
    let (local, lease) = app
        .walks
        .run_with_memory(client, &app.body_buffers, list)
        .await?;
    let (listed, freshness) = app.upstreams.tags(&upstream, &page, local).await?;
    let body = serde_json::to_string(&TagList {
        name: repository.as_str(),
        tags: &listed.names,
    });
    let body = body.map_err(|error| ErrorResponse::internal(&error))?;
    let next = listed.next.map(|page| tags_endpoint(repository, page));
    let mut response = list_response(app, body, lease, next).await?;
    responses::warn_if_stale(&mut response, freshness);
    Ok(response)
}

/// Serves the tags of a repository without an upstream. They can be many, so that no list of them is
/// made in memory but the body.
async fn local_tags(
    app: &App,
    client: &ClientPresence,
    repository: Repository,
    page: Pagination,
) -> Result<Response<ResponseBody>, ErrorResponse> {
    let (registry, listed) = (app.registry.clone(), repository.clone());
    let list = move |walk: &Walk<'_>| {
        // Neither the name nor a tag has a character that JSON escapes.
        let mut body = format!(r#"{{"name":"{listed}","tags":["#);
        let mut separator = "";
        let mut add = |tag: &str| {
            body.extend([separator, "\"", tag, "\""]);
            separator = ",";
        };
        let next = registry.visit_tags(&listed, &page, walk, &mut add)?;
        body.push_str("]}");
        Ok((body, next))
    };
    let ((body, next), lease) = app
        .walks
        .run_with_memory(client, &app.body_buffers, list)
        .await?;
    let next = next.map(|page| tags_endpoint(repository, page));
    list_response(app, body, lease, next).await
}

fn tags_endpoint(repository: Repository, page: Pagination) -> Endpoint {
    Endpoint::Repository(repository, RepositoryOperation::ListTags { page })
}

/// Serves `GET /v2/_catalog`.
pub(super) async fn catalog(
    app: &App,
    client: &ClientPresence,
    mut page: Pagination,
    max: u64,
) -> Result<Response<ResponseBody>, ErrorResponse> {
    check_page_limit(&page, max)?;
    if max < DEFAULT_CATALOG_ENTRIES {
        page.limit = page.limit.or(usize::try_from(max).ok());
    }
    let registry = app.registry.clone();
    let list = move |walk: &Walk<'_>| registry.list_repositories(&page, walk);
    let listed = app.walks.run(client, list).await?;
    let body = serde_json::to_string(&RepositoryList {
        repositories: &listed.names,
    });
    let body = body.map_err(|error| ErrorResponse::internal(&error))?;
    let next = listed.next;
    let next = next.map(|page| RegistryOperation::Catalog { page }.into());
    list_response(app, body, None, next).await
}

/// Rejects a page size above the configured maximum.
fn check_page_limit(page: &Pagination, max: u64) -> Result<(), ErrorResponse> {
    match page.limit {
        Some(limit) if limit as u64 > max => Err(ErrorResponse::new(
            ErrorCode::PaginationNumberInvalid,
            json!({ "n": limit }),
        )),
        _ => Ok(()),
    }
}

/// Creates the response with a list. `lease` is the memory that the list may take, if that is much.
async fn list_response(
    app: &App,
    mut body: String,
    lease: Option<MemoryLease>,
    next: Option<Endpoint>,
) -> Result<Response<ResponseBody>, ErrorResponse> {
    body.push('\n');
    let body = app.body_buffers.response(body.into_bytes(), lease).await?;
    let mut response = responses::json_body(StatusCode::OK, body);
    if let Some(next) = next {
        let link = format!("<{}>; rel=\"next\"", next.path());
        response.headers_mut().insert(LINK, header_value(link));
    }
    Ok(response)
}
