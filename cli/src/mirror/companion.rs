//! Tags that speak about an image by their very name: the digest with a dash in place of the colon,
//! and what it is. cosign writes `.sig`, `.att` and `.sbom`; without a suffix it is the list of
//! referrers at a registry that keeps none (OCI distribution-spec, "Referrers Tag Schema").

use std::collections::HashSet;

use imgsync_oci::{Digest, Tag};

/// The suffixes that cosign writes.
const SUFFIXES: [&str; 3] = ["sig", "att", "sbom"];

/// The image that a tag speaks about; `None` where it is a tag like any other.
pub fn companion(tag: &Tag) -> Option<Digest> {
    let (name, _) = tag.as_str().split_once('.').unwrap_or((tag.as_str(), ""));
    let (algorithm, hex) = name.split_once('-')?;
    format!("{algorithm}:{hex}").parse().ok()
}

/// The tag of the list of referrers.
pub(super) fn list(subject: &Digest) -> Option<Tag> {
    name(subject).parse().ok()
}

/// The tags of cosign's scheme that there may be for an image: of those that are `listed`, or the
/// usual ones where nobody knows which there are.
pub(super) fn signatures(subject: &Digest, listed: Option<&HashSet<Tag>>) -> Vec<Tag> {
    let name = name(subject);
    let Some(listed) = listed else {
        let tags = SUFFIXES.iter().map(|suffix| format!("{name}.{suffix}"));
        return tags.filter_map(|tag| tag.parse().ok()).collect();
    };
    // cosign's first, without looking through all; others write suffixes of their own.
    let speaks = |tag: &&Tag| tag.as_str().strip_prefix(&*name).is_some_and(is_suffix);
    let mut tags: Vec<Tag> = listed.iter().filter(speaks).cloned().collect();
    tags.sort();
    tags
}

fn is_suffix(rest: &str) -> bool {
    rest.starts_with('.')
}

fn name(subject: &Digest) -> String {
    format!("{}-{}", subject.algorithm().as_str(), subject.hex())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_that_speak_about_an_image() {
        let digest = Digest::of(b"x");
        let tag =
            |suffix: &str| -> Tag { format!("sha256-{}{suffix}", digest.hex()).parse().unwrap() };
        for suffix in ["", ".sig", ".att", ".sbom", ".other"] {
            assert_eq!(companion(&tag(suffix)), Some(digest.clone()), "{suffix}");
        }
        for plain in [
            "latest",
            "sha256-1234",
            "sha256-1234.sig",
            "v1-2",
            &digest.hex()[..40],
        ] {
            assert_eq!(companion(&plain.parse().unwrap()), None, "{plain}");
        }
        assert_eq!(list(&digest), Some(tag("")));
        assert_eq!(
            signatures(&digest, None),
            [".sig", ".att", ".sbom"].map(tag)
        );
        let listed = HashSet::from(["", ".other", ".sig"].map(tag));
        assert_eq!(
            signatures(&digest, Some(&listed)),
            [".other", ".sig"].map(tag)
        );
        assert!(signatures(&Digest::of(b"y"), Some(&listed)).is_empty());
    }
}
