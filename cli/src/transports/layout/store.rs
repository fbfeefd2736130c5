//! Reads the index and the blobs of an existing layout, folder or archive.

use bytes::Bytes;
use imgsync_oci::{Digest, MAX_MANIFEST_BYTES};

use super::{LayoutIndex, walk};
use crate::transports::files::{FileContent, SourceFiles};

/// The file that lists the images of a layout.
pub(in crate::transports) const OCI_INDEX_FILE: &str = "index.json";
/// The largest `index.json` that is read, in bytes: some ten thousand entries.
const MAX_INDEX_BYTES: u64 = 8 * 1024 * 1024;

/// Reads the index of a layout.
///
/// # Errors
/// Returns an error if it is missing or invalid.
pub(crate) fn read_index(contents: &SourceFiles) -> Result<LayoutIndex, crate::image::Error> {
    let bytes = contents.read(OCI_INDEX_FILE, MAX_INDEX_BYTES)?;
    LayoutIndex::parse(&bytes)
        .map_err(|reason| contents.malformed(format!("{OCI_INDEX_FILE}: {reason}")))
}

impl walk::BlobStore for SourceFiles {
    fn blob_size(&self, digest: &Digest) -> Option<u64> {
        match self.blob(digest) {
            Ok(FileContent::Available(slice)) => Some(slice.len()),
            Ok(FileContent::Skipped { .. }) | Err(_) => None,
        }
    }

    fn manifest_bytes(&self, digest: &Digest) -> Option<Bytes> {
        self.read_blob(digest, MAX_MANIFEST_BYTES as u64).ok()
    }
}
