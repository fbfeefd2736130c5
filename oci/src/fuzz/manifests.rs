//! Manifests, indexes and referrers.

use serde_json::Value;

use crate::manifest::{Children, MAX_DESCRIPTOR_URLS, MAX_DESCRIPTORS};
use crate::referrers::{ReferrerDescriptor, parse_referrer};
use crate::{Descriptor, Digest, Manifest, media};

/// An accepted manifest has the content that a generic JSON parser finds in the same bytes.
pub fn manifests(data: &[u8]) {
    let own_type = Manifest::media_type(data);
    let Ok((media_type, manifest)) = Manifest::parse(data, None) else {
        assert!(parse_referrer(data, &Digest::of(data)).is_err());
        return;
    };
    assert_eq!(own_type.as_ref(), Ok(&media_type));
    let declared = Manifest::parse(data, Some(&media_type));
    assert_eq!(declared, Ok((media_type.clone(), manifest.clone())));
    // The generic parser checks the numbers and the UTF-8 of unknown fields too.
    let Ok(json) = serde_json::from_slice::<Value>(data) else {
        return;
    };
    assert_eq!(json["schemaVersion"], 2);
    match &manifest {
        Manifest::Image { config, layers, .. } => {
            assert!(media::is_image_manifest(&media_type) && json["manifests"].is_null());
            check_descriptor(config, &json["config"]);
            check_list(layers, &json["layers"]);
        }
        Manifest::Index { manifests, .. } => {
            assert!(media::is_index(&media_type));
            assert!(json["layers"].is_null() && json["config"].is_null());
            check_list(manifests, &json["manifests"]);
        }
    }
    let Children { blobs, manifests } = manifest.children();
    // Only an index can name both: BuildKit's cache lists layers.
    if media::is_index(&media_type) {
        let is_blob = |child: &Descriptor| media::is_blob(&child.media_type);
        assert!(blobs.iter().all(is_blob) && !manifests.iter().any(is_blob));
    } else {
        assert!(manifests.is_empty());
    }
    check_referrer(data, &manifest);
}

fn check_list(descriptors: &[Descriptor], json: &Value) {
    let list = json.as_array().map_or(&[][..], Vec::as_slice);
    assert_eq!(descriptors.len(), list.len());
    assert!(list.len() <= MAX_DESCRIPTORS);
    for (descriptor, json) in descriptors.iter().zip(list) {
        check_descriptor(descriptor, json);
    }
}

fn check_descriptor(descriptor: &Descriptor, json: &Value) {
    assert_eq!(json["digest"], *descriptor.digest.to_string());
    assert_eq!(json["size"].as_u64(), Some(descriptor.size));
    let media_type = json["mediaType"].as_str().unwrap_or_default();
    assert_eq!(descriptor.media_type, media_type);
    assert!(descriptor.urls.len() <= MAX_DESCRIPTOR_URLS);
    let printed = serde_json::to_vec(descriptor).unwrap_or_default();
    let parsed = serde_json::from_slice::<Descriptor>(&printed).ok();
    assert_eq!(parsed.as_ref(), Some(descriptor));
}

fn check_referrer(data: &[u8], manifest: &Manifest) {
    let digest = Digest::of(data);
    let Ok(referrer) = parse_referrer(data, &digest) else {
        panic!("a manifest, but no referrer");
    };
    let subject = manifest.subject().map(|subject| &subject.digest);
    assert_eq!(referrer.as_ref().map(|(subject, _)| subject), subject);
    let Some((_, listed)) = referrer else {
        return;
    };
    assert_eq!((&listed.digest, listed.size), (&digest, data.len() as u64));
    let printed = serde_json::to_vec(&listed).unwrap_or_default();
    let parsed = serde_json::from_slice::<ReferrerDescriptor>(&printed).ok();
    assert_eq!(parsed, Some(listed));
}
