//! The data that an image needs before it can be loaded: its config, and where its layers are.

use bytes::Bytes;
use imgsync_oci::{Digest, MAX_MANIFEST_BYTES};

use crate::image::{Error, config};
use crate::transports::daemon::platform_image::PlatformImage;
use crate::transports::daemon::state::DaemonTargetState;
use crate::transports::fetch::{BlobFetch, pending_blob};
use crate::transports::{CopySource, Result};
use crate::upload::PendingBlob;

/// An image that is ready to be loaded.
pub(super) struct PreparedImage<'a> {
    pub(super) state: &'a DaemonTargetState,
    pub(super) config: Bytes,
    /// The layers, lowest first, and the blobs of the attestations.
    pub(super) blobs: Vec<PendingBlob>,
}

impl<'a> PreparedImage<'a> {
    /// Finds the blobs of an image with this config. Nothing is read yet.
    ///
    /// # Errors
    /// Returns the error of the source.
    pub(super) async fn new(
        source: &dyn CopySource,
        state: &'a DaemonTargetState,
        config: Bytes,
    ) -> Result<Self> {
        let count = state.image.layers.len();
        let mut blobs = Vec::with_capacity(count);
        for (position, blob) in state.image.blobs().enumerate() {
            let label = if position < count {
                format!("layer {}/{count}", position + 1)
            } else {
                "attestation".to_owned()
            };
            blobs.push(pending_blob(blob, label, source.locate_blob(blob).await?));
        }
        Ok(Self {
            state,
            config,
            blobs,
        })
    }
}

/// Returns the verified config of the image.
///
/// # Errors
/// Returns the error of the source, also if the config does not fit to the manifest.
pub(super) async fn fetch_config(source: &dyn CopySource, image: &PlatformImage) -> Result<Bytes> {
    if image.config.size > MAX_MANIFEST_BYTES as u64 {
        let limit = format!("{MAX_MANIFEST_BYTES} bytes");
        return Err(Error::too_large(source.name(), "the image's config", limit).into());
    }
    let bytes = source.locate_blob(&image.config).await?;
    let blob = pending_blob(&image.config, "config".to_owned(), bytes);
    let mut fetch = BlobFetch::new(&blob);
    let mut config = Vec::new();
    while let Some(chunk) = fetch.next_chunk().await? {
        config.extend_from_slice(&chunk);
    }
    diff_ids(source, image, &config)?;
    Ok(config.into())
}

/// Returns the diffIDs of the config: as many as the manifest has layers.
///
/// # Errors
/// Returns an error if the config is invalid, or has another number of layers.
pub(super) fn diff_ids(
    source: &dyn CopySource,
    image: &PlatformImage,
    config: &[u8],
) -> Result<Vec<Digest>> {
    let malformed = |reason| Error::malformed(source.name(), reason);
    let diff_ids = config::diff_ids(config).map_err(malformed)?;
    if diff_ids.len() != image.layers.len() {
        let (layers, diff_ids) = (image.layers.len(), diff_ids.len());
        let reason = format!("the manifest has {layers} layers, but the config has {diff_ids}");
        return Err(malformed(reason).into());
    }
    Ok(diff_ids)
}
