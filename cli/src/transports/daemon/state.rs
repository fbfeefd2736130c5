//! The state of an image and a daemon before anything is sent. Pure: it performs no I/O.

use std::collections::HashSet;

use imgsync_oci::{Descriptor, Digest, Tag};

use super::platform_image::PlatformImage;
use super::responses::ImageInspect;
use crate::report::{CopyChange, CopyOutcome};

/// The state of an image at its source and in the daemon.
pub(super) struct DaemonTargetState {
    pub(super) image: PlatformImage,
    /// The image's name in the daemon, without the tag.
    pub(super) repository_name: String,
    pub(super) tag: Tag,
    /// The image that has the name now.
    pub(super) previous_image: Option<ImageInspect>,
    /// The ID of the image in this daemon, if the daemon has it.
    pub(super) existing_id: Option<Digest>,
}

impl DaemonTargetState {
    /// Returns the outcome of the copy as far as it is known before the copy.
    pub(super) fn initial_outcome(&self) -> CopyOutcome {
        let (source_digest, image) = (self.image.root.clone(), &self.image);
        let mut outcome = CopyOutcome::unchanged(source_digest, image.manifest.digest.clone());
        outcome.previous_digest = self.previous_image.as_ref().map(|image| image.id.clone());
        outcome.left_out = image.omitted_platforms.clone();
        if self.existing_id.is_none() {
            outcome.change = CopyChange::Image;
        } else if self.existing_id != outcome.previous_digest {
            outcome.change = CopyChange::Tag;
            outcome.saved = distinct_layers(&image.layers).map(|layer| layer.size).sum();
        }
        outcome
    }
}

/// Returns the layers, each once.
pub(super) fn distinct_layers(layers: &[Descriptor]) -> impl Iterator<Item = &Descriptor> {
    let mut seen = HashSet::new();
    layers
        .iter()
        .filter(move |layer| seen.insert(&layer.digest))
}
