//! Finds layers by the manifests that the local engine recorded: a daemon that pulled or pushed an
//! image knows the digest of its manifest, also in other repositories. Only those manifests count
//! whose config is the recorded one.
//!
//! Their statements about the layers are claims. Docker records the digest of a manifest that it pulls
//! although it has an image of this ID, and then it does not look at the layers.
//!
//! Start reading at [`find`].

use imgsync_oci::{Descriptor, Digest, Reference, Repository};

use super::match_config;
use super::probe::{ParsedManifest, TargetProbe};

/// The most images of an index that are looked at.
const MAX_CHILD_MANIFESTS: usize = 3;

/// A manifest of an image, as the local engine recorded it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedImage {
    /// The repository of the target's registry.
    pub repository: Repository,
    /// The digest of the image's manifest there, or of an index with it.
    pub manifest: Digest,
    /// The digest of the image's config.
    pub config: Digest,
    /// The diffIDs of the image, lowest layer first.
    pub diff_ids: Vec<Digest>,
}

/// A recorded image that was found at the registry.
pub(super) struct FoundCopy {
    /// Its manifest.
    pub(super) image: ParsedManifest,
    /// The config.
    pub(super) config: Descriptor,
    /// The layers, one for each of the image.
    pub(super) layers: Vec<Descriptor>,
}

/// Returns a recorded image. `tagged` is a manifest that was fetched already. A request that fails
/// counts as "not found".
pub(super) async fn find(
    probe: &TargetProbe,
    recorded: &RecordedImage,
    tagged: Option<&ParsedManifest>,
) -> Option<FoundCopy> {
    let probe = TargetProbe {
        // Nothing is written to that repository.
        client: probe.client.for_reading(),
        repository: recorded.repository.clone(),
        ..probe.clone()
    };
    let fetch = async |digest: Digest| probe.manifest(&Reference::Digest(digest)).await;
    let config_and_layers = |image: &ParsedManifest| {
        let (config, layers) = match_config(&recorded.config, recorded.diff_ids.len(), image)?;
        Some(FoundCopy {
            image: image.clone(),
            config: config.clone(),
            layers: layers.to_vec(),
        })
    };
    let root = match tagged.filter(|tagged| tagged.verified.digest == recorded.manifest) {
        Some(tagged) => tagged.clone(),
        None => fetch(recorded.manifest.clone()).await.ok()??,
    };
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
        let image = fetch(child.digest).await.ok()?;
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
