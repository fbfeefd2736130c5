//! Finds the manifests of an image that the local engine or an earlier push of this user recorded, so
//! that another tag of the image gets the same manifest, byte for byte.
//!
//! Such a record is a claim, as in `copies`. A manifest is put again only if its layers are proven or
//! verified, and if it says nothing else: it may be a stranger's, with a subject or annotations. Start
//! reading at [`find`].

use std::collections::HashSet;

use imgsync_oci::{Descriptor, Repository};

use super::probe::ParsedManifest;
use super::{LookupRequest, RecordedImage, copies, match_image};
use crate::cache::pushed_manifests;
use crate::image::{Layer, ManifestOrigin, SingleImage};

/// A recorded manifest of the image, at the target's registry.
#[derive(Debug, Clone)]
pub(super) struct RecordedManifest {
    /// The repository that has it.
    pub(super) repository: Repository,
    /// The manifest.
    pub(super) image: ParsedManifest,
    /// Its config.
    pub(super) config: Descriptor,
    /// Its layers, one for each of the image.
    pub(super) layers: Vec<Descriptor>,
}

/// Returns the recorded manifests that could be put again. Looks only at the manifest that the tag
/// points at, if it is one of the same image.
pub(super) async fn find(
    request: &LookupRequest,
    single: &SingleImage,
    tagged: Option<&ParsedManifest>,
) -> Vec<RecordedManifest> {
    let are_raw = single
        .layers
        .iter()
        .all(|layer| matches!(layer, Layer::Raw { .. }));
    if !request.reuse || !are_raw || !matches!(single.origin, ManifestOrigin::Generated) {
        return Vec::new();
    }
    let mut records = records(request, single);
    if let Some(tagged) = tagged.filter(|tagged| match_image(single, tagged).is_some()) {
        records.retain(|record| record.manifest == tagged.verified.digest);
    }
    let mut seen = HashSet::new();
    let mut found = Vec::new();
    for record in records {
        if !seen.insert(record.manifest.clone()) {
            continue;
        }
        let Some(copy) = copies::find(&request.probe, &record, tagged).await else {
            continue;
        };
        if copy.image.verified.is_plain() {
            found.push(RecordedManifest {
                repository: record.repository,
                image: copy.image,
                config: copy.config,
                layers: copy.layers,
            });
        }
    }
    found
}

/// Returns the records of this user's pushes and of the local engine.
fn records(request: &LookupRequest, single: &SingleImage) -> Vec<RecordedImage> {
    let probe = &request.probe;
    let config = &single.config.digest;
    let registry = probe.client.registry();
    let own = pushed_manifests::lookup(&probe.cache, registry, &probe.repository, config);
    let diff_ids = single.layers.iter().map(Layer::source_digest);
    let own = own.map(|manifest| RecordedImage {
        repository: probe.repository.clone(),
        manifest,
        config: config.clone(),
        diff_ids: diff_ids.cloned().collect(),
    });
    let engine = request.copies.iter();
    let engine = engine.filter(|record| record.config == *config);
    own.into_iter().chain(engine.cloned()).collect()
}
