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
use crate::registry::{Error, Walk};
use crate::upstream::{self, Freshness};

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
    let (registry, listed_repository) = (app.registry.clone(), repository.clone());
    let (listed, freshness) = match app.upstreams.upstream_for(&repository) {
        Some(upstream) => {
            let local_page = upstream::local_page(&page);
            let list = move |walk: &Walk<'_>| match registry.list_tags(
                &listed_repository,
                &local_page,
                walk,
            ) {
                Err(Error::NameUnknown(_)) => Ok(None),
                listed => listed.map(|page| Some(page.names)),
            };
            let local = app.walks.run(client, list).await?;
            app.upstreams.tags(&upstream, &page, local).await?
        }
        None => {
            let list = move |walk: &Walk<'_>| registry.list_tags(&listed_repository, &page, walk);
            (app.walks.run(client, list).await?, Freshness::Fresh)
        }
    };
    let body = serde_json::to_string(&TagList {
        name: repository.as_str(),
        tags: &listed.names,
    });
    let body = body.map_err(|error| ErrorResponse::internal(&error))?;
    let next = listed
        .next
        .map(|page| Endpoint::Repository(repository, RepositoryOperation::ListTags { page }));
    let mut response = list_response(&body, next);
    responses::warn_if_stale(&mut response, freshness);
    Ok(response)
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
    Ok(list_response(
        &body,
        listed
            .next
            .map(|page| RegistryOperation::Catalog { page }.into()),
    ))
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

fn list_response(body: &str, next: Option<Endpoint>) -> Response<ResponseBody> {
    let mut response = responses::json(StatusCode::OK, format!("{body}\n"));
    if let Some(next) = next {
        let link = format!("<{}>; rel=\"next\"", next.path());
        response.headers_mut().insert(LINK, header_value(link));
    }
    response
}
