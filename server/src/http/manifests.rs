//! Serves manifests (OCI distribution-spec, "Pulling manifests", "Pushing Manifests").

use hyper::header::{CONTENT_TYPE, ETAG, HeaderMap, HeaderName, IF_NONE_MATCH};
use hyper::{Response, StatusCode};
use imgsync_oci::endpoint::RepositoryOperation;
use imgsync_oci::{Digest, Endpoint, ErrorCode, MAX_MANIFEST_BYTES, Reference, Repository, Tag};

use super::app::App;
use super::blobs::etag;
use super::blocking::{run_blocking, try_blocking};
use super::body::{ResponseBody, full};
use super::client_presence::ClientPresence;
use super::error_response::ErrorResponse;
use super::receive;
use super::request_body::RequestBody;
use super::responses::{self, header_value};
use crate::registry::{Error, Walk};
use crate::upstream::{self, Freshness};

/// A response header for each tag in the query of a push.
const TAG_HEADER: HeaderName = HeaderName::from_static("oci-tag");
/// The response header that confirms the subject of a manifest.
const SUBJECT_HEADER: HeaderName = HeaderName::from_static("oci-subject");

/// Serves `GET` and `HEAD`: the manifest as it is stored, whatever media types the client accepts.
pub(super) async fn get(
    app: &App,
    repository: Repository,
    reference: Reference,
    headers: &HeaderMap,
) -> Result<Response<ResponseBody>, ErrorResponse> {
    let (manifest, freshness) = match app.upstreams.upstream_for(&repository) {
        Some(upstream) => {
            let freshness = app.upstreams.ensure_manifest(&upstream, &reference).await?;
            match app.upstreams.read_manifest(&upstream, &reference).await {
                // The manifest was evicted before the read: fetch it again, which marks it as used.
                Err(upstream::Error::Registry(Error::ManifestUnknown(_))) => {
                    let freshness = app.upstreams.ensure_manifest(&upstream, &reference).await?;
                    (
                        app.upstreams.read_manifest(&upstream, &reference).await?,
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

/// Returns whether `If-None-Match` names the manifest. Some clients leave out the quotes.
fn is_cached_by_client(headers: &HeaderMap, digest: &Digest) -> bool {
    let digest = digest.to_string();
    let tags = headers
        .get_all(IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok());
    tags.flat_map(|value| value.split(',')).any(|tag| {
        let tag = tag.trim();
        let tag = tag.strip_prefix("W/").unwrap_or(tag);
        tag == "*" || tag.trim_matches('"') == digest
    })
}

/// Serves `PUT`: stores a manifest, and points its tags to it.
pub(super) async fn put(
    app: &App,
    repository: Repository,
    reference: Reference,
    tags: Vec<Tag>,
    headers: &HeaderMap,
    body: &mut RequestBody,
) -> Result<Response<ResponseBody>, ErrorResponse> {
    let (limit, too_long) = (MAX_MANIFEST_BYTES, ErrorCode::ManifestTooLarge);
    let bytes = receive::read_whole(body, limit, too_long, app.read_timeouts).await?;
    let declared = media_type(headers)?;
    let registry = app.registry.clone();
    let (target, put_reference, put_tags) = (repository.clone(), reference.clone(), tags.clone());
    let put = move || {
        let declared = declared.as_deref();
        registry.put_manifest(&target, &put_reference, &put_tags, declared, &bytes)
    };
    let stored = match (
        run_blocking(put.clone()).await?,
        app.upstreams.upstream_for(&repository),
    ) {
        // The client skipped blobs that this server reported as present: they are at the upstream.
        (Err(Error::ChildrenUnknown(missing)), Some(upstream)) => {
            app.upstreams.fetch_missing_blobs(&upstream, &missing).await;
            try_blocking(put).await?
        }
        (result, _) => result?,
    };
    let location = Endpoint::Repository(repository, RepositoryOperation::GetManifest { reference });
    let mut response = responses::created(&location, &stored.digest);
    let headers = response.headers_mut();
    for tag in tags {
        headers.append(TAG_HEADER, header_value(tag));
    }
    if let Some(subject) = stored.subject {
        headers.insert(SUBJECT_HEADER, header_value(subject));
    }
    Ok(response)
}

/// Serves `DELETE`: deletes a tag, or a manifest with all its tags.
pub(super) async fn delete(
    app: &App,
    client: &ClientPresence,
    repository: Repository,
    reference: Reference,
) -> Result<Response<ResponseBody>, ErrorResponse> {
    let registry = app.registry.clone();
    let delete = move |walk: &Walk<'_>| registry.delete_manifest(&repository, &reference, walk);
    app.walks.run(client, delete).await?;
    Ok(responses::empty(StatusCode::ACCEPTED))
}

/// Returns the media type in `Content-Type`, without its parameters.
fn media_type(headers: &HeaderMap) -> Result<Option<String>, ErrorResponse> {
    let Some(header) = headers.get(CONTENT_TYPE) else {
        return Ok(None);
    };
    let text = header.to_str().map_err(|_| {
        ErrorResponse::new(ErrorCode::ManifestInvalid, "Content-Type is not valid text")
    })?;
    let media_type = text.split(';').next().unwrap_or_default().trim();
    Ok((!media_type.is_empty()).then(|| media_type.to_owned()))
}
