//! A manifest at a registry, as people name it.

use std::str::FromStr;

use imgsync_oci::client::Client;
use imgsync_oci::{Digest, Reference, Registry, RemoteName, Repository, Tag};

use crate::exit::{Failure, FailureKind};

/// `host[:port]/repository[:tag|@digest]`; without either the tag is `latest`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ManifestName {
    pub(super) registry: Registry,
    pub(super) repository: Repository,
    pub(super) reference: Reference,
}

impl ManifestName {
    /// Whether a text names a tag or digest.
    pub(super) fn is_explicit(text: &str) -> bool {
        let (_, name) = text.split_once('/').unwrap_or(("", text));
        name.contains([':', '@'])
    }

    /// The name of another manifest of the same repository.
    pub(super) fn with_reference(&self, reference: &Reference) -> String {
        let mark = match reference {
            Reference::Tag(_) => ':',
            Reference::Digest(_) => '@',
        };
        format!("{}/{}{mark}{reference}", self.registry, self.repository)
    }
}

impl std::fmt::Display for ManifestName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.with_reference(&self.reference))
    }
}

impl FromStr for ManifestName {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self, Failure> {
        let usage = |what: String| {
            Failure::new(FailureKind::Usage, what)
                .with_hint("write host[:port]/repository:tag or host[:port]/repository@digest")
        };
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(digest)),
            None => (text, None),
        };
        let remote: RemoteName = name
            .parse()
            .map_err(|error: imgsync_oci::ParseError| usage(error.to_string()))?;
        let digest = digest.map(str::parse::<Digest>).transpose();
        let digest = digest.map_err(|error| usage(error.to_string()))?;
        let (repository, tag) = remote
            .name
            .ok_or_else(|| usage(format!("{text} names no repository")))?;
        let reference = match digest {
            // A tag beside a digest only reminds people what it once was.
            Some(digest) => Reference::Digest(digest),
            None => Reference::Tag(tag.unwrap_or_else(Tag::latest)),
        };
        Ok(Self {
            registry: remote.registry,
            repository,
            reference,
        })
    }
}

/// The digest that a manifest's name stands for now.
///
/// # Errors
/// There is no such manifest, or the registry does not tell.
pub(super) async fn digest(client: &Client, manifest: &ManifestName) -> Result<Digest, Failure> {
    let tag = match &manifest.reference {
        Reference::Digest(digest) => return Ok(digest.clone()),
        tag @ Reference::Tag(_) => tag,
    };
    let found = client.head_manifest(&manifest.repository, tag).await?;
    let found = found.ok_or_else(|| not_found(manifest))?;
    match found.digest {
        Some(digest) => Ok(digest),
        // Some registries do not say; the bytes do.
        None => {
            let found = client.fetch_manifest(&manifest.repository, tag).await?;
            Ok(found.ok_or_else(|| not_found(manifest))?.digest)
        }
    }
}

/// The failure to find a manifest.
pub(super) fn not_found(manifest: &ManifestName) -> Failure {
    let ManifestName {
        registry,
        repository,
        ..
    } = manifest;
    Failure::new(
        FailureKind::Target,
        format!("target: there is no {manifest}"),
    )
    .with_hint(format!(
        "see what is there: imgsync ls {registry}/{repository}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let shown = |text: &str| text.parse::<ManifestName>().unwrap().to_string();
        assert_eq!(shown("host:1/a/b"), "host:1/a/b:latest");
        assert_eq!(shown("host/a:v1"), "host/a:v1");
        let digest = Digest::of(b"x");
        assert_eq!(
            shown(&format!("host/a:v1@{digest}")),
            format!("host/a@{digest}")
        );
        for bad in ["host", "host/", "host/a@v1", "host/a:v1:v2", "host/A"] {
            assert!(bad.parse::<ManifestName>().is_err(), "{bad}");
        }
        assert!(ManifestName::is_explicit("host:1/a:v1") && !ManifestName::is_explicit("host:1/a"));
    }
}
