//! The state that the functions of a push share.

use imgsync_oci::Descriptor;

use super::layer_filter::SkippedLayers;
use crate::evidence::LookupRequest;
use crate::exit::{Failure, FailureKind};
use crate::image::VerifiedManifest;
use crate::upload::UploadContext;

/// An image on its way to a target.
pub(super) struct PushContext {
    pub(super) upload: UploadContext,
    /// The parameters of lookups at the target.
    pub(super) lookup: LookupRequest,
    /// The name of the image at the target.
    pub(super) name: String,
    /// The layers that were skipped while the image was read.
    pub(super) skipped: SkippedLayers,
    /// Whether layers may be sent as deltas.
    pub(super) uses_deltas: bool,
    /// The most bytes of compressed layers that stay in the spool for later deltas.
    pub(super) max_kept_bytes: u64,
}

/// The result of a push.
pub(super) struct PushedManifest {
    /// The manifest that the tag now points at.
    pub(super) manifest: VerifiedManifest,
    /// The size in bytes of all blobs that the manifest needs, each counted once.
    pub(super) blob_bytes: u64,
    /// Whether later pushes to this registry may make deltas from the layers.
    pub(super) keeps_layers: bool,
}

impl PushContext {
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
pub(super) fn missing_content(what: &str) -> Failure {
    let what = format!("source: {what} is missing although the image needs it");
    Failure::new(FailureKind::Source, what)
        .with_hint("run the same command again; pass an archive as a file, not on standard input")
}
