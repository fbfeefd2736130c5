//! What is known of an image before its layers' bytes are read.

use std::collections::HashMap;

use bytes::Bytes;
use imgsync_oci::{Descriptor, Digest, LocalName};

pub(crate) mod config;
mod error;
pub(crate) mod limits;
mod location;
pub mod manifest;
pub(crate) mod name;
pub(crate) mod platform;
pub(crate) mod referrer_tags;
mod slice;

pub use error::Error;
pub use location::{DaemonImageName, ImageLocation, ImageSelector};
pub use platform::Platforms;
pub use referrer_tags::subject_of;
pub use slice::{Slice, SliceReader};

/// An image as its source describes it.
#[derive(Debug, Clone)]
pub struct Image {
    /// The name it has there; for a remote that names no repository.
    pub name: Option<LocalName>,
    /// What it consists of.
    pub content: ImageContent,
    /// What the user should hear of, for instance that platforms of the index are missing.
    pub notes: Vec<String>,
}

/// The two shapes of an image.
#[derive(Debug, Clone)]
pub enum ImageContent {
    /// One config and its layers.
    Single(SingleImage),
    /// An index and everything below it; all of it goes as it is.
    Graph(ImageGraph),
}

impl ImageContent {
    /// Every digest that a part of the image goes by at its source: of manifests, configs and
    /// layers, diffIDs among them.
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

/// One config and its layers, lowest first.
#[derive(Debug, Clone)]
pub struct SingleImage {
    /// The config.
    pub config: ImageConfig,
    /// The layers. The same layer can stand there twice.
    pub layers: Vec<Layer>,
    /// Where its manifest comes from.
    pub origin: ManifestOrigin,
}

/// An image's config. Its digest is known before its bytes are, where a daemon has them.
#[derive(Debug, Clone)]
pub struct ImageConfig {
    /// The media type it goes by in the manifest.
    pub media_type: String,
    /// Its digest: the image's ID in Docker's classic store.
    pub digest: Digest,
    /// Its bytes; `None` until they are exported.
    pub bytes: Option<Bytes>,
}

/// A layer, by what is known of its blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Layer {
    /// A tar that is not compressed: what its blob will be is not known yet.
    Raw {
        /// The digest of the tar, as the config states it. Nobody has checked it: packing does.
        diff_id: Digest,
        /// The size of the tar in bytes; `None` until it is exported.
        size: Option<u64>,
    },
    /// A blob that goes as it is.
    Blob {
        /// The blob. It need not be uploaded if [`Descriptor::is_foreign`].
        descriptor: Descriptor,
        /// The digest of the tar in it, as the config states it.
        diff_id: Option<Digest>,
    },
}

impl Layer {
    /// The digest of the layer's bytes as the source has them: the key to [`Blobs`].
    pub fn source_digest(&self) -> &Digest {
        match self {
            Self::Raw { diff_id, .. } => diff_id,
            Self::Blob { descriptor, .. } => &descriptor.digest,
        }
    }

    /// The size of those bytes, where it is known.
    pub fn size(&self) -> Option<u64> {
        match self {
            Self::Raw { size, .. } => *size,
            Self::Blob { descriptor, .. } => Some(descriptor.size),
        }
    }

    /// The digest of the layer's tar, where it is known.
    pub fn diff_id(&self) -> Option<&Digest> {
        match self {
            Self::Raw { diff_id, .. } => Some(diff_id),
            Self::Blob { diff_id, .. } => diff_id.as_ref(),
        }
    }
}

/// Where a single image's manifest comes from.
#[derive(Debug, Clone)]
pub enum ManifestOrigin {
    /// The source's own; every layer is [`Layer::Ready`].
    Original(VerifiedManifest),
    /// The source's own, with the descriptors of its raw layers replaced by those of their blobs.
    Edited(VerifiedManifest),
    /// There is none, or none to be trusted: one is written.
    Generated,
}

/// An index and what it stands on.
#[derive(Debug, Clone)]
pub struct ImageGraph {
    /// The digest of the index: the last of `manifests`.
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
}

/// Whether an entry of an index is an attestation about another entry rather than an image, by the
/// annotation of BuildKit.
pub(crate) fn is_attestation(entry: &Descriptor) -> bool {
    entry.annotation("vnd.docker.reference.type").is_some()
}

/// Where the bytes of configs and layers are, by the digest of those bytes ([`Layer::stored`]).
#[derive(Debug, Default)]
pub struct ImageBlobs {
    slices: HashMap<Digest, Slice>,
}

impl ImageBlobs {
    /// The bytes with this digest. `None` where the source was told that nobody needs them.
    ///
    /// The digest of a raw layer is the config's word for it until it has been packed.
    pub fn get(&self, digest: &Digest) -> Option<&Slice> {
        self.slices.get(digest)
    }

    /// The same, for the one who uses them up: a file in the spool gives its room back when nobody
    /// has it open.
    pub fn take(&mut self, digest: &Digest) -> Option<Slice> {
        self.slices.remove(digest)
    }

    pub(super) fn insert(&mut self, digest: Digest, slice: Slice) {
        self.slices.insert(digest, slice);
    }
}
