//! The diffIDs of the layers of an image, and the commands that made them, as its config tells (OCI
//! image-spec, "rootfs" and "history"). Only names are in the manifest.

use imgsync_oci::{Descriptor, Digest};
use serde_json::Value;

use super::contents::RemoteImage;

/// The most steps of a history that are read. Docker allows images of 127 layers.
const MAX_HISTORY_STEPS: usize = 1000;

/// A layer, and what the config tells of it.
pub(super) struct LayerOrigin<'a> {
    /// The blob.
    pub(super) blob: &'a Descriptor,
    /// The digest of the uncompressed layer.
    pub(super) diff_id: Option<Digest>,
    /// The command that made the layer, as the builder wrote it.
    pub(super) created_by: Option<&'a str>,
}

/// A step of the build.
pub(super) struct HistoryStep<'a> {
    pub(super) created: Option<&'a str>,
    pub(super) created_by: Option<&'a str>,
    pub(super) comment: Option<&'a str>,
    /// The layer that the step made; `None` if it made none, or if the history does not fit to the
    /// layers.
    pub(super) layer: Option<&'a Descriptor>,
}

/// Returns the layers of an image, lowest first.
pub(super) fn layer_origins(image: &RemoteImage) -> Vec<LayerOrigin<'_>> {
    let diff_ids = diff_ids(image);
    let steps = history(image);
    let made: Vec<_> = steps.iter().filter(|step| step.layer.is_some()).collect();
    let layers = image.layers.iter().enumerate();
    let layers = layers.map(|(position, blob)| LayerOrigin {
        blob,
        diff_id: diff_ids.get(position).cloned(),
        created_by: made.get(position).and_then(|step| step.created_by),
    });
    layers.collect()
}

/// Returns the diffIDs of the layers; none if their number is another one.
fn diff_ids(image: &RemoteImage) -> Vec<Digest> {
    let listed = image.config_json.as_ref();
    let listed = listed.and_then(|config| config["rootfs"]["diff_ids"].as_array());
    let listed = listed.filter(|listed| listed.len() == image.layers.len());
    let parsed = listed.map(|listed| {
        let texts = listed.iter().map(|text| text.as_str()?.parse().ok());
        texts.collect::<Option<Vec<Digest>>>()
    });
    parsed.flatten().unwrap_or_default()
}

/// Returns the steps of the build, the first one first.
pub(super) fn history(image: &RemoteImage) -> Vec<HistoryStep<'_>> {
    let listed = image.config_json.as_ref();
    let listed = listed.and_then(|config| config["history"].as_array());
    let Some(listed) = listed.filter(|listed| listed.len() <= MAX_HISTORY_STEPS) else {
        return Vec::new();
    };
    let makes_layer = |step: &Value| step["empty_layer"].as_bool() != Some(true);
    let count = listed.iter().filter(|step| makes_layer(step)).count();
    let mut layers = image.layers.iter();
    let steps = listed.iter().map(|step| HistoryStep {
        created: step["created"].as_str(),
        created_by: step["created_by"].as_str().filter(|text| !text.is_empty()),
        comment: step["comment"].as_str().filter(|text| !text.is_empty()),
        layer: if count == image.layers.len() && makes_layer(step) {
            layers.next()
        } else {
            None
        },
    });
    steps.collect()
}

#[cfg(test)]
mod tests {
    use imgsync_oci::media;
    use serde_json::json;

    use super::*;

    fn image(layer_count: u8, config: Value) -> RemoteImage {
        let layers = (0..layer_count).map(|number| {
            let digest = Digest::of(&[number]);
            Descriptor::new(media::DOCKER_LAYER_GZIP, digest, u64::from(number) + 1)
        });
        RemoteImage {
            digest: Digest::of(b"manifest"),
            media_type: media::DOCKER_MANIFEST.to_owned(),
            platform: None,
            config: None,
            layers: layers.collect(),
            config_json: Some(config),
            unread: None,
        }
    }

    #[test]
    fn commands_belong_to_their_layers() {
        let diff_ids = [Digest::of(b"a"), Digest::of(b"b")];
        let config = json!({
            "rootfs": {"diff_ids": diff_ids},
            "history": [
                {"created_by": "ADD root /"},
                {"created_by": "ENV A=1", "empty_layer": true},
                {"created_by": "COPY app /app", "comment": "buildkit"},
            ],
        });
        let two = image(2, config.clone());
        let origins = layer_origins(&two);
        let commands: Vec<_> = origins.iter().map(|layer| layer.created_by).collect();
        assert_eq!(commands, [Some("ADD root /"), Some("COPY app /app")]);
        assert_eq!(origins[1].diff_id, Some(diff_ids[1].clone()));
        let sizes = history(&two);
        let sizes = sizes.iter().map(|step| step.layer.map(|layer| layer.size));
        assert_eq!(sizes.collect::<Vec<_>>(), [Some(1), None, Some(2)]);

        // A history of another number of layers belongs to none of them.
        let three = image(3, config);
        let origins = layer_origins(&three);
        assert!(origins.iter().all(|layer| layer.created_by.is_none()));
        assert!(origins.iter().all(|layer| layer.diff_id.is_none()));
        assert_eq!(history(&three).len(), 3);
    }

    #[test]
    fn hostile_configs_have_no_history() {
        for config in [
            json!(null),
            json!({"history": 7, "rootfs": []}),
            json!({"history": [7, null], "rootfs": {"diff_ids": [1, 2]}}),
            json!({"history": vec![json!({}); MAX_HISTORY_STEPS + 1]}),
        ] {
            let origins = image(2, config);
            let origins = layer_origins(&origins);
            assert_eq!(origins.len(), 2);
            assert!(origins.iter().all(|layer| layer.created_by.is_none()));
        }
    }
}
