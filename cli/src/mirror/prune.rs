//! Which tags at the target go: those that the mirror itself once brought, and wants no more. Pure.

use std::collections::{BTreeMap, HashSet};

use imgsync_oci::{Digest, Tag};

/// What is known when all wanted tags have been dealt with.
#[derive(Debug, Clone, Copy)]
pub struct PruneInput<'a> {
    /// What the mirror brought, ever.
    pub mirrored: &'a BTreeMap<Tag, Vec<Digest>>,
    /// The tags that it wants.
    pub wanted: &'a HashSet<Tag>,
    /// The images that tags of it speak about, where that is known.
    pub subjects: &'a BTreeMap<Tag, HashSet<Digest>>,
    /// The images that are wanted, where all of them are known.
    pub wanted_images: Option<&'a HashSet<Digest>>,
}

/// What becomes of a tag that the mirror brought and wants no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PruneDecision {
    /// It is as the mirror left it: it goes.
    Delete(Digest),
    /// It is gone already.
    AlreadyGone,
    /// Somebody has moved it since, to this: it is no longer the mirror's.
    Moved(Digest),
}

/// The tags that are candidates. A tag that speaks about images is one only where it is known about
/// which, and that none of these is wanted.
pub fn candidates(known: PruneInput<'_>, is_companion: impl Fn(&Tag) -> bool) -> Vec<Tag> {
    let unwanted = known.mirrored.keys().filter(|tag| {
        if known.wanted.contains(tag) {
            return false;
        }
        if !is_companion(tag) {
            return true;
        }
        match (known.subjects.get(tag), known.wanted_images) {
            (Some(about), Some(images)) => !about.is_empty() && about.is_disjoint(images),
            (None, _) | (_, None) => false,
        }
    });
    unwanted.cloned().collect()
}

/// What becomes of a candidate that was brought with these digests, now that it names this one.
pub fn decide(brought: &[Digest], now: Option<&Digest>) -> PruneDecision {
    match now {
        None => PruneDecision::AlreadyGone,
        Some(now) if brought.contains(now) => PruneDecision::Delete(now.clone()),
        Some(now) => PruneDecision::Moved(now.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(words: &[&str]) -> HashSet<Tag> {
        words.iter().map(|word| word.parse().unwrap()).collect()
    }

    #[test]
    fn only_what_was_brought_and_is_unwanted() {
        let brought = tags(&["v1", "v2", "s-v1", "s-v2", "s-both", "s-unknown"]);
        let brought: BTreeMap<_, _> = brought.into_iter().map(|tag| (tag, Vec::new())).collect();
        let (one, two) = (Digest::of(b"1"), Digest::of(b"2"));
        let about = BTreeMap::from([
            ("s-v1".parse().unwrap(), HashSet::from([one.clone()])),
            ("s-v2".parse().unwrap(), HashSet::from([two.clone()])),
            ("s-both".parse().unwrap(), HashSet::from([one, two.clone()])),
        ]);
        let (wanted, images) = (tags(&["v2", "v3"]), HashSet::from([two]));
        let found = |images| {
            let known = PruneInput {
                mirrored: &brought,
                wanted: &wanted,
                subjects: &about,
                wanted_images: images,
            };
            let found = candidates(known, |tag| tag.as_str().starts_with("s-"));
            found.iter().map(Tag::to_string).collect::<Vec<_>>()
        };
        assert_eq!(found(Some(&images)), ["s-v1", "v1"]);
        assert_eq!(found(None), ["v1"]);
    }

    #[test]
    fn moved_tags_are_kept() {
        let (old, new, other) = (Digest::of(b"1"), Digest::of(b"2"), Digest::of(b"3"));
        let brought = [old.clone(), new.clone()];
        assert_eq!(decide(&brought, Some(&new)), PruneDecision::Delete(new));
        assert_eq!(decide(&brought, Some(&old)), PruneDecision::Delete(old));
        assert_eq!(decide(&brought, Some(&other)), PruneDecision::Moved(other));
        assert_eq!(decide(&brought, None), PruneDecision::AlreadyGone);
    }
}
