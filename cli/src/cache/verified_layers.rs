//! Keeps the diffID of blobs whose bytes this user's runs have verified, so that a layer that is
//! pushed again need not be decompressed again.
//!
//! An entry says nothing about where the blob is, or whether a file still has its bytes: callers
//! check the digest of the bytes that they read. Start reading at [`lookup`].

use std::path::{Path, PathBuf};

use imgsync_oci::Digest;

use super::entry;

/// The largest size of an entry in bytes.
const MAX_ENTRY_BYTES: u64 = 256;

/// Returns the diffID that the blob has, if an earlier run has computed it.
pub fn lookup(folder: &Path, blob: &Digest) -> Option<Digest> {
    let text = entry::read(&path(folder, blob), MAX_ENTRY_BYTES)?;
    text.trim_end().parse().ok()
}

/// Records the diffID that was computed from the bytes of a blob. Write errors are ignored.
pub fn remember(folder: &Path, blob: &Digest, diff_id: &Digest) {
    entry::write(&path(folder, blob), &format!("{diff_id}\n"));
}

fn path(folder: &Path, blob: &Digest) -> PathBuf {
    folder
        .join("verified")
        .join(blob.algorithm().as_str())
        .join(blob.hex())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_found_by_the_digest_of_the_blob() {
        let folder = tempfile::tempdir().unwrap();
        let (blob, diff_id) = (Digest::of(b"packed"), Digest::of(b"raw"));
        assert_eq!(lookup(folder.path(), &blob), None);
        remember(folder.path(), &blob, &diff_id);
        assert_eq!(lookup(folder.path(), &blob), Some(diff_id.clone()));
        assert_eq!(lookup(folder.path(), &diff_id), None);
        std::fs::write(path(folder.path(), &blob), "sha256:zz").unwrap();
        assert_eq!(lookup(folder.path(), &blob), None);
    }
}
