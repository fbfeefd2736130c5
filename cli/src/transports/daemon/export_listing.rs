//! What an export consisted of, kept in the spool: an export whose entries are all there need not
//! be asked for again.

use imgsync_oci::{Algorithm, Digest};
use serde::{Deserialize, Serialize};

use crate::image::limits::MAX_METADATA_BYTES;
use crate::spool::{Spool, SpoolKind};
use crate::transports::SkipLayer;
use crate::transports::files::{FileContent, SourceFiles, digest_from_name};

/// The longest listing that is kept, in bytes.
const MAX_LISTING_BYTES: u64 = 8 * 1024 * 1024;

/// One entry of an export.
#[derive(Debug, Serialize, Deserialize)]
struct ListingEntry {
    name: String,
    digest: Digest,
    len: u64,
}

/// Keeps the list of an export's entries, and the small ones themselves; the others are kept as they
/// are read. A disk that cannot costs the next run an export, and nothing else.
pub(super) fn save(spool: &Spool, about: &Digest, contents: &SourceFiles) {
    let mut list = Vec::new();
    for (name, stored) in contents.files() {
        let relied_on = digest_from_name(name).filter(|(_, relied_on)| *relied_on);
        let digest = match (stored, relied_on) {
            (FileContent::Skipped { digest, .. }, _) => digest.clone(),
            (FileContent::Available(slice), Some((digest, _))) => {
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
        spool.persist_listing(about, &text);
    }
}

/// The entries of an export that an earlier run has read: from the spool, or as they are at the
/// target by the word of `unneeded`. `None` where one of them is neither here nor there.
pub(super) fn restore(
    spool: &Spool,
    about: &Digest,
    from: &str,
    unneeded: &mut SkipLayer,
) -> Option<SourceFiles> {
    let mut contents = SourceFiles::empty(from);
    for ListingEntry { name, digest, len } in list(spool, about)? {
        let elsewhere = || FileContent::Skipped {
            digest: digest.clone(),
            len,
        };
        // What can only be a layer need not be read again to be found elsewhere.
        let stored = if len > MAX_METADATA_BYTES && unneeded(&digest, Some(len)) {
            elsewhere()
        } else if let Some(slice) = spool.find_bytes(&digest) {
            FileContent::Available(slice)
        } else if spool.find_compressed(&digest).is_some() || unneeded(&digest, Some(len)) {
            elsewhere()
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

/// Takes an export's entries out of the spool.
pub(super) fn forget(spool: &Spool, about: &Digest) {
    let list = list(spool, about).unwrap_or_default();
    for room in [SpoolKind::Bytes, SpoolKind::Compressed] {
        spool.remove(room, list.iter().map(|listed| &listed.digest));
    }
    spool.remove(SpoolKind::Exports, [about]);
}

fn list(spool: &Spool, about: &Digest) -> Option<Vec<ListingEntry>> {
    serde_json::from_slice(&spool.read_listing(about, MAX_LISTING_BYTES)?).ok()
}
