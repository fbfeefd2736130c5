//! The image itself, elsewhere at the registry: a daemon that pulled or pushed it knows where.

use imgsync_oci::client::Client;
use imgsync_oci::{Descriptor, Digest, Manifest, Reference, Repository};

use super::same_image;
use crate::ask::{self, Held};
use crate::source::Single;

/// The most images of an index that are looked at.
const MOST: usize = 3;

/// The blobs of the image's config and layers, by the manifest of that digest in `repository`, or one
/// of those below it; `None` where there is none of this very image, or no asking.
pub(super) async fn find(
    client: &Client,
    single: &Single,
    repository: &Repository,
    digest: &Digest,
) -> Option<(Descriptor, Vec<Descriptor>)> {
    // Nothing is to be written there.
    let client = client.reading();
    let top = Reference::Digest(digest.clone());
    let top = ask::manifest(&client, repository, &top).await.ok()??;
    if let Some(found) = parts(single, &top) {
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
    for child in below.into_iter().take(MOST) {
        let child = Reference::Digest(child.digest);
        let held = ask::manifest(&client, repository, &child).await.ok()?;
        if let Some(found) = held.and_then(|held| parts(single, &held)) {
            return Some(found);
        }
    }
    None
}

fn parts(single: &Single, held: &Held) -> Option<(Descriptor, Vec<Descriptor>)> {
    let layers = same_image(single, held)?;
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
