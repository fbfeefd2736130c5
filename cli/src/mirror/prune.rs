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
    /// The tags that speak about wanted ones, where all of them are known.
    pub companions: Option<&'a HashSet<Tag>>,
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

/// The tags that are candidates. A tag that speaks about others is one only where it is known which
/// of these are wanted.
pub fn candidates(known: Known<'_>, is_companion: impl Fn(&Tag) -> bool) -> Vec<Tag> {
    let unwanted = known.brought.keys().filter(|tag| {
        if known.wanted.contains(tag) {
            return false;
        }
        match (is_companion(tag), known.companions) {
            (false, _) => true,
            (true, Some(companions)) => !companions.contains(tag),
            (true, None) => false,
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
        let brought = tags(&["v1", "v2", "s-v1", "s-v2"]);
        let brought: BTreeMap<_, _> = brought.into_iter().map(|tag| (tag, Vec::new())).collect();
        let (wanted, companions) = (tags(&["v2", "v3"]), tags(&["s-v2"]));
        let found = |companions| {
            let known = Known {
                brought: &brought,
                wanted: &wanted,
                companions,
            };
            let found = candidates(known, |tag| tag.as_str().starts_with("s-"));
            found.iter().map(Tag::to_string).collect::<Vec<_>>()
        };
        assert_eq!(found(Some(&companions)), ["s-v1", "v1"]);
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
