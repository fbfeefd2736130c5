//! Lists over HTTP (OCI distribution-spec, "Listing Tags"; the catalog is Docker's).

use hyper::header::LINK;
use hyper::{Response, StatusCode};
use imgsync_oci::endpoint::Page;
use imgsync_oci::{Code, Endpoint, Repository};
use serde_json::json;

use super::body::Body;
use super::failure::Failure;
use super::reply::{self, value};
use super::{App, attempt};
use crate::upstream::Freshness;

/// How many repositories a page has where neither client nor operator says.
const DEFAULT_REPOSITORIES: u64 = 1000;

/// `GET /v2/<name>/tags/list`
pub(super) async fn tags(
    app: &App,
    repository: Repository,
    page: Page,
    max: u64,
) -> Result<Response<Body>, Failure> {
    bound(&page, max)?;
    let (listed, freshness) = match app.upstreams.behind(&repository) {
        Some(place) => app.upstreams.tags(&place, &page).await?,
        None => {
            let (registry, of) = (app.registry.clone(), repository.clone());
            let listed = attempt(move || registry.tags(&of, &page)).await?;
            (listed, Freshness::Fresh)
        }
    };
    let body = json!({ "name": repository.as_str(), "tags": listed.names });
    let next = listed
        .next
        .map(|page| Endpoint::ListTags { repository, page });
    let mut response = answer(&body, next);
    reply::warn_if_stale(&mut response, freshness);
    Ok(response)
}

/// `GET /v2/_catalog`
pub(super) async fn catalog(
    app: &App,
    mut page: Page,
    max: u64,
) -> Result<Response<Body>, Failure> {
    bound(&page, max)?;
    if max < DEFAULT_REPOSITORIES {
        page.limit = page.limit.or(usize::try_from(max).ok());
    }
    let registry = app.registry.clone();
    let listed = attempt(move || registry.repositories(&page)).await?;
    let body = json!({ "repositories": listed.names });
    Ok(answer(
        &body,
        listed.next.map(|page| Endpoint::Catalog { page }),
    ))
}

/// Nobody gets more names at once than the operator allows.
fn bound(page: &Page, max: u64) -> Result<(), Failure> {
    match page.limit {
        Some(limit) if limit as u64 > max => Err(Failure::new(
            Code::PaginationNumberInvalid,
            json!({ "n": limit }),
        )),
        Some(_) | None => Ok(()),
    }
}

fn answer(body: &serde_json::Value, next: Option<Endpoint>) -> Response<Body> {
    let mut response = reply::json(StatusCode::OK, format!("{body}\n"));
    if let Some(next) = next {
        let link = format!("<{}>; rel=\"next\"", next.path());
        response.headers_mut().insert(LINK, value(link));
    }
    response
}
