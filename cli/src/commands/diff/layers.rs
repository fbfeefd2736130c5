//! Compares the layers of two images.

use std::collections::HashMap;

use imgsync_oci::Digest;

use crate::commands::contents::RemoteImage;
use crate::commands::layer_origins::{LayerOrigin, layer_origins};

/// Whether a layer is in both images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum LayerStatus {
    /// In both. The blob of the old image is another one if it is compressed in another way.
    Same {
        /// The blob in the old image.
        old_blob: Digest,
    },
    /// Only in the old image.
    Removed,
    /// Only in the new image.
    Added,
}

/// The layers of both images.
pub(super) struct LayerComparison<'a> {
    /// The layers of the new image, and before them those that only the old one has.
    pub(super) layers: Vec<(LayerStatus, LayerOrigin<'a>)>,
    /// The number of layers at the bottom that both images have.
    pub(super) shared_base: usize,
}

/// Compares layers by what they contain, if both configs tell it, and else by their blobs.
pub(super) fn compare_layers<'a>(
    old: &'a RemoteImage,
    new: &'a RemoteImage,
) -> LayerComparison<'a> {
    let (old, new) = (layer_origins(old), layer_origins(new));
    let has_diff_ids = old.iter().chain(&new).all(|layer| layer.diff_id.is_some());
    let key = |layer: &LayerOrigin<'_>| match &layer.diff_id {
        Some(diff_id) if has_diff_ids => diff_id.clone(),
        _ => layer.blob.digest.clone(),
    };
    let old_keys: Vec<_> = old.iter().map(key).collect();
    let new_keys: Vec<_> = new.iter().map(key).collect();
    let shared = old_keys.iter().zip(&new_keys);
    let shared_base = shared.take_while(|(a, b)| a == b).count();

    // An image can have the same layer several times.
    let mut left: HashMap<&Digest, Vec<&Digest>> = HashMap::new();
    for (key, layer) in old_keys.iter().zip(&old).rev() {
        left.entry(key).or_default().push(&layer.blob.digest);
    }
    let statuses = new_keys
        .iter()
        .map(|key| match left.get_mut(key).and_then(Vec::pop) {
            Some(old_blob) => LayerStatus::Same {
                old_blob: old_blob.clone(),
            },
            None => LayerStatus::Added,
        });
    let statuses: Vec<_> = statuses.collect();
    let is_left = old_keys.iter().rev().map(|key| {
        // Those that are left of several are the last ones.
        left.get_mut(key).and_then(Vec::pop).is_some()
    });
    let mut is_removed: Vec<_> = is_left.collect();
    is_removed.reverse();
    let removed = old.into_iter().zip(is_removed);
    let removed = removed.filter(|(_, is_removed)| *is_removed);
    let removed = removed.map(|(layer, _)| (LayerStatus::Removed, layer));
    LayerComparison {
        layers: removed.chain(statuses.into_iter().zip(new)).collect(),
        shared_base,
    }
}

#[cfg(test)]
mod tests {
    use imgsync_oci::{Descriptor, media};
    use serde_json::json;

    use super::*;

    fn image(layers: &[&str], with_diff_ids: bool) -> RemoteImage {
        let blob = |name: &&str| {
            let digest = Digest::of(name.as_bytes());
            Descriptor::new(media::DOCKER_LAYER_GZIP, digest, 1)
        };
        // The diffID is that of the name without the compression after the dot.
        let diff_id = |name: &&str| Digest::of(name.split('.').next().unwrap().as_bytes());
        let diff_ids: Vec<_> = layers.iter().map(diff_id).collect();
        RemoteImage {
            digest: Digest::of(b"manifest"),
            media_type: media::DOCKER_MANIFEST.to_owned(),
            platform: None,
            config: None,
            layers: layers.iter().map(blob).collect(),
            config_json: with_diff_ids.then(|| json!({"rootfs": {"diff_ids": diff_ids}})),
            unread: None,
        }
    }

    fn compared(old: &[&str], new: &[&str], with_diff_ids: bool) -> (String, usize) {
        let (old, new) = (image(old, with_diff_ids), image(new, with_diff_ids));
        let compared = compare_layers(&old, &new);
        let marks = compared.layers.iter().map(|(status, _)| match status {
            LayerStatus::Same { .. } => '=',
            LayerStatus::Removed => '-',
            LayerStatus::Added => '+',
        });
        (marks.collect(), compared.shared_base)
    }

    #[test]
    fn layers_are_paired() {
        let equal = |old: &[&str], new: &[&str]| compared(old, new, true);
        assert_eq!(equal(&["a", "b"], &["a", "c"]), ("-=+".to_owned(), 1));
        assert_eq!(equal(&["a", "b"], &["x", "b"]), ("-+=".to_owned(), 0));
        assert_eq!(equal(&["a", "a"], &["a"]), ("-=".to_owned(), 1));
        assert_eq!(equal(&[], &["a"]), ("+".to_owned(), 0));
        // The same layer in another compression.
        assert_eq!(equal(&["a.gz"], &["a.zst"]), ("=".to_owned(), 1));
        assert_eq!(compared(&["a.gz"], &["a.zst"], false).0, "-+");
    }
}
