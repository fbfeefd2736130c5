//! The checkpoint of an ingest and the state file that stores it.
//!
//! Uploads and cache fills have a file layout each; both layouts are frozen. This module converts
//! between [`Checkpoint`] and the bytes of a state file, and does not touch the disk.

use std::sync::Arc;

use imgsync_oci::{Algorithm, Digest, Hasher, Repository};
use serde::Deserialize;

/// Bounds how much of a state file is read; real ones have a few hundred bytes.
pub(super) const MAX_STATE_BYTES: usize = 64 * 1024;
/// Names the layout of an upload's state file and of the hash library's state in it. A file in
/// another format is ignored, and the bytes are hashed again.
const UPLOAD_FORMAT: &str = "imgsync-upload-1, sha2-0.11";
/// Names the layout of the state file of a cache fill.
const CACHE_FILL_FORMAT: &str = "imgsync-filling-1, sha2-0.11";

/// A number of bytes from the start of an ingest, and the hash of those bytes.
#[derive(Clone)]
pub(super) struct Checkpoint {
    pub(super) offset: u64,
    pub(super) hasher: Hasher,
}

/// The content of an upload's state file.
pub(super) struct UploadState {
    pub(super) checkpoint: Checkpoint,
    /// The user who opened the session, if users are authenticated.
    pub(super) owner: Option<Arc<str>>,
}

#[derive(Deserialize)]
struct StoredUploadState {
    format: String,
    repository: String,
    offset: u64,
    algorithm: String,
    hash: String,
    #[serde(default)]
    owner: Option<String>,
}

#[derive(Deserialize)]
struct StoredCacheFillState {
    format: String,
    offset: u64,
    hash: String,
    /// The address of the upstream; empty in files of versions that did not store it, which are
    /// resumed from any upstream.
    #[serde(default)]
    upstream: String,
}

impl Checkpoint {
    /// Returns the checkpoint of an ingest without bytes.
    pub(super) fn initial(algorithm: Algorithm) -> Self {
        Self {
            offset: 0,
            hasher: Hasher::new(algorithm),
        }
    }

    fn from_stored(offset: u64, algorithm: Algorithm, hash: &str) -> Option<Self> {
        let state = hex::decode(hash).ok()?;
        let hasher = Hasher::resume(algorithm, &state)?;
        Some(Self { offset, hasher })
    }

    /// Returns the content of an upload's state file.
    pub(super) fn to_upload_json(&self, repository: &Repository, owner: Option<&str>) -> Vec<u8> {
        let record = serde_json::json!({
            "format": UPLOAD_FORMAT,
            "repository": repository.as_str(),
            "offset": self.offset,
            "algorithm": self.hasher.algorithm().as_str(),
            "hash": hex::encode(self.hasher.state()),
            "owner": owner,
        });
        format!("{record}\n").into_bytes()
    }

    /// Returns the content of a cache fill's state file.
    pub(super) fn to_cache_fill_json(&self, upstream: &str) -> Vec<u8> {
        let record = serde_json::json!({
            "format": CACHE_FILL_FORMAT,
            "offset": self.offset,
            "hash": hex::encode(self.hasher.state()),
            "upstream": upstream,
        });
        format!("{record}\n").into_bytes()
    }

    /// Reads the state file of a cache fill; `None` if it is damaged, in another format, or of
    /// another upstream.
    pub(super) fn from_cache_fill_json(
        json: &[u8],
        digest: &Digest,
        upstream: &str,
    ) -> Option<Self> {
        let record: StoredCacheFillState = serde_json::from_slice(json).ok()?;
        let is_other = !record.upstream.is_empty() && record.upstream != upstream;
        if record.format != CACHE_FILL_FORMAT || is_other {
            return None;
        }
        Self::from_stored(record.offset, digest.algorithm(), &record.hash)
    }
}

impl UploadState {
    /// Reads the state file of an upload; `None` if it is damaged, in another format, or belongs
    /// to another repository.
    pub(super) fn from_json(json: &[u8], repository: &Repository) -> Option<Self> {
        let record: StoredUploadState = serde_json::from_slice(json).ok()?;
        if record.format != UPLOAD_FORMAT || record.repository != repository.as_str() {
            return None;
        }
        let algorithm = record.algorithm.parse().ok()?;
        Some(Self {
            checkpoint: Checkpoint::from_stored(record.offset, algorithm, &record.hash)?,
            owner: record.owner.map(Arc::from),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_is_read_as_it_was_written() {
        let repository = "a/b".parse().unwrap();
        let mut json = Vec::new();
        for (algorithm, owner) in [
            (Algorithm::Sha256, None),
            (Algorithm::Sha512, Some("alice")),
        ] {
            let mut checkpoint = Checkpoint::initial(algorithm);
            checkpoint.hasher.update(b"abc");
            checkpoint.offset = 3;
            json = checkpoint.to_upload_json(&repository, owner);
            let state = UploadState::from_json(&json, &repository).unwrap();
            assert_eq!(state.owner.as_deref(), owner);
            let digest = Digest::of_with(algorithm, b"abc");
            let read = state.checkpoint;
            assert_eq!((read.offset, read.hasher.finish()), (3, digest));
        }
        assert!(UploadState::from_json(&json, &"a/c".parse().unwrap()).is_none());
        assert!(UploadState::from_json(&json[..json.len() / 2], &repository).is_none());
        assert!(UploadState::from_json(b"", &repository).is_none());
    }

    #[test]
    fn a_checkpoint_of_a_cache_fill_is_read_as_it_was_written() {
        let digest = Digest::of(b"abc");
        let mut checkpoint = Checkpoint::initial(digest.algorithm());
        checkpoint.hasher.update(b"abc");
        checkpoint.offset = 3;
        let json = checkpoint.to_cache_fill_json("up.example");
        let read = Checkpoint::from_cache_fill_json(&json, &digest, "up.example").unwrap();
        assert_eq!((read.offset, read.hasher.finish()), (3, digest.clone()));
        let sha512 = Digest::of_with(Algorithm::Sha512, b"abc");
        for (bytes, digest, upstream) in [
            (&json[..], &sha512, "up.example"),
            (&json[..json.len() / 2], &digest, "up.example"),
            (&json[..], &digest, "evil.example"),
        ] {
            assert!(Checkpoint::from_cache_fill_json(bytes, digest, upstream).is_none());
        }
        let upload = checkpoint.to_upload_json(&"a/b".parse().unwrap(), None);
        assert!(Checkpoint::from_cache_fill_json(&upload, &digest, "up.example").is_none());
    }
}
