//! Decides what happens to each blob of an image, from the evidence alone.
//!
//! This module does no I/O. A push and a copy use the same steps. Start reading at [`BlobStep`].

mod claims;
mod delta;
mod evidence;

use std::collections::HashSet;

use imgsync_oci::{Descriptor, Digest, Repository};

pub use claims::{ClaimPolicy, ClaimVerdict, TransferRates};
pub use delta::{
    DeltaBase, DeltaPlan, LayerHistory, MAX_DELTA_RAW_BYTES, MIN_DELTA_LAYER_BYTES, OlderImage,
    OlderLayer,
};
pub use evidence::{BlobCandidate, EvidenceSource, LayerEvidence, Trust};

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
        /// The layers at the target that a delta would be based on.
        delta: Option<DeltaPlan>,
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
            delta: None,
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
    /// The part of `send` that another repository of the registry has, and may be mounted from there.
    pub mountable: u64,
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
                BlobStep::Send {
                    read, send, mount, ..
                } => {
                    if mount.is_some() {
                        add(&mut totals.mountable, send.unwrap_or_default());
                    }
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
            delta: None,
        },
    }
}

#[cfg(test)]
mod tests;
