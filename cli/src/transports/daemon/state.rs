//! The state of an image and a daemon before anything is sent. Pure: it performs no I/O.

use std::collections::HashSet;

use imgsync_oci::{Descriptor, Digest, Tag};

use super::platform_image::PlatformImage;
use super::responses::{DaemonKind, ImageInspect};
use crate::report::{CopyChange, CopyOutcome};

/// The state of an image at its source and in the daemon.
pub(super) struct DaemonTargetState {
    pub(super) kind: DaemonKind,
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
    /// Returns the ID that the image gets in the daemon.
    pub(super) fn id(&self) -> &Digest {
        image_id(self.kind, &self.image)
    }

    /// Returns the outcome of the copy as far as it is known before the copy.
    pub(super) fn initial_outcome(&self) -> CopyOutcome {
        let image = &self.image;
        let source_digest = image.root().digest.clone();
        let digest = match self.kind {
            DaemonKind::Classic | DaemonKind::Podman => &image.manifest.digest,
            DaemonKind::Containerd => &source_digest,
        };
        let mut outcome = CopyOutcome::unchanged(source_digest.clone(), digest.clone());
        outcome.previous_digest = self.previous_image.as_ref().map(|image| image.id.clone());
        outcome.left_out = image.omitted_platforms.clone();
        if self.existing_id.is_none() {
            outcome.change = CopyChange::Image;
        } else if self.existing_id != outcome.previous_digest {
            outcome.change = CopyChange::Tag;
            outcome.saved = distinct(&image.layers).map(|layer| layer.size).sum();
        }
        outcome
    }
}

/// Returns the ID that an image gets in a daemon: the digest of its config, or with containerd's
/// store that of the manifest or index.
pub(super) fn image_id(kind: DaemonKind, image: &PlatformImage) -> &Digest {
    match kind {
        DaemonKind::Classic | DaemonKind::Podman => &image.config.digest,
        DaemonKind::Containerd => &image.root().digest,
    }
}

/// Returns the blobs, each once.
pub(super) fn distinct<'a>(
    blobs: impl IntoIterator<Item = &'a Descriptor>,
) -> impl Iterator<Item = &'a Descriptor> {
    let mut seen = HashSet::new();
    let blobs = blobs.into_iter();
    blobs.filter(move |blob| seen.insert(&blob.digest))
}
