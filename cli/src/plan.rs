//! What to do about an image, decided from facts alone: no I/O, nothing that cannot be printed.

use std::collections::HashSet;

use imgsync_oci::{Descriptor, Digest, Repository, Tag};

/// What is known of a layer before a byte of it is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerEvidence {
    /// The digest of its bytes as the source has them: the diffID of a raw layer, the digest of a
    /// blob that others packed.
    pub layer: Digest,
    /// The size of those bytes, where the source tells.
    pub size: Option<u64>,
    /// The blob that it is, or becomes, as far as anybody says.
    pub candidate: Option<BlobCandidate>,
    /// Another repository of the target: whence the blob was linked, if the target holds it now, or
    /// would be tried to.
    pub mount: Option<Repository>,
}

/// A blob that a layer may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobCandidate {
    /// The blob.
    pub blob: Descriptor,
    /// Who says so.
    pub evidence: EvidenceSource,
}

impl BlobCandidate {
    /// Whether no registry need hold the blob. Only the image's own word counts for that.
    pub fn is_foreign(&self) -> bool {
        self.evidence == EvidenceSource::Image && self.blob.is_foreign()
    }
}

/// How it is known which blob a layer is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EvidenceSource {
    /// The image says so itself: the layer came packed.
    Image,
    /// The manifest that the target's tag names is one of this very image.
    SameImage,
    /// The registry computed it from the bytes that it holds.
    Registry,
    /// The registry computed it, for a blob of this other repository, which is linked for the
    /// asking.
    OtherRepository(Repository),
    /// Another image in the target's repository, under this tag, claims so.
    Claim(Tag),
    /// The image lies in this other repository too, as its source says.
    Copy(Repository),
    /// An earlier push of this user found out.
    Cache,
}

impl EvidenceSource {
    /// The other repository that holds the blob.
    pub fn repository(&self) -> Option<&Repository> {
        match self {
            Self::OtherRepository(repository) | Self::Copy(repository) => Some(repository),
            Self::Image | Self::SameImage | Self::Registry | Self::Claim(_) | Self::Cache => None,
        }
    }
}

impl std::fmt::Display for EvidenceSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Image => f.write_str("the image names the blob"),
            Self::SameImage => f.write_str("the tag names this very image"),
            Self::Registry => f.write_str("the registry knows the layer"),
            Self::OtherRepository(repository) => write!(f, "linked from {repository}"),
            Self::Claim(tag) => write!(f, "the image tagged {tag} has it"),
            Self::Copy(repository) => write!(f, "the image lies in {repository} too"),
            Self::Cache => f.write_str("pushed before from here"),
        }
    }
}

/// What happens to a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LayerStep {
    /// The target holds it, as this blob.
    AlreadyPresent(BlobCandidate),
    /// It has to be read. Its bytes may still prove to be at the target already.
    Send {
        /// How many bytes are to be read, where the source tells.
        read: Option<u64>,
        /// How many bytes are to be sent, where that is known before they are packed.
        send: Option<u64>,
        /// Whence it would first be tried to link it.
        mount: Option<Repository>,
        /// Whether an earlier run has kept it, packed: then nothing is read.
        is_packed: bool,
    },
    /// The same layer as an earlier one of this image.
    Duplicate,
}

/// What happens to the layers of an image, lowest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushPlan {
    /// One step a layer, with its digest at the source.
    pub steps: Vec<(Digest, LayerStep)>,
}

/// The bytes that a plan comes to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PlanTotals {
    /// Bytes to read, where the source told sizes.
    pub read: u64,
    /// Layers to read whose size the source does not tell.
    pub unsized_layers: usize,
    /// Bytes to send, as far as known before packing.
    pub send: u64,
    /// Layers whose size on the line is known only once they are packed.
    pub unpacked_layers: usize,
    /// Bytes that need not be sent.
    pub saved: u64,
}

impl PushPlan {
    /// Decides, given which blobs the target confirmed that it holds.
    pub fn new(facts: Vec<LayerEvidence>, held: &HashSet<Digest>) -> Self {
        let mut seen = HashSet::new();
        let mut decide = |fact: LayerEvidence| {
            let known = fact.candidate.as_ref();
            let is_held = known
                .is_some_and(|known| held.contains(&known.blob.digest) || known.blob.is_foreign());
            let step = match fact.candidate {
                Some(candidate) if is_held => LayerStep::AlreadyPresent(match fact.mount {
                    Some(from) => BlobCandidate {
                        evidence: EvidenceSource::OtherRepository(from),
                        ..candidate
                    },
                    None => candidate,
                }),
                Some(_) | None if !seen.insert(fact.layer.clone()) => LayerStep::Duplicate,
                candidate => LayerStep::Send {
                    read: fact.size,
                    // Packed here it is another blob than what others made of it.
                    send: candidate
                        .filter(|candidate| !matches!(candidate.evidence, EvidenceSource::Copy(_)))
                        .map(|candidate| candidate.blob.size),
                    mount: fact.mount,
                    is_packed: false,
                },
            };
            (fact.layer, step)
        };
        Self {
            steps: facts.into_iter().map(&mut decide).collect(),
        }
    }

    /// Takes a layer for one that an earlier run has kept, as a blob of `size` bytes; where the target
    /// holds it, it stays at that.
    pub fn mark_packed(&mut self, layer: &Digest, size: u64) {
        for (other, step) in &mut self.steps {
            if let LayerStep::Send {
                read,
                send,
                is_packed: kept,
                ..
            } = step
                && other == layer
            {
                (*read, *send, *kept) = (Some(0), Some(size), true);
            }
        }
    }

    /// Whether no layer has to be read.
    pub fn is_complete(&self) -> bool {
        let mut steps = self.steps.iter();
        steps.all(|(_, step)| matches!(step, LayerStep::AlreadyPresent(_)))
    }

    /// The bytes it comes to; a blob that stands there twice counts once. Sizes are what others say:
    /// sums of them end at the largest number.
    pub fn totals(&self) -> PlanTotals {
        let mut sums = PlanTotals::default();
        let mut once = HashSet::new();
        for (_, step) in &self.steps {
            match step {
                LayerStep::AlreadyPresent(candidate) => {
                    if once.insert(&candidate.blob.digest) && !candidate.blob.is_foreign() {
                        sums.saved = sums.saved.saturating_add(candidate.blob.size);
                    }
                }
                LayerStep::Send { read, send, .. } => {
                    sums.read = sums.read.saturating_add(read.unwrap_or_default());
                    sums.unsized_layers += usize::from(read.is_none());
                    sums.send = sums.send.saturating_add(send.unwrap_or_default());
                    sums.unpacked_layers += usize::from(send.is_none());
                }
                LayerStep::Duplicate => {}
            }
        }
        sums
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evidence(name: &str, source: Option<EvidenceSource>) -> LayerEvidence {
        let digest = Digest::of(format!("{name}, packed").as_bytes());
        let blob = Descriptor::new(imgsync_oci::media::DOCKER_LAYER_GZIP, digest, 10);
        LayerEvidence {
            layer: Digest::of(name.as_bytes()),
            size: Some(100),
            candidate: source.map(|evidence| BlobCandidate { blob, evidence }),
            mount: None,
        }
    }

    #[test]
    fn only_what_the_target_confirmed_is_left_out() {
        let facts = vec![
            evidence("a", Some(EvidenceSource::Cache)),
            evidence("b", Some(EvidenceSource::SameImage)),
            evidence("c", None),
            evidence("c", None),
        ];
        let first = facts[0].candidate.clone().unwrap();
        let held = HashSet::from([first.blob.digest.clone()]);
        let plan = PushPlan::new(facts.clone(), &held);
        let (read, send) = (Some(100), Some(10));
        let steps: Vec<LayerStep> = plan.steps.iter().map(|(_, step)| step.clone()).collect();
        assert_eq!(
            steps,
            [
                LayerStep::AlreadyPresent(first),
                LayerStep::Send {
                    read,
                    send,
                    mount: None,
                    is_packed: false,
                },
                LayerStep::Send {
                    read,
                    send: None,
                    mount: None,
                    is_packed: false,
                },
                LayerStep::Duplicate,
            ]
        );
        assert!(!plan.is_complete());
        let sums = PlanTotals {
            read: 200,
            unsized_layers: 0,
            send: 10,
            unpacked_layers: 1,
            saved: 10,
        };
        assert_eq!(plan.totals(), sums);
        assert!(PushPlan::new(facts[..1].to_vec(), &held).is_complete());
    }

    #[test]
    fn layers_packed_by_an_earlier_run_are_sent_and_not_read() {
        let facts = vec![
            evidence("a", Some(EvidenceSource::Cache)),
            evidence("b", None),
        ];
        let first = facts[0].candidate.clone().unwrap();
        let held = HashSet::from([first.blob.digest.clone()]);
        let mut plan = PushPlan::new(facts, &held);
        plan.mark_packed(&Digest::of(b"a"), 30);
        plan.mark_packed(&Digest::of(b"b"), 40);
        assert_eq!(plan.steps[0].1, LayerStep::AlreadyPresent(first));
        let sums = PlanTotals {
            read: 0,
            unsized_layers: 0,
            send: 40,
            unpacked_layers: 0,
            saved: 10,
        };
        assert_eq!(plan.totals(), sums);
    }

    #[test]
    fn blobs_of_another_repository_are_mounted_or_would_be() {
        let from: Repository = "team/base".parse().unwrap();
        let mut one = evidence("a", Some(EvidenceSource::Copy(from.clone())));
        one.mount = Some(from.clone());
        let blob = one.candidate.clone().unwrap().blob;
        let step = |held: &[&Digest]| {
            let held = held.iter().copied().cloned().collect();
            PushPlan::new(vec![one.clone()], &held).steps.remove(0).1
        };
        let would = LayerStep::Send {
            read: Some(100),
            send: None,
            mount: Some(from.clone()),
            is_packed: false,
        };
        assert_eq!(step(&[]), would);
        let evidence = EvidenceSource::OtherRepository(from);
        let linked = BlobCandidate {
            blob: blob.clone(),
            evidence,
        };
        assert_eq!(step(&[&blob.digest]), LayerStep::AlreadyPresent(linked));
    }
}
