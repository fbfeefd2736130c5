//! Facts from a manifest. Annotations and URLs of descriptors are not kept: they take many
//! times the memory of their bytes.

use imgsync_oci::manifest::MAX_DESCRIPTORS;
use imgsync_oci::{Digest, media};
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{IgnoredAny, MapAccess, SeqAccess};

use super::image_facts::platform_text;
use super::lenient::{Lenient, lenient};
use super::text_pairs::TextPairs;
use super::untrusted::short_part;

/// How many images of an index are kept.
pub(super) const SHOWN_CHILDREN: usize = 100;

/// A manifest, as far as the page shows it.
#[derive(Debug)]
pub(super) struct ManifestFacts {
    pub(super) content: ManifestContent,
    pub(super) annotations: TextPairs,
}

/// The content that a manifest names.
#[derive(Debug)]
pub(super) enum ManifestContent {
    Image {
        config: BlobFacts,
        /// The lowest first.
        layers: Vec<BlobFacts>,
    },
    Index {
        /// The first [`SHOWN_CHILDREN`] images.
        children: Vec<ChildFacts>,
        /// The number of all images.
        count: usize,
    },
}

/// A blob that a manifest names.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct BlobFacts {
    pub(super) digest: Digest,
    /// In bytes.
    pub(super) size: u64,
}

/// An image of an index.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct ChildFacts {
    pub(super) digest: Digest,
    #[serde(default, deserialize_with = "lenient")]
    platform: PlatformFacts,
    #[serde(default, deserialize_with = "lenient", rename = "annotations")]
    attestation: AttestationMark,
}

/// The platform of an image; `None` if it is unknown.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct PlatformFacts(Option<String>);

/// Whether the annotations of an image of an index are those that BuildKit writes for attestations.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct AttestationMark(bool);

#[derive(Deserialize)]
struct RawManifest {
    config: Option<BlobFacts>,
    #[serde(default, deserialize_with = "lenient")]
    layers: FirstEntries<BlobFacts, MAX_DESCRIPTORS>,
    #[serde(default, deserialize_with = "lenient")]
    manifests: FirstEntries<ChildFacts, SHOWN_CHILDREN>,
    #[serde(default, deserialize_with = "lenient")]
    annotations: TextPairs,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawPlatform {
    #[serde(deserialize_with = "lenient")]
    os: ShortText,
    #[serde(deserialize_with = "lenient")]
    architecture: ShortText,
    #[serde(deserialize_with = "lenient")]
    variant: ShortText,
}

/// The part of a text that is shown in a list.
#[derive(Default)]
struct ShortText(String);

/// The first entries of a list, and the number of all.
struct FirstEntries<T, const MAX: usize> {
    entries: Vec<T>,
    count: usize,
}

impl ManifestFacts {
    /// Parses a stored manifest of a media type; `None` if it is damaged.
    pub(super) fn parse(media_type: &str, bytes: &[u8]) -> Option<Self> {
        let raw: RawManifest = serde_json::from_slice(bytes).ok()?;
        let content = if media::is_index(media_type) {
            ManifestContent::Index {
                children: raw.manifests.entries,
                count: raw.manifests.count,
            }
        } else {
            ManifestContent::Image {
                config: raw.config?,
                layers: raw.layers.entries,
            }
        };
        Some(Self {
            content,
            annotations: raw.annotations,
        })
    }
}

impl ChildFacts {
    /// Returns the platform; `None` if it is unknown.
    pub(super) fn platform(&self) -> Option<&str> {
        self.platform.0.as_deref()
    }

    /// Returns whether this is an attestation, which BuildKit adds to an index.
    pub(super) fn is_attestation(&self) -> bool {
        self.attestation.0
    }
}

impl<T, const MAX: usize> Default for FirstEntries<T, MAX> {
    fn default() -> Self {
        let (entries, count) = (Vec::new(), 0);
        Self { entries, count }
    }
}

impl<T: for<'de> Deserialize<'de>, const MAX: usize> Lenient for FirstEntries<T, MAX> {
    fn from_list<'de, A: SeqAccess<'de>>(mut list: A) -> Result<Self, A::Error> {
        let mut first = Self::default();
        while first.entries.len() < MAX
            && let Some(entry) = list.next_element()?
        {
            first.entries.push(entry);
        }
        first.count = first.entries.len();
        while list.next_element::<IgnoredAny>()?.is_some() {
            first.count += 1;
        }
        Ok(first)
    }
}

impl Lenient for ShortText {
    fn from_text(text: &str) -> Self {
        Self(short_part(text).to_owned())
    }
}

impl Lenient for PlatformFacts {
    fn from_object<'de, A: MapAccess<'de>>(object: A) -> Result<Self, A::Error> {
        let raw = RawPlatform::deserialize(MapAccessDeserializer::new(object))?;
        Ok(Self(platform_text(
            &raw.os.0,
            &raw.architecture.0,
            &raw.variant.0,
        )))
    }
}

impl Lenient for AttestationMark {
    fn from_object<'de, A: MapAccess<'de>>(object: A) -> Result<Self, A::Error> {
        #[derive(Deserialize)]
        struct Annotations {
            #[serde(rename = "vnd.docker.reference.type")]
            reference_type: Option<IgnoredAny>,
        }
        let annotations = Annotations::deserialize(MapAccessDeserializer::new(object))?;
        Ok(Self(annotations.reference_type.is_some()))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(media_type: &str, manifest: &serde_json::Value) -> Option<ManifestFacts> {
        ManifestFacts::parse(media_type, manifest.to_string().as_bytes())
    }

    #[test]
    fn the_first_images_of_an_index_are_kept() {
        let digest = Digest::of(b"a");
        let child = json!({"digest": digest, "size": 1, "urls": ["x"],
            "platform": {"os": "linux", "architecture": "arm64", "variant": null},
            "annotations": {"vnd.docker.reference.type": "attestation-manifest", "a": "b"}});
        let index =
            json!({"manifests": vec![child; SHOWN_CHILDREN + 1], "annotations": {"a": "b"}});
        let facts = parse(media::OCI_INDEX, &index).unwrap();
        assert_eq!(facts.annotations.pairs, [("a".to_owned(), "b".to_owned())]);
        let ManifestContent::Index { children, count } = facts.content else {
            panic!("{:?}", facts.content);
        };
        assert_eq!(
            (children.len(), count),
            (SHOWN_CHILDREN, SHOWN_CHILDREN + 1)
        );
        assert_eq!(children[0].platform(), Some("linux/arm64"));
        assert!(children[0].is_attestation());
        let plain =
            json!({"manifests": [{"digest": digest, "size": 1, "platform": 5, "annotations": []}]});
        let facts = parse(media::OCI_INDEX, &plain).unwrap();
        let ManifestContent::Index { children, .. } = facts.content else {
            panic!("{:?}", facts.content);
        };
        assert!(children[0].platform().is_none() && !children[0].is_attestation());
    }

    #[test]
    fn an_image_needs_a_config() {
        let blob = json!({"digest": Digest::of(b"a"), "size": 7});
        let image = json!({"config": blob, "layers": [blob, blob]});
        let facts = parse(media::OCI_MANIFEST, &image).unwrap();
        let ManifestContent::Image { config, layers } = facts.content else {
            panic!("{:?}", facts.content);
        };
        assert_eq!((config.size, layers.len()), (7, 2));
        for damaged in [
            json!({"layers": [blob]}),
            json!({"config": blob, "layers": [{"size": 7}]}),
            json!([]),
        ] {
            assert!(parse(media::OCI_MANIFEST, &damaged).is_none(), "{damaged}");
        }
    }
}
