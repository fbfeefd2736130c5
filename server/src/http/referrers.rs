//! Serves lists of referrers (OCI distribution-spec, "Listing Referrers").

use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue, LINK};
use hyper::{Response, StatusCode};
use imgsync_oci::endpoint::RepositoryOperation;
use imgsync_oci::referrers::ReferrersIndex;
use imgsync_oci::{Digest, Endpoint, Repository, media};

use super::app::App;
use super::body::ResponseBody;
use super::client_presence::ClientPresence;
use super::error_response::ErrorResponse;
use super::responses::{self, header_value};
use crate::registry::Walk;
use crate::upstream::Freshness;

/// The response header that names the filters in use.
const FILTERS_APPLIED_HEADER: HeaderName = HeaderName::from_static("oci-filters-applied");

/// Which referrers are listed.
pub(super) struct ReferrersFilter {
    /// Only those of this type.
    pub(super) artifact_type: Option<String>,
    /// Only those after this digest: the last one of the page before.
    pub(super) last: Option<Digest>,
}

/// Serves `GET`: one page of the referrers of a manifest. The first page includes those of the
/// upstream.
pub(super) async fn list(
    app: &App,
    client: &ClientPresence,
    repository: Repository,
    digest: Digest,
    filter: ReferrersFilter,
) -> Result<Response<ResponseBody>, ErrorResponse> {
    let ReferrersFilter {
        artifact_type,
        last,
    } = filter;
    let is_first_page = last.is_none();
    let (registry, listed_repository) = (app.registry.clone(), repository.clone());
    let (subject, filter) = (digest.clone(), artifact_type.clone());
    app.index_updater
        .update(&app.registry, &app.walks, client, &repository)
        .await?;
    let list = move |walk: &Walk<'_>| {
        let (filter, last) = (filter.as_deref(), last.as_ref());
        registry.list_referrers(&listed_repository, &subject, filter, last, walk)
    };
    let buffers = &app.body_buffers;
    let (mut page, lease) = app.walks.run_with_memory(client, buffers, list).await?;
    let mut freshness = Freshness::Fresh;
    if is_first_page && let Some(upstream) = app.upstreams.upstream_for(&repository) {
        let local = &page.referrers;
        let fetching = app
            .upstreams
            .referrers(&upstream, &digest, artifact_type.as_deref(), local);
        let (fetched, upstream_freshness) = fetching.await?;
        page.referrers.extend(fetched);
        freshness = upstream_freshness;
    }
    let index = serde_json::to_vec(&ReferrersIndex::of(page.referrers));
    let index = index.map_err(|error| ErrorResponse::internal(&error))?;
    let body = buffers.response(index, lease).await?;
    let mut response = responses::with_body(StatusCode::OK, body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media::OCI_INDEX));
    if artifact_type.is_some() {
        headers.insert(
            FILTERS_APPLIED_HEADER,
            HeaderValue::from_static("artifactType"),
        );
    }
    if let Some(last) = page.more_after {
        let operation = RepositoryOperation::ListReferrers {
            digest,
            artifact_type,
            last: Some(last),
        };
        let next = Endpoint::Repository(repository, operation);
        headers.insert(
            LINK,
            header_value(format_args!("<{}>; rel=\"next\"", next.path())),
        );
    }
    responses::warn_if_stale(&mut response, freshness);
    Ok(response)
}
