//! What this user's earlier runs learned: which blob a diffID became in a compression format, and
//! in [`places`] where blobs are.
//!
//! One small file an entry, so that concurrent runs never disturb each other. Only ever a hint:
//! the target is asked before it counts, and a damaged entry is no entry.

pub mod places;

use std::io::Write;
use std::path::{Path, PathBuf};

use imgsync_oci::Digest;

/// A blob that a layer became.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// The blob's digest.
    pub digest: Digest,
    /// The blob's size in bytes.
    pub size: u64,
}

/// The blob that the layer with this diffID becomes in `format`, if an earlier run found out.
pub fn lookup(folder: &Path, format: &str, diff_id: &Digest) -> Option<Known> {
    let text = std::fs::read_to_string(entry(folder, format, diff_id)).ok()?;
    let (digest, size) = text.trim_end().split_once(' ')?;
    Some(Known {
        digest: digest.parse().ok()?,
        size: size.parse().ok()?,
    })
}

/// Keeps what was found out. A disk that cannot keep it costs a later run time and nothing else,
/// so there is no error.
pub fn remember(folder: &Path, format: &str, diff_id: &Digest, known: &Known) {
    let path = entry(folder, format, diff_id);
    let Some(parent) = path.parent() else { return };
    let write = || -> std::io::Result<()> {
        std::fs::create_dir_all(parent)?;
        let mut file = tempfile::NamedTempFile::new_in(parent)?;
        writeln!(file, "{} {}", known.digest, known.size)?;
        file.persist(&path)?;
        Ok(())
    };
    let _ = write();
}

fn entry(folder: &Path, format: &str, diff_id: &Digest) -> PathBuf {
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
    fn what_was_remembered_is_found_under_its_format_only() {
        let folder = tempfile::tempdir().unwrap();
        let diff_id = Digest::of(b"raw");
        let known = Known {
            digest: Digest::of(b"packed"),
            size: 6,
        };
        assert_eq!(lookup(folder.path(), "f1", &diff_id), None);
        remember(folder.path(), "f1", &diff_id, &known);
        assert_eq!(lookup(folder.path(), "f1", &diff_id), Some(known));
        assert_eq!(lookup(folder.path(), "f2", &diff_id), None);
        std::fs::write(entry(folder.path(), "f1", &diff_id), "sha256:zz 6").unwrap();
        assert_eq!(lookup(folder.path(), "f1", &diff_id), None);
    }
}
