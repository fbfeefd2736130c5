//! The places that the bytes of a blob can be uploaded from.

use std::sync::Arc;

use imgsync_oci::client::Client;
use imgsync_oci::{Digest, Repository};
use tokio::sync::Semaphore;

use crate::image::Slice;

/// The source of a blob's bytes.
#[derive(Debug, Clone)]
pub enum BlobSource {
    /// A file on this machine, or a part of one.
    Local(Slice),
    /// A registry, from which the bytes are streamed.
    Remote(RemoteBlob),
}

/// A blob at a registry.
#[derive(Debug, Clone)]
pub struct RemoteBlob {
    /// The client of the registry.
    pub client: Client,
    /// The repository to read from.
    pub repository: Repository,
    /// The digest of the blob.
    pub digest: Digest,
    /// The expected size in bytes.
    pub size: u64,
    /// The permits that limit concurrent reads from that registry; `None` for no limit.
    pub read_permits: Option<Arc<Semaphore>>,
}
