//! Decides which tags are deleted at the target: those that the mirror has copied and that are no
//! longer selected. Pure.
//!
//! Start reading at [`candidates`].

use std::collections::{BTreeMap, HashSet};

use imgsync_oci::{Digest, Tag};

/// The state of a mirror after all selected tags were copied.
#[derive(Debug, Clone, Copy)]
pub struct PruneInput<'a> {
    /// The tags that the mirror has copied in all runs, with the digests that it wrote.
    pub mirrored: &'a BTreeMap<Tag, Vec<Digest>>,
    /// The selected tags.
    pub selected: &'a HashSet<Tag>,
    /// The images that referrer tags belong to, as far as they are known.
    pub subjects: &'a BTreeMap<Tag, HashSet<Digest>>,
    /// The selected images, if all of them are known.
    pub selected_images: Option<&'a HashSet<Digest>>,
}

/// The decision about a tag that the mirror has copied and that is no longer selected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PruneDecision {
    /// The tag still has a digest that the mirror wrote: delete it.
    Delete(Digest),
    /// The tag does not exist any more.
    AlreadyGone,
    /// Another user or tool has moved the tag to this digest: keep it.
    Moved(Digest),
}

/// Returns the tags that may be deleted. A referrer tag may be deleted only if all images that it
/// belongs to are known, and none of them is selected.
pub fn candidates(input: PruneInput<'_>, is_referrer: impl Fn(&Tag) -> bool) -> Vec<Tag> {
    let is_unneeded = |tag: &Tag| match (input.subjects.get(tag), input.selected_images) {
        (Some(subjects), Some(images)) => !subjects.is_empty() && subjects.is_disjoint(images),
        _ => false,
    };
    let tags = input.mirrored.keys();
    tags.filter(|tag| !input.selected.contains(*tag) && (!is_referrer(tag) || is_unneeded(tag)))
        .cloned()
        .collect()
}

/// Decides about a candidate: `mirrored` are the digests that the mirror wrote, and `current` is the
/// digest at the target.
pub fn decide(mirrored: &[Digest], current: Option<&Digest>) -> PruneDecision {
    match current {
        None => PruneDecision::AlreadyGone,
        Some(digest) if mirrored.contains(digest) => PruneDecision::Delete(digest.clone()),
        Some(digest) => PruneDecision::Moved(digest.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(words: &[&str]) -> HashSet<Tag> {
        words.iter().map(|word| word.parse().unwrap()).collect()
    }

    #[test]
    fn only_copied_tags_that_are_not_selected_are_candidates() {
        let mirrored = tags(&["v1", "v2", "s-v1", "s-v2", "s-both", "s-unknown"]);
        let mirrored: BTreeMap<_, _> = mirrored.into_iter().map(|tag| (tag, Vec::new())).collect();
        let (one, two) = (Digest::of(b"1"), Digest::of(b"2"));
        let subjects = BTreeMap::from([
            ("s-v1".parse().unwrap(), HashSet::from([one.clone()])),
            ("s-v2".parse().unwrap(), HashSet::from([two.clone()])),
            ("s-both".parse().unwrap(), HashSet::from([one, two.clone()])),
        ]);
        let (selected, images) = (tags(&["v2", "v3"]), HashSet::from([two]));
        let found = |images| {
            let input = PruneInput {
                mirrored: &mirrored,
                selected: &selected,
                subjects: &subjects,
                selected_images: images,
            };
            let found = candidates(input, |tag| tag.as_str().starts_with("s-"));
            found.iter().map(Tag::to_string).collect::<Vec<_>>()
        };
        assert_eq!(found(Some(&images)), ["s-v1", "v1"]);
        assert_eq!(found(None), ["v1"]);
    }

    #[test]
    fn moved_tags_are_kept() {
        let (old, new, other) = (Digest::of(b"1"), Digest::of(b"2"), Digest::of(b"3"));
        let mirrored = [old.clone(), new.clone()];
        assert_eq!(decide(&mirrored, Some(&new)), PruneDecision::Delete(new));
        assert_eq!(decide(&mirrored, Some(&old)), PruneDecision::Delete(old));
        assert_eq!(decide(&mirrored, Some(&other)), PruneDecision::Moved(other));
        assert_eq!(decide(&mirrored, None), PruneDecision::AlreadyGone);
    }
}
