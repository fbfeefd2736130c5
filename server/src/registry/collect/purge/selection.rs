//! Selects which manifests of a repository go with one of them, and finds the images that lack
//! something then. No I/O.
//!
//! Start reading at [`RepositoryImages::select`].

use std::collections::{BTreeSet, HashSet};

use imgsync_oci::{Digest, Reference, Tag};

use super::super::super::digest_prefix::digest_prefix;
use super::super::manifest_graph::ManifestGraph;

/// The manifests and tags of a repository.
#[derive(Default)]
pub(super) struct RepositoryImages {
    pub(super) graph: ManifestGraph,
    /// The tags with the digests at which they point.
    pub(super) tags: Vec<(Tag, Digest)>,
}

/// The content that is removed from a repository.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct PurgedImages {
    /// The manifests, those first that no other one of them names.
    pub(super) manifests: Vec<Digest>,
    /// The tags that point at them.
    pub(super) tags: BTreeSet<Tag>,
    /// The other images that lack a manifest then.
    pub(super) incomplete: BTreeSet<Reference>,
}

impl RepositoryImages {
    /// Selects a manifest with everything that lives as long as it does, and that nothing else
    /// needs: the manifests that it names, and its referrers. If `tag` is given, every other tag of
    /// the manifest is another image.
    pub(super) fn select(&self, digest: &Digest, tag: Option<&Tag>) -> PurgedImages {
        let (graph, id) = (&self.graph, digest_prefix(digest));
        let below = graph.closure([id]);
        let tagged = self.tags.iter().map(|(_, target)| digest_prefix(target));
        let others = graph.ids().filter(|id| !below.contains(id));
        let others = others.chain(tagged).filter(|other| *other != id);
        let needed = graph.closure_without(others, id);
        let removed = below.into_iter().filter(|id| !needed.contains(id));
        // Itself is removed, even if others name it.
        let manifests = graph.sorted_digests(&removed.chain([id]).collect());
        let own_tags = self.tags.iter().filter(|(_, target)| target == digest);
        let tags: BTreeSet<Tag> = own_tags.map(|(tag, _)| tag.clone()).collect();
        let mut incomplete = self.images_with(&graph.namers([id]));
        if let Some(tag) = tag {
            let others = tags.iter().filter(|other| *other != tag);
            incomplete.extend(others.cloned().map(Reference::Tag));
        }
        PurgedImages {
            manifests,
            tags,
            incomplete,
        }
    }

    /// Returns the names of the images that contain one of these manifests: the tags, and for those
    /// without a tag the digest.
    pub(super) fn images_with(&self, manifests: &HashSet<u128>) -> BTreeSet<Reference> {
        let mut containing = self.graph.namers(manifests.iter().copied());
        containing.extend(manifests);
        let (mut names, mut covered) = (BTreeSet::new(), HashSet::new());
        for (tag, target) in &self.tags {
            let target = digest_prefix(target);
            if containing.contains(&target) {
                names.insert(Reference::Tag(tag.clone()));
                covered.extend(self.graph.named_closure([target]));
            }
        }
        let named = containing.iter().flat_map(|id| self.graph.children(*id));
        covered.extend(named);
        let roots = containing.iter().filter(|id| !covered.contains(id));
        let digests = roots.filter_map(|id| self.graph.digest(*id).cloned());
        names.extend(digests.map(Reference::Digest));
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Builds a repository from lines such as `index > amd64 arm64`, `signature ? index` (a referrer)
    /// and `v1 = index` (a tag).
    fn images(lines: &[&str]) -> RepositoryImages {
        let mut images = RepositoryImages::default();
        for line in lines {
            let words: Vec<&str> = line.split(' ').collect();
            let digests: Vec<Digest> = words[2..].iter().copied().map(digest).collect();
            match words[1] {
                "=" => images
                    .tags
                    .push((words[0].parse().unwrap(), digests[0].clone())),
                sign => {
                    let manifest = digest(words[0]);
                    images.graph.insert(manifest.clone());
                    for other in digests {
                        images.graph.insert(other.clone());
                        match sign {
                            ">" => images.graph.add_child(&manifest, &other),
                            _ => images.graph.add_referrer(&other, &manifest),
                        }
                    }
                }
            }
        }
        images
    }

    fn digest(word: &str) -> Digest {
        Digest::of(word.as_bytes())
    }

    fn select(lines: &[&str], target: &str, tag: Option<&str>) -> (Vec<&'static str>, Vec<String>) {
        const WORDS: [&str; 8] = [
            "index",
            "amd64",
            "arm64",
            "signature",
            "sbom",
            "other",
            "outer",
            "image",
        ];
        let tag: Option<Tag> = tag.map(|tag| tag.parse().unwrap());
        let selected = images(lines).select(&digest(target), tag.as_ref());
        let mut words: Vec<&str> = WORDS
            .into_iter()
            .filter(|word| selected.manifests.contains(&digest(word)))
            .collect();
        words.sort_unstable();
        assert_eq!(words.len(), selected.manifests.len());
        let names = selected.incomplete.iter().map(|name| match name {
            Reference::Tag(tag) => tag.to_string(),
            Reference::Digest(found) => WORDS
                .into_iter()
                .find(|word| digest(word) == *found)
                .unwrap()
                .to_owned(),
        });
        (words, names.collect())
    }

    #[test]
    fn an_image_goes_with_its_parts_and_its_referrers() {
        let lines = [
            "index > amd64 arm64",
            "signature ? index",
            "sbom ? amd64",
            "v1 = index",
            "other > image",
            "v2 = other",
        ];
        let all = vec!["amd64", "arm64", "index", "sbom", "signature"];
        assert_eq!(select(&lines, "index", Some("v1")), (all.clone(), vec![]));
        assert_eq!(select(&lines, "index", None), (all, vec![]));
        let alone = (vec!["signature"], vec![]);
        assert_eq!(select(&lines, "signature", None), alone);
        let named = (vec!["amd64", "sbom"], vec!["v1".to_owned()]);
        assert_eq!(select(&lines, "amd64", None), named);
    }

    #[test]
    fn what_other_images_need_stays() {
        let lines = [
            "index > amd64 arm64",
            "other > amd64",
            "sbom ? amd64",
            "v1 = index",
            "arm = arm64",
        ];
        assert_eq!(select(&lines, "index", Some("v1")), (vec!["index"], vec![]));
        let (removed, mut incomplete) = select(&lines, "amd64", None);
        incomplete.sort_unstable();
        assert_eq!(removed, ["amd64", "sbom"]);
        assert_eq!(incomplete, ["other", "v1"]);
    }

    #[test]
    fn other_tags_of_the_image_and_outer_indexes_are_told() {
        let lines = [
            "index > amd64",
            "outer > index",
            "v1 = index",
            "latest = index",
            "all = outer",
        ];
        let (removed, incomplete) = select(&lines, "index", Some("v1"));
        assert_eq!(removed, ["amd64", "index"]);
        assert_eq!(incomplete, ["all", "latest"]);
        let (_, incomplete) = select(&lines, "index", None);
        assert_eq!(incomplete, ["all"]);
    }
}
