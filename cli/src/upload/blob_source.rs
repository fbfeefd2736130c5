//! Where the bytes of a blob are that is to be sent.

use std::sync::Arc;

use imgsync_oci::client::Client;
use imgsync_oci::{Digest, Repository};
use tokio::sync::Semaphore;

use crate::image::Slice;

/// The bytes of a blob.
#[derive(Debug, Clone)]
pub enum BlobSource {
    /// On this machine.
    Local(Slice),
    /// At a registry, from where they are streamed.
    Remote(RemoteBlob),
}

/// A blob at a registry.
#[derive(Debug, Clone)]
pub struct RemoteBlob {
    /// The registry.
    pub client: Client,
    /// The repository that it is read from.
    pub repository: Repository,
    /// Its digest.
    pub digest: Digest,
    /// The size in bytes that it must have.
    pub size: u64,
    /// How many blobs may be read from there at a time, all together; `None` is no bound.
    pub read_permits: Option<Arc<Semaphore>>,
}
