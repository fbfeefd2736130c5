//! Keeps which layer a blob is, for blobs that this user's pushes made, or downloaded and verified.
//!
//! An entry is about the bytes of a blob, and so is valid at every registry. It is signed, because
//! a wrong one would let a push adopt another blob as its layer. Start reading at
//! [`VerifiedBlobs`].

use std::path::{Path, PathBuf};

use imgsync_oci::Digest;
use imgsync_oci::media::Compression;

use super::entry;
use super::signing_key::SigningKey;

/// The largest size of an entry in bytes.
const MAX_VERIFIED_ENTRY_BYTES: u64 = 1024;

/// The signed entries of a cache.
#[derive(Debug, Clone)]
pub struct VerifiedBlobs {
    folder: PathBuf,
    key: Option<SigningKey>,
}

impl VerifiedBlobs {
    /// Opens the entries in a cache folder. Without a key there are none, and none are kept.
    pub fn new(cache: &Path, key: Option<SigningKey>) -> Self {
        Self {
            folder: cache.join("verified"),
            key,
        }
    }

    /// Returns whether a blob, decoded with this compression, is known to have this diffID.
    pub fn contains(&self, blob: &Digest, compression: Compression, diff_id: &Digest) -> bool {
        let expected = self.text(blob, compression, diff_id);
        let found = entry::read(&self.path(blob), MAX_VERIFIED_ENTRY_BYTES);
        expected.is_some() && expected == found
    }

    /// Records the diffID of a blob. Write errors are ignored.
    pub fn remember(&self, blob: &Digest, compression: Compression, diff_id: &Digest) {
        if let Some(text) = self.text(blob, compression, diff_id) {
            entry::write(&self.path(blob), &text);
        }
    }

    /// Returns the text of an entry: the diffID, the compression, and the signature of both and the
    /// blob.
    fn text(&self, blob: &Digest, compression: Compression, diff_id: &Digest) -> Option<String> {
        let compression = match compression {
            Compression::None => "tar",
            Compression::Gzip => "gzip",
            Compression::Zstd => "zstd",
        };
        let statement = format!("{diff_id} {compression}");
        let key = self.key.as_ref()?;
        let signature = key.sign(&format!("imgsync verified {blob} {statement}"));
        Some(format!("{statement} {signature}\n"))
    }

    fn path(&self, blob: &Digest) -> PathBuf {
        let algorithm = blob.algorithm();
        self.folder.join(algorithm.as_str()).join(blob.hex())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_counts_for_its_blob_and_key_only() {
        let scratch = tempfile::tempdir().unwrap();
        let open = |state: &str| {
            let key = SigningKey::load(&scratch.path().join(state));
            VerifiedBlobs::new(&scratch.path().join("cache"), key)
        };
        let (blob, other, diff_id) = (Digest::of(b"b"), Digest::of(b"o"), Digest::of(b"d"));
        let own = open("own");
        let is_known = || own.contains(&blob, Compression::Gzip, &diff_id);
        assert!(!is_known());
        own.remember(&blob, Compression::Gzip, &diff_id);
        assert!(is_known());
        assert!(!own.contains(&blob, Compression::None, &diff_id));
        assert!(!own.contains(&blob, Compression::Gzip, &other));
        assert!(!open("other").contains(&blob, Compression::Gzip, &diff_id));
        // An entry of another blob, and one of another user.
        std::fs::copy(own.path(&blob), own.path(&other)).unwrap();
        assert!(!own.contains(&other, Compression::Gzip, &diff_id));
        open("other").remember(&blob, Compression::Gzip, &diff_id);
        assert!(!is_known());
        let keyless = VerifiedBlobs::new(&scratch.path().join("cache"), None);
        keyless.remember(&blob, Compression::Gzip, &diff_id);
        assert!(!keyless.contains(&blob, Compression::Gzip, &diff_id));
    }
}
