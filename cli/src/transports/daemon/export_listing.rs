//! The entries of an export, listed in the spool, so that a later run whose entries are all present
//! need not export again.

use imgsync_oci::{Algorithm, Digest};
use serde::{Deserialize, Serialize};

use crate::image::limits::MAX_METADATA_BYTES;
use crate::spool::{Spool, SpoolKind};
use crate::transports::SkipLayer;
use crate::transports::files::{FileContent, SourceFiles, blob_digest};

/// The longest listing that is stored, in bytes.
const MAX_LISTING_BYTES: u64 = 8 * 1024 * 1024;

/// One entry of an export.
#[derive(Debug, Serialize, Deserialize)]
struct ListingEntry {
    name: String,
    digest: Digest,
    len: u64,
}

/// Stores the list of an export's entries and the small entries themselves; the large ones were
/// stored while they were read. Errors are ignored: the next run exports again.
pub(super) fn save(spool: &Spool, key: &Digest, contents: &SourceFiles) {
    let mut list = Vec::new();
    for (name, stored) in contents.files() {
        let digest = match (stored, blob_digest(name)) {
            (FileContent::Skipped { digest, .. }, _) => digest.clone(),
            (FileContent::Available(slice), Some(digest)) => {
                if let Some(bytes) = slice.memory_bytes() {
                    spool.persist_small(bytes, digest.algorithm());
                }
                digest
            }
            (FileContent::Available(slice), None) if slice.len() <= MAX_METADATA_BYTES => {
                let Ok(bytes) = slice.read_all() else { return };
                spool.persist_small(&bytes, Algorithm::Sha256);
                Digest::of(&bytes)
            }
            (FileContent::Available(_), None) => continue,
        };
        list.push(ListingEntry {
            name: name.to_owned(),
            digest,
            len: stored.len(),
        });
    }
    if let Ok(text) = serde_json::to_vec(&list)
        && text.len() as u64 <= MAX_LISTING_BYTES
    {
        spool.persist_listing(key, &text);
    }
}

/// Returns the entries of an earlier export, from the spool or skipped because `unneeded` says so.
/// `None` if one of them is available from neither.
pub(super) fn restore(
    spool: &Spool,
    key: &Digest,
    from: &str,
    unneeded: &mut SkipLayer,
) -> Option<SourceFiles> {
    let mut contents = SourceFiles::empty(from);
    for ListingEntry { name, digest, len } in list(spool, key)? {
        // The listing itself is not verified. Blobs are read by their names.
        if blob_digest(&name).is_some_and(|named| named != digest) {
            return None;
        }
        let skipped = || FileContent::Skipped {
            digest: digest.clone(),
            len,
        };
        // An entry of this size is a layer; asking the target costs less than reading it again.
        let stored = if len > MAX_METADATA_BYTES && unneeded(&digest, Some(len)) {
            skipped()
        } else if let Some(slice) = spool.find_bytes(&digest) {
            FileContent::Available(slice)
        } else if spool.find_compressed(&digest).is_some() || unneeded(&digest, Some(len)) {
            skipped()
        } else {
            return None;
        };
        if stored.len() != len {
            return None;
        }
        contents.add_file(name, stored).ok()?;
    }
    Some(contents)
}

/// Removes an export from the spool, except compressed layers. Returns the digests of its parts.
pub(super) fn forget(spool: &Spool, key: &Digest) -> Vec<Digest> {
    let list = list(spool, key).unwrap_or_default();
    let digests: Vec<_> = list.into_iter().map(|listed| listed.digest).collect();
    spool.remove(SpoolKind::Bytes, &digests);
    spool.remove(SpoolKind::Exports, [key]);
    digests
}

fn list(spool: &Spool, key: &Digest) -> Option<Vec<ListingEntry>> {
    serde_json::from_slice(&spool.read_listing(key, MAX_LISTING_BYTES)?).ok()
}
