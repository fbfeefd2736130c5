//! Serves the lists of tags (OCI distribution-spec, "Listing Tags") and of repositories (Docker's
//! catalog).

use hyper::header::LINK;
use hyper::{Response, StatusCode};
use imgsync_oci::endpoint::{Pagination, RegistryOperation, RepositoryOperation};
use imgsync_oci::{Endpoint, ErrorCode, Repository};
use serde_json::json;

use super::app::App;
use super::blocking::try_blocking;
use super::body::ResponseBody;
use super::error_response::ErrorResponse;
use super::responses::{self, header_value};
use crate::upstream::Freshness;

/// The size of a catalog page if neither the client nor the configuration sets one.
const DEFAULT_CATALOG_ENTRIES: u64 = 1000;

/// Serves `GET /v2/<name>/tags/list`.
pub(super) async fn tags(
    app: &App,
    repository: Repository,
    page: Pagination,
    max: u64,
) -> Result<Response<ResponseBody>, ErrorResponse> {
    check_page_limit(&page, max)?;
    let (listed, freshness) = match app.upstreams.upstream_for(&repository) {
        Some(upstream) => app.upstreams.tags(&upstream, &page).await?,
        None => {
            let (registry, repository) = (app.registry.clone(), repository.clone());
            let listed = try_blocking(move || registry.list_tags(&repository, &page)).await?;
            (listed, Freshness::Fresh)
        }
    };
    let body = json!({ "name": repository.as_str(), "tags": listed.names });
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
    mut page: Pagination,
    max: u64,
) -> Result<Response<ResponseBody>, ErrorResponse> {
    check_page_limit(&page, max)?;
    if max < DEFAULT_CATALOG_ENTRIES {
        page.limit = page.limit.or(usize::try_from(max).ok());
    }
    let registry = app.registry.clone();
    let listed = try_blocking(move || registry.list_repositories(&page)).await?;
    let body = json!({ "repositories": listed.names });
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

fn list_response(body: &serde_json::Value, next: Option<Endpoint>) -> Response<ResponseBody> {
    let mut response = responses::json(StatusCode::OK, format!("{body}\n"));
    if let Some(next) = next {
        let link = format!("<{}>; rel=\"next\"", next.path());
        response.headers_mut().insert(LINK, header_value(link));
    }
    response
}
