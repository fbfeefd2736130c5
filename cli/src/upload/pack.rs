//! Turns the bytes at the source into a blob that is ready to upload: compresses raw layers and
//! verifies their digests.
//!
//! This module sends nothing. Start reading at [`pack`].

use std::io::BufWriter;
use std::sync::Arc;

use imgsync_oci::{Descriptor, Digest};

use super::blob_reader::DAMAGED_HINT;
use super::{BlobSource, PendingBlob, QueuedBlob};
use crate::cache::BlobRef;
use crate::compress::{self, CompressError};
use crate::exit::{Failure, FailureKind};
use crate::image::Slice;
use crate::report::{ProgressTask, Report, TaskReader};
use crate::spool::{Spool, SpoolKind};

/// The content of a queued blob, before its bytes were read.
#[derive(Debug, Clone)]
pub enum QueuedContent {
    /// An uncompressed tar. The digest of its blob is known after compression.
    Raw {
        /// The digest that the tar must have.
        diff_id: Digest,
    },
    /// A raw layer that an earlier run has compressed, and whose compressed blob is verified.
    Packed {
        /// The digest of the tar.
        diff_id: Digest,
        /// The compressed blob.
        blob: BlobRef,
    },
    /// A blob that is sent as it is.
    Ready {
        /// The descriptor that the blob must match.
        descriptor: Descriptor,
        /// The digest that the uncompressed tar must have, if the image config lists it.
        diff_id: Option<Digest>,
    },
}

/// Returns the blob to upload: compresses a raw layer, and verifies its diffID. The compressed blob
/// is kept in the spool, and replaces the spool's copy of the raw layer. A blob that is sent as it
/// is has not been read yet. Blocks the thread.
///
/// # Errors
/// Fails if the bytes cannot be read or do not match the image, or if the spool cannot be written.
pub(super) fn pack(
    queued: &QueuedBlob,
    spool: &Spool,
    threads: usize,
    report: &Arc<dyn Report>,
) -> Result<PendingBlob, Failure> {
    let (label, bytes) = (&queued.label, &queued.bytes);
    let (BlobRef { digest, size }, bytes) = match &queued.content {
        QueuedContent::Raw { diff_id } => {
            let text = format!("compressing {label}");
            let task = ProgressTask::start(report, &text, Some(bytes.len()));
            compress(label, diff_id, (bytes, task), spool, threads)?
        }
        QueuedContent::Packed { blob, .. } => (blob.clone(), bytes.clone()),
        QueuedContent::Ready { descriptor, .. } => {
            let (digest, stated) = (descriptor.digest.clone(), descriptor.size);
            let size = bytes.len();
            if size != stated {
                let what =
                    format!("source: {label} has {size} bytes, but its manifest states {stated}");
                return Err(Failure::new(FailureKind::Source, what));
            }
            (BlobRef { digest, size }, bytes.clone())
        }
    };
    Ok(PendingBlob {
        digest,
        size,
        label: label.clone(),
        source: BlobSource::Local(bytes),
        mount: None,
        // The plan asked for the blobs that it knew.
        is_known_missing: matches!(queued.content, QueuedContent::Ready { .. }),
    })
}

/// Compresses a raw layer into the spool.
fn compress(
    label: &str,
    diff_id: &Digest,
    (bytes, task): (&Slice, ProgressTask),
    spool: &Spool,
    threads: usize,
) -> Result<(BlobRef, Slice), Failure> {
    let failed = |error| failure(label, spool, &error);
    let cannot_write = |error| failed(CompressError::Write(error));
    let reader = bytes.reader();
    let reader = reader.map_err(|error| failed(CompressError::Read(error)))?;
    let reader = TaskReader::new(reader, task);
    let mut writer = BufWriter::new(spool.create_draft().map_err(cannot_write)?);
    let packed = compress::gzip(reader, &mut writer, threads).map_err(failed)?;
    let draft = writer.into_inner();
    let draft = draft.map_err(|error| cannot_write(error.into_error()))?;
    check_digest(label, "diffID", diff_id, &packed.diff_id)?;
    let file = draft.persist(SpoolKind::Compressed, diff_id);
    spool.remove(SpoolKind::Bytes, [diff_id]);
    let bytes = Slice::part(&file, 0, packed.size);
    let (digest, size) = (packed.digest, packed.size);
    Ok((BlobRef { digest, size }, bytes))
}

pub(super) fn check_digest(
    label: &str,
    kind: &str,
    expected: &Digest,
    found: &Digest,
) -> Result<(), Failure> {
    if expected == found {
        return Ok(());
    }
    let what = format!("source: {label} has the {kind} {found}, but the image states {expected}");
    Err(Failure::new(FailureKind::Source, what).with_hint(DAMAGED_HINT))
}

pub(super) fn failure(label: &str, spool: &Spool, error: &CompressError) -> Failure {
    let failure = Failure::new(FailureKind::Source, format!("source: {label}: {error}"));
    match error {
        CompressError::Write(_) => failure.with_hint(format!(
            "free some space in {}, or set XDG_CACHE_HOME to a folder on a larger disk",
            spool.folder().display()
        )),
        CompressError::Damaged { .. } => failure.with_hint(DAMAGED_HINT),
        CompressError::Read(_) | CompressError::Compressor(_) => failure,
    }
}
