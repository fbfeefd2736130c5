//! Serves manifests (OCI distribution-spec, "Pulling manifests", "Pushing Manifests").

use std::sync::Arc;
use std::time::SystemTime;

use hyper::header::{
    CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderMap, HeaderName, HeaderValue, LAST_MODIFIED,
};
use hyper::{Response, StatusCode};
use imgsync_oci::endpoint::RepositoryOperation;
use imgsync_oci::ext::trash::RESTORABLE_HEADER;
use imgsync_oci::{Endpoint, ErrorCode, MAX_MANIFEST_BYTES, Reference, Repository, Tag};

use super::app::App;
use super::blocking::{run_blocking, try_blocking};
use super::body::ResponseBody;
use super::buffered_body::MAX_SMALL_BODY_BYTES;
use super::caller::Caller;
use super::changes;
use super::client_presence::ClientPresence;
use super::entity_tag::{etag, is_cached_by_client};
use super::error_response::ErrorResponse;
use super::request_body::RequestBody;
use super::responses::{self, header_value};
use crate::events::{ChangeAction, RegistryChange};
use crate::memory_budget::MemoryLease;
use crate::registry::{Error, StoredManifest, Walk};
use crate::upstream::{self, Freshness, UpstreamRepository};
use crate::wall_clock::unix_now;

/// A response header for each tag in the query of a push.
const TAG_HEADER: HeaderName = HeaderName::from_static("oci-tag");
/// The response header that confirms the subject of a manifest.
const SUBJECT_HEADER: HeaderName = HeaderName::from_static("oci-subject");

/// A manifest to be served.
struct FoundManifest {
    manifest: StoredManifest,
    /// The memory for it. A small one needs no lease.
    lease: Option<MemoryLease>,
    freshness: Freshness,
    /// When the requested tag was pushed. Tags of an upstream are not pushed.
    pushed_at: Option<SystemTime>,
}

/// Serves `HEAD` as [`get`] does, except that a damaged manifest counts as missing: containerd and
/// BuildKit ask before they push a manifest, and repair it only if it is missing.
pub(super) async fn head(
    app: &App,
    repository: Repository,
    reference: Reference,
    headers: &HeaderMap,
) -> Result<Response<ResponseBody>, ErrorResponse> {
    let found = get(app, repository, reference.clone(), headers).await;
    found.map_err(|error| {
        if error.has_code(ErrorCode::ManifestDamaged) {
            return Error::ManifestUnknown(reference).into();
        }
        error
    })
}

/// Serves `GET`: the manifest as it is stored, whatever media types the client accepts.
pub(super) async fn get(
    app: &App,
    repository: Repository,
    reference: Reference,
    headers: &HeaderMap,
) -> Result<Response<ResponseBody>, ErrorResponse> {
    let upstream = app.upstreams.upstream_for(&repository);
    let found = match find(app, &repository, upstream.as_ref(), &reference).await? {
        // The manifest was evicted before the read: fetch it again, which marks it as used.
        None => find(app, &repository, upstream.as_ref(), &reference).await?,
        found => found,
    };
    let found = found.ok_or_else(|| Error::ManifestUnknown(reference.clone()))?;
    let manifest = found.manifest;
    app.registry
        .record_pull(&repository, &manifest.digest, unix_now());
    let mut response = if is_cached_by_client(headers, &manifest.digest) {
        responses::empty(StatusCode::NOT_MODIFIED)
    } else {
        let pulled = app.events.is_active().then(|| {
            let StoredManifest {
                digest,
                media_type,
                bytes,
            } = &manifest;
            let pull = ChangeAction::Pull;
            let pulled =
                RegistryChange::manifest(pull, &repository, digest, media_type, bytes.len());
            let pulled = pulled.with_references(app.events.references(bytes));
            match &reference {
                Reference::Tag(tag) => pulled.with_tag(tag),
                Reference::Digest(_) => pulled,
            }
        });
        let body = app
            .body_buffers
            .response(manifest.bytes, found.lease)
            .await?;
        let mut response = responses::with_body(StatusCode::OK, body);
        response
            .headers_mut()
            .insert(CONTENT_TYPE, header_value(manifest.media_type));
        if let Some(pulled) = pulled {
            changes::note(app, &mut response, || pulled);
        }
        response
    };
    let headers = response.headers_mut();
    headers.insert(
        responses::CONTENT_DIGEST_HEADER,
        header_value(&manifest.digest),
    );
    headers.insert(ETAG, etag(&manifest.digest));
    if let Some(pushed_at) = found.pushed_at {
        let date = httpdate::fmt_http_date(pushed_at);
        headers.insert(LAST_MODIFIED, header_value(date));
        // With that date, a cache may otherwise guess how long the tag stays the same.
        headers.insert(CACHE_CONTROL, header_value("no-cache"));
    }
    responses::warn_if_stale(&mut response, found.freshness);
    Ok(response)
}

/// Finds a manifest here or at the upstream, with the memory for it. Returns `None` if the manifest
/// of an upstream is not stored.
async fn find(
    app: &App,
    repository: &Repository,
    upstream: Option<&UpstreamRepository>,
    reference: &Reference,
) -> Result<Option<FoundManifest>, ErrorResponse> {
    let mut freshness = Freshness::Fresh;
    if let Some(upstream) = upstream {
        let ensured = app.upstreams.ensure_manifest(upstream, reference).await?;
        freshness = ensured.freshness;
        if let Some(manifest) = ensured.unstored {
            let bytes = manifest.bytes.len() as u64;
            let lease = app.body_buffers.lease_response(bytes).await?;
            return Ok(Some(FoundManifest {
                manifest: Arc::unwrap_or_clone(manifest),
                lease,
                freshness,
                pushed_at: None,
            }));
        }
    }
    let read = read(app, repository, upstream, reference).await?;
    Ok(read.map(|found| FoundManifest { freshness, ..found }))
}

/// Reads a stored manifest, once there is memory for it. A small one needs no lease. Returns `None`
/// if the manifest of an upstream is not stored.
async fn read(
    app: &App,
    repository: &Repository,
    upstream: Option<&UpstreamRepository>,
    reference: &Reference,
) -> Result<Option<FoundManifest>, ErrorResponse> {
    let is_local = upstream.is_none();
    let (registry, target, wanted) = (app.registry.clone(), repository.clone(), reference.clone());
    // A small manifest is read in the same blocking call.
    let find = move || {
        let size = registry.manifest_size(&target, &wanted)?;
        let is_small = size <= MAX_SMALL_BODY_BYTES as u64;
        let manifest = if is_local && is_small {
            Some(registry.get_manifest(&target, &wanted)?)
        } else {
            None
        };
        let pushed_at = match &wanted {
            Reference::Tag(tag) if is_local => registry.tag_time(&target, tag),
            _ => None,
        };
        Ok((size, manifest, pushed_at))
    };
    let (size, manifest, pushed_at) = match run_blocking(find).await? {
        Err(Error::ManifestUnknown(_) | Error::ManifestDamaged(_)) if !is_local => return Ok(None),
        found => found?,
    };
    let found = |manifest, lease| {
        Some(FoundManifest {
            manifest,
            lease,
            freshness: Freshness::Fresh,
            pushed_at,
        })
    };
    if let Some(manifest) = manifest {
        return Ok(found(manifest, None));
    }
    let lease = app.body_buffers.lease_response(size).await?;
    let manifest = match upstream {
        Some(upstream) => match app.upstreams.read_manifest(upstream, reference).await {
            Err(upstream::Error::Registry(
                Error::ManifestUnknown(_) | Error::ManifestDamaged(_),
            )) => return Ok(None),
            read => read?,
        },
        None => {
            let (registry, target, wanted) =
                (app.registry.clone(), repository.clone(), reference.clone());
            try_blocking(move || registry.get_manifest(&target, &wanted)).await?
        }
    };
    Ok(found(manifest, lease))
}

/// Serves `PUT`: stores a manifest, and points its tags to it.
pub(super) async fn put(
    app: &App,
    caller: &Caller,
    repository: Repository,
    (reference, tags): (Reference, Vec<Tag>),
    headers: &HeaderMap,
    body: &mut RequestBody,
) -> Result<Response<ResponseBody>, ErrorResponse> {
    let (limit, too_long) = (MAX_MANIFEST_BYTES, ErrorCode::ManifestTooLarge);
    let buffered = app.body_buffers.read(body, limit, too_long).await?;
    let bytes = buffered.bytes.clone();
    let declared = media_type(headers)?;
    let registry = app.registry.clone();
    let (target, put_reference, put_tags) = (repository.clone(), reference.clone(), tags.clone());
    let config = app.config.load_full();
    let references = app.events.references(&bytes);
    let size = bytes.len();
    let mut order = app.events.order(&repository).await;
    let put = move || {
        let (declared, platforms) = (declared.as_deref(), &config.index_platforms);
        let (reference, tags) = (&put_reference, &put_tags);
        registry.put_manifest_with(&target, reference, tags, declared, &bytes, platforms)
    };
    let stored = match (
        run_blocking(put.clone()).await?,
        app.upstreams.upstream_for(&repository),
    ) {
        // The client skipped blobs that this server reported as present: they are at the upstream.
        (Err(Error::ChildrenUnknown(missing)), Some(upstream)) => {
            drop(order.take());
            let rights = caller.pull_rights();
            let fetched = app
                .upstreams
                .fetch_missing_blobs(&upstream, &missing, &rights);
            fetched.await;
            order = app.events.order(&repository).await;
            try_blocking(put).await?
        }
        (result, _) => result?,
    };
    let operation = RepositoryOperation::GetManifest {
        reference: reference.clone(),
    };
    let location = Endpoint::within(&repository, operation);
    let mut response = responses::created(&location, &stored.digest);
    changes::note_all(app, &mut response, order, || {
        let (digest, media_type) = (&stored.digest, &stored.media_type);
        let pushed =
            RegistryChange::manifest(ChangeAction::Push, &repository, digest, media_type, size);
        let pushed = pushed.with_references(references);
        let tag = match &reference {
            Reference::Tag(tag) => Some(tag),
            Reference::Digest(_) => None,
        };
        let with_tags: Vec<_> = tag.into_iter().chain(&tags).collect();
        if with_tags.is_empty() {
            return vec![pushed];
        }
        let with_tags = with_tags.into_iter();
        with_tags.map(|tag| pushed.clone().with_tag(tag)).collect()
    });
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
    let (target, deleted) = (repository.clone(), reference.clone());
    let order = app.events.order(&repository).await;
    let delete = move |walk: &Walk<'_>| registry.delete_manifest(&target, &deleted, walk);
    let tags = app.walks.run(client, delete).await?;
    let mut response = responses::empty(StatusCode::ACCEPTED);
    if !app.config.load().imgsync.gc.undo.is_zero() {
        let (name, value) = (HeaderName::from_static(RESTORABLE_HEADER), "true");
        let headers = response.headers_mut();
        headers.insert(name, HeaderValue::from_static(value));
    }
    changes::note_all(app, &mut response, order, || {
        let manifest = match &reference {
            Reference::Digest(digest) => Some(RegistryChange::deleted(&repository, digest)),
            Reference::Tag(_) => None,
        };
        let tags = tags.iter();
        let tags = tags.map(|tag| RegistryChange::deleted_tag(&repository, tag));
        manifest.into_iter().chain(tags).collect()
    });
    Ok(response)
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
