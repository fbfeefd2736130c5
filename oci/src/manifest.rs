//! Manifests and indexes, and the edges of the graph that they draw.
//!
//! A manifest is its bytes: these types are read from them and never written back, for a digest
//! counts for the bytes alone.

use serde::de::{Deserializer, IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

use crate::{Digest, ParseError, media};

/// The most descriptors in one list of a manifest: what is read takes many times the memory of its
/// bytes, and no image comes near it.
pub const MAX_DESCRIPTORS: usize = 10_000;
/// The most addresses in one descriptor.
pub const MAX_DESCRIPTOR_URLS: usize = 100;

/// What points at content (OCI image-spec, "Content Descriptors").
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What the content is; empty where the manifest does not say, as the stock registry takes it.
    #[serde(default, deserialize_with = "deserialize_null_as_default")]
    pub media_type: String,
    /// The content's digest.
    pub digest: Digest,
    /// The content's size in bytes.
    pub size: u64,
    /// Where else the content may be had; such layers need not be in the registry.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "urls"
    )]
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
    /// For instance `amd64`; empty where nobody says.
    #[serde(default, deserialize_with = "deserialize_null_as_default")]
    pub architecture: String,
    /// For instance `linux`; empty where nobody says.
    #[serde(default, deserialize_with = "deserialize_null_as_default")]
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
struct RawManifest {
    #[serde(default)]
    schema_version: u64,
    media_type: Option<String>,
    config: Option<Descriptor>,
    #[serde(default, deserialize_with = "descriptors")]
    layers: Option<Vec<Descriptor>>,
    #[serde(default, deserialize_with = "descriptors")]
    manifests: Option<Vec<Descriptor>>,
    subject: Option<Descriptor>,
}

/// As much of a manifest as shows its type, read without keeping the rest.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ManifestOutline {
    #[serde(default)]
    schema_version: u64,
    media_type: Option<String>,
    config: Option<IgnoredAny>,
    layers: Option<IgnoredAny>,
    manifests: Option<IgnoredAny>,
}

/// Programs in Go write `null` for what is empty.
fn deserialize_null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

fn urls<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let urls = deserializer.deserialize_option(BoundedList::<String>::new(MAX_DESCRIPTOR_URLS))?;
    Ok(urls.unwrap_or_default())
}

fn descriptors<'de, D>(deserializer: D) -> Result<Option<Vec<Descriptor>>, D::Error>
where
    D: Deserializer<'de>,
{
    deserializer.deserialize_option(BoundedList::new(MAX_DESCRIPTORS))
}

/// A list, or `null`, that is given up where it becomes too long.
struct BoundedList<T> {
    max_len: usize,
    of: std::marker::PhantomData<T>,
}

impl<T> BoundedList<T> {
    fn new(max_len: usize) -> Self {
        let of = std::marker::PhantomData;
        Self { max_len, of }
    }
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for BoundedList<T> {
    type Value = Option<Vec<T>>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "a list of at most {} entries", self.max_len)
    }

    fn visit_none<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_some<D: Deserializer<'de>>(self, list: D) -> Result<Self::Value, D::Error> {
        list.deserialize_seq(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut entries = Vec::new();
        while entries.len() < self.max_len {
            match list.next_element()? {
                Some(entry) => entries.push(entry),
                None => return Ok(Some(entries)),
            }
        }
        match list.next_element::<IgnoredAny>()? {
            None => Ok(Some(entries)),
            Some(_) => Err(serde::de::Error::custom(format_args!(
                "a list has more than {} entries",
                self.max_len
            ))),
        }
    }
}

impl ManifestOutline {
    fn of(raw: &RawManifest) -> Self {
        Self {
            schema_version: raw.schema_version,
            media_type: raw.media_type.clone(),
            config: raw.config.as_ref().map(|_| IgnoredAny),
            layers: raw.layers.as_ref().map(|_| IgnoredAny),
            manifests: raw.manifests.as_ref().map(|_| IgnoredAny),
        }
    }

    /// The type, where nothing speaks against it. What is `null` is not there; an empty list is,
    /// as in the stock registry, for who reads the other kind would see an empty one.
    fn media_type(self, declared: Option<&str>) -> Result<String, ParseError> {
        if self.schema_version != 2 {
            return Err(ParseError::new("manifest", "schemaVersion is not 2"));
        }
        let own = self.media_type.filter(|own| !own.is_empty());
        let media_type = match (declared, own) {
            (Some(declared), Some(own)) if declared != own => {
                let text = format!("sent as {declared}, but its mediaType is {own}");
                return Err(ParseError::new("manifest", &text));
            }
            (Some(media_type), _) => media_type.to_owned(),
            (None, Some(media_type)) => media_type,
            (None, None) if self.manifests.is_some() => media::OCI_INDEX.to_owned(),
            (None, None) => media::OCI_MANIFEST.to_owned(),
        };
        let is_index = media::is_index(&media_type);
        if is_index && (self.layers.is_some() || self.config.is_some()) {
            return Err(ParseError::new(
                "manifest",
                "an index with config or layers",
            ));
        }
        if !is_index && !media::is_image_manifest(&media_type) {
            return Err(ParseError::new("manifest media type", &media_type));
        }
        if !is_index && self.manifests.is_some() {
            return Err(ParseError::new(
                "manifest",
                "an image manifest with manifests",
            ));
        }
        Ok(media_type)
    }
}

fn read<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, ParseError> {
    serde_json::from_slice(bytes).map_err(|error| ParseError::new("manifest", &error.to_string()))
}

impl Manifest {
    /// Reads a manifest of the type that its sender declared; without one, of the type that it
    /// names itself, or that its fields show. Yields the type as well.
    ///
    /// # Errors
    /// Bytes that are no manifest; a type that nobody here knows; a declared type that the
    /// manifest contradicts; both a config or `layers` and `manifests`, which would read as either
    /// (image-spec's advice after CVE-2021-41190); more than [`MOST_DESCRIPTORS`] layers or
    /// manifests, or more than [`MOST_URLS`] addresses in one of them.
    pub fn parse(bytes: &[u8], declared: Option<&str>) -> Result<(String, Self), ParseError> {
        let raw: RawManifest = read(bytes)?;
        let media_type = ManifestOutline::of(&raw).media_type(declared)?;
        let subject = raw.subject;
        if media::is_index(&media_type) {
            let manifests = raw.manifests.unwrap_or_default();
            return Ok((media_type, Self::Index { manifests, subject }));
        }
        let missing = || ParseError::new("manifest", &format!("{media_type} without config"));
        let image = Self::Image {
            config: raw.config.ok_or_else(missing)?,
            layers: raw.layers.unwrap_or_default(),
            subject,
        };
        Ok((media_type, image))
    }

    /// The type that a manifest's bytes show, as [`Manifest::parse`] finds it when nothing is
    /// declared. Takes no memory for the descriptors, and does not look at them.
    ///
    /// # Errors
    /// As [`Manifest::parse`], as far as they do not lie in the descriptors.
    pub fn media_type(bytes: &[u8]) -> Result<String, ParseError> {
        read::<ManifestOutline>(bytes)?.media_type(None)
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
    fn what_programs_in_go_leave_empty_counts_as_empty() {
        let mut image = image();
        image["annotations"] = serde_json::Value::Null;
        image["manifests"] = serde_json::Value::Null;
        image["layers"][0]["urls"] = serde_json::Value::Null;
        image["layers"][0]["annotations"] = serde_json::Value::Null;
        image["layers"][0]
            .as_object_mut()
            .unwrap()
            .remove("mediaType");
        image["layers"][1]["urls"] = serde_json::json!(["https://far.example/away"]);
        let (_, manifest) = Manifest::parse(image.to_string().as_bytes(), None).unwrap();
        let Manifest::Image { layers, .. } = manifest else {
            panic!("{manifest:?}");
        };
        assert_eq!(layers[0].media_type, "");
        assert!(layers[0].urls.is_empty());
        assert_eq!(layers[1].urls, ["https://far.example/away"]);
        image["layers"] = serde_json::Value::Null;
        let (_, manifest) = Manifest::parse(image.to_string().as_bytes(), None).unwrap();
        assert_eq!(manifest.children().blobs.len(), 1);

        let mut index = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": media::OCI_INDEX,
            "config": null,
            "layers": null,
            "manifests": [descriptor(media::OCI_MANIFEST, "a"), descriptor(media::OCI_MANIFEST, "b")],
        });
        index["manifests"][0]["platform"] = serde_json::json!({ "architecture": "amd64" });
        index["manifests"][1]["platform"] = serde_json::json!({});
        let (_, manifest) = Manifest::parse(index.to_string().as_bytes(), None).unwrap();
        let children = manifest.children().manifests;
        let platforms = children.iter().map(|child| child.platform.clone().unwrap());
        let platforms: Vec<_> = platforms.map(|it| (it.os, it.architecture)).collect();
        let expected = [("", "amd64"), ("", "")].map(|(os, arch)| (os.into(), arch.into()));
        assert_eq!(platforms, expected);
        index["manifests"] = serde_json::Value::Null;
        let (_, manifest) = Manifest::parse(index.to_string().as_bytes(), None).unwrap();
        assert!(manifest.children().manifests.is_empty());
    }

    #[test]
    fn more_than_anyone_needs_is_refused_but_its_type_can_be_told() {
        let mut layers = image();
        layers["layers"] = vec![descriptor("a/b", "layer"); MAX_DESCRIPTORS].into();
        let mut urls = image();
        urls["layers"][0]["urls"] = vec!["x"; MAX_DESCRIPTOR_URLS].into();
        for (path, mut just) in [("/layers", layers), ("/layers/0/urls", urls)] {
            assert!(Manifest::parse(just.to_string().as_bytes(), None).is_ok());
            let list = just.pointer_mut(path).unwrap().as_array_mut().unwrap();
            list.push(list[0].clone());
            let bytes = just.to_string();
            let error = Manifest::parse(bytes.as_bytes(), None).unwrap_err();
            assert!(error.to_string().contains("more than"), "{error}");
            let media_type = Manifest::media_type(bytes.as_bytes()).unwrap();
            assert_eq!(media_type, media::OCI_MANIFEST);
        }
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
            if declared.is_none() {
                assert!(Manifest::media_type(bytes.as_bytes()).is_err(), "{bytes}");
            }
        }
    }
}
