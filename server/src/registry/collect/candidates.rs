//! The digests that a collection may remove, in little memory.

use imgsync_oci::Digest;

use super::super::digest_prefix::digest_prefix;

/// The number of digests in one set, each of which takes 16 bytes and a bit.
pub(super) const MAX_CANDIDATES: u64 = 1_000_000;

/// A set of digests from which digests can be removed.
#[derive(Debug)]
pub(in crate::registry) struct Candidates {
    /// The first bits of each digest, sorted.
    prefixes: Vec<u128>,
    /// A bit for each digest, set once it is removed from the set.
    kept: Vec<u64>,
}

impl Candidates {
    /// Creates a set of digests, given by [`digest_prefix`].
    pub(in crate::registry) fn new(mut prefixes: Vec<u128>) -> Self {
        prefixes.sort_unstable();
        prefixes.dedup();
        prefixes.shrink_to_fit();
        let kept = vec![0; prefixes.len().div_ceil(64)];
        Self { prefixes, kept }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.prefixes.is_empty()
    }

    /// Removes a digest from the set, if it is in there.
    pub(in crate::registry) fn keep(&mut self, digest: &Digest) {
        if let Ok(index) = self.prefixes.binary_search(&digest_prefix(digest)) {
            self.kept[index / 64] |= 1 << (index % 64);
        }
    }

    /// Returns whether a digest is in the set.
    pub(in crate::registry) fn contains(&self, digest: &Digest) -> bool {
        let found = self.prefixes.binary_search(&digest_prefix(digest));
        found.is_ok_and(|index| self.kept[index / 64] & (1 << (index % 64)) == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_in_the_set_until_they_are_kept() {
        let digests: Vec<Digest> = (0..200_u8).map(|byte| Digest::of(&[byte])).collect();
        let prefixes = digests[..150]
            .iter()
            .chain(&digests[..9])
            .map(digest_prefix);
        let mut candidates = Candidates::new(prefixes.collect());
        assert!(!candidates.is_empty() && Candidates::new(Vec::new()).is_empty());
        for digest in digests.iter().skip(100) {
            candidates.keep(digest);
        }
        for (index, digest) in digests.iter().enumerate() {
            assert_eq!(candidates.contains(digest), index < 100, "{index}");
        }
    }
}
