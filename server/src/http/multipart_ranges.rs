//! Serves several ranges of a blob in one response (RFC 9110, section 14.6), which podman's partial
//! pulls ask for.

use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE};
use hyper::{Response, StatusCode};
use imgsync_oci::Digest;

use super::blob_pieces::read_pieces;
use super::blobs::set_blob_headers;
use super::body::ResponseBody;
use super::buffer_pool::BufferPool;
use super::responses::{self, header_value};
use crate::registry::OpenBlob;

/// The number of digits of the digest that separate the parts. No content can have a part of its
/// own digest in it on purpose, and RFC 2046 allows 70 characters.
const MAX_BOUNDARY_CHARS: usize = 40;

/// Builds the response with these ranges, each as first byte and number of bytes.
pub(super) fn response(
    blob: OpenBlob,
    digest: &Digest,
    ranges: Vec<(u64, u64)>,
    buffers: &Arc<BufferPool>,
) -> Response<ResponseBody> {
    let size = blob.size();
    let boundary: String = digest.hex().chars().take(MAX_BOUNDARY_CHARS).collect();
    let head = {
        let boundary = boundary.clone();
        move |(first, len): (u64, u64)| {
            let last = first + len - 1;
            format!(
                "\r\n--{boundary}\r\nContent-Type: application/octet-stream\r\n\
                 Content-Range: bytes {first}-{last}/{size}\r\n\r\n"
            )
        }
    };
    let end = format!("\r\n--{boundary}--\r\n");
    let parts = ranges
        .iter()
        .map(|range| head(*range).len() as u64 + range.1);
    let body_len = parts.sum::<u64>() + end.len() as u64;
    let (blob, buffers) = (Arc::new(blob), Arc::clone(buffers));
    let parts = stream::iter(ranges).flat_map(move |range| {
        let (first, len) = range;
        let pieces = read_pieces(Arc::clone(&blob), first, len, &buffers);
        stream::iter([Ok(Bytes::from(head(range)))]).chain(pieces)
    });
    let body = parts.chain(stream::iter([Ok(Bytes::from(end))]));
    let body = StreamBody::new(body.map(|piece| piece.map(Frame::data)));
    let mut response = responses::with_body(StatusCode::PARTIAL_CONTENT, body.boxed_unsync());
    set_blob_headers(&mut response, digest, size, size);
    let headers = response.headers_mut();
    headers.insert(CONTENT_LENGTH, body_len.into());
    let content_type = format!("multipart/byteranges; boundary={boundary}");
    headers.insert(CONTENT_TYPE, header_value(content_type));
    response
}
