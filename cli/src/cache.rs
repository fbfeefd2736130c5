//! Keeps what this user's earlier runs have found: which blob a layer becomes in a compression
//! format, in [`VerifiedBlobs`] which layer a blob is, in [`blob_locations`] which repositories have a
//! blob, and in [`pushed_manifests`] which manifest an image has.
//!
//! An entry is only a hint, unless it is signed: others may share the cache, for example the jobs
//! of a CI. Callers must ask the registry whether it holds the blob. A damaged entry counts as
//! missing. Start reading at [`lookup`] and [`remember`].

pub mod blob_locations;
pub mod entry;
pub mod pushed_manifests;
mod signing_key;
mod sweep;
mod user_folders;
mod verified_blobs;

use std::path::{Path, PathBuf};

use imgsync_oci::Digest;

pub use signing_key::SigningKey;
pub use sweep::sweep;
pub use user_folders::UserFolders;
pub use verified_blobs::VerifiedBlobs;

/// The largest size of an entry in bytes.
const MAX_LAYER_ENTRY_BYTES: u64 = 1024;

/// The blob that a layer was compressed to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobRef {
    /// The digest of the blob.
    pub digest: Digest,
    /// The size of the blob in bytes.
    pub size: u64,
}

/// Returns the blob that the layer with this diffID becomes in `format`, if an earlier run has
/// recorded it.
pub fn lookup(folder: &Path, format: &str, diff_id: &Digest) -> Option<BlobRef> {
    let text = entry::read(&path(folder, format, diff_id), MAX_LAYER_ENTRY_BYTES)?;
    let (digest, size) = text.trim_end().split_once(' ')?;
    Some(BlobRef {
        digest: digest.parse().ok()?,
        size: size.parse().ok()?,
    })
}

/// Records the blob that a layer becomes. Write errors are ignored.
pub fn remember(folder: &Path, format: &str, diff_id: &Digest, blob: &BlobRef) {
    let text = format!("{} {}\n", blob.digest, blob.size);
    entry::write(&path(folder, format, diff_id), &text);
}

fn path(folder: &Path, format: &str, diff_id: &Digest) -> PathBuf {
    folder
        .join("layers")
        .join(format)
        .join(diff_id.algorithm().as_str())
        .join(diff_id.hex())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_found_under_its_format_only() {
        let folder = tempfile::tempdir().unwrap();
        let diff_id = Digest::of(b"raw");
        let blob = BlobRef {
            digest: Digest::of(b"packed"),
            size: 6,
        };
        assert_eq!(lookup(folder.path(), "f1", &diff_id), None);
        remember(folder.path(), "f1", &diff_id, &blob);
        assert_eq!(lookup(folder.path(), "f1", &diff_id), Some(blob));
        assert_eq!(lookup(folder.path(), "f2", &diff_id), None);
        std::fs::write(path(folder.path(), "f1", &diff_id), "sha256:zz 6").unwrap();
        assert_eq!(lookup(folder.path(), "f1", &diff_id), None);
    }
}
