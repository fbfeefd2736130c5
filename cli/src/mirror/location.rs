//! The two ends of a mirror, as people name them.

use std::fmt;
use std::path::PathBuf;

use imgsync_oci::{Digest, LocalName, Reference, Registry, Repository, Tag};

/// The registry that is meant where none is named, as docker has it.
const DEFAULT_REGISTRY: &str = "docker.io";

/// Where images come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceLocation {
    /// A repository at a registry, or one image of it.
    Registry(Registry, Repository, Option<Reference>),
    /// An OCI image layout, or the image of this name in it.
    Layout(LayoutLocation, Option<Tag>),
}

/// Where images go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TargetLocation {
    /// A repository at a registry; without a name that of the source.
    Registry(Registry, Option<(Repository, Option<Tag>)>),
    /// An OCI image layout.
    Layout(LayoutLocation, Option<Tag>),
    /// The local Docker; without a name that of the source.
    Daemon(Option<LocalName>),
}

/// An OCI image layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayoutLocation {
    /// Where it is.
    pub path: PathBuf,
    /// Whether it is a tar of the folder.
    pub is_archive: bool,
}

impl SourceLocation {
    /// Parses `oci:PATH[:TAG]`, `oci-archive:PATH[:TAG]`, or an image's name as docker reads it:
    /// `nginx` is `docker.io/library/nginx`.
    ///
    /// # Errors
    /// It is none of these.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some((disk, tag)) = parse_layout(text)? {
            return Ok(Self::Layout(disk, tag));
        }
        refuse_transports(text, &["docker-daemon", "docker-archive"])?;
        let text = text.strip_prefix("docker://").unwrap_or(text);
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(digest)),
            None => (text, None),
        };
        if let Some((host, _)) = name.split_once(':')
            && (host.contains('.') || host == "localhost")
            && !name.contains('/')
        {
            return Err(format!("{text} names a registry, but no repository"));
        }
        let wrong = |error: imgsync_oci::ParseError| error.to_string();
        let local: LocalName = name.parse().map_err(wrong)?;
        let registry = match local.registry {
            Some(registry) => registry,
            None => DEFAULT_REGISTRY.parse().map_err(wrong)?,
        };
        let repository = official(&registry, local.repository)?;
        let reference = match digest {
            // A tag beside a digest only reminds people what it once was.
            Some(digest) => Some(Reference::Digest(digest.parse::<Digest>().map_err(wrong)?)),
            None => local.tag.map(Reference::Tag),
        };
        Ok(Self::Registry(registry, repository, reference))
    }

    /// The one image that is meant; `None` where it is all of them.
    pub fn single(&self) -> Option<Reference> {
        match self {
            Self::Registry(_, _, reference) => reference.clone(),
            Self::Layout(_, tag) => tag.clone().map(Reference::Tag),
        }
    }
}

impl TargetLocation {
    /// Parses `oci:PATH[:TAG]`, `oci-archive:PATH[:TAG]`, `docker-daemon:[NAME[:TAG]]`, or a remote as
    /// `push` has it: the first part is a registry.
    ///
    /// # Errors
    /// It is none of these.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some((disk, tag)) = parse_layout(text)? {
            return Ok(Self::Layout(disk, tag));
        }
        if let Some(name) = text.strip_prefix("docker-daemon:") {
            let name = (!name.is_empty()).then(|| name.parse()).transpose();
            return Ok(Self::Daemon(
                name.map_err(|error: imgsync_oci::ParseError| error.to_string())?,
            ));
        }
        refuse_transports(text, &["docker-archive"])?;
        let text = text.strip_prefix("docker://").unwrap_or(text);
        let remote: imgsync_oci::RemoteName = text
            .parse()
            .map_err(|error: imgsync_oci::ParseError| error.to_string())?;
        let name = match remote.name {
            Some((repository, tag)) => Some((official(&remote.registry, repository)?, tag)),
            None => None,
        };
        Ok(Self::Registry(remote.registry, name))
    }
}

/// `oci:PATH[:TAG]` and `oci-archive:PATH[:TAG]`; a path cannot have a colon, as with skopeo.
fn parse_layout(text: &str) -> Result<Option<(LayoutLocation, Option<Tag>)>, String> {
    let (rest, is_archive) = match (text.strip_prefix("oci:"), text.strip_prefix("oci-archive:")) {
        (Some(rest), _) => (rest, false),
        (None, Some(rest)) => (rest, true),
        (None, None) => return Ok(None),
    };
    let (path, tag) = match rest.split_once(':') {
        Some((path, tag)) => {
            let tag = tag
                .parse::<Tag>()
                .map_err(|error| format!("{text}: {error}"))?;
            (path, Some(tag))
        }
        None => (rest, None),
    };
    if path.is_empty() {
        return Err(format!("{text}: there is no path in it"));
    }
    let disk = LayoutLocation {
        path: path.into(),
        is_archive,
    };
    Ok(Some((disk, tag)))
}

fn refuse_transports(text: &str, transports: &[&str]) -> Result<(), String> {
    if let Some((scheme @ ("http" | "https"), _)) = text.split_once("://") {
        let more = match scheme {
            "http" => ", and say with --plain-http or --source-plain-http that it has no TLS",
            _ => "",
        };
        return Err(format!(
            "{scheme}:// is no part of a name: leave it out{more}"
        ));
    }
    if text.starts_with(['/', '.']) {
        return Err(format!(
            "{text}: a path needs oci: or oci-archive: before it"
        ));
    }
    let is_of = |transport: &&&str| {
        text.split_once(':')
            .is_some_and(|(it, _)| it == **transport)
    };
    match transports.iter().find(is_of) {
        Some(transport) => Err(format!("{transport}: cannot be this side of a mirror")),
        None => Ok(()),
    }
}

/// Docker's own images lie below `library/`.
fn official(registry: &Registry, repository: Repository) -> Result<Repository, String> {
    if !registry.is_docker_hub() || repository.as_str().contains('/') {
        return Ok(repository);
    }
    let name = format!("library/{repository}");
    name.parse()
        .map_err(|error: imgsync_oci::ParseError| error.to_string())
}

impl fmt::Display for LayoutLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let transport = if self.is_archive {
            "oci-archive"
        } else {
            "oci"
        };
        write!(f, "{transport}:{}", self.path.display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(text: &str) -> String {
        match SourceLocation::parse(text) {
            Ok(SourceLocation::Registry(registry, repository, reference)) => {
                format!("{registry} {repository} {reference:?}")
            }
            Ok(SourceLocation::Layout(disk, tag)) => format!("{disk} {tag:?}"),
            Err(error) => format!("wrong: {error}"),
        }
    }

    #[test]
    fn sources_as_docker_reads_them() {
        assert_eq!(from("nginx"), "docker.io library/nginx None");
        assert_eq!(
            from("docker.io/nginx:1.27"),
            "docker.io library/nginx Some(Tag(1.27))"
        );
        assert_eq!(from("team/app"), "docker.io team/app None");
        assert_eq!(from("ghcr.io/owner/app"), "ghcr.io owner/app None");
        assert_eq!(
            from("docker://localhost:5000/a/b:v1"),
            "localhost:5000 a/b Some(Tag(v1))"
        );
        let digest = Digest::of(b"x");
        let expected = format!("a.io b Some(Digest({digest}))");
        assert_eq!(from(&format!("a.io/b:v1@{digest}")), expected);
        assert_eq!(from("oci:a/b"), "oci:a/b None");
        assert_eq!(from("oci-archive:a.tar:v1"), "oci-archive:a.tar Some(v1)");
        for bad in [
            "",
            "localhost:5000",
            "a.io:5000",
            "A",
            "a@b",
            "oci:",
            "oci::v1",
            "oci:a:",
            "docker-daemon:a",
            "https://a.io/b",
            "./a",
            "/a",
        ] {
            assert!(from(bad).starts_with("wrong: "), "{bad}: {}", from(bad));
        }
    }

    #[test]
    fn targets_begin_with_a_registry() {
        let registry = |text: &str| match TargetLocation::parse(text) {
            Ok(TargetLocation::Registry(registry, name)) => Some((registry.to_string(), name)),
            _ => None,
        };
        assert_eq!(registry("host"), Some(("host".to_owned(), None)));
        assert_eq!(
            registry("host/a/b:v1")
                .unwrap()
                .1
                .unwrap()
                .1
                .unwrap()
                .as_str(),
            "v1"
        );
        assert!(matches!(
            TargetLocation::parse("docker-daemon:a/b:v1"),
            Ok(TargetLocation::Daemon(Some(_)))
        ));
        assert!(matches!(
            TargetLocation::parse("docker-daemon:"),
            Ok(TargetLocation::Daemon(None))
        ));
        assert!(matches!(
            TargetLocation::parse("oci-archive:x.tar"),
            Ok(TargetLocation::Layout(
                LayoutLocation {
                    is_archive: true,
                    ..
                },
                None
            ))
        ));
        assert!(
            TargetLocation::parse("docker-archive:x").is_err()
                && TargetLocation::parse("host/A").is_err()
        );
    }
}
