//! Reads what a stored manifest names, as far as that can be told: a damaged manifest still names
//! the digests in its text.

use std::collections::BTreeSet;

use imgsync_oci::{Digest, MAX_MANIFEST_BYTES, Manifest, Repository};

use super::super::Registry;
use super::super::error::Result;
use super::super::manifests::child_digests;
use crate::store::{LinkKind, ObjectKey};

/// The digests that a manifest names.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NamedContent {
    /// All of its children.
    Children(BTreeSet<Digest>),
    /// The digests that a damaged manifest contains.
    Damaged(BTreeSet<Digest>),
    /// There is no such manifest.
    Absent,
}

impl NamedContent {
    /// Returns the digests that the manifest is known to name.
    fn digests(self) -> BTreeSet<Digest> {
        match self {
            Self::Children(digests) | Self::Damaged(digests) => digests,
            Self::Absent => BTreeSet::new(),
        }
    }
}

impl Registry {
    /// Returns the digests that a manifest of a repository is known to name.
    ///
    /// # Errors
    /// Returns an error of the store.
    pub(in crate::registry) fn named_digests(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<BTreeSet<Digest>> {
        Ok(self.named_content(repository, digest)?.digests())
    }

    /// Returns what a manifest of a repository names.
    ///
    /// # Errors
    /// Returns an error of the store.
    pub(super) fn named_content(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<NamedContent> {
        // A damaged link still has the digest in its name.
        let alias = self.alias_target(repository, LinkKind::Revisions, digest)?;
        let target = alias.as_ref().unwrap_or(digest);
        let limit = MAX_MANIFEST_BYTES + 1;
        let Some(bytes) = self.store.get(ObjectKey::Blob(target), limit)? else {
            return Ok(NamedContent::Absent);
        };
        let is_intact = Digest::of_with(target.algorithm(), &bytes) == *target;
        Ok(match Manifest::parse_bare(&bytes) {
            Ok((_, manifest)) if is_intact => {
                let children = manifest.children();
                NamedContent::Children(child_digests(&children).cloned().collect())
            }
            _ => NamedContent::Damaged(digests_in(&bytes)),
        })
    }
}

/// Returns what the bytes of a manifest name; of a damaged one, the digests in its text.
pub(in crate::registry) fn digests_named_in(bytes: &[u8]) -> BTreeSet<Digest> {
    match Manifest::parse_bare(bytes) {
        Ok((_, manifest)) => child_digests(&manifest.children()).cloned().collect(),
        Err(_) => digests_in(bytes),
    }
}

/// Returns everything in a text that looks like a digest.
fn digests_in(text: &[u8]) -> BTreeSet<Digest> {
    let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b':';
    let words = text.split(|byte| !is_part(byte));
    let words = words.filter_map(|word| std::str::from_utf8(word).ok());
    words.filter_map(|word| word.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_found_in_a_damaged_manifest() {
        let digests = [Digest::of(b"a"), Digest::of(b"b")];
        let text = format!(
            r#"{{"layers":[{{"digest":"{}"}},{{"digest":"{}","size":"#,
            digests[0], digests[1]
        );
        assert_eq!(digests_in(text.as_bytes()), digests.into_iter().collect());
        assert_eq!(digests_in(b"\0\0sha256:12"), BTreeSet::new());
    }
}
