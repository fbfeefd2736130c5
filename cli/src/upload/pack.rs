//! Turns the bytes at the source into a blob that is ready to upload: compresses raw layers and
//! verifies their digests.
//!
//! This module sends nothing. Start reading at [`pack`].

use imgsync_oci::{Descriptor, Digest};

use super::blob_reader::DAMAGED_HINT;
use super::{BlobSource, PendingBlob};
use crate::cache::BlobRef;
use crate::compress::CompressError;
use crate::exit::{Failure, FailureKind};
use crate::image::Slice;
use crate::report::{ProgressTask, TaskReader};
use crate::spool::{GrowingLayer, LayerDraft, Spool, SpoolKind, SpooledLayer};

/// The content of a queued blob, before its bytes were read.
#[derive(Debug, Clone)]
pub enum QueuedContent {
    /// An uncompressed tar. The digest of its blob is known after compression.
    Raw {
        /// The digest that the tar must have.
        diff_id: Digest,
    },
    /// A layer that is compressed while it is read.
    Growing {
        /// The digest that the tar must have.
        diff_id: Digest,
        /// The bytes so far.
        layer: GrowingLayer,
    },
    /// A raw layer that an earlier run has compressed, and whose compressed blob is verified.
    Packed {
        /// The digest of the tar.
        diff_id: Digest,
        /// The compressed blob.
        blob: BlobRef,
        /// The size of the tar in bytes.
        raw_size: u64,
    },
    /// A blob that is sent as it is.
    Ready {
        /// The descriptor that the blob must match.
        descriptor: Descriptor,
        /// The digest that the uncompressed tar must have, if the image config lists it.
        diff_id: Option<Digest>,
    },
}

impl QueuedContent {
    /// Returns the digest of the bytes at the source.
    pub(super) fn source_digest(&self) -> &Digest {
        match self {
            Self::Raw { diff_id }
            | Self::Growing { diff_id, .. }
            | Self::Packed { diff_id, .. } => diff_id,
            Self::Ready { descriptor, .. } => &descriptor.digest,
        }
    }
}

/// Compresses a raw layer, and verifies its diffID. The compressed layer is kept in the spool, and
/// replaces the spool's copy of the raw one. Blocks the thread.
///
/// # Errors
/// Fails if the bytes cannot be read or do not match the image, or if the spool cannot be written.
pub(super) fn pack(
    label: &str,
    diff_id: &Digest,
    (bytes, task): (&Slice, ProgressTask),
    mut draft: LayerDraft,
    (spool, threads): (&Spool, usize),
) -> Result<SpooledLayer, Failure> {
    let failed = |error| failure(label, spool, &error);
    let reader = bytes.reader();
    let reader = reader.map_err(|error| failed(CompressError::Read(error)))?;
    let reader = TaskReader::new(reader, task);
    let digests = draft.compress(reader, threads).map_err(failed)?;
    check_digest(label, "diffID", diff_id, &digests.diff_id)?;
    let layer = draft.complete(&digests);
    spool.remove(SpoolKind::Bytes, [diff_id]);
    Ok(layer)
}

/// Returns a blob that needs no packing. One that is sent as it is has not been read yet.
///
/// # Errors
/// Fails if the source has more or fewer bytes than the image states.
pub(super) fn pending_blob(
    label: &str,
    blob: BlobRef,
    bytes: &Slice,
    is_known_missing: bool,
) -> Result<PendingBlob, Failure> {
    let (size, stated) = (bytes.len(), blob.size);
    if size != stated {
        let what = format!("source: {label} has {size} bytes, but its manifest states {stated}");
        return Err(Failure::new(FailureKind::Source, what));
    }
    Ok(PendingBlob {
        digest: blob.digest,
        size,
        label: label.to_owned(),
        source: BlobSource::Local(bytes.clone()),
        mount: None,
        is_known_missing,
    })
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
