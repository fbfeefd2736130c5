//! Writes `manifest.json`, with which `docker load` accepts an OCI layout even with Docker's
//! classic store: one entry for each image of a single platform.

use imgsync_oci::{Descriptor, Digest, Manifest, media};
use serde_json::{Value, json};

use crate::image::{is_attestation, limits::MAX_INDEX_DEPTH};
use crate::transports::files::blob_path;
use crate::transports::layout::{LayoutIndex, walk};

/// The name of the file.
pub(in crate::transports) const DOCKER_MANIFEST_FILE: &str = "manifest.json";

/// An image, as Docker's classic store loads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::transports) struct DockerManifestEntry {
    /// The digest of the config.
    pub(in crate::transports) config: Digest,
    /// The digests of the layers, lowest first.
    pub(in crate::transports) layers: Vec<Digest>,
    /// The names, with tags.
    pub(in crate::transports) names: Vec<String>,
}

/// Returns the content of the file.
pub(in crate::transports) fn manifest_json(images: &[DockerManifestEntry]) -> Vec<u8> {
    let entry = |image: &DockerManifestEntry| {
        let layers: Vec<_> = image.layers.iter().map(blob_path).collect();
        json!({
            "Config": blob_path(&image.config),
            "RepoTags": (!image.names.is_empty()).then_some(&image.names),
            "Layers": layers,
        })
    };
    let entries: Value = images.iter().map(entry).collect();
    entries.to_string().into_bytes()
}

/// Returns the tagged images of an index that have a single platform; the others need containerd's
/// image store or a choice of platform. `image` is their name.
pub(super) fn docker_manifest_entries(
    blobs: &dyn walk::BlobStore,
    index: &LayoutIndex,
    image: Option<&str>,
) -> Vec<DockerManifestEntry> {
    let mut images: Vec<DockerManifestEntry> = Vec::new();
    for tag in index.tags() {
        let Some(entry) = index.find_tagged(&tag) else {
            continue;
        };
        let Some((config, layers)) = resolve_single_platform(blobs, entry, 0) else {
            continue;
        };
        let name = image.map(|image| format!("{image}:{tag}"));
        match images.iter_mut().find(|image| image.config == config) {
            Some(image) => image.names.extend(name),
            None => images.push(DockerManifestEntry {
                config,
                layers,
                names: name.into_iter().collect(),
            }),
        }
    }
    images
}

fn resolve_single_platform(
    blobs: &dyn walk::BlobStore,
    entry: &Descriptor,
    depth: usize,
) -> Option<(Digest, Vec<Digest>)> {
    let manifest = walk::read_manifest(blobs, &entry.digest, Some(&entry.media_type))?;
    match Manifest::parse(&manifest.bytes, Some(&manifest.media_type))
        .ok()?
        .1
    {
        Manifest::Image { config, layers, .. } => {
            let can_run = media::is_image_config(&config.media_type)
                && !layers.iter().any(Descriptor::is_foreign);
            let layers = layers.into_iter().map(|layer| layer.digest).collect();
            can_run.then_some((config.digest, layers))
        }
        Manifest::Index { manifests, .. } if depth < MAX_INDEX_DEPTH => {
            let images = manifests.iter().filter(|entry| !is_attestation(entry));
            let images: Vec<_> = images.collect();
            match images[..] {
                [only] => resolve_single_platform(blobs, only, depth + 1),
                _ => None,
            }
        }
        Manifest::Index { .. } => None,
    }
}
