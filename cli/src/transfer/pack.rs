//! From bytes at the source to a blob that is ready to be sent, and known to be what it should be.

use std::io::{BufWriter, Write};

use imgsync_oci::media::Compression;
use imgsync_oci::{Descriptor, Digest};

use super::{Body, Outgoing};
use crate::compress::{self, Packed};
use crate::exit::{Failure, Kind};
use crate::source::Slice;
use crate::spool::Shelf;

/// What is to be sent, before its bytes were looked at.
#[derive(Debug, Clone)]
pub enum Item {
    /// A tar to compress. Its blob's digest is known only then.
    Raw {
        /// The digest that the tar must have.
        diff_id: Digest,
    },
    /// A blob that goes as it is.
    Ready {
        /// What it must be.
        descriptor: Descriptor,
        /// The digest that the tar in it must have, where anybody says.
        diff_id: Option<Digest>,
    },
}

/// Reads `bytes` to their end, compresses them if they are raw, and checks all digests. Blocks.
///
/// # Errors
/// Bytes that cannot be read or are not what the image says; a spool without room.
pub(super) fn pack(
    item: &Item,
    bytes: &Slice,
    label: &str,
    shelf: &Shelf,
    threads: usize,
) -> Result<Outgoing, Failure> {
    let failed = |error: compress::Error| failure(label, shelf, &error);
    let reader = bytes
        .reader()
        .map_err(|error| failed(compress::Error::Source(error)))?;
    match item {
        Item::Raw { diff_id } => {
            let no_room = |error| failed(compress::Error::Spool(error));
            let (file, offset) = shelf.end().map_err(no_room)?;
            let mut writer = BufWriter::new(&*file);
            let packed = compress::gzip(reader, &mut writer, threads).map_err(failed)?;
            writer.flush().map_err(no_room)?;
            drop(writer);
            expect(label, "diffID", diff_id, &packed.diff_id)?;
            let bytes = Slice::part(&file, offset, packed.size);
            Ok(outgoing(&packed, label, bytes))
        }
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
            Ok(outgoing(&packed, label, bytes.clone()))
        }
    }
}

fn outgoing(packed: &Packed, label: &str, bytes: Slice) -> Outgoing {
    Outgoing {
        digest: packed.digest.clone(),
        size: packed.size,
        label: label.to_owned(),
        body: Body::Here(bytes),
        mount: None,
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

fn failure(label: &str, shelf: &Shelf, error: &compress::Error) -> Failure {
    let failure = Failure::new(Kind::Source, format!("source: {label}: {error}"));
    match error {
        compress::Error::Spool(_) => failure.hint(format!(
            "make room in {}, or point XDG_CACHE_HOME at a larger disk",
            shelf.folder().display()
        )),
        compress::Error::Damaged { .. } => {
            failure.hint("the image is damaged where it is kept: build or save it again")
        }
        compress::Error::Source(_) | compress::Error::Compressor(_) => failure,
    }
}
