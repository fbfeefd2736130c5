//! Builds and edits image manifests.

use imgsync_oci::media::{self, Compression};
use imgsync_oci::{Descriptor, Digest};
use serde::Serialize;

use super::{Error, ImageConfig, Layer, ManifestOrigin, SingleImage, VerifiedManifest};

/// The family of media types in a manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MediaTypeFamily {
    Docker,
    Oci,
}

impl MediaTypeFamily {
    fn of(media_type: &str) -> Self {
        if media_type.starts_with("application/vnd.oci.") {
            Self::Oci
        } else {
            Self::Docker
        }
    }

    fn layer_type(self, compression: Compression) -> &'static str {
        match (self, compression) {
            (Self::Oci, Compression::None) => "application/vnd.oci.image.layer.v1.tar",
            (Self::Oci, Compression::Gzip) => "application/vnd.oci.image.layer.v1.tar+gzip",
            (Self::Oci, Compression::Zstd) => "application/vnd.oci.image.layer.v1.tar+zstd",
            (Self::Docker, Compression::None) => "application/vnd.docker.image.rootfs.diff.tar",
            (Self::Docker, Compression::Gzip) => media::DOCKER_LAYER_GZIP,
            (Self::Docker, Compression::Zstd) => {
                "application/vnd.docker.image.rootfs.diff.tar.zstd"
            }
        }
    }

    /// Returns the media type of a layer in this family; other types stay.
    fn layer_type_of(self, descriptor: &Descriptor) -> &str {
        match Compression::of_media_type(&descriptor.media_type) {
            Some(compression) => self.layer_type(compression),
            None => &descriptor.media_type,
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ManifestJson<'a> {
    schema_version: u8,
    media_type: &'a str,
    config: DescriptorJson<'a>,
    layers: Vec<DescriptorJson<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DescriptorJson<'a> {
    media_type: &'a str,
    size: u64,
    digest: &'a Digest,
}

impl<'a> DescriptorJson<'a> {
    fn new(media_type: &'a str, descriptor: &'a Descriptor) -> Self {
        Self {
            media_type,
            size: descriptor.size,
            digest: &descriptor.digest,
        }
    }
}

/// Builds the manifest of an image that has none: a Docker manifest (schema 2) as `docker push`
/// writes it, or an OCI manifest if a layer is compressed with zstd, for which Docker has no media
/// type. Equal descriptors yield equal bytes.
///
/// # Errors
/// Returns [`Error::Malformed`] if serialization fails, which does not happen.
pub fn build(config: &Descriptor, layers: &[Descriptor]) -> Result<VerifiedManifest, Error> {
    let is_zstd = |layer: &Descriptor| {
        Compression::of_media_type(&layer.media_type) == Some(Compression::Zstd)
    };
    let (family, media_type, config_type) = if layers.iter().any(is_zstd) {
        (MediaTypeFamily::Oci, media::OCI_MANIFEST, media::OCI_CONFIG)
    } else {
        (
            MediaTypeFamily::Docker,
            media::DOCKER_MANIFEST,
            media::DOCKER_CONFIG,
        )
    };
    let written = ManifestJson {
        schema_version: 2,
        media_type,
        config: DescriptorJson::new(config_type, config),
        layers: layers
            .iter()
            .map(|layer| DescriptorJson::new(family.layer_type_of(layer), layer))
            .collect(),
    };
    let bytes = serde_json::to_vec(&written).map_err(unwritable)?;
    Ok(VerifiedManifest::new(media_type, bytes))
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
                let ImageConfig {
                    media_type, digest, ..
                } = &self.config;
                build(
                    &Descriptor::new(media_type, digest.clone(), config_size),
                    layers,
                )
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
    let mut manifest: serde_json::Value = serde_json::from_slice(&own.bytes).map_err(unwritable)?;
    let entries = manifest
        .get_mut("layers")
        .and_then(|layers| layers.as_array_mut())
        .filter(|entries| entries.len() == layers.len())
        .ok_or_else(|| malformed("its layers are not those of the image".to_owned()))?;
    for ((entry, layer), blob) in entries.iter_mut().zip(layers).zip(blobs) {
        match layer {
            Layer::Blob { .. } => continue,
            Layer::Raw { .. } => {}
        }
        let was = entry.get("mediaType").and_then(|was| was.as_str());
        let family = MediaTypeFamily::of(was.unwrap_or_default());
        entry["mediaType"] = family.layer_type_of(blob).into();
        entry["digest"] = blob.digest.to_string().into();
        entry["size"] = blob.size.into();
    }
    let bytes = serde_json::to_vec(&manifest).map_err(unwritable)?;
    Ok(VerifiedManifest::new(&own.media_type, bytes))
}

fn malformed(reason: String) -> Error {
    Error::Malformed {
        from: "the image's manifest".to_owned(),
        reason,
    }
}

fn unwritable(error: serde_json::Error) -> Error {
    malformed(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use imgsync_oci::Manifest;

    fn gzip_layer(content: &str) -> Descriptor {
        let digest = Digest::of(content.as_bytes());
        Descriptor::new(media::DOCKER_LAYER_GZIP, digest, content.len() as u64)
    }

    fn config() -> Descriptor {
        Descriptor::new(media::DOCKER_CONFIG, Digest::of(b"{}"), 2)
    }

    #[test]
    fn a_written_manifest_is_dockers_and_the_same_each_time() {
        let manifest = build(&config(), &[gzip_layer("a"), gzip_layer("bb")]).unwrap();
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
        zstd.media_type = MediaTypeFamily::Oci
            .layer_type(Compression::Zstd)
            .to_owned();
        let manifest = build(&config(), &[gzip_layer("a"), zstd]).unwrap();
        let (media_type, parsed) = Manifest::parse(&manifest.bytes, None).unwrap();
        assert_eq!(media_type, media::OCI_MANIFEST);
        let Manifest::Image { config, layers, .. } = parsed else {
            panic!("an index");
        };
        assert_eq!(config.media_type, media::OCI_CONFIG);
        assert_eq!(
            layers[0].media_type,
            MediaTypeFamily::Oci.layer_type(Compression::Gzip)
        );
        assert_eq!(
            layers[1].media_type,
            MediaTypeFamily::Oci.layer_type(Compression::Zstd)
        );
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
                  "mediaType": MediaTypeFamily::Oci.layer_type(Compression::None) },
                { "mediaType": MediaTypeFamily::Oci.layer_type(Compression::Gzip),
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
