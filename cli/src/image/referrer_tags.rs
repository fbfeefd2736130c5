//! Tags that refer to an image by their name: the digest with a dash in place of the colon, and a
//! suffix. cosign adds `.sig`, `.att` and `.sbom`; without a suffix the tag is the list of
//! referrers at a registry without the referrers API (OCI distribution-spec, "Referrers Tag
//! Schema").

use std::collections::HashSet;

use imgsync_oci::{Digest, Tag};

/// The suffixes of cosign.
const COSIGN_SUFFIXES: [&str; 3] = ["sig", "att", "sbom"];

/// Returns the digest that a tag refers to; `None` for any other tag.
pub fn subject_of(tag: &Tag) -> Option<Digest> {
    let name = match tag.as_str().split_once('.') {
        Some((name, suffix)) if COSIGN_SUFFIXES.contains(&suffix) => name,
        Some(_) => return None,
        None => tag.as_str(),
    };
    let (algorithm, hex) = name.split_once('-')?;
    format!("{algorithm}:{hex}").parse().ok()
}

/// Returns the tag of the list of referrers.
pub(crate) fn fallback_tag(subject: &Digest) -> Option<Tag> {
    name(subject).parse().ok()
}

/// Returns the possible tags of cosign's scheme for an image; only those in `listed`, if the tags
/// are known.
pub(crate) fn cosign_tags(subject: &Digest, listed: Option<&HashSet<Tag>>) -> Vec<Tag> {
    let name = name(subject);
    let tags = COSIGN_SUFFIXES
        .iter()
        .map(|suffix| format!("{name}.{suffix}"));
    let tags = tags.filter_map(|tag| tag.parse().ok());
    tags.filter(|tag| listed.is_none_or(|listed| listed.contains(tag)))
        .collect()
}

fn name(subject: &Digest) -> String {
    format!("{}-{}", subject.algorithm().as_str(), subject.hex())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn referrer_tags_are_recognised() {
        let digest = Digest::of(b"x");
        let tag =
            |suffix: &str| -> Tag { format!("sha256-{}{suffix}", digest.hex()).parse().unwrap() };
        for suffix in ["", ".sig", ".att", ".sbom"] {
            assert_eq!(subject_of(&tag(suffix)), Some(digest.clone()), "{suffix}");
        }
        for plain in [
            "latest",
            "sha256-1234",
            "sha256-1234.sig",
            "v1-2",
            &format!("sha256-{}.other", digest.hex()),
            &digest.hex()[..40],
        ] {
            assert_eq!(subject_of(&plain.parse().unwrap()), None, "{plain}");
        }
        assert_eq!(fallback_tag(&digest), Some(tag("")));
        assert_eq!(
            cosign_tags(&digest, None),
            [".sig", ".att", ".sbom"].map(tag)
        );
        let listed = HashSet::from(["", ".att", ".sig"].map(tag));
        assert_eq!(
            cosign_tags(&digest, Some(&listed)),
            [".sig", ".att"].map(tag)
        );
        assert!(cosign_tags(&Digest::of(b"y"), Some(&listed)).is_empty());
    }
}
