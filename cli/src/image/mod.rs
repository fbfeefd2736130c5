//! Images as their sources describe them: names, manifests, layers, platforms, and where the bytes
//! are. This module reads no source; that is the work of `transports`. Start at [`Image`].

use std::collections::HashMap;

use bytes::Bytes;
use imgsync_oci::{Descriptor, Digest, LocalName, Manifest, ParseError, media};

pub(crate) mod config;
mod equivalence;
mod error;
pub(crate) mod instructions;
pub(crate) mod limits;
mod location;
mod manifest;
pub(crate) mod name;
pub(crate) mod platform;
pub(crate) mod referrer_tags;
mod slice;

pub use error::{EngineKind, Error};
pub use location::{DaemonImageName, ImageLocation, ImageSelector};
pub use platform::Platforms;
pub use referrer_tags::subject_of;
pub(crate) use slice::RangeSource;
pub use slice::{Slice, SliceReader};

/// An image as its source describes it.
#[derive(Debug, Clone)]
pub struct Image {
    /// The name at the source, which completes a remote without a repository.
    pub name: Option<LocalName>,
    /// The content.
    pub content: ImageContent,
    /// Notes for the user, for example that platforms of the index are missing.
    pub notes: Vec<String>,
}

/// The two shapes of an image.
#[derive(Debug, Clone)]
pub enum ImageContent {
    /// One config and its layers.
    Single(SingleImage),
    /// An index and everything below it, pushed unchanged.
    Graph(ImageGraph),
}

impl ImageContent {
    /// Returns every digest of a part of the image at its source: of manifests, configs and layers,
    /// and the diffIDs.
    pub fn digests(&self) -> Vec<Digest> {
        match self {
            Self::Single(single) => {
                let stored = single.layers.iter().map(Layer::source_digest);
                let diff_ids = single.layers.iter().filter_map(Layer::diff_id);
                let all = stored.chain(diff_ids).chain([&single.config.digest]);
                all.cloned().collect()
            }
            Self::Graph(graph) => {
                let manifests = graph.manifests.iter().map(|manifest| &manifest.digest);
                let blobs = graph.blobs.iter().map(|blob| &blob.digest);
                manifests.chain(blobs).cloned().collect()
            }
        }
    }
}

/// One config and its layers.
#[derive(Debug, Clone)]
pub struct SingleImage {
    /// The config.
    pub config: ImageConfig,
    /// The layers, lowest first. The same layer may occur twice.
    pub layers: Vec<Layer>,
    /// The origin of the manifest.
    pub origin: ManifestOrigin,
}

impl SingleImage {
    /// Returns an image for which a Docker manifest will be generated. `bytes` is the config, if it
    /// is known.
    pub(crate) fn without_manifest(
        digest: Digest,
        bytes: Option<Bytes>,
        layers: Vec<Layer>,
    ) -> Self {
        let media_type = media::DOCKER_CONFIG.to_owned();
        Self {
            config: ImageConfig {
                media_type,
                digest,
                bytes,
            },
            layers,
            origin: ManifestOrigin::Generated,
        }
    }
}

/// The config of an image. With a daemon, its digest is known before its bytes.
#[derive(Debug, Clone)]
pub struct ImageConfig {
    /// The media type of the config in the manifest.
    pub media_type: String,
    /// The digest: the image ID in Docker's classic store.
    pub digest: Digest,
    /// The bytes; `None` until they are exported.
    pub bytes: Option<Bytes>,
}

/// A layer, by what is known of its blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Layer {
    /// An uncompressed tar, whose blob is not known until it is compressed.
    Raw {
        /// The diffID of the config. It is verified when the layer is compressed.
        diff_id: Digest,
        /// The size of the tar in bytes; `None` until it is exported.
        size: Option<u64>,
    },
    /// A blob that is pushed unchanged.
    Blob {
        /// The blob. It need not be uploaded if [`Descriptor::is_foreign`].
        descriptor: Descriptor,
        /// The diffID of the config.
        diff_id: Option<Digest>,
    },
}

impl Layer {
    /// Returns the digest of the layer's bytes at the source: the key in [`ImageBlobs`].
    pub fn source_digest(&self) -> &Digest {
        match self {
            Self::Raw { diff_id, .. } => diff_id,
            Self::Blob { descriptor, .. } => &descriptor.digest,
        }
    }

    /// Returns the size of those bytes, if known.
    pub fn size(&self) -> Option<u64> {
        match self {
            Self::Raw { size, .. } => *size,
            Self::Blob { descriptor, .. } => Some(descriptor.size),
        }
    }

    /// Returns the diffID, if known.
    pub fn diff_id(&self) -> Option<&Digest> {
        match self {
            Self::Raw { diff_id, .. } => Some(diff_id),
            Self::Blob { diff_id, .. } => diff_id.as_ref(),
        }
    }
}

/// The origin of a single image's manifest.
#[derive(Debug, Clone)]
pub enum ManifestOrigin {
    /// The source's own manifest; every layer is a [`Layer::Blob`].
    Original(VerifiedManifest),
    /// The source's own manifest, in which the descriptors of uncompressed layers are replaced by
    /// those of their blobs.
    Edited(VerifiedManifest),
    /// A new manifest: the source has none, or none that can be relied on.
    Generated,
}

/// An index and everything below it.
#[derive(Debug, Clone)]
pub struct ImageGraph {
    /// The digest of the index: the last one of `manifests`.
    pub root: Digest,
    /// Every manifest and index, each once, children before parents.
    pub manifests: Vec<VerifiedManifest>,
    /// Every config and layer that the registry must hold, each once.
    pub blobs: Vec<Descriptor>,
}

/// A manifest whose bytes have its digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedManifest {
    /// The digest: the one by which the manifest was requested, otherwise computed from the bytes.
    pub digest: Digest,
    /// The media type that the source declares, otherwise the one that the bytes imply.
    pub media_type: String,
    /// The bytes, exactly as they were uploaded or written.
    pub bytes: Bytes,
}

impl VerifiedManifest {
    /// Returns a manifest with the SHA-256 digest of `bytes`.
    pub fn new(media_type: &str, bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self {
            media_type: media_type.to_owned(),
            digest: Digest::of(&bytes),
            bytes,
        }
    }

    /// Parses `bytes`, which have the digest `digest`.
    ///
    /// # Errors
    /// Fails as [`Manifest::parse`] does.
    pub(crate) fn parse(
        digest: Digest,
        bytes: Bytes,
        declared: Option<&str>,
    ) -> Result<(Self, Manifest), ParseError> {
        let (media_type, parsed) = Manifest::parse(&bytes, declared)?;
        let manifest = Self {
            digest,
            media_type,
            bytes,
        };
        Ok((manifest, parsed))
    }

    /// Returns the content of the manifest.
    ///
    /// # Errors
    /// Fails as [`Manifest::parse`] does.
    pub(crate) fn content(&self) -> Result<Manifest, ParseError> {
        Manifest::parse(&self.bytes, Some(&self.media_type)).map(|(_, content)| content)
    }
}

/// Returns whether an entry of an index is an attestation about another entry rather than an image:
/// by the annotation of BuildKit, or by that of containerd, which Docker 29.1 and later add to the
/// entries of an export.
pub(crate) fn is_attestation(entry: &Descriptor) -> bool {
    let annotations = [
        "vnd.docker.reference.type",
        "io.containerd.manifest.subject",
    ];
    let mut annotations = annotations.into_iter();
    annotations.any(|key| entry.annotation(key).is_some())
}

/// Where the bytes of configs and layers are, by their digests at the source
/// ([`Layer::source_digest`]).
#[derive(Debug, Default)]
pub struct ImageBlobs {
    /// The name of another program's store that the bytes are read from, for messages. `None` for
    /// bytes on this machine.
    pub(crate) read_through: Option<&'static str>,
    slices: HashMap<Digest, Slice>,
}

impl ImageBlobs {
    /// Returns the bytes of a digest; `None` if they were skipped.
    ///
    /// The digest of an uncompressed layer comes from the config and is not verified before the
    /// layer is compressed.
    pub fn get(&self, digest: &Digest) -> Option<&Slice> {
        self.slices.get(digest)
    }

    /// Removes and returns the bytes of a digest. A file of the spool frees its disk space once
    /// nothing has it open.
    pub fn take(&mut self, digest: &Digest) -> Option<Slice> {
        self.slices.remove(digest)
    }

    pub(super) fn insert(&mut self, digest: Digest, slice: Slice) {
        self.slices.insert(digest, slice);
    }
}
