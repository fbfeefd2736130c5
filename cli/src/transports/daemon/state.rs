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
        let previous = self.previous_image.as_ref().map(|image| image.id.clone());
        let change = match &self.existing_id {
            None => CopyChange::Image,
            existing if *existing == previous => CopyChange::Nothing,
            Some(_) => CopyChange::Tag,
        };
        let sizes = distinct_layers(&self.image.layers).map(|layer| layer.size);
        CopyOutcome {
            source_digest: self.image.root.clone(),
            digest: self.image.manifest.digest.clone(),
            previous_digest: previous,
            change,
            sent: 0,
            saved: match change {
                CopyChange::Tag => sizes.sum(),
                _ => 0,
            },
            mounted: 0,
            referrer_tags: Vec::new(),
            referrer_count: 0,
            left_out: self.image.omitted_platforms.clone(),
            notes: Vec::new(),
        }
    }
}

/// Returns the layers, each once.
pub(super) fn distinct_layers(layers: &[Descriptor]) -> impl Iterator<Item = &Descriptor> {
    let mut seen = HashSet::new();
    layers
        .iter()
        .filter(move |layer| seen.insert(&layer.digest))
}
