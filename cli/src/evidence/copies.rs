//! Finds the image itself in other repositories of the registry: a daemon that pulled or pushed the
//! image knows where it is.

use imgsync_oci::{Descriptor, Digest, Reference, Repository};

use super::match_image;
use super::probe::{ParsedManifest, TargetProbe};
use crate::image::SingleImage;

/// The most images of an index that are looked at.
const MAX_CHILD_MANIFESTS: usize = 3;

/// Returns the config and the layers of the same image in another repository, from the manifest of
/// that digest or from one below it. A request that fails counts as "not found".
pub(super) async fn find(
    probe: &TargetProbe,
    single: &SingleImage,
    repository: &Repository,
    digest: &Digest,
) -> Option<(Descriptor, Vec<Descriptor>)> {
    let probe = TargetProbe {
        // Nothing is written to that repository.
        client: probe.client.for_reading(),
        repository: repository.clone(),
        cache: probe.cache.clone(),
    };
    let fetch = async |digest: Digest| probe.manifest(&Reference::Digest(digest)).await.ok();
    let config_and_layers = |image: &ParsedManifest| {
        let (config, layers) = match_image(single, image)?;
        Some((config.clone(), layers.to_vec()))
    };
    let root = fetch(digest.clone()).await??;
    if let Some(found) = config_and_layers(&root) {
        return Some(found);
    }
    let mut children = root.manifest.children().manifests;
    // The image is most likely for the platform of this machine.
    let is_own = |child: &Descriptor| {
        let platform = child.platform.as_ref();
        platform.is_some_and(|platform| platform.architecture == architecture())
    };
    children.sort_by_key(|child| !is_own(child));
    for child in children.into_iter().take(MAX_CHILD_MANIFESTS) {
        let image = fetch(child.digest).await?;
        if let Some(found) = image.as_ref().and_then(config_and_layers) {
            return Some(found);
        }
    }
    None
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
