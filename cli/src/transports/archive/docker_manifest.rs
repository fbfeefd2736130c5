//! The `manifest.json` that makes an OCI layout one that `docker load` takes without containerd's
//! image store: one entry an image of a single platform.

use imgsync_oci::{Descriptor, Digest, Manifest, media};
use serde_json::{Value, json};

use crate::image::{is_attestation, limits::MAX_INDEX_DEPTH};
use crate::transports::files::blob_path;
use crate::transports::layout::{LayoutIndex, walk};

/// The file's name.
pub(in crate::transports) const DOCKER_MANIFEST_FILE: &str = "manifest.json";

/// An image as Docker's classic store takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::transports) struct DockerManifestEntry {
    /// The config's digest.
    pub(in crate::transports) config: Digest,
    /// The layers' blobs, lowest first.
    pub(in crate::transports) layers: Vec<Digest>,
    /// Its names, with tags.
    pub(in crate::transports) names: Vec<String>,
}

/// The file over these images.
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

/// The images under the tags of an index that are of a single platform; the others need
/// containerd's store, or a choice that nobody has made. `image` is what they are called.
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
    let held = walk::read_manifest(blobs, &entry.digest, Some(&entry.media_type))?;
    match Manifest::parse(&held.bytes, Some(&held.media_type)).ok()?.1 {
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
