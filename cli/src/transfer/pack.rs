//! From bytes at the source to a blob that is ready to be sent, and known to be what it should be.

use std::io::BufWriter;

use imgsync_oci::media::Compression;
use imgsync_oci::{Descriptor, Digest};

use super::{Body, Outgoing};
use crate::cache::Known;
use crate::compress::{self, Packed};
use crate::exit::{Failure, Kind};
use crate::source::Slice;
use crate::spool::{Room, Spool};

/// What is to be sent, before its bytes were looked at.
#[derive(Debug, Clone)]
pub enum Item {
    /// A tar to compress. Its blob's digest is known only then.
    Raw {
        /// The digest that the tar must have.
        diff_id: Digest,
    },
    /// A raw layer that an earlier run has packed, and that has proved whole.
    Packed {
        /// The digest of the tar.
        diff_id: Digest,
        /// The blob that it became.
        blob: Known,
    },
    /// A blob that goes as it is.
    Ready {
        /// What it must be.
        descriptor: Descriptor,
        /// The digest that the tar in it must have, where anybody says.
        diff_id: Option<Digest>,
    },
}

/// Reads `bytes` to their end, compresses them if they are raw, and checks all digests. What was
/// compressed is kept in the spool, and what the spool had of the raw layer goes. Blocks.
///
/// # Errors
/// Bytes that cannot be read or are not what the image says; a spool without room.
pub(super) fn pack(
    item: &Item,
    bytes: &Slice,
    label: &str,
    spool: &Spool,
    threads: usize,
) -> Result<Outgoing, Failure> {
    let failed = |error: compress::Error| failure(label, spool, &error);
    let reader = bytes
        .reader()
        .map_err(|error| failed(compress::Error::Source(error)))?;
    match item {
        Item::Raw { diff_id } => {
            let no_room = |error| failed(compress::Error::Spool(error));
            let mut writer = BufWriter::new(spool.draft().map_err(no_room)?);
            let packed = compress::gzip(reader, &mut writer, threads).map_err(failed)?;
            let draft = writer
                .into_inner()
                .map_err(|error| no_room(error.into_error()))?;
            expect(label, "diffID", diff_id, &packed.diff_id)?;
            let file = draft.keep(Room::Packed, diff_id);
            spool.remove(Room::Bytes, [diff_id]);
            let bytes = Slice::part(&file, 0, packed.size);
            Ok(outgoing(&known(&packed), label, bytes))
        }
        Item::Packed { blob, .. } => Ok(outgoing(blob, label, bytes.clone())),
        Item::Ready {
            descriptor,
            diff_id,
        } => {
            let compression = Compression::of_media_type(&descriptor.media_type);
            let compression = match diff_id {
                Some(_) => compression.unwrap_or(Compression::None),
                None => Compression::None,
            };
            let packed = compress::verify(reader, compression).map_err(failed)?;
            expect(label, "digest", &descriptor.digest, &packed.digest)?;
            if packed.size != descriptor.size {
                let what = format!(
                    "source: {label} has {} bytes where the manifest says {}",
                    packed.size, descriptor.size
                );
                return Err(Failure::new(Kind::Source, what));
            }
            if let (Some(diff_id), Some(_)) =
                (diff_id, Compression::of_media_type(&descriptor.media_type))
            {
                expect(label, "diffID", diff_id, &packed.diff_id)?;
            }
            Ok(outgoing(&known(&packed), label, bytes.clone()))
        }
    }
}

fn outgoing(blob: &Known, label: &str, bytes: Slice) -> Outgoing {
    Outgoing {
        digest: blob.digest.clone(),
        size: blob.size,
        label: label.to_owned(),
        body: Body::Here(bytes),
        mount: None,
    }
}

fn known(packed: &Packed) -> Known {
    Known {
        digest: packed.digest.clone(),
        size: packed.size,
    }
}

fn expect(label: &str, what: &str, said: &Digest, found: &Digest) -> Result<(), Failure> {
    if said == found {
        return Ok(());
    }
    let text =
        format!("source: {label} does not match its {what}: it should be {said}, and is {found}");
    Err(Failure::new(Kind::Source, text)
        .hint("the image is damaged where it is kept: build or save it again"))
}

fn failure(label: &str, spool: &Spool, error: &compress::Error) -> Failure {
    let failure = Failure::new(Kind::Source, format!("source: {label}: {error}"));
    match error {
        compress::Error::Spool(_) => failure.hint(format!(
            "make room in {}, or point XDG_CACHE_HOME at a larger disk",
            spool.folder().display()
        )),
        compress::Error::Damaged { .. } => {
            failure.hint("the image is damaged where it is kept: build or save it again")
        }
        compress::Error::Source(_) | compress::Error::Compressor(_) => failure,
    }
}
