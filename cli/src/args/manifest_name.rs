//! The name of a manifest in a registry, as users write it.

use std::fmt;
use std::str::FromStr;

use imgsync_oci::{Reference, Registry, Repository, Tag};

use super::content_name::ContentName;

const HINT: &str = "write host[:port]/repository:tag or host[:port]/repository@digest";
const EXPLICIT_HINT: &str = "write host[:port]/repository:tag or host[:port]/repository@digest; to \
                             delete a whole repository: imgsync rm --repository";

/// `host[:port]/repository[:tag|@digest]`; without tag and digest, the tag is `latest`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestName {
    /// The registry.
    pub registry: Registry,
    /// The repository.
    pub repository: Repository,
    /// The tag or digest.
    pub reference: Reference,
}

impl ManifestName {
    /// Parses a name that must have a tag or a digest.
    ///
    /// # Errors
    /// Fails if the name is invalid or has neither tag nor digest.
    pub fn parse_explicit(text: &str) -> Result<Self, String> {
        let (_, name) = text.split_once('/').unwrap_or(("", text));
        if name.contains([':', '@']) {
            return text.parse();
        }
        Err(format!(
            "the name has neither tag nor digest\nhint: {EXPLICIT_HINT} {text}"
        ))
    }

    /// Returns the name with another tag or digest.
    pub fn with_reference(&self, reference: Reference) -> Self {
        Self {
            reference,
            ..self.clone()
        }
    }
}

impl fmt::Display for ManifestName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let separator = match &self.reference {
            Reference::Tag(_) => ':',
            Reference::Digest(_) => '@',
        };
        let (registry, repository) = (&self.registry, &self.repository);
        write!(f, "{registry}/{repository}{separator}{}", self.reference)
    }
}

impl FromStr for ManifestName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let ContentName {
            registry,
            repository,
            reference,
        } = ContentName::parse(text, HINT)?;
        Ok(Self {
            registry,
            repository,
            reference: reference.unwrap_or_else(|| Reference::Tag(Tag::latest())),
        })
    }
}

#[cfg(test)]
mod tests {
    use imgsync_oci::Digest;

    use super::*;

    #[test]
    fn names() {
        let shown = |text: &str| text.parse::<ManifestName>().unwrap().to_string();
        assert_eq!(shown("host:1/a/b"), "host:1/a/b:latest");
        assert_eq!(shown("h.io/a:v1"), "h.io/a:v1");
        assert_eq!(shown("user/a:v1"), "docker.io/user/a:v1");
        let digest = Digest::of(b"x");
        assert_eq!(
            shown(&format!("h.io/a:v1@{digest}")),
            format!("h.io/a@{digest}")
        );
        for bad in ["host", "host/", "host/a@v1", "host/a:v1:v2", "host/A"] {
            assert!(bad.parse::<ManifestName>().is_err(), "{bad}");
        }
        assert!(ManifestName::parse_explicit("host:1/a:v1").is_ok());
        assert!(ManifestName::parse_explicit("host:1/a").is_err());
    }
}
