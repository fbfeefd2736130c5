//! Builds and edits image manifests.

use imgsync_oci::Descriptor;
use imgsync_oci::media::{self, Compression};
use serde_json::{Value, json};

use super::{Error, Layer, ManifestOrigin, SingleImage, VerifiedManifest};

/// Returns the media type of a layer in another manifest, in which `layer_type` returns those of the
/// layers of a file system; other types stay.
fn layer_type_of(descriptor: &Descriptor, layer_type: fn(Compression) -> &'static str) -> &str {
    let compression = Compression::of_media_type(&descriptor.media_type);
    compression.map_or(&descriptor.media_type, layer_type)
}

fn descriptor_json(media_type: &str, descriptor: &Descriptor) -> Value {
    let Descriptor { size, digest, .. } = descriptor;
    json!({ "mediaType": media_type, "size": size, "digest": digest })
}

/// Builds the manifest of an image that has none: a Docker manifest (schema 2) as `docker push`
/// writes it, or an OCI manifest if a layer is compressed with zstd, for which Docker has no media
/// type. Equal descriptors yield equal bytes.
fn build(config: &Descriptor, layers: &[Descriptor]) -> VerifiedManifest {
    let is_zstd = |layer: &Descriptor| {
        Compression::of_media_type(&layer.media_type) == Some(Compression::Zstd)
    };
    let (media_type, config_type, layer_type): (_, _, fn(_) -> _) = if layers.iter().any(is_zstd) {
        (
            media::OCI_MANIFEST,
            media::OCI_CONFIG,
            Compression::oci_layer_type,
        )
    } else {
        (
            media::DOCKER_MANIFEST,
            media::DOCKER_CONFIG,
            Compression::docker_layer_type,
        )
    };
    let layers = layers.iter();
    let layers = layers.map(|layer| descriptor_json(layer_type_of(layer, layer_type), layer));
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": media_type,
        "config": descriptor_json(config_type, config),
        "layers": layers.collect::<Value>(),
    });
    VerifiedManifest::new(media_type, manifest.to_string())
}

impl SingleImage {
    /// Returns the image's manifest once all blobs are known. `layers` has a descriptor for each
    /// layer, in order; `config_size` is the size of the config in bytes.
    ///
    /// # Errors
    /// Returns [`Error::Malformed`] if the number of `layers` is wrong.
    pub fn build_manifest(
        &self,
        config_size: u64,
        layers: &[Descriptor],
    ) -> Result<VerifiedManifest, Error> {
        if layers.len() != self.layers.len() {
            let reason = format!("{} blobs for {} layers", layers.len(), self.layers.len());
            return Err(malformed(reason));
        }
        match &self.origin {
            ManifestOrigin::Original(own) => Ok(own.clone()),
            ManifestOrigin::Edited(own) => edit(own, &self.layers, layers),
            ManifestOrigin::Generated => {
                let (media_type, digest) = (&self.config.media_type, self.config.digest.clone());
                let config = Descriptor::new(media_type, digest, config_size);
                Ok(build(&config, layers))
            }
        }
    }
}

/// Replaces the descriptors of uncompressed layers in a manifest; everything else stays, in its
/// order.
fn edit(
    own: &VerifiedManifest,
    layers: &[Layer],
    blobs: &[Descriptor],
) -> Result<VerifiedManifest, Error> {
    let mut manifest: Value =
        serde_json::from_slice(&own.bytes).map_err(|error| malformed(error.to_string()))?;
    let entries = manifest
        .get_mut("layers")
        .and_then(Value::as_array_mut)
        .filter(|entries| entries.len() == layers.len())
        .ok_or_else(|| malformed("its layers differ from those of the image"))?;
    for ((entry, layer), blob) in entries.iter_mut().zip(layers).zip(blobs) {
        if let Layer::Raw { .. } = layer {
            let media_type = entry["mediaType"].as_str().unwrap_or_default();
            let layer_type = if media_type.starts_with("application/vnd.oci.") {
                Compression::oci_layer_type
            } else {
                Compression::docker_layer_type
            };
            entry["mediaType"] = layer_type_of(blob, layer_type).into();
            entry["digest"] = blob.digest.to_string().into();
            entry["size"] = blob.size.into();
        }
    }
    Ok(VerifiedManifest::new(&own.media_type, manifest.to_string()))
}

fn malformed(reason: impl Into<String>) -> Error {
    Error::malformed("the image's manifest", reason)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::ImageConfig;
    use bytes::Bytes;
    use imgsync_oci::{Digest, Manifest};

    fn gzip_layer(content: &str) -> Descriptor {
        let digest = Digest::of(content.as_bytes());
        Descriptor::new(media::DOCKER_LAYER_GZIP, digest, content.len() as u64)
    }

    fn config() -> Descriptor {
        Descriptor::new(media::DOCKER_CONFIG, Digest::of(b"{}"), 2)
    }

    #[test]
    fn a_written_manifest_is_dockers_and_the_same_each_time() {
        let manifest = build(&config(), &[gzip_layer("a"), gzip_layer("bb")]);
        let expected = concat!(
            r#"{"schemaVersion":2,"#,
            r#""mediaType":"application/vnd.docker.distribution.manifest.v2+json","#,
            r#""config":{"mediaType":"application/vnd.docker.container.image.v1+json","size":2,"#,
            r#""digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"},"#,
            r#""layers":[{"mediaType":"application/vnd.docker.image.rootfs.diff.tar.gzip","size":1,"#,
            r#""digest":"sha256:ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"},"#,
            r#"{"mediaType":"application/vnd.docker.image.rootfs.diff.tar.gzip","size":2,"#,
            r#""digest":"sha256:3b64db95cb55c763391c707108489ae18b4112d783300de38e033b4c98c3deaf"}]}"#,
        );
        assert_eq!(manifest.bytes, expected);
        assert_eq!(manifest.digest, Digest::of(expected.as_bytes()));
        Manifest::parse(&manifest.bytes, Some(&manifest.media_type)).unwrap();
    }

    #[test]
    fn zstd_makes_it_an_oci_manifest() {
        let mut zstd = gzip_layer("z");
        zstd.media_type = Compression::Zstd.oci_layer_type().to_owned();
        let manifest = build(&config(), &[gzip_layer("a"), zstd]);
        let (media_type, parsed) = Manifest::parse(&manifest.bytes, None).unwrap();
        assert_eq!(media_type, media::OCI_MANIFEST);
        let Manifest::Image { config, layers, .. } = parsed else {
            panic!("an index");
        };
        assert_eq!(config.media_type, media::OCI_CONFIG);
        assert_eq!(layers[0].media_type, Compression::Gzip.oci_layer_type());
        assert_eq!(layers[1].media_type, Compression::Zstd.oci_layer_type());
    }

    #[test]
    fn editing_touches_raw_layers_only() {
        let raw = Digest::of(b"raw tar");
        let ready = gzip_layer("ready");
        let own = serde_json::json!({
            "zebra": 1,
            "schemaVersion": 2,
            "config": { "mediaType": media::OCI_CONFIG, "digest": config().digest, "size": 2 },
            "layers": [
                { "size": 7, "annotations": { "b": "1", "a": "2" }, "digest": raw,
                  "mediaType": Compression::None.oci_layer_type() },
                { "mediaType": Compression::Gzip.oci_layer_type(),
                  "digest": ready.digest, "size": 5 },
            ],
        });
        let single = SingleImage {
            config: ImageConfig {
                media_type: media::OCI_CONFIG.to_owned(),
                digest: config().digest,
                bytes: Some(Bytes::from_static(b"{}")),
            },
            layers: vec![
                Layer::Raw {
                    diff_id: raw.clone(),
                    size: Some(7),
                },
                Layer::Blob {
                    descriptor: ready.clone(),
                    diff_id: None,
                },
            ],
            origin: ManifestOrigin::Edited(VerifiedManifest::new(
                media::OCI_MANIFEST,
                own.to_string(),
            )),
        };
        let blob = gzip_layer("packed");
        let edited = single.build_manifest(2, &[blob.clone(), ready]).unwrap();
        let expected = own
            .to_string()
            .replace(&raw.to_string(), &blob.digest.to_string())
            .replace(r#""size":7"#, r#""size":6"#)
            .replace(r#"layer.v1.tar""#, r#"layer.v1.tar+gzip""#);
        assert_eq!(edited.bytes, expected);
        assert!(single.build_manifest(2, &[blob]).is_err());
    }
}
