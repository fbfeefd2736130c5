//! The bodies of responses.

use std::io;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};

/// A response body: bytes in memory, or a stream.
pub(crate) type ResponseBody = UnsyncBoxBody<Bytes, io::Error>;

/// Creates a body from bytes in memory.
pub(super) fn full(bytes: impl Into<Bytes>) -> ResponseBody {
    Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed_unsync()
}
