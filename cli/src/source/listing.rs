//! What an export consisted of, kept in the spool: an export whose entries are all there need not
//! be asked for again.

use imgsync_oci::{Algorithm, Digest};
use serde::{Deserialize, Serialize};

use super::contents::{Contents, Stored, stated_digest};
use super::{MAX_METADATA_BYTES, Unneeded};
use crate::spool::{Room, Spool};

/// The longest listing that is kept, in bytes.
const MAX_BYTES: u64 = 8 * 1024 * 1024;

/// One entry of an export.
#[derive(Debug, Serialize, Deserialize)]
struct Listed {
    name: String,
    digest: Digest,
    len: u64,
}

/// Keeps the list of an export's entries, and the small ones themselves; the others are kept as they
/// are read. A disk that cannot costs the next run an export, and nothing else.
pub(super) fn keep(spool: &Spool, about: &Digest, contents: &Contents) {
    let mut list = Vec::new();
    for (name, stored) in contents.files() {
        let relied_on = stated_digest(name).filter(|(_, relied_on)| *relied_on);
        let digest = match (stored, relied_on) {
            (Stored::Elsewhere { digest, .. }, _) => digest.clone(),
            (Stored::Here(slice), Some((digest, _))) => {
                if let Some(bytes) = slice.memory_bytes() {
                    spool.keep_small(bytes, digest.algorithm());
                }
                digest
            }
            (Stored::Here(slice), None) if slice.len() <= MAX_METADATA_BYTES => {
                let Ok(bytes) = slice.bytes() else { return };
                spool.keep_small(&bytes, Algorithm::Sha256);
                Digest::of(&bytes)
            }
            (Stored::Here(_), None) => continue,
        };
        list.push(Listed {
            name: name.to_owned(),
            digest,
            len: stored.len(),
        });
    }
    if let Ok(text) = serde_json::to_vec(&list)
        && text.len() as u64 <= MAX_BYTES
    {
        spool.keep_listing(about, &text);
    }
}

/// The entries of an export that an earlier run has read: from the spool, or as they are at the
/// target by the word of `unneeded`. `None` where one of them is neither here nor there.
pub(super) fn again(
    spool: &Spool,
    about: &Digest,
    from: &str,
    unneeded: &mut Unneeded,
) -> Option<Contents> {
    let mut contents = Contents::empty(from);
    for Listed { name, digest, len } in list(spool, about)? {
        let elsewhere = || Stored::Elsewhere {
            digest: digest.clone(),
            len,
        };
        // What can only be a layer need not be read again to be found elsewhere.
        let stored = if len > MAX_METADATA_BYTES && unneeded(&digest, Some(len)) {
            elsewhere()
        } else if let Some(slice) = spool.bytes(&digest) {
            Stored::Here(slice)
        } else if spool.packed(&digest).is_some() || unneeded(&digest, Some(len)) {
            elsewhere()
        } else {
            return None;
        };
        if stored.len() != len {
            return None;
        }
        contents.store(name, stored).ok()?;
    }
    Some(contents)
}

/// Takes an export's entries out of the spool.
pub(super) fn forget(spool: &Spool, about: &Digest) {
    let list = list(spool, about).unwrap_or_default();
    for room in [Room::Bytes, Room::Packed] {
        spool.remove(room, list.iter().map(|listed| &listed.digest));
    }
    spool.remove(Room::Exports, [about]);
}

fn list(spool: &Spool, about: &Digest) -> Option<Vec<Listed>> {
    serde_json::from_slice(&spool.listing(about, MAX_BYTES)?).ok()
}
