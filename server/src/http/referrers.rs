//! Lists of referrers over HTTP (OCI distribution-spec, "Listing Referrers").

use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue, LINK};
use hyper::{Response, StatusCode};
use imgsync_oci::endpoint::RepositoryOperation;
use imgsync_oci::referrers::ReferrersIndex;
use imgsync_oci::{Digest, Endpoint, Repository, media};

use super::body::{ResponseBody, full};
use super::error_response::ErrorResponse;
use super::responses::{self, header_value};
use super::{App, try_blocking};
use crate::upstream::Freshness;

const FILTERS_APPLIED_HEADER: HeaderName = HeaderName::from_static("oci-filters-applied");

/// `GET`
pub(super) async fn list(
    app: &App,
    repository: Repository,
    digest: Digest,
    artifact_type: Option<String>,
    last: Option<Digest>,
) -> Result<Response<ResponseBody>, ErrorResponse> {
    let is_first = last.is_none();
    let (registry, of) = (app.registry.clone(), repository.clone());
    let (subject, wanted) = (digest.clone(), artifact_type.clone());
    app.referrers_reconciler
        .reconcile(&app.registry, &repository)
        .await?;
    let listed = try_blocking(move || {
        registry.list_referrers(&of, &subject, wanted.as_deref(), last.as_ref())
    });
    let mut listed = listed.await?;
    let mut freshness = Freshness::Fresh;
    // Those of the upstream stand on the first page, beside ours.
    if is_first && let Some(place) = app.upstreams.upstream_for(&repository) {
        let here = &listed.referrers;
        let asked = app
            .upstreams
            .referrers(&place, &digest, artifact_type.as_deref(), here);
        let (more, how) = asked.await?;
        listed.referrers.extend(more);
        freshness = how;
    }
    let index = serde_json::to_vec(&ReferrersIndex::of(listed.referrers));
    let index = index.map_err(|error| ErrorResponse::internal(&error))?;
    let mut response = responses::with_body(StatusCode::OK, full(index));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media::OCI_INDEX));
    if artifact_type.is_some() {
        headers.insert(
            FILTERS_APPLIED_HEADER,
            HeaderValue::from_static("artifactType"),
        );
    }
    if let Some(last) = listed.more_after {
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
