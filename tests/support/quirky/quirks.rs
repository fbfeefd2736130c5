//! The ways in which registries and proxies deviate.

use crate::support::fake::{Reply, Request, status};

/// The deviations of a registry. The default follows the specification and mounts nothing.
#[derive(Clone)]
pub struct RegistryQuirks {
    /// The status of a successful PATCH.
    pub patch_status: u16,
    /// Returns the `Range` header of a response about a session.
    pub range_header: fn(&UploadSession) -> Option<String>,
    /// The status of a GET of a session.
    pub status_of_get: u16,
    /// Returns the response to a valid PATCH that the registry refuses.
    pub refuse_patch: fn(&Request, &UploadSession) -> Option<Reply>,
    /// Whether the PUT that completes a session may have a body.
    pub accepts_put_body: bool,
    /// The numbers of the PATCH requests (from 1) whose connection breaks in the middle of the
    /// body.
    pub broken_patches: Vec<usize>,
    /// The effect of a broken PATCH on the session.
    pub partial_chunk: PartialChunk,
    /// The largest body that a proxy in front of the registry forwards.
    pub max_body_bytes: Option<u64>,
    /// Returns the response to a body that is too large.
    pub too_large_response: fn() -> Reply,
    /// Whether that response is sent, and the connection closed, before the body is read.
    pub responds_early: bool,
    /// The value of `OCI-Chunk-Min-Length`.
    pub min_chunk_bytes: Option<u64>,
    pub mount_support: MountSupport,
    /// Whether requests other than GET and HEAD require a token.
    pub requires_token: bool,
    /// Whether `Location` headers are absolute URLs.
    pub absolute_locations: bool,
    /// Whether the registry loses the bytes of each chunk after it has confirmed them.
    pub loses_chunks: bool,
}

/// The effect of a connection that breaks in the middle of a chunk on the session.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum PartialChunk {
    /// The session keeps the bytes that arrived.
    Kept,
    /// The session keeps none of the bytes of the chunk.
    Dropped,
    /// The session is deleted.
    SessionLost,
}

/// The response to a request for a cross-repository mount.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum MountSupport {
    /// Mounts the blob.
    Yes,
    /// Opens an upload session instead, as the specification allows.
    No,
    /// Responds with 405.
    Refused,
    /// Responds with 201, and does not mount the blob.
    FalseSuccess,
}

impl Default for RegistryQuirks {
    fn default() -> Self {
        Self {
            patch_status: 202,
            range_header: |session| Some(format!("0-{}", session.bytes.len().saturating_sub(1))),
            status_of_get: 204,
            refuse_patch: |_, _| None,
            accepts_put_body: true,
            broken_patches: Vec::new(),
            partial_chunk: PartialChunk::Kept,
            max_body_bytes: None,
            too_large_response: || status(413),
            responds_early: false,
            min_chunk_bytes: None,
            mount_support: MountSupport::No,
            requires_token: false,
            absolute_locations: false,
            loses_chunks: false,
        }
    }
}

/// An open upload session.
#[derive(Clone, Default)]
pub struct UploadSession {
    /// The bytes so far.
    pub bytes: Vec<u8>,
    /// The sizes of the accepted chunks.
    pub chunks: Vec<usize>,
}
