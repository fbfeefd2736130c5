//! Manifests and indexes, and the edges of the graph that they draw.
//!
//! A manifest is its bytes: these types are read from them and never written back, for a digest
//! counts for the bytes alone.

use serde::{Deserialize, Serialize};

use crate::{Digest, Invalid, media};

/// What points at content (OCI image-spec, "Content Descriptors").
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What the content is.
    pub media_type: String,
    /// The content's digest.
    pub digest: Digest,
    /// The content's size in bytes.
    pub size: u64,
    /// Where else the content may be had; such layers need not be in the registry.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
    /// Free-form remarks, among them the names that archives give their images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<std::collections::BTreeMap<String, String>>,
    /// The platform of an index's child.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
}

impl Descriptor {
    /// A descriptor with nothing but the three required fields.
    pub fn new(media_type: &str, digest: Digest, size: u64) -> Self {
        Self {
            media_type: media_type.to_owned(),
            digest,
            size,
            urls: Vec::new(),
            annotations: None,
            platform: None,
        }
    }

    /// The value of an annotation.
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.as_ref()?.get(key).map(String::as_str)
    }

    /// Whether a registry need not hold the content.
    pub fn is_foreign(&self) -> bool {
        media::is_non_distributable(&self.media_type)
    }
}

/// What an image runs on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// For instance `amd64`.
    pub architecture: String,
    /// For instance `linux`.
    pub os: String,
    /// For instance `v8`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

/// A manifest as read from its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Manifest {
    /// A config and layers.
    Image {
        /// The config; its digest is the image's ID in Docker's classic store.
        config: Descriptor,
        /// The layers, lowest first.
        layers: Vec<Descriptor>,
        /// What this manifest speaks about, if anything (OCI image-spec, "subject").
        subject: Option<Descriptor>,
    },
    /// Other manifests, for instance one a platform.
    Index {
        /// The children, in order.
        manifests: Vec<Descriptor>,
        /// What this index speaks about, if anything.
        subject: Option<Descriptor>,
    },
}

/// The edges out of one manifest.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Children {
    /// Config and layers that the registry must hold.
    pub blobs: Vec<Descriptor>,
    /// Manifests that the registry must hold.
    pub manifests: Vec<Descriptor>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    #[serde(default)]
    schema_version: u64,
    media_type: Option<String>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
    subject: Option<Descriptor>,
}

impl Manifest {
    /// Reads a manifest of the type that its sender declared; without one, of the type that it
    /// names itself, or that its fields show. Yields the type as well.
    ///
    /// # Errors
    /// Bytes that are no manifest; a type that nobody here knows; a declared type that the
    /// manifest contradicts; both `layers` and `manifests`, which would read as either
    /// (image-spec's advice after CVE-2021-41190).
    pub fn parse(bytes: &[u8], declared: Option<&str>) -> Result<(String, Self), Invalid> {
        let raw: Raw = serde_json::from_slice(bytes)
            .map_err(|error| Invalid::new("manifest", &error.to_string()))?;
        if raw.schema_version != 2 {
            return Err(Invalid::new("manifest", "schemaVersion is not 2"));
        }
        let media_type = match (declared, raw.media_type.as_deref()) {
            (Some(declared), Some(own)) if declared != own => {
                let text = format!("sent as {declared}, but its mediaType is {own}");
                return Err(Invalid::new("manifest", &text));
            }
            (Some(media_type), _) | (None, Some(media_type)) => media_type.to_owned(),
            (None, None) if raw.manifests.is_some() => media::OCI_INDEX.to_owned(),
            (None, None) => media::OCI_MANIFEST.to_owned(),
        };
        let missing = |field| Invalid::new("manifest", &format!("{media_type} without {field}"));
        if media::is_index(&media_type) {
            if raw.layers.is_some() || raw.config.is_some() {
                return Err(Invalid::new("manifest", "an index with config or layers"));
            }
            let manifests = raw.manifests.ok_or_else(|| missing("manifests"))?;
            let subject = raw.subject;
            return Ok((media_type, Self::Index { manifests, subject }));
        }
        if !media::is_image_manifest(&media_type) {
            return Err(Invalid::new("manifest media type", &media_type));
        }
        if raw.manifests.is_some() {
            return Err(Invalid::new("manifest", "an image manifest with manifests"));
        }
        let image = Self::Image {
            config: raw.config.ok_or_else(|| missing("config"))?,
            layers: raw.layers.ok_or_else(|| missing("layers"))?,
            subject: raw.subject,
        };
        Ok((media_type, image))
    }

    /// What the manifest speaks about, if anything.
    pub fn subject(&self) -> Option<&Descriptor> {
        match self {
            Self::Image { subject, .. } | Self::Index { subject, .. } => subject.as_ref(),
        }
    }

    /// What must be in the registry before this manifest: the one place that knows the graph's
    /// edges. A subject is not among them, for it may come later.
    pub fn children(&self) -> Children {
        match self {
            Self::Image { config, layers, .. } => Children {
                blobs: std::iter::once(config)
                    .chain(layers.iter().filter(|layer| !layer.is_foreign()))
                    .cloned()
                    .collect(),
                manifests: Vec::new(),
            },
            Self::Index { manifests, .. } => Children {
                blobs: Vec::new(),
                manifests: manifests.clone(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn descriptor(media_type: &str, content: &str) -> serde_json::Value {
        serde_json::json!({
            "mediaType": media_type,
            "digest": Digest::of(content.as_bytes()),
            "size": content.len(),
        })
    }

    fn image() -> serde_json::Value {
        serde_json::json!({
            "schemaVersion": 2,
            "mediaType": media::OCI_MANIFEST,
            "config": descriptor(media::OCI_CONFIG, "config"),
            "layers": [
                descriptor("application/vnd.oci.image.layer.v1.tar+gzip", "layer"),
                descriptor("application/vnd.oci.image.layer.nondistributable.v1.tar", "far"),
            ],
        })
    }

    #[test]
    fn an_image_needs_its_config_and_its_layers_but_not_foreign_ones() {
        let (media_type, manifest) = Manifest::parse(image().to_string().as_bytes(), None).unwrap();
        assert_eq!(media_type, media::OCI_MANIFEST);
        let children = manifest.children();
        let digests: Vec<_> = children.blobs.iter().map(|blob| &blob.digest).collect();
        assert_eq!(digests, [&Digest::of(b"config"), &Digest::of(b"layer")]);
        assert!(children.manifests.is_empty());
    }

    #[test]
    fn an_index_needs_its_manifests() {
        let index = serde_json::json!({
            "schemaVersion": 2,
            "manifests": [descriptor(media::OCI_MANIFEST, "child")],
        });
        let (media_type, manifest) = Manifest::parse(index.to_string().as_bytes(), None).unwrap();
        assert_eq!(media_type, media::OCI_INDEX);
        assert_eq!(manifest.children().manifests.len(), 1);
    }

    #[test]
    fn what_could_be_read_two_ways_is_refused() {
        let mut both = image();
        both["manifests"] = serde_json::json!([]);
        let mut old = image();
        old["schemaVersion"] = 1.into();
        for (bytes, declared) in [
            (both.to_string(), None),
            (old.to_string(), None),
            (image().to_string(), Some(media::OCI_INDEX)),
            (image().to_string(), Some("text/plain")),
            ("{".to_owned(), None),
            ("[]".to_owned(), None),
        ] {
            assert!(
                Manifest::parse(bytes.as_bytes(), declared).is_err(),
                "{bytes}"
            );
        }
    }
}
