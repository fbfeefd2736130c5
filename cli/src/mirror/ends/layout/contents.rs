//! A layout that is there, folder or archive, as a store of blobs.

use bytes::Bytes;
use imgsync_oci::{Digest, MAX_MANIFEST_BYTES};

use super::{Index, walk};
use crate::source::contents::{Contents, Stored};

/// The file that lists what a layout holds.
pub(in crate::mirror::ends) const INDEX: &str = "index.json";
/// The largest `index.json` that is read, in bytes: some ten thousand entries.
const MAX_INDEX_BYTES: u64 = 8 * 1024 * 1024;

/// The index of a layout.
///
/// # Errors
/// There is none, or it makes no sense.
pub(crate) fn index(contents: &Contents) -> Result<Index, crate::source::Error> {
    let bytes = contents.read(INDEX, MAX_INDEX_BYTES)?;
    Index::parse(&bytes).map_err(|reason| contents.malformed(format!("{INDEX}: {reason}")))
}

impl walk::Blobs for Contents {
    fn size(&self, digest: &Digest) -> Option<u64> {
        match self.blob(digest) {
            Ok(Stored::Here(slice)) => Some(slice.len()),
            Ok(Stored::Elsewhere { .. }) | Err(_) => None,
        }
    }

    fn bytes(&self, digest: &Digest) -> Option<Bytes> {
        self.read_blob(digest, MAX_MANIFEST_BYTES as u64).ok()
    }
}
