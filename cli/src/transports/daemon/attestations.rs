//! The attestations of an image: manifests in its index that tell how it was built (BuildKit,
//! "Image attestation storage").

use std::iter;

use imgsync_oci::{Descriptor, Manifest, Reference};

use super::platform_image::PlatformImage;
use crate::exit::Failure;
use crate::image::is_attestation;
use crate::transports::{CopySource, VerifiedManifest};

/// The annotation with the digest of the manifest that an attestation describes.
const ATTESTED_DIGEST: &str = "vnd.docker.reference.digest";
/// The most attestations of one manifest. BuildKit puts all statements into one.
const MAX_ATTESTATIONS: usize = 16;

/// A manifest that describes another one of the same index.
#[derive(Debug, Clone)]
pub(super) struct Attestation {
    pub(super) manifest: VerifiedManifest,
    /// The config and the statements.
    pub(super) blobs: Vec<Descriptor>,
}

/// Returns the attestations of the image's manifest. Those that the source does not have are left
/// out.
///
/// # Errors
/// Returns the errors of the source.
pub(super) async fn fetch_attestations(
    source: &dyn CopySource,
    image: &PlatformImage,
) -> Result<Vec<Attestation>, Failure> {
    let index = image.indexes.last().map(VerifiedManifest::content);
    let Some(Ok(Manifest::Index { manifests, .. })) = index else {
        return Ok(Vec::new());
    };
    let subject = image.manifest.digest.to_string();
    let is_of_image = |entry: &&Descriptor| {
        is_attestation(entry) && entry.annotation(ATTESTED_DIGEST) == Some(&*subject)
    };
    let entries = manifests.iter().filter(is_of_image);
    let mut attestations = Vec::new();
    for entry in entries.take(MAX_ATTESTATIONS) {
        let digest = Reference::Digest(entry.digest.clone());
        let Some(manifest) = source.fetch_manifest(&digest).await? else {
            continue;
        };
        if let Ok(Manifest::Image { config, layers, .. }) = manifest.content() {
            let blobs = iter::once(config).chain(layers);
            let blobs = blobs.filter(|blob| !blob.is_foreign()).collect();
            attestations.push(Attestation { manifest, blobs });
        }
    }
    Ok(attestations)
}
