//! Finds the image itself in other repositories of the registry: a daemon that pulled or pushed the
//! image knows where it is.

use imgsync_oci::{Descriptor, Digest, Manifest, Reference, Repository};

use super::layers_of_same_image;
use super::probe::{ParsedManifest, TargetProbe};
use crate::image::SingleImage;

/// The most images of an index that are looked at.
const MAX_CHILD_MANIFESTS: usize = 3;

/// Returns the config and the layers of the same image in another repository, from the manifest of
/// that digest or from one below it. A request that fails counts as "not found".
pub(super) async fn find(
    probe: &TargetProbe<'_>,
    single: &SingleImage,
    repository: &Repository,
    digest: &Digest,
) -> Option<(Descriptor, Vec<Descriptor>)> {
    let probe = TargetProbe {
        // Nothing is written to that repository.
        client: &probe.client.for_reading(),
        repository,
        ..*probe
    };
    let fetch = async |digest: Digest| probe.manifest(&Reference::Digest(digest)).await.ok();
    let root = fetch(digest.clone()).await??;
    if let Some(found) = config_and_layers(single, &root) {
        return Some(found);
    }
    let mut children = match &root.manifest {
        Manifest::Index { .. } => root.manifest.children().manifests,
        Manifest::Image { .. } => return None,
    };
    // The image is most likely for the platform of this machine.
    let is_own = |child: &Descriptor| {
        let platform = child.platform.as_ref();
        platform.is_some_and(|platform| platform.architecture == architecture())
    };
    children.sort_by_key(|child| !is_own(child));
    for child in children.into_iter().take(MAX_CHILD_MANIFESTS) {
        let image = fetch(child.digest).await?;
        if let Some(found) = image.and_then(|image| config_and_layers(single, &image)) {
            return Some(found);
        }
    }
    None
}

fn config_and_layers(
    single: &SingleImage,
    image: &ParsedManifest,
) -> Option<(Descriptor, Vec<Descriptor>)> {
    let layers = layers_of_same_image(single, image)?;
    match &image.manifest {
        Manifest::Image { config, .. } => Some((config.clone(), layers.to_vec())),
        Manifest::Index { .. } => None,
    }
}

/// Returns this machine's architecture by the name that images use (Go's `GOARCH`).
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        other => other,
    }
}
