//! Which tags at the target go: those that the mirror itself once brought, and wants no more. Pure.

use std::collections::{BTreeMap, HashSet};

use imgsync_oci::{Digest, Tag};

/// What is known when all wanted tags have been dealt with.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// What the mirror brought, ever.
    pub brought: &'a BTreeMap<Tag, Vec<Digest>>,
    /// The tags that it wants.
    pub wanted: &'a HashSet<Tag>,
    /// The images that tags of it speak about, where that is known.
    pub about: &'a BTreeMap<Tag, HashSet<Digest>>,
    /// The images that are wanted, where all of them are known.
    pub images: Option<&'a HashSet<Digest>>,
}

/// What becomes of a tag that the mirror brought and wants no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// It is as the mirror left it: it goes.
    Goes(Digest),
    /// It is gone already.
    Gone,
    /// Somebody has moved it since, to this: it is no longer the mirror's.
    Foreign(Digest),
}

/// The tags that are candidates. A tag that speaks about images is one only where it is known about
/// which, and that none of these is wanted.
pub fn candidates(known: Known<'_>, is_companion: impl Fn(&Tag) -> bool) -> Vec<Tag> {
    let unwanted = known.brought.keys().filter(|tag| {
        if known.wanted.contains(tag) {
            return false;
        }
        if !is_companion(tag) {
            return true;
        }
        match (known.about.get(tag), known.images) {
            (Some(about), Some(images)) => !about.is_empty() && about.is_disjoint(images),
            (None, _) | (_, None) => false,
        }
    });
    unwanted.cloned().collect()
}

/// What becomes of a candidate that was brought with these digests, now that it names this one.
pub fn fate(brought: &[Digest], now: Option<&Digest>) -> Fate {
    match now {
        None => Fate::Gone,
        Some(now) if brought.contains(now) => Fate::Goes(now.clone()),
        Some(now) => Fate::Foreign(now.clone()),
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
            let known = Known {
                brought: &brought,
                wanted: &wanted,
                about: &about,
                images,
            };
            let found = candidates(known, |tag| tag.as_str().starts_with("s-"));
            found.iter().map(Tag::to_string).collect::<Vec<_>>()
        };
        assert_eq!(found(Some(&images)), ["s-v1", "v1"]);
        assert_eq!(found(None), ["v1"]);
    }

    #[test]
    fn what_somebody_moved_is_theirs() {
        let (old, new, other) = (Digest::of(b"1"), Digest::of(b"2"), Digest::of(b"3"));
        let brought = [old.clone(), new.clone()];
        assert_eq!(fate(&brought, Some(&new)), Fate::Goes(new));
        assert_eq!(fate(&brought, Some(&old)), Fate::Goes(old));
        assert_eq!(fate(&brought, Some(&other)), Fate::Foreign(other));
        assert_eq!(fate(&brought, None), Fate::Gone);
    }
}
