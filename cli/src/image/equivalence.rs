//! Compares manifests that differ in their formatting, or in whose media types they use.
//!
//! Programs do not agree on what a manifest says: those in Go ignore the case of field names, so for
//! them `Layers` replaces `layers`, and annotations make some read other bytes of a layer than its
//! tar. A stranger can use that. So manifests with any field that is not needed are never
//! equivalent. Start reading at [`VerifiedManifest::is_equivalent`].

use imgsync_oci::Digest;
use imgsync_oci::media::{self, Compression};
use serde::Deserialize;

use super::VerifiedManifest;

/// A manifest with the required fields and no others.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PlainManifest {
    schema_version: u8,
    media_type: Option<String>,
    config: PlainDescriptor,
    layers: Vec<PlainDescriptor>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PlainDescriptor {
    media_type: String,
    digest: Digest,
    size: u64,
}

/// The content of a plain manifest: the config, and the layers with their compression.
type PlainContent = ((Digest, u64), Vec<(Compression, Digest, u64)>);

impl VerifiedManifest {
    /// Returns whether two manifests name the same config and layers, and nothing else. One may use
    /// Docker's media types, and the other those of OCI.
    pub(crate) fn is_equivalent(&self, other: &Self) -> bool {
        let is_same = || Some(self.plain_content()? == other.plain_content()?);
        self.digest == other.digest || is_same().unwrap_or(false)
    }

    /// Returns whether the manifest names a config and layers, and nothing else.
    pub(crate) fn is_plain(&self) -> bool {
        self.plain_content().is_some()
    }

    /// Returns the content of a manifest; `None` if it has other fields than those of every
    /// manifest, or media types that do not belong together.
    fn plain_content(&self) -> Option<PlainContent> {
        let plain: PlainManifest = serde_json::from_slice(&self.bytes).ok()?;
        let (config_type, layer_type): (_, fn(_) -> _) = match &*self.media_type {
            media::OCI_MANIFEST => (media::OCI_CONFIG, Compression::oci_layer_type),
            media::DOCKER_MANIFEST => (media::DOCKER_CONFIG, Compression::docker_layer_type),
            _ => return None,
        };
        let own_type = plain.media_type.as_ref().unwrap_or(&self.media_type);
        let is_consistent = plain.schema_version == 2
            && *own_type == self.media_type
            && plain.config.media_type == config_type;
        let layers = plain.layers.into_iter().map(|layer| {
            let compression = Compression::of_media_type(&layer.media_type)?;
            let is_consistent = layer.media_type == layer_type(compression);
            is_consistent.then_some((compression, layer.digest, layer.size))
        });
        let layers = layers.collect::<Option<_>>()?;
        is_consistent.then_some(((plain.config.digest, plain.config.size), layers))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn manifest(media_type: &str, config_type: &str, layer_type: &str) -> Value {
        let digest = |text: &str| Digest::of(text.as_bytes());
        json!({
            "schemaVersion": 2,
            "mediaType": media_type,
            "config": { "mediaType": config_type, "digest": digest("{}"), "size": 2 },
            "layers": [{ "mediaType": layer_type, "digest": digest("layer"), "size": 5 }],
        })
    }

    fn docker() -> Value {
        let layer_type = Compression::Gzip.docker_layer_type();
        manifest(media::DOCKER_MANIFEST, media::DOCKER_CONFIG, layer_type)
    }

    fn is_equivalent(media_type: &str, text: impl Into<String>) -> bool {
        let own = VerifiedManifest::new(media::DOCKER_MANIFEST, docker().to_string());
        own.is_equivalent(&VerifiedManifest::new(media_type, text.into()))
    }

    #[test]
    fn the_formatting_and_the_family_of_media_types_do_not_matter() {
        let spaced = serde_json::to_string_pretty(&docker()).unwrap();
        assert!(is_equivalent(media::DOCKER_MANIFEST, spaced));
        let layer_type = Compression::Gzip.oci_layer_type();
        let mut oci = manifest(media::OCI_MANIFEST, media::OCI_CONFIG, layer_type);
        assert!(is_equivalent(media::OCI_MANIFEST, oci.to_string()));
        assert!(!is_equivalent(media::DOCKER_MANIFEST, oci.to_string()));
        oci.as_object_mut().unwrap().remove("mediaType");
        assert!(is_equivalent(media::OCI_MANIFEST, oci.to_string()));
        oci["config"]["mediaType"] = media::DOCKER_CONFIG.into();
        assert!(!is_equivalent(media::OCI_MANIFEST, oci.to_string()));
        let mut other = docker();
        other["layers"][0]["mediaType"] = Compression::Zstd.docker_layer_type().into();
        assert!(!is_equivalent(media::DOCKER_MANIFEST, other.to_string()));
    }

    #[test]
    fn no_other_field_is_accepted() {
        let other = json!([{ "digest": Digest::of(b"other") }]);
        for (path, name) in [
            ("", "Layers"),
            ("", "layer\u{17f}"),
            ("", "CONFIG"),
            ("", "manifests"),
            ("", "annotations"),
            ("", "subject"),
            ("/config", "Digest"),
            ("/layers/0", "Digest"),
            ("/layers/0", "annotations"),
            ("/layers/0", "urls"),
        ] {
            let mut changed = docker();
            let object = changed.pointer_mut(path).and_then(Value::as_object_mut);
            object.unwrap().insert(name.to_owned(), other.clone());
            let text = changed.to_string();
            assert!(
                !is_equivalent(media::DOCKER_MANIFEST, text),
                "{path} {name}"
            );
        }
        let twice = docker()
            .to_string()
            .replace(r#""layers""#, r#""layers":[],"layers""#);
        assert!(!is_equivalent(media::DOCKER_MANIFEST, twice));
    }
}
