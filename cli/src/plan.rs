//! What to do about an image, decided from facts alone: no I/O, nothing that cannot be printed.

use std::collections::HashSet;

use imgsync_oci::{Descriptor, Digest};

/// What is known of a layer before a byte of it is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact {
    /// The layer's name: its diffID, or the digest of a blob that others packed.
    pub layer: Digest,
    /// The blob that it is, or becomes, as far as anybody says.
    pub blob: Option<Descriptor>,
}

/// What happens to a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The target holds it, as this blob.
    Have(Descriptor),
    /// It has to be read. Its bytes may still prove to be at the target already.
    Send,
}

/// What happens to the layers of an image, lowest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// One step a layer.
    pub steps: Vec<Step>,
}

impl Plan {
    /// Decides, given which blobs the target confirmed that it holds.
    pub fn new(facts: &[Fact], held: &HashSet<Digest>) -> Self {
        let decide = |fact: &Fact| match &fact.blob {
            Some(blob) if held.contains(&blob.digest) || blob.is_foreign() => {
                Step::Have(blob.clone())
            }
            Some(_) | None => Step::Send,
        };
        Self {
            steps: facts.iter().map(decide).collect(),
        }
    }

    /// Whether no layer has to be read.
    pub fn is_complete(&self) -> bool {
        self.steps.iter().all(|step| matches!(step, Step::Have(_)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fact(name: &str, known: bool) -> Fact {
        let layer = Digest::of(name.as_bytes());
        let blob = known.then(|| {
            let digest = Digest::of(format!("{name}, packed").as_bytes());
            Descriptor::new(imgsync_oci::media::DOCKER_LAYER_GZIP, digest, 1)
        });
        Fact { layer, blob }
    }

    #[test]
    fn only_what_the_target_confirmed_is_left_out() {
        let facts = [fact("a", true), fact("b", true), fact("c", false)];
        let first = facts[0].blob.clone().unwrap();
        let held = HashSet::from([first.digest.clone()]);
        let plan = Plan::new(&facts, &held);
        assert_eq!(plan.steps, [Step::Have(first), Step::Send, Step::Send]);
        assert!(!plan.is_complete());
        assert!(Plan::new(&facts[..1], &held).is_complete());
    }
}
