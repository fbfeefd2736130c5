//! The file `manifest.json` of `docker save` and `docker load`: a config and layers for each image.
//!
//! With this file `docker load` accepts an OCI layout even with Docker's classic store. It then has
//! one entry for each image of a single platform.

use imgsync_oci::{Descriptor, Digest, Manifest, media};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::image::{is_attestation, limits::MAX_INDEX_DEPTH};
use crate::transports::files::blob_path;
use crate::transports::layout::{BlobStore, LayoutIndex, walk};

/// The name of the file.
pub(in crate::transports) const DOCKER_MANIFEST_FILE: &str = "manifest.json";

/// An image, as Docker's classic store loads it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::transports) struct DockerManifestEntry {
    /// The name of the config in the archive.
    pub(super) config: String,
    /// The names of the image, with tags.
    repo_tags: Option<Vec<String>>,
    /// The names of the layers in the archive, lowest first.
    layers: Option<Vec<String>>,
}

impl DockerManifestEntry {
    /// Returns the entry of an image whose blobs are named as in an OCI layout.
    pub(in crate::transports) fn new<'a>(
        config: &Digest,
        layers: impl IntoIterator<Item = &'a Descriptor>,
        tag: Option<String>,
    ) -> Self {
        let layers = layers.into_iter().map(|layer| blob_path(&layer.digest));
        Self {
            config: blob_path(config),
            repo_tags: tag.map(|tag| vec![tag]),
            layers: Some(layers.collect()),
        }
    }

    pub(super) fn tags(&self) -> &[String] {
        self.repo_tags.as_deref().unwrap_or_default()
    }

    pub(super) fn layers(&self) -> &[String] {
        self.layers.as_deref().unwrap_or_default()
    }
}

/// Returns the content of the file.
pub(in crate::transports) fn manifest_json(images: &[DockerManifestEntry]) -> Vec<u8> {
    json!(images).to_string().into_bytes()
}

/// Returns the tagged images of an index that have a single platform; the others need containerd's
/// image store or a choice of platform. `image` is their name.
pub(super) fn docker_manifest_entries(
    blobs: &dyn BlobStore,
    index: &LayoutIndex,
    image: Option<&str>,
) -> Vec<DockerManifestEntry> {
    let mut images: Vec<DockerManifestEntry> = Vec::new();
    for tag in index.tags() {
        let entry = index.find_tagged(&tag);
        let content = entry.and_then(|entry| resolve_single_platform(blobs, entry, 0));
        let Some((config, layers)) = content else {
            continue;
        };
        let name = image.map(|image| format!("{image}:{tag}"));
        let entry = DockerManifestEntry::new(&config.digest, &layers, name);
        match images.iter_mut().find(|image| image.config == entry.config) {
            // All entries have names, or none has.
            Some(image) => {
                let tags = image.repo_tags.iter_mut().zip(entry.repo_tags);
                tags.for_each(|(tags, more)| tags.extend(more));
            }
            None => images.push(entry),
        }
    }
    images
}

/// Returns the config and the layers of an image or of an index of one image.
fn resolve_single_platform(
    blobs: &dyn BlobStore,
    entry: &Descriptor,
    depth: usize,
) -> Option<(Descriptor, Vec<Descriptor>)> {
    let (_, content) = walk::read_manifest(blobs, &entry.digest, Some(&entry.media_type))?;
    match content {
        Manifest::Image { config, layers, .. } => {
            let can_run = media::is_image_config(&config.media_type)
                && !layers.iter().any(Descriptor::is_foreign);
            can_run.then_some((config, layers))
        }
        Manifest::Index { manifests, .. } => {
            let mut images = manifests.iter().filter(|child| !is_attestation(child));
            match (images.next(), images.next()) {
                (Some(only), None) if depth < MAX_INDEX_DEPTH => {
                    resolve_single_platform(blobs, only, depth + 1)
                }
                _ => None,
            }
        }
    }
}
