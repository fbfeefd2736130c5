//! Manifests and indexes, and the content that they name.
//!
//! These types are parsed from the bytes of a manifest and never serialized back, because the digest
//! of a manifest is the digest of its exact bytes. Start at [`Manifest::parse`].

mod field_names;

use serde::de::{Deserializer, IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

use crate::{Digest, ParseError, media};

/// The most descriptors in one list of a manifest. Parsed descriptors take many times the memory of
/// their bytes, and no image comes near this number.
pub const MAX_DESCRIPTORS: usize = 10_000;
/// The most URLs in one descriptor.
pub const MAX_DESCRIPTOR_URLS: usize = 100;

/// A descriptor of content (OCI image-spec, "Content Descriptors").
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// The media type; empty where the manifest has none, which the stock registry accepts.
    #[serde(default, deserialize_with = "deserialize_null_as_default")]
    pub media_type: String,
    /// The digest of the content.
    pub digest: Digest,
    /// The size of the content in bytes.
    pub size: u64,
    /// Other locations of the content. Layers with URLs need not be in the registry.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "urls"
    )]
    pub urls: Vec<String>,
    /// Annotations; those in the index of a layout contain the names of its images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<std::collections::BTreeMap<String, String>>,
    /// The platform, for a child of an index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
}

impl Descriptor {
    /// Returns a descriptor with the three required fields alone.
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

    /// Returns the value of an annotation.
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.as_ref()?.get(key).map(String::as_str)
    }

    /// Reports whether the content need not be in the registry.
    pub fn is_foreign(&self) -> bool {
        media::is_non_distributable(&self.media_type)
    }
}

/// The platform that an image runs on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// The architecture, for example `amd64`; empty if unknown.
    #[serde(default, deserialize_with = "deserialize_null_as_default")]
    pub architecture: String,
    /// The operating system, for example `linux`; empty if unknown.
    #[serde(default, deserialize_with = "deserialize_null_as_default")]
    pub os: String,
    /// The variant of the architecture, for example `v8`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

/// A parsed manifest or index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Manifest {
    /// An image manifest, with a config and layers.
    Image {
        /// The config. Its digest is the ID of the image in Docker's classic store.
        config: Descriptor,
        /// The layers, lowest first.
        layers: Vec<Descriptor>,
        /// The manifest that this one refers to (OCI image-spec, "subject").
        subject: Option<Descriptor>,
    },
    /// An index of other manifests, usually one for each platform.
    Index {
        /// The children, in order.
        manifests: Vec<Descriptor>,
        /// The manifest that this index refers to.
        subject: Option<Descriptor>,
    },
}

/// The content that one manifest names and needs.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Children {
    /// The config and layers that the registry must hold.
    pub blobs: Vec<Descriptor>,
    /// The manifests that the registry must hold.
    pub manifests: Vec<Descriptor>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", bound(deserialize = "D: Deserialize<'de>"))]
struct RawManifest<D> {
    #[serde(default)]
    schema_version: u64,
    media_type: Option<String>,
    config: Option<D>,
    #[serde(default, deserialize_with = "descriptors")]
    layers: Option<Vec<D>>,
    #[serde(default, deserialize_with = "descriptors")]
    manifests: Option<Vec<D>>,
    subject: Option<D>,
}

/// A descriptor whose URLs and annotations are skipped.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BareDescriptor {
    #[serde(default, deserialize_with = "deserialize_null_as_default")]
    media_type: String,
    digest: Digest,
    size: u64,
    platform: Option<Platform>,
}

impl From<BareDescriptor> for Descriptor {
    fn from(bare: BareDescriptor) -> Self {
        Self {
            platform: bare.platform,
            ..Self::new(&bare.media_type, bare.digest, bare.size)
        }
    }
}

/// The fields of a manifest that determine its type, parsed without keeping their content.
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

/// Deserializes `null`, which programs in Go write for an empty value, as the default.
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

fn descriptors<'de, D, T>(deserializer: D) -> Result<Option<Vec<T>>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    deserializer.deserialize_option(BoundedList::new(MAX_DESCRIPTORS))
}

/// Deserializes a list or `null`, and fails as soon as the list is too long.
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
    fn of<D>(raw: &RawManifest<D>) -> Self {
        Self {
            schema_version: raw.schema_version,
            media_type: raw.media_type.clone(),
            config: raw.config.as_ref().map(|_| IgnoredAny),
            layers: raw.layers.as_ref().map(|_| IgnoredAny),
            manifests: raw.manifests.as_ref().map(|_| IgnoredAny),
        }
    }

    /// Returns the media type, unless the fields contradict it. A field that is `null` counts as
    /// missing, but an empty list does not, as in the stock registry: a program that parses the
    /// other type would see an empty list.
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
    serde_json::from_slice(bytes).map_err(|error| invalid_json(&error))
}

fn invalid_json(error: &serde_json::Error) -> ParseError {
    ParseError::new("manifest", &error.to_string())
}

impl Manifest {
    /// Parses a manifest, and returns it with its media type: the one that its sender declared, or
    /// else its own `mediaType`, or else the one that its fields imply.
    ///
    /// # Errors
    /// Fails on bytes that are no manifest; on an unknown media type; on a declared type that the
    /// manifest contradicts; on a config or `layers` beside `manifests`, which could be parsed as
    /// either type (image-spec's advice after CVE-2021-41190); on names that programs in Go, which
    /// ignore the case, read as another field; on more than [`MAX_DESCRIPTORS`] layers or manifests,
    /// or more than [`MAX_DESCRIPTOR_URLS`] URLs in one of them.
    pub fn parse(bytes: &[u8], declared: Option<&str>) -> Result<(String, Self), ParseError> {
        Self::parse_as::<Descriptor>(bytes, declared)
    }

    /// Parses a manifest as [`Manifest::parse`] does without a declared type. Its descriptors have
    /// neither URLs nor annotations, which take many times the memory of their bytes.
    ///
    /// # Errors
    /// As [`Manifest::parse`], except for errors in URLs and annotations.
    pub fn parse_bare(bytes: &[u8]) -> Result<(String, Self), ParseError> {
        Self::parse_as::<BareDescriptor>(bytes, None)
    }

    fn parse_as<'a, D: Deserialize<'a> + Into<Descriptor>>(
        bytes: &'a [u8],
        declared: Option<&str>,
    ) -> Result<(String, Self), ParseError> {
        let raw: RawManifest<D> = read(bytes)?;
        field_names::check_field_names(bytes).map_err(|error| invalid_json(&error))?;
        let media_type = ManifestOutline::of(&raw).media_type(declared)?;
        let all = |list: Option<Vec<D>>| list.into_iter().flatten().map(Into::into).collect();
        let subject = raw.subject.map(Into::into);
        if media::is_index(&media_type) {
            let manifests = all(raw.manifests);
            return Ok((media_type, Self::Index { manifests, subject }));
        }
        let missing = || ParseError::new("manifest", &format!("{media_type} without config"));
        let image = Self::Image {
            config: raw.config.ok_or_else(missing)?.into(),
            layers: all(raw.layers),
            subject,
        };
        Ok((media_type, image))
    }

    /// Returns the media type of a manifest as [`Manifest::parse`] does without a declared type. Does
    /// not parse the descriptors, and takes no memory for them.
    ///
    /// # Errors
    /// As [`Manifest::parse`], except for errors in descriptors.
    pub fn media_type(bytes: &[u8]) -> Result<String, ParseError> {
        read::<ManifestOutline>(bytes)?.media_type(None)
    }

    /// Returns the subject, the manifest that this one refers to.
    pub fn subject(&self) -> Option<&Descriptor> {
        match self {
            Self::Image { subject, .. } | Self::Index { subject, .. } => subject.as_ref(),
        }
    }

    /// Returns the content that must be in the registry before this manifest. The subject is not part
    /// of it, because a subject may be pushed later.
    pub fn children(&self) -> Children {
        match self {
            Self::Image { config, layers, .. } => Children {
                blobs: std::iter::once(config)
                    .chain(layers.iter().filter(|layer| !layer.is_foreign()))
                    .cloned()
                    .collect(),
                manifests: Vec::new(),
            },
            Self::Index { manifests, .. } => {
                let listed = manifests.iter().filter(|child| !child.is_foreign());
                let (blobs, manifests) = listed
                    .cloned()
                    .partition(|child| media::is_blob(&child.media_type));
                Children { blobs, manifests }
            }
        }
    }
}

#[cfg(test)]
mod tests;
