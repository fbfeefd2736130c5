//! What the functions of a push share.

use imgsync_oci::{Descriptor, Digest, Repository};

use super::PushTarget;
use super::layer_filter::SkippedLayers;
use crate::evidence::probe::TargetProbe;
use crate::evidence::{self, LookupRequest, TargetState};
use crate::exit::{Failure, FailureKind};
use crate::image::SingleImage;
use crate::upload::UploadContext;

/// An image on its way to a target.
pub(super) struct PushContext {
    pub(super) upload: UploadContext,
    pub(super) target: PushTarget,
    /// Whether nothing may change anywhere.
    pub(super) is_dry_run: bool,
    /// Whether to use what other images at the target claim about their layers.
    pub(super) reuse: bool,
    /// Other repositories of the target's registry that have the image, as the source says, with the
    /// digests of its manifests there.
    pub(super) copies: Vec<(Repository, Digest)>,
    /// The layers that were skipped while the image was read.
    pub(super) skipped: SkippedLayers,
}

/// The result of a push.
pub(super) struct PushedManifest {
    /// The digest of the manifest that the tag now points at.
    pub(super) digest: Digest,
    /// The size in bytes of all blobs that the manifest needs, each counted once.
    pub(super) blob_bytes: u64,
}

impl PushContext {
    /// Returns a probe of the target.
    pub(super) fn probe(&self) -> TargetProbe<'_> {
        let writer = &self.upload.writer;
        TargetProbe {
            client: &writer.client,
            repository: &writer.repository,
            cache: &self.upload.folders.cache,
        }
    }

    /// Returns what to look up for this push.
    pub(super) fn lookup_request(&self) -> LookupRequest<'_> {
        LookupRequest {
            probe: self.probe(),
            writer: &self.upload.writer,
            tag: &self.target.tag,
            can_mount: !self.is_dry_run,
            reuse: self.reuse,
            copies: &self.copies,
        }
    }

    /// Looks up an image at the target, and plans the push.
    pub(super) async fn look_up(&self, single: &SingleImage) -> Result<TargetState, Failure> {
        evidence::gather(&self.lookup_request(), single).await
    }

    pub(super) fn note(&self, text: &str) {
        self.upload.report.note(text);
    }
}

/// Returns the size of blobs in bytes. Sizes come from others, so the sum stops at the largest
/// number.
pub(super) fn total_size<'a>(blobs: impl IntoIterator<Item = &'a Descriptor>) -> u64 {
    let sizes = blobs.into_iter().map(|blob| blob.size);
    sizes.fold(0, u64::saturating_add)
}

/// Returns the failure of a push whose source lacks some content.
pub(super) fn missing_content(what: impl std::fmt::Display) -> Failure {
    let what = format!("source: {what} is missing although the image needs it");
    Failure::new(FailureKind::Source, what)
}
