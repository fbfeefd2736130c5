//! Finds the manifests of an image that the local engine or an earlier push of this user recorded, so
//! that another tag of the image gets the same manifest, byte for byte.
//!
//! Such a record is a claim, as in `copies`. A manifest is put again only if its layers are proven or
//! verified, and if it says nothing else: it may be a stranger's, with a subject or annotations. Start
//! reading at [`find`].

use std::collections::HashSet;

use imgsync_oci::{Descriptor, Repository};
use serde_json::{Map, Value};

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
        if says_nothing_else(&copy.image.verified.bytes) {
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

/// Returns whether a manifest consists of its type, its config and its layers, so that it has no
/// meaning besides them.
fn says_nothing_else(manifest: &[u8]) -> bool {
    let has_only = |object: &Map<String, Value>, keys: &[&str]| {
        object.keys().all(|key| keys.contains(&key.as_str()))
    };
    let is_descriptor = |value: &Value| {
        let object = value.as_object();
        object.is_some_and(|object| has_only(object, &["mediaType", "digest", "size"]))
    };
    let Ok(Value::Object(manifest)) = serde_json::from_slice(manifest) else {
        return false;
    };
    let layers = manifest.get("layers").and_then(Value::as_array);
    has_only(
        &manifest,
        &["schemaVersion", "mediaType", "config", "layers"],
    ) && manifest.get("config").is_some_and(is_descriptor)
        && layers.is_some_and(|layers| layers.iter().all(is_descriptor))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_manifest_with_annotations_or_a_subject_is_not_put_again() {
        let blob = json!({"mediaType": "m", "digest": "d", "size": 1});
        let plain = json!({
            "schemaVersion": 2, "mediaType": "m", "config": blob, "layers": [blob, blob],
        });
        let is_plain = |value: &Value| says_nothing_else(value.to_string().as_bytes());
        assert!(is_plain(&plain));
        for (pointer, key) in [
            ("", "annotations"),
            ("", "subject"),
            ("", "artifactType"),
            ("/config", "annotations"),
            ("/layers/1", "urls"),
        ] {
            let mut other = plain.clone();
            other.pointer_mut(pointer).unwrap()[key] = json!({});
            assert!(!is_plain(&other), "{pointer} {key}");
        }
        assert!(!is_plain(&json!([])));
    }
}
