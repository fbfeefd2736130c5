//! Parses what commands restore or purge: `REPOSITORY`, `REPOSITORY:TAG`, `REPOSITORY@DIGEST` or
//! `DIGEST`.

use imgsync_oci::{Digest, Repository, Tag};

use crate::registry::ContentTarget;

/// Parses a target.
///
/// # Errors
/// Returns what is wrong with it.
pub(super) fn parse_target(text: &str) -> Result<ContentTarget, String> {
    parse(text).ok_or_else(|| {
        format!("{text:?} is no repository, tag or digest; examples: app, app:v1, sha256:…")
    })
}

fn parse(text: &str) -> Option<ContentTarget> {
    if let Ok(digest) = text.parse::<Digest>() {
        return Some(ContentTarget::Digest(digest));
    }
    if let Some((repository, digest)) = text.split_once('@') {
        let repository: Repository = repository.parse().ok()?;
        return Some(ContentTarget::Manifest(repository, digest.parse().ok()?));
    }
    if let Some((repository, tag)) = text.split_once(':') {
        let (repository, tag): (Repository, Tag) = (repository.parse().ok()?, tag.parse().ok()?);
        return Some(ContentTarget::Tag(repository, tag));
    }
    text.parse().ok().map(ContentTarget::Repository)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_told_apart() {
        let digest = Digest::of(b"content");
        let repository: Repository = "a/b".parse().unwrap();
        let tag = ContentTarget::Tag(repository.clone(), "v1".parse().unwrap());
        let manifest = ContentTarget::Manifest(repository.clone(), digest.clone());
        for (text, expected) in [
            (
                "a/b".to_owned(),
                Some(ContentTarget::Repository(repository)),
            ),
            ("a/b:v1".to_owned(), Some(tag)),
            (format!("a/b@{digest}"), Some(manifest)),
            (digest.to_string(), Some(ContentTarget::Digest(digest))),
            ("A/B".to_owned(), None),
            ("a:b:c".to_owned(), None),
            (String::new(), None),
        ] {
            assert_eq!(parse(&text), expected, "{text}");
        }
    }
}
