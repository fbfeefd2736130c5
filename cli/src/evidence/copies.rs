//! The image itself, elsewhere at the registry: a daemon that pulled or pushed it knows where.

use imgsync_oci::client::Client;
use imgsync_oci::{Descriptor, Digest, Manifest, Reference, Repository};

use super::layers_of_same_image;
use super::probe::{self, ParsedManifest};
use crate::image::SingleImage;

/// The most images of an index that are looked at.
const MAX_CHILD_MANIFESTS: usize = 3;

/// The blobs of the image's config and layers, by the manifest of that digest in `repository`, or one
/// of those below it; `None` where there is none of this very image, or no asking.
pub(super) async fn find(
    client: &Client,
    single: &SingleImage,
    repository: &Repository,
    digest: &Digest,
) -> Option<(Descriptor, Vec<Descriptor>)> {
    // Nothing is to be written there.
    let client = client.for_reading();
    let top = Reference::Digest(digest.clone());
    let top = probe::fetch_manifest(&client, repository, &top)
        .await
        .ok()??;
    if let Some(found) = config_and_layers(single, &top) {
        return Some(found);
    }
    let mut below = match &top.manifest {
        Manifest::Index { .. } => top.manifest.children().manifests,
        Manifest::Image { .. } => return None,
    };
    // A daemon's own platform is the likeliest.
    let own = |child: &Descriptor| {
        let platform = child.platform.as_ref();
        platform.is_some_and(|it| it.architecture == architecture())
    };
    below.sort_by_key(|child| !own(child));
    for child in below.into_iter().take(MAX_CHILD_MANIFESTS) {
        let child = Reference::Digest(child.digest);
        let held = probe::fetch_manifest(&client, repository, &child)
            .await
            .ok()?;
        if let Some(found) = held.and_then(|held| config_and_layers(single, &held)) {
            return Some(found);
        }
    }
    None
}

fn config_and_layers(
    single: &SingleImage,
    held: &ParsedManifest,
) -> Option<(Descriptor, Vec<Descriptor>)> {
    let layers = layers_of_same_image(single, held)?;
    match &held.manifest {
        Manifest::Image { config, .. } => Some((config.clone(), layers.to_vec())),
        Manifest::Index { .. } => None,
    }
}

/// This machine's, as images name it (Go's `GOARCH`).
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        other => other,
    }
}
