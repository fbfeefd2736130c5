//! The name of a repository, a tag or a manifest in a registry, as users write it.

use std::fmt;
use std::str::FromStr;

use imgsync_oci::{ParseError, Reference, Registry, RemoteName, Repository};

const HINT: &str = "write host[:port]/repository[:tag|@digest]";

/// `host[:port]/repository[:tag|@digest]`; without tag and digest, it is the whole repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentName {
    /// The registry.
    pub registry: Registry,
    /// The repository.
    pub repository: Repository,
    /// The tag or digest.
    pub reference: Option<Reference>,
}

impl fmt::Display for ContentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (registry, repository) = (&self.registry, &self.repository);
        match &self.reference {
            None => write!(f, "{registry}/{repository}"),
            Some(Reference::Tag(tag)) => write!(f, "{registry}/{repository}:{tag}"),
            Some(Reference::Digest(digest)) => write!(f, "{registry}/{repository}@{digest}"),
        }
    }
}

impl ContentName {
    /// Parses a name. `hint` says how to write it.
    pub(super) fn parse(text: &str, hint: &str) -> Result<Self, String> {
        let invalid = |error: ParseError| format!("{error}\nhint: {hint}");
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(digest)),
            None => (text, None),
        };
        let remote: RemoteName = name.parse().map_err(invalid)?;
        let Some((repository, tag)) = remote.name else {
            return Err(format!("the name has no repository\nhint: {hint}"));
        };
        let reference = match digest {
            // A tag beside a digest is only a note for people.
            Some(digest) => Some(Reference::Digest(digest.parse().map_err(invalid)?)),
            None => tag.map(Reference::Tag),
        };
        Ok(Self {
            registry: remote.registry,
            repository,
            reference,
        })
    }
}

impl FromStr for ContentName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::parse(text, HINT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_parsed_and_written_alike() {
        let digest = imgsync_oci::Digest::of(b"x");
        for text in [
            "localhost:5000/a/b".to_owned(),
            "localhost:5000/a:v1".to_owned(),
            format!("example.com/a@{digest}"),
        ] {
            assert_eq!(text.parse::<ContentName>().unwrap().to_string(), text);
        }
        for text in ["localhost:5000", "localhost:5000/A", "localhost:5000/a@x"] {
            assert!(text.parse::<ContentName>().unwrap_err().contains(HINT));
        }
    }
}
