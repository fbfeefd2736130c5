//! Turns the bytes at the source into a blob that is ready to upload: compresses raw layers and
//! verifies all digests.
//!
//! This module sends nothing. Start reading at [`pack`].

use std::io::BufWriter;

use imgsync_oci::media::Compression;
use imgsync_oci::{Descriptor, Digest};

use super::{BlobSource, PendingBlob};
use crate::cache::BlobRef;
use crate::compress::{self, LayerDigests};
use crate::exit::{Failure, FailureKind};
use crate::image::Slice;
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

/// Reads `bytes` to the end, compresses them if they are raw, and verifies all digests. The
/// compressed blob is kept in the spool, and replaces the spool's copy of the raw layer. Blocks the
/// thread.
///
/// # Errors
/// Fails if the bytes cannot be read or do not match the image, or if the spool cannot be written.
pub(super) fn pack(
    item: &QueuedContent,
    bytes: &Slice,
    label: &str,
    spool: &Spool,
    threads: usize,
) -> Result<PendingBlob, Failure> {
    let failed = |error: compress::CompressError| failure(label, spool, &error);
    let reader = bytes
        .reader()
        .map_err(|error| failed(compress::CompressError::Read(error)))?;
    match item {
        QueuedContent::Raw { diff_id } => {
            let no_room = |error| failed(compress::CompressError::Write(error));
            let mut writer = BufWriter::new(spool.create_draft().map_err(no_room)?);
            let packed = compress::gzip(reader, &mut writer, threads).map_err(failed)?;
            let draft = writer
                .into_inner()
                .map_err(|error| no_room(error.into_error()))?;
            check_digest(label, "diffID", diff_id, &packed.diff_id)?;
            let file = draft.persist(SpoolKind::Compressed, diff_id);
            spool.remove(SpoolKind::Bytes, [diff_id]);
            let bytes = Slice::part(&file, 0, packed.size);
            Ok(pending_blob(&blob_ref(&packed), label, bytes))
        }
        QueuedContent::Packed { blob, .. } => Ok(pending_blob(blob, label, bytes.clone())),
        QueuedContent::Ready {
            descriptor,
            diff_id,
        } => {
            let compression = Compression::of_media_type(&descriptor.media_type);
            let compression = match diff_id {
                Some(_) => compression.unwrap_or(Compression::None),
                None => Compression::None,
            };
            let packed = compress::compute_layer_digests(reader, compression).map_err(failed)?;
            check_digest(label, "digest", &descriptor.digest, &packed.digest)?;
            if packed.size != descriptor.size {
                let what = format!(
                    "source: {label} has {} bytes where the manifest says {}",
                    packed.size, descriptor.size
                );
                return Err(Failure::new(FailureKind::Source, what));
            }
            if let (Some(diff_id), Some(_)) =
                (diff_id, Compression::of_media_type(&descriptor.media_type))
            {
                check_digest(label, "diffID", diff_id, &packed.diff_id)?;
            }
            Ok(pending_blob(&blob_ref(&packed), label, bytes.clone()))
        }
    }
}

fn pending_blob(blob: &BlobRef, label: &str, bytes: Slice) -> PendingBlob {
    PendingBlob {
        digest: blob.digest.clone(),
        size: blob.size,
        label: label.to_owned(),
        source: BlobSource::Local(bytes),
        mount: None,
    }
}

fn blob_ref(packed: &LayerDigests) -> BlobRef {
    BlobRef {
        digest: packed.digest.clone(),
        size: packed.size,
    }
}

fn check_digest(label: &str, what: &str, said: &Digest, found: &Digest) -> Result<(), Failure> {
    if said == found {
        return Ok(());
    }
    let text =
        format!("source: {label} does not match its {what}: it should be {said}, and is {found}");
    Err(Failure::new(FailureKind::Source, text)
        .with_hint("the image is damaged where it is kept: build or save it again"))
}

fn failure(label: &str, spool: &Spool, error: &compress::CompressError) -> Failure {
    let failure = Failure::new(FailureKind::Source, format!("source: {label}: {error}"));
    match error {
        compress::CompressError::Write(_) => failure.with_hint(format!(
            "make room in {}, or point XDG_CACHE_HOME at a larger disk",
            spool.folder().display()
        )),
        compress::CompressError::Damaged { .. } => {
            failure.with_hint("the image is damaged where it is kept: build or save it again")
        }
        compress::CompressError::Read(_) | compress::CompressError::Compressor(_) => failure,
    }
}
