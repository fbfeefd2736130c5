//! Decides what happens to each blob of an image, from the evidence alone.
//!
//! This module does no I/O. A push and a copy use the same steps. Start reading at [`BlobStep`].

use std::collections::HashSet;

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

/// The action of a push for blobs that the target holds, and that are layers only by a claim
/// ([`Trust::Claim`]).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ClaimPolicy {
    /// Whether to use what images at the registry claim, because the user trusts everybody who can
    /// push to the repository.
    pub trust_registry: bool,
    /// The rates by which to decide whether a blob is downloaded and verified, or the layer is sent.
    /// `None` to send it in any case.
    pub verify: Option<TransferRates>,
}

/// The action of a push for one blob that the target holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClaimVerdict {
    /// The blob is the layer.
    Use,
    /// The blob is downloaded, to find out whether it is the layer.
    Verify,
    /// The blob is not used: the layer is sent.
    Send,
}

impl ClaimPolicy {
    /// Decides about a blob that the target holds.
    pub fn judge(self, candidate: &BlobCandidate) -> ClaimVerdict {
        let evidence = &candidate.evidence;
        let is_trusted = match evidence {
            EvidenceSource::SameImage | EvidenceSource::Claim(_) | EvidenceSource::Copy(_) => {
                self.trust_registry
            }
            _ => evidence.trust() != Trust::Claim,
        };
        let size = candidate.blob.size;
        match self.verify {
            _ if is_trusted => ClaimVerdict::Use,
            Some(rates) if rates.favour_download(size) => ClaimVerdict::Verify,
            _ => ClaimVerdict::Send,
        }
    }
}

/// The rates that earlier transfers with a registry had, in bytes per second. `None` if none was
/// large enough to tell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TransferRates {
    /// The rate of uploads, reading and compressing included.
    pub sent: Option<u64>,
    /// The rate of downloads, decompressing included.
    pub received: Option<u64>,
}

/// Up to this size in bytes, the number of requests counts, and a download needs the fewest.
const MAX_SMALL_BLOB_BYTES: u64 = 1024 * 1024;

impl TransferRates {
    /// Returns whether downloading a blob of `size` bytes is expected to be quicker than sending it.
    /// As long as a rate is unknown it is: few connections receive more slowly than they send.
    pub fn favour_download(&self, size: u64) -> bool {
        let is_faster = match (self.sent, self.received) {
            (Some(sent), Some(received)) => received >= sent,
            _ => true,
        };
        is_faster || size <= MAX_SMALL_BLOB_BYTES
    }
}

/// The action for a blob, or for a layer that will become one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BlobStep {
    /// The target holds the blob.
    AlreadyPresent(BlobCandidate),
    /// The registry mounts the blob from a repository that is known to hold it, and gets its bytes
    /// only if it refuses.
    Mount {
        /// The other repository.
        from: Repository,
        /// The size of the blob in bytes.
        size: u64,
    },
    /// The target holds a blob that is said to be the layer. The blob is downloaded and its diffID
    /// is computed; the layer is sent if the claim is wrong.
    Verify {
        /// The blob, and who says so.
        candidate: BlobCandidate,
        /// The number of bytes to read if the claim is wrong, if the source states it.
        read: Option<u64>,
    },
    /// The bytes must be read. The target may still turn out to hold the blob.
    Send {
        /// The number of bytes to read, if the source states it.
        read: Option<u64>,
        /// The number of bytes to send, if it is known before the layer is compressed.
        send: Option<u64>,
        /// A repository that may hold the blob, and that a mount would be tried from first.
        mount: Option<Repository>,
        /// Whether an earlier run left the compressed layer in the spool, so that nothing is read.
        is_packed: bool,
    },
    /// Another image of the same run sends the blob.
    SentByAnother {
        /// The size of the blob in bytes.
        size: u64,
    },
    /// The layer occurs earlier in the same image.
    Duplicate,
}

impl BlobStep {
    /// Returns the step for a layer that must be read, of `size` bytes if the source states it, and
    /// of which nothing else is known.
    fn send_unknown(size: Option<u64>) -> Self {
        Self::Send {
            read: size,
            send: None,
            mount: None,
            is_packed: false,
        }
    }
}

/// The steps for the layers of an image, lowest layer first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushPlan {
    /// One step for each layer, with the layer's digest at the source.
    pub steps: Vec<(Digest, BlobStep)>,
}

/// The sums of a plan. Sizes come from others, so sums stop at the largest number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PlanTotals {
    /// Bytes to read, as far as the source states sizes.
    pub read: u64,
    /// Layers to read whose size the source does not state.
    pub unsized_layers: usize,
    /// Bytes to send, as far as they are known before compression.
    pub send: u64,
    /// Layers whose compressed size is not known yet.
    pub unpacked_layers: usize,
    /// Bytes that need not be sent, mounted ones included.
    pub saved: u64,
    /// Bytes of blobs that the registry mounts.
    pub mounted: u64,
    /// Bytes of blobs to download, because claims about them are not trusted.
    pub verify: u64,
}

impl PlanTotals {
    /// Sums up steps. A blob that the target holds counts once.
    pub fn of<'a>(steps: impl IntoIterator<Item = &'a BlobStep>) -> Self {
        let mut totals = Self::default();
        let mut seen = HashSet::new();
        let add = |sum: &mut u64, bytes: u64| *sum = sum.saturating_add(bytes);
        for step in steps {
            match step {
                BlobStep::AlreadyPresent(BlobCandidate { blob, .. }) => {
                    if seen.insert(&blob.digest) && !blob.is_foreign() {
                        add(&mut totals.saved, blob.size);
                    }
                }
                BlobStep::Mount { size, .. } => {
                    add(&mut totals.saved, *size);
                    add(&mut totals.mounted, *size);
                }
                BlobStep::Verify { candidate, .. } => {
                    if seen.insert(&candidate.blob.digest) {
                        add(&mut totals.verify, candidate.blob.size);
                    }
                }
                BlobStep::Send { read, send, .. } => {
                    add(&mut totals.read, read.unwrap_or_default());
                    totals.unsized_layers += usize::from(read.is_none());
                    add(&mut totals.send, send.unwrap_or_default());
                    totals.unpacked_layers += usize::from(send.is_none());
                }
                BlobStep::SentByAnother { size } => add(&mut totals.saved, *size),
                BlobStep::Duplicate => {}
            }
        }
        totals
    }
}

impl PushPlan {
    /// Decides from the evidence and the blobs that the target confirmed. Claims are not used.
    pub fn new(evidence: Vec<LayerEvidence>, confirmed: &HashSet<Digest>) -> Self {
        Self::with_claims(evidence, confirmed, ClaimPolicy::default())
    }

    /// Decides from the evidence, the blobs that the target confirmed, and what is to be done about
    /// claims.
    pub fn with_claims(
        evidence: Vec<LayerEvidence>,
        confirmed: &HashSet<Digest>,
        claims: ClaimPolicy,
    ) -> Self {
        let mut seen = HashSet::new();
        let steps = evidence.into_iter().map(|layer| {
            let digest = layer.layer.clone();
            (digest, decide(layer, confirmed, claims, &mut seen))
        });
        Self {
            steps: steps.collect(),
        }
    }

    /// Returns the layers whose blobs are to be verified, each once, with the size of the layer if
    /// the source states it.
    pub fn unverified(&self) -> Vec<(Digest, BlobCandidate, Option<u64>)> {
        let mut seen = HashSet::new();
        let steps = self.steps.iter().filter_map(|(layer, step)| match step {
            BlobStep::Verify { candidate, read } if seen.insert(layer) => {
                Some((layer.clone(), candidate.clone(), *read))
            }
            _ => None,
        });
        steps.collect()
    }

    /// Replaces the verifications by their results: the layers in `verified` are at the target, the
    /// others are sent.
    pub fn settle(&mut self, verified: &HashSet<Digest>) {
        let mut sent = HashSet::new();
        for (layer, step) in &mut self.steps {
            let BlobStep::Verify { candidate, read } = step else {
                continue;
            };
            *step = if verified.contains(layer) {
                BlobStep::AlreadyPresent(BlobCandidate {
                    blob: candidate.blob.clone(),
                    evidence: EvidenceSource::Verified,
                })
            } else if sent.insert(layer.clone()) {
                BlobStep::send_unknown(*read)
            } else {
                BlobStep::Duplicate
            };
        }
    }

    /// Marks a layer as compressed by an earlier run, to a blob of `size` bytes. A layer that the
    /// target holds stays as it is.
    pub fn mark_packed(&mut self, layer: &Digest, size: u64) {
        for (digest, step) in &mut self.steps {
            if let BlobStep::Send {
                read,
                send,
                is_packed,
                ..
            } = step
                && digest == layer
            {
                (*read, *send, *is_packed) = (Some(0), Some(size), true);
            }
        }
    }

    /// Returns whether no layer has to be read.
    pub fn is_complete(&self) -> bool {
        let mut steps = self.steps.iter();
        steps.all(|(_, step)| matches!(step, BlobStep::AlreadyPresent(_)))
    }

    /// Sums up the steps.
    pub fn totals(&self) -> PlanTotals {
        PlanTotals::of(self.steps.iter().map(|(_, step)| step))
    }
}

/// Decides about one layer. `seen` has the earlier layers of the image that must be read.
fn decide(
    layer: LayerEvidence,
    confirmed: &HashSet<Digest>,
    claims: ClaimPolicy,
    seen: &mut HashSet<Digest>,
) -> BlobStep {
    let is_present = |blob: &Descriptor| confirmed.contains(&blob.digest) || blob.is_foreign();
    let verdict = match &layer.candidate {
        Some(candidate) if is_present(&candidate.blob) => Some(claims.judge(candidate)),
        _ => None,
    };
    match (layer.candidate, verdict) {
        (Some(candidate), Some(ClaimVerdict::Verify)) => BlobStep::Verify {
            candidate,
            read: layer.size,
        },
        (Some(candidate), Some(ClaimVerdict::Use)) => {
            let mounted = layer.mount.map(EvidenceSource::OtherRepository);
            BlobStep::AlreadyPresent(BlobCandidate {
                evidence: mounted.unwrap_or(candidate.evidence),
                blob: candidate.blob,
            })
        }
        _ if !seen.insert(layer.layer) => BlobStep::Duplicate,
        (_, Some(ClaimVerdict::Send)) => BlobStep::send_unknown(layer.size),
        (candidate, _) => BlobStep::Send {
            read: layer.size,
            // The blob of a copy was compressed elsewhere, so its size says nothing about this one.
            send: candidate
                .filter(|candidate| !matches!(candidate.evidence, EvidenceSource::Copy(_)))
                .map(|candidate| candidate.blob.size),
            mount: layer.mount,
            is_packed: false,
        },
    }
}

#[cfg(test)]
mod tests;
