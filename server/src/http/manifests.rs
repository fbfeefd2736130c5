//! Manifests over HTTP (OCI distribution-spec, "Pulling manifests", "Pushing Manifests").

use hyper::header::{CONTENT_TYPE, ETAG, HeaderMap, HeaderName, IF_NONE_MATCH};
use hyper::{Response, StatusCode};
use imgsync_oci::endpoint::RepositoryOperation;
use imgsync_oci::{Digest, Endpoint, ErrorCode, MAX_MANIFEST_BYTES, Reference, Repository, Tag};

use super::blobs::etag;
use super::body::{ResponseBody, full};
use super::error_response::ErrorResponse;
use super::request_body::RequestBody;
use super::responses::{self, header_value};
use super::{App, receive, run_blocking, try_blocking};
use crate::registry::Error;
use crate::upstream::{self, Freshness};

/// One for each tag that came in the query.
const TAG_HEADER: HeaderName = HeaderName::from_static("oci-tag");
/// Says that a manifest's subject was understood.
const SUBJECT_HEADER: HeaderName = HeaderName::from_static("oci-subject");

/// `GET` and `HEAD`: what is stored is served, whatever the client says that it accepts.
pub(super) async fn get(
    app: &App,
    repository: Repository,
    reference: Reference,
    headers: &HeaderMap,
) -> Result<Response<ResponseBody>, ErrorResponse> {
    let (manifest, freshness) = match app.upstreams.upstream_for(&repository) {
        Some(place) => {
            let freshness = app.upstreams.ensure_manifest(&place, &reference).await?;
            match app.upstreams.read_manifest(&place, &reference).await {
                // Evicted in between: it comes again, and counts as used then.
                Err(upstream::Error::Registry(Error::ManifestUnknown(_))) => {
                    let freshness = app.upstreams.ensure_manifest(&place, &reference).await?;
                    (
                        app.upstreams.read_manifest(&place, &reference).await?,
                        freshness,
                    )
                }
                read => (read?, freshness),
            }
        }
        None => {
            let registry = app.registry.clone();
            let manifest =
                try_blocking(move || registry.get_manifest(&repository, &reference)).await?;
            (manifest, Freshness::Fresh)
        }
    };
    let mut response = if is_cached_by_client(headers, &manifest.digest) {
        responses::empty(StatusCode::NOT_MODIFIED)
    } else {
        let mut response = responses::with_body(StatusCode::OK, full(manifest.bytes));
        response
            .headers_mut()
            .insert(CONTENT_TYPE, header_value(manifest.media_type));
        response
    };
    let headers = response.headers_mut();
    headers.insert(
        responses::CONTENT_DIGEST_HEADER,
        header_value(&manifest.digest),
    );
    headers.insert(ETAG, etag(&manifest.digest));
    responses::warn_if_stale(&mut response, freshness);
    Ok(response)
}

/// Whether the client has it already; some clients leave out the quotes.
fn is_cached_by_client(headers: &HeaderMap, digest: &Digest) -> bool {
    let digest = digest.to_string();
    let known = headers
        .get_all(IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok());
    known.flat_map(|value| value.split(',')).any(|tag| {
        let tag = tag.trim();
        let tag = tag.strip_prefix("W/").unwrap_or(tag);
        tag == "*" || tag.trim_matches('"') == digest
    })
}

/// `PUT`.
pub(super) async fn put(
    app: &App,
    repository: Repository,
    reference: Reference,
    tags: Vec<Tag>,
    headers: &HeaderMap,
    body: RequestBody,
) -> Result<Response<ResponseBody>, ErrorResponse> {
    let (limit, too_long) = (MAX_MANIFEST_BYTES, ErrorCode::ManifestTooLarge);
    let bytes = receive::read_whole(body, headers, limit, too_long, app.read_timeouts).await?;
    let declared = media_type(headers)?;
    let registry = app.registry.clone();
    let (into, at, named) = (repository.clone(), reference.clone(), tags.clone());
    let put = move || registry.put_manifest(&into, &at, &named, declared.as_deref(), &bytes);
    let taken = match (
        run_blocking(put.clone()).await?,
        app.upstreams.upstream_for(&repository),
    ) {
        // Its sender was told that they are there, and they are: at the upstream.
        (Err(Error::ChildrenUnknown(missing)), Some(place)) => {
            app.upstreams.fetch_missing_blobs(&place, &missing).await;
            try_blocking(put).await?
        }
        (taken, _) => taken?,
    };
    let at = Endpoint::Repository(repository, RepositoryOperation::GetManifest { reference });
    let mut response = responses::created(&at, &taken.digest);
    let headers = response.headers_mut();
    for tag in tags {
        headers.append(TAG_HEADER, header_value(tag));
    }
    if let Some(subject) = taken.subject {
        headers.insert(SUBJECT_HEADER, header_value(subject));
    }
    Ok(response)
}

/// `DELETE`: a tag alone, or a manifest with all its tags.
pub(super) async fn delete(
    app: &App,
    repository: Repository,
    reference: Reference,
) -> Result<Response<ResponseBody>, ErrorResponse> {
    let registry = app.registry.clone();
    try_blocking(move || registry.delete_manifest(&repository, &reference)).await?;
    Ok(responses::empty(StatusCode::ACCEPTED))
}

/// The media type that the sender declares, without its parameters.
fn media_type(headers: &HeaderMap) -> Result<Option<String>, ErrorResponse> {
    let Some(header) = headers.get(CONTENT_TYPE) else {
        return Ok(None);
    };
    let text = header.to_str().map_err(|_| {
        ErrorResponse::new(ErrorCode::ManifestInvalid, "the Content-Type is no text")
    })?;
    let media_type = text.split(';').next().unwrap_or_default().trim();
    Ok((!media_type.is_empty()).then(|| media_type.to_owned()))
}
