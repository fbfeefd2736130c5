//! Reads images in Docker's containerd store by digest and offset, without an export.
//!
//! Docker serves containerd's content service to BuildKit's clients over its socket, since version
//! 24.0.7. The service is read-only here: nothing is written to the store, and no lease is taken.
//! Start at [`DaemonImage::read_content_store`].

mod error;
mod image_files;
mod messages;
mod store;
mod stored_blob;

use std::collections::{HashMap, HashSet};
use std::fmt::Display;

use imgsync_oci::{Descriptor, Digest};

use super::client::DaemonClient;
use super::{DaemonImage, ImageStore};
use crate::image::{Error, Image, ImageBlobs, ImageContent, Layer};
use crate::transports::blocking::run_blocking;
use crate::transports::layout::image_reader;
pub(super) use error::ContentError;
use image_files::{StoredFiles, find_files};
use store::ContentStore;

impl DaemonImage {
    /// Reads the manifests of the image from the daemon's content store. The configs and layers are
    /// read from there later, each when it is needed.
    ///
    /// # Errors
    /// Returns [`Error::ContentStore`] if the daemon has no such store or it cannot be read, and the
    /// errors of an incomplete or damaged image.
    pub async fn read_content_store(&self) -> Result<(Image, ImageBlobs), Error> {
        let address = self.engine.address();
        let failed = |reason: &dyn Display| Error::ContentStore {
            address: address.to_string(),
            reason: reason.to_string(),
        };
        let ImageStore::Containerd { root, media_type } = &self.store else {
            return Err(failed(&"it has another kind of image store"));
        };
        let store = ContentStore::new(self.engine.connector().clone());
        let source_name = format!("the content store of the Docker daemon at {address}");
        let descriptor =
            Descriptor::new(media_type.as_deref().unwrap_or_default(), root.clone(), 0);
        let found = find_files(&store, &source_name, &descriptor).await;
        let StoredFiles { files, diff_ids } = found.map_err(|error| failed(&error))?;
        let (root, media_type) = (root.clone(), media_type.clone());
        let platforms = self.platforms.clone();
        let read = run_blocking(move || {
            image_reader::read_content(&files, &root, media_type.as_deref(), &platforms)
        });
        let (mut content, mut blobs, notes) = read.await?;
        if let ImageContent::Single(single) = &mut content {
            single
                .layers
                .iter_mut()
                .for_each(|layer| skip_verified(layer, &diff_ids));
        }
        blobs.read_through = Some("the engine's content store");
        let mut image = self.with_content(content);
        image.notes = notes;
        Ok((image, blobs))
    }
}

/// Returns those of the blobs that the content store of a daemon has.
///
/// # Errors
/// Returns an error if the daemon has no such store, or if it cannot be read.
pub(super) async fn stored_blobs(
    engine: &DaemonClient,
    digests: &[Digest],
) -> Result<HashSet<Digest>, ContentError> {
    let store = ContentStore::new(engine.connector().clone());
    Ok(store.list(digests).await?.into_keys().collect())
}

/// Removes the diffID of a layer for which the engine has computed the same one, so that the layer
/// is not decompressed only to compute it again. The digest of the blob is verified in any case.
fn skip_verified(layer: &mut Layer, diff_ids: &HashMap<Digest, Digest>) {
    if let Layer::Blob {
        descriptor,
        diff_id,
    } = layer
        && diff_id.as_ref() == diff_ids.get(&descriptor.digest)
    {
        *diff_id = None;
    }
}
