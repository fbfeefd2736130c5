//! Evidence about a layer before any of its bytes are read, and how much it proves. Start reading
//! at [`LayerEvidence`].

use imgsync_oci::media::Compression;
use imgsync_oci::{Descriptor, Digest, Repository, Tag};

/// The evidence for a layer, collected before any of its bytes are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerEvidence {
    /// The digest of the layer's bytes at the source: the diffID of a raw layer, or the digest of a
    /// blob that is already compressed.
    pub layer: Digest,
    /// The size of these bytes, if the source states it.
    pub size: Option<u64>,
    /// The blob that the layer is, or will become.
    pub candidate: Option<BlobCandidate>,
    /// Another repository of the target's registry: the blob was mounted from it if the target
    /// holds the blob now, and a mount from it would be tried otherwise.
    pub mount: Option<Repository>,
}

/// A blob that a layer may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobCandidate {
    /// The blob.
    pub blob: Descriptor,
    /// The origin of the claim that the blob is this layer.
    pub evidence: EvidenceSource,
}

impl BlobCandidate {
    /// Returns whether the blob is compressed with zstd, which not every engine can unpack.
    pub fn is_zstd(&self) -> bool {
        Compression::of_media_type(&self.blob.media_type) == Some(Compression::Zstd)
    }

    /// Returns whether registries need not hold the blob. Only the image itself can say so.
    pub fn is_foreign(&self) -> bool {
        self.evidence == EvidenceSource::Image && self.blob.is_foreign()
    }
}

/// The origin of the claim that a layer is a certain blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EvidenceSource {
    /// The image names the blob: the layer is compressed already.
    Image,
    /// The target's tag names a manifest of the same image.
    SameImage,
    /// The registry computed the diffID from the bytes that it holds.
    Registry,
    /// The registry computed the diffID of a blob in this other repository, which it mounts on
    /// request.
    OtherRepository(Repository),
    /// Another image in the target's repository, under this tag, claims so.
    Claim(Tag),
    /// The local engine recorded the digest of a manifest in this repository for an image with this
    /// layer. Docker does so without a look at the layers if it has an image of the same ID.
    Copy(Repository),
    /// An earlier push of this user made the blob from the layer.
    Cache,
    /// The cache says so, in an entry that this user did not sign: an older version wrote it, or the
    /// cache was copied from elsewhere.
    UnsignedCache,
    /// This push or an earlier one of this user downloaded the blob and computed its diffID.
    Verified,
}

/// How much an origin of evidence proves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// Somebody whom the user relies on anyway saw the bytes: this user's pushes, or the registry
    /// itself.
    Proof,
    /// A push of this user computed the diffID from the bytes of the blob.
    Verified,
    /// Anybody who can push to the repository, or write to a copy of the cache, may have written it.
    /// The blob may be anything.
    Claim,
}

impl EvidenceSource {
    /// Returns how much this origin proves.
    pub fn trust(&self) -> Trust {
        match self {
            Self::Image | Self::Registry | Self::OtherRepository(_) | Self::Cache => Trust::Proof,
            Self::Verified => Trust::Verified,
            Self::SameImage | Self::Claim(_) | Self::Copy(_) | Self::UnsignedCache => Trust::Claim,
        }
    }

    /// Returns the other repository that holds the blob.
    pub fn repository(&self) -> Option<&Repository> {
        match self {
            Self::OtherRepository(repository) | Self::Copy(repository) => Some(repository),
            Self::Image
            | Self::SameImage
            | Self::Registry
            | Self::Claim(_)
            | Self::Cache
            | Self::UnsignedCache
            | Self::Verified => None,
        }
    }
}

impl std::fmt::Display for EvidenceSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Image => f.write_str("same digest"),
            Self::SameImage => f.write_str("the tag points at this image"),
            Self::Registry => f.write_str("found in the registry"),
            Self::OtherRepository(repository) => write!(f, "mounted from {repository}"),
            Self::Claim(tag) => write!(f, "found in the tag {tag}"),
            Self::Copy(repository) => write!(f, "found in the repository {repository}"),
            Self::Cache => f.write_str("pushed earlier from this machine"),
            Self::UnsignedCache => f.write_str("found in the cache"),
            Self::Verified => f.write_str("downloaded and verified"),
        }
    }
}
