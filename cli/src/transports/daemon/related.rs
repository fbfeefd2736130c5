//! Finds other images of the daemon that share layers with an image, such as the image that it was
//! built from.

use imgsync_oci::Digest;

use super::{DaemonImage, ImageStore};

/// The most images that are described. An image is usually built from one other image.
const MAX_RELATED_IMAGES: usize = 8;

/// An image in the daemon that shares layers with another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelatedImage {
    /// The digest of the config.
    pub config: Digest,
    /// The diffIDs, lowest layer first.
    pub diff_ids: Vec<Digest>,
    /// The repositories that the daemon knows the image from, as in [`DaemonImage`].
    pub repo_digests: Vec<String>,
}

impl DaemonImage {
    /// Returns images that share layers with this one, of those whose repositories `is_useful`
    /// accepts. Returns none if the daemon does not answer, because they are only a help, and none
    /// with containerd's image store, where each image names its blobs.
    pub async fn related_images(&self, is_useful: impl Fn(&[String]) -> bool) -> Vec<RelatedImage> {
        let ImageStore::Classic { config } = &self.store else {
            return Vec::new();
        };
        let images = self.engine.list_images().await.unwrap_or_default();
        let useful = images.into_iter().filter(|image| {
            let repo_digests = image.repo_digests.as_deref().unwrap_or_default();
            image.id != *config && is_useful(repo_digests)
        });
        let useful = useful.take(MAX_RELATED_IMAGES);
        let inspected = useful.map(|image| async move {
            let (inspected, _) = self
                .engine
                .inspect(&image.id.to_string(), false)
                .await
                .ok()?;
            let diff_ids = inspected.diff_ids().to_vec();
            let is_related = diff_ids
                .iter()
                .any(|diff_id| self.diff_ids.contains(diff_id));
            is_related.then(|| RelatedImage {
                config: image.id,
                diff_ids,
                repo_digests: image.repo_digests.unwrap_or_default(),
            })
        });
        let inspected = futures::future::join_all(inspected).await;
        inspected.into_iter().flatten().collect()
    }
}
