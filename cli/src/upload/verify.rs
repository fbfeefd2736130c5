//! Verifies blobs that are sent as they are, beside their upload: the digest, and of a layer the
//! diffID too.
//!
//! The digest alone is computed while the blob is sent. For the diffID the layer must be
//! decompressed, which is done in threads of its own, and only once for each blob. Start reading at
//! [`Verification::of`].

use std::sync::Arc;

use imgsync_oci::media::Compression;
use imgsync_oci::{Descriptor, Digest};
use tokio::sync::Semaphore;

use super::pack::{check_digest, failure};
use super::{BlobSource, PendingBlob, QueuedBlob, QueuedContent, UploadContext};
use crate::cache::VerifiedBlobs;
use crate::compress::{self, CompressError};
use crate::exit::{Failure, FailureKind};
use crate::image::Slice;
use crate::report::{ProgressTask, TaskReader};
use crate::spool::Spool;

/// How the bytes of a blob are verified.
#[derive(Debug)]
pub(super) enum Verification {
    /// They are verified already, or not at all.
    None,
    /// The digest is computed while the bytes are sent.
    WhileSending(Digest),
    /// All digests are computed beside the upload.
    Beside(LayerCheck),
}

/// The digests that the bytes of a layer must have.
#[derive(Debug)]
pub(super) struct LayerCheck {
    label: String,
    bytes: Slice,
    digest: Digest,
    diff_id: Digest,
    compression: Compression,
}

impl Verification {
    /// Decides how a queued blob is verified. The diffID of a blob is not computed again if an
    /// earlier run has done so.
    pub(super) fn of(queued: &QueuedBlob, context: &UploadContext) -> Self {
        let QueuedContent::Ready {
            descriptor,
            diff_id,
        } = &queued.content
        else {
            return Self::None;
        };
        if !context.verifies {
            return Self::None;
        }
        let diff_id = unverified_diff_id(context, descriptor, diff_id.as_ref());
        let digest = descriptor.digest.clone();
        match diff_id {
            None => Self::WhileSending(digest),
            Some((diff_id, compression)) => Self::Beside(LayerCheck {
                label: queued.label.clone(),
                bytes: queued.bytes.clone(),
                digest,
                diff_id,
                compression,
            }),
        }
    }

    /// Makes the upload check the digest, if this is how the blob is verified.
    pub(super) fn apply_to(&self, blob: &mut PendingBlob) {
        if let (Self::WhileSending(digest), BlobSource::Local(bytes)) = (self, &blob.source) {
            blob.source = BlobSource::Unverified {
                bytes: bytes.clone(),
                digest: digest.clone(),
            };
        }
    }

    /// Verifies what is not verified while the blob is sent, once one of `permits` is free.
    ///
    /// # Errors
    /// Fails if the bytes cannot be read, or do not match the image.
    pub(super) async fn run(
        self,
        context: &UploadContext,
        permits: Arc<Semaphore>,
    ) -> Result<(), Failure> {
        let Self::Beside(check) = self else {
            return Ok(());
        };
        // The semaphore is never closed.
        let _permit = permits.acquire_owned().await.ok();
        let (spool, verified) = (context.spool.clone(), context.verified.clone());
        let text = format!("verifying {}", check.label);
        let shown = ProgressTask::start(&context.report, &text, Some(check.bytes.len()));
        let task = tokio::task::spawn_blocking(move || check.run(&spool, &verified, shown));
        task.await.unwrap_or_else(|_| {
            let what = "source: the thread that verifies a layer panicked";
            Err(Failure::new(FailureKind::Source, what))
        })
    }
}

impl LayerCheck {
    fn run(
        self,
        spool: &Spool,
        verified: &VerifiedBlobs,
        task: ProgressTask,
    ) -> Result<(), Failure> {
        let label = &self.label;
        let failed = |error| failure(label, spool, &error);
        let reader = self.bytes.reader();
        let reader = reader.map_err(|error| failed(CompressError::Read(error)))?;
        let reader = TaskReader::new(reader, task);
        let algorithm = self.digest.algorithm();
        let digests = compress::compute_layer_digests_with(algorithm, reader, self.compression);
        let digests = digests.map_err(failed)?;
        check_digest(label, "digest", &self.digest, &digests.digest)?;
        check_digest(label, "diffID", &self.diff_id, &digests.diff_id)?;
        // A remembered result counts for other images too, so the blob must be the layer for every
        // program.
        let start = self.bytes.reader();
        let is_detected = start.and_then(|start| compress::is_detected(start, self.compression));
        if is_detected.unwrap_or(false) {
            verified.remember(&self.digest, self.compression, &self.diff_id);
        }
        Ok(())
    }
}

/// Returns the diffID that is still to be verified. A blob of a media type that is no layer has
/// none.
fn unverified_diff_id(
    context: &UploadContext,
    blob: &Descriptor,
    diff_id: Option<&Digest>,
) -> Option<(Digest, Compression)> {
    let diff_id = diff_id?;
    let compression = Compression::of_media_type(&blob.media_type)?;
    let verified = &context.verified;
    let is_verified = verified.contains(&blob.digest, compression, diff_id);
    (!is_verified).then(|| (diff_id.clone(), compression))
}
