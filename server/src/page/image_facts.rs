//! Facts about an image: platforms and sizes.

use std::collections::BTreeMap;

use imgsync_oci::Digest;

use super::manifest_facts::{BlobFacts, ChildFacts};

/// How many images of an index are read.
pub(super) const MAX_READ_CHILDREN: usize = 32;
/// How many entries of a list in a config are kept.
pub(super) const MAX_ENTRIES: usize = 200;

/// What a list tells of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ImageSummary {
    pub(super) platforms: Vec<String>,
    /// The size of its content in bytes, each blob once.
    pub(super) bytes: u64,
}

/// Formats a platform: `linux/arm64/v8`; `None` if it is unknown, as that of attestations. A text that
/// is missing is empty.
pub(super) fn platform_text(os: &str, architecture: &str, variant: &str) -> Option<String> {
    let is_known = |text: &str| !text.is_empty() && text != "unknown";
    if !is_known(os) && !is_known(architecture) {
        return None;
    }
    let separator = if variant.is_empty() { "" } else { "/" };
    Some(format!("{os}/{architecture}{separator}{variant}"))
}

/// Returns the known platforms of an index, each once.
pub(super) fn index_platforms(children: &[ChildFacts]) -> Vec<String> {
    let mut texts: Vec<String> = Vec::new();
    for text in children.iter().filter_map(ChildFacts::platform) {
        if texts.len() < MAX_READ_CHILDREN && !texts.iter().any(|known| known == text) {
            texts.push(text.to_owned());
        }
    }
    texts
}

/// Returns the size of blobs in bytes, each counted once.
pub(super) fn total_bytes<'a>(blobs: impl IntoIterator<Item = &'a BlobFacts>) -> u64 {
    let sizes: BTreeMap<&Digest, u64> = blobs
        .into_iter()
        .map(|blob| (&blob.digest, blob.size))
        .collect();
    sizes
        .values()
        .fold(0, |sum, size| sum.saturating_add(*size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blob_counts_once_and_attestations_have_no_platform() {
        let blob = |text: &[u8], size| BlobFacts {
            digest: Digest::of(text),
            size,
        };
        let blobs = [blob(b"a", 5), blob(b"b", 7), blob(b"a", 5)];
        assert_eq!(total_bytes(&blobs), 12);
        assert_eq!(platform_text("unknown", "unknown", ""), None);
    }
}
