//! Serves the indexes of layers ([`imgsync_oci::delta::index`]), from which clients make deltas.

use std::sync::Arc;

use futures::TryStreamExt as _;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use hyper::header::{
    CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderMap, HeaderValue, RETRY_AFTER,
};
use hyper::{Response, StatusCode};
use imgsync_oci::{Digest, ErrorCode, Repository};

use super::app::App;
use super::blob_pieces::read_pieces;
use super::blocking::try_blocking;
use super::body::ResponseBody;
use super::entity_tag::{etag, is_cached_by_client};
use super::error_response::ErrorResponse;
use super::responses;
use crate::registry::{Error, OpenBlob, StoredLayerIndex};

/// The `Retry-After` value, in seconds, while an index is computed.
const PENDING_RETRY_AFTER: HeaderValue = HeaderValue::from_static("2");

/// Serves `GET /v2/<name>/_imgsync/layers/<digest>/index`. It requires the permission to pull.
pub(super) async fn get(
    app: &App,
    repository: Repository,
    digest: Digest,
    headers: &HeaderMap,
) -> Result<Response<ResponseBody>, ErrorResponse> {
    if !app.config.load().imgsync.delta.is_enabled {
        return Err(ErrorResponse::new(ErrorCode::NotFound, ""));
    }
    // Nobody pushes there, and only the upstream tells who may pull.
    if app.upstreams.upstream_for(&repository).is_some() {
        return Err(Error::BlobUnknown(digest).into());
    }
    let (registry, blob) = (app.registry.clone(), digest.clone());
    let index = match try_blocking(move || registry.open_layer_index(&repository, &blob)).await? {
        StoredLayerIndex::Stored(index) => index,
        StoredLayerIndex::Pending => {
            let mut response = responses::empty(StatusCode::ACCEPTED);
            response
                .headers_mut()
                .insert(RETRY_AFTER, PENDING_RETRY_AFTER);
            return Ok(response);
        }
    };
    if is_cached_by_client(headers, &digest) {
        let mut response = responses::empty(StatusCode::NOT_MODIFIED);
        add_cache_headers(&mut response, &digest);
        return Ok(response);
    }
    Ok(index_response(app, index, &digest))
}

fn index_response(app: &App, index: OpenBlob, digest: &Digest) -> Response<ResponseBody> {
    let size = index.size();
    let pieces = read_pieces(Arc::new(index), 0, size, &app.download_buffers);
    let body = StreamBody::new(pieces.map_ok(Frame::data)).boxed_unsync();
    let mut response = responses::with_body(StatusCode::OK, body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_LENGTH, size.into());
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/octet-stream"),
    );
    add_cache_headers(&mut response, digest);
    response
}

/// Adds the headers of content that never changes: the blob determines its index.
fn add_cache_headers(response: &mut Response<ResponseBody>, digest: &Digest) {
    let headers = response.headers_mut();
    headers.insert(ETAG, etag(digest));
    let immutable = HeaderValue::from_static("max-age=31536000, immutable");
    headers.insert(CACHE_CONTROL, immutable);
}
