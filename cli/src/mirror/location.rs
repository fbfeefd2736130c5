//! Parses the source and the target of a mirror.
//!
//! Start reading at [`SourceLocation::parse`].

use std::fmt;
use std::path::PathBuf;

use imgsync_oci::{
    DOCKER_HUB, LocalName, ParseError, Reference, Registry, RemoteName, Repository, Tag,
};

use crate::disk::{System, is_explicit_path, split_path};

const SOURCE_ADVICE: &str = "cannot be the source of a mirror; use imgsync push";
const TARGET_ADVICE: &str = "cannot be the target of a mirror; use oci-archive:PATH";

/// The source of a mirror.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceLocation {
    /// A repository of a registry, or one image in it.
    Registry(Registry, Repository, Option<Reference>),
    /// An OCI image layout, or the image with this tag in it.
    Layout(LayoutLocation, Option<Tag>),
}

/// The target of a mirror.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TargetLocation {
    /// A repository of a registry. Without a name, the repository has the name of the source.
    Registry(Registry, Option<(Repository, Option<Tag>)>),
    /// An OCI image layout.
    Layout(LayoutLocation, Option<Tag>),
    /// The local Docker. Without a name, the image has the name of the source.
    Daemon(Option<LocalName>),
}

/// An OCI image layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayoutLocation {
    /// The path of the folder or archive.
    pub path: PathBuf,
    /// Whether the layout is a tar archive.
    pub is_archive: bool,
}

impl LayoutLocation {
    /// Returns what errors call the layout.
    pub fn description(&self) -> String {
        let path = self.path.display();
        if self.is_archive {
            format!("the archive {path}")
        } else {
            format!("the OCI layout {path}")
        }
    }
}

impl SourceLocation {
    /// Parses `oci:PATH[:TAG]`, `oci-archive:PATH[:TAG]`, or the name of an image as in docker:
    /// `nginx` is `docker.io/library/nginx`.
    ///
    /// # Errors
    /// Fails if the text is something else.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some((layout, tag)) = parse_layout(text, System::CURRENT)? {
            return Ok(Self::Layout(layout, tag));
        }
        let text = strip_transport(text, SOURCE_ADVICE, &["docker-daemon", "docker-archive"])?;
        let (name, digest) = text.split_once('@').unzip();
        let name = name.unwrap_or(text);
        if let Some((host, _)) = name.split_once(':')
            && (host.contains('.') || host == "localhost")
            && !name.contains('/')
        {
            return Err(format!("{text} names a registry, but no repository"));
        }
        let name: LocalName = name.parse().map_err(to_text)?;
        let registry = match name.registry {
            Some(registry) => registry,
            None => DOCKER_HUB.parse().map_err(to_text)?,
        };
        let repository = registry.full_repository(name.repository);
        let repository = repository.map_err(to_text)?;
        let reference = match digest {
            // As in docker, the tag beside a digest is ignored.
            Some(digest) => Some(Reference::Digest(digest.parse().map_err(to_text)?)),
            None => name.tag.map(Reference::Tag),
        };
        Ok(Self::Registry(registry, repository, reference))
    }

    /// Returns the only image to copy; `None` for all images.
    pub fn single(&self) -> Option<Reference> {
        match self {
            Self::Registry(_, _, reference) => reference.clone(),
            Self::Layout(_, tag) => tag.clone().map(Reference::Tag),
        }
    }
}

impl TargetLocation {
    /// Parses `oci:PATH[:TAG]`, `oci-archive:PATH[:TAG]`, `docker-daemon:[NAME[:TAG]]`, or a remote
    /// name as for `push`, whose first part is the registry.
    ///
    /// # Errors
    /// Fails if the text is something else.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some((layout, tag)) = parse_layout(text, System::CURRENT)? {
            return Ok(Self::Layout(layout, tag));
        }
        if let Some(name) = text.strip_prefix("docker-daemon:") {
            let name = (!name.is_empty()).then(|| name.parse()).transpose();
            return Ok(Self::Daemon(name.map_err(to_text)?));
        }
        let text = strip_transport(text, TARGET_ADVICE, &["docker-archive"])?;
        let remote: RemoteName = text.parse().map_err(to_text)?;
        if remote.is_registry_implied {
            let first = text.split('/').next().unwrap_or(text);
            let rest = text.strip_prefix(first).unwrap_or_default();
            return Err(format!(
                "{text} names no registry\nhint: write {DOCKER_HUB}/{text} for Docker Hub, or \
                 {first}:443{rest} with the right port for a registry with the name {first}"
            ));
        }
        Ok(Self::Registry(remote.registry, remote.name))
    }
}

/// Parses `oci:PATH[:TAG]` and `oci-archive:PATH[:TAG]`. As for skopeo, a path cannot contain a
/// colon, except that of a drive.
fn parse_layout(
    text: &str,
    system: System,
) -> Result<Option<(LayoutLocation, Option<Tag>)>, String> {
    let (rest, is_archive) = match text.split_once(':') {
        Some(("oci", rest)) => (rest, false),
        Some(("oci-archive", rest)) => (rest, true),
        _ => return Ok(None),
    };
    let (path, tag) = split_path(rest, system);
    let tag = tag.map(|tag| tag.parse()).transpose();
    let tag = tag.map_err(|error: ParseError| format!("{text}: {error}"))?;
    if path.is_empty() {
        return Err(format!("{text}: the path is missing"));
    }
    let path = path.into();
    Ok(Some((LayoutLocation { path, is_archive }, tag)))
}

/// Removes `docker://`, and refuses other transports and URLs. `advice` completes the message for a
/// refused transport.
fn strip_transport<'a>(text: &'a str, advice: &str, refused: &[&str]) -> Result<&'a str, String> {
    let transport = text.split_once(':').map_or("", |(transport, _)| transport);
    if text.starts_with("http://") {
        let hint = "omit it, and set plainHttp for the registry";
        Err(format!("http:// is not part of a name: {hint}"))
    } else if text.starts_with("https://") {
        Err("https:// is not part of a name: omit it".to_owned())
    } else if text.starts_with('.') || is_explicit_path(text, System::CURRENT) {
        Err(format!("{text}: write oci: or oci-archive: before a path"))
    } else if refused.contains(&transport) {
        Err(format!("{transport}: {advice}"))
    } else {
        Ok(text.strip_prefix("docker://").unwrap_or(text))
    }
}

fn to_text(error: ParseError) -> String {
    error.to_string()
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

    fn source(text: &str) -> String {
        match SourceLocation::parse(text) {
            Ok(SourceLocation::Registry(registry, repository, reference)) => {
                format!("{registry} {repository} {reference:?}")
            }
            Ok(SourceLocation::Layout(layout, tag)) => format!("{layout} {tag:?}"),
            Err(error) => format!("error: {error}"),
        }
    }

    #[test]
    fn sources_are_named_as_in_docker() {
        assert_eq!(source("nginx"), "docker.io library/nginx None");
        assert_eq!(
            source("docker.io/nginx:1.27"),
            "docker.io library/nginx Some(Tag(1.27))"
        );
        assert_eq!(source("team/app"), "docker.io team/app None");
        assert_eq!(source("ghcr.io/owner/app"), "ghcr.io owner/app None");
        assert_eq!(
            source("docker://localhost:5000/a/b:v1"),
            "localhost:5000 a/b Some(Tag(v1))"
        );
        let digest = imgsync_oci::Digest::of(b"x");
        let expected = format!("a.io b Some(Digest({digest}))");
        assert_eq!(source(&format!("a.io/b:v1@{digest}")), expected);
        assert_eq!(source("oci:a/b"), "oci:a/b None");
        assert_eq!(source("oci-archive:a.tar:v1"), "oci-archive:a.tar Some(v1)");
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
            assert!(source(bad).starts_with("error: "), "{bad}: {}", source(bad));
        }
    }

    #[test]
    fn a_layout_on_windows_may_have_a_drive() {
        let parse = |text: &str| {
            let (layout, tag) = parse_layout(text, System::Windows).unwrap().unwrap();
            (layout.to_string(), tag.map(|tag| tag.to_string()))
        };
        for (path, tag) in [
            (r"oci:C:\my images\x", Some("v1")),
            (r"oci-archive:\\?\C:\x.tar", None),
            (r"oci:\\nas\images\語", Some("v1")),
            ("oci:c:/x", Some("latest")),
            ("oci:x", Some("v1")),
        ] {
            let text = tag.map_or_else(|| path.to_owned(), |tag| format!("{path}:{tag}"));
            assert_eq!(parse(&text), (path.to_owned(), tag.map(str::to_owned)));
        }
        assert!(parse_layout(r"oci:C:\x:", System::Windows).is_err());
    }

    #[test]
    fn targets_begin_with_a_registry() {
        let registry = |text: &str| match TargetLocation::parse(text) {
            Ok(TargetLocation::Registry(registry, name)) => Some((registry.to_string(), name)),
            _ => None,
        };
        assert_eq!(registry("host"), Some(("host".to_owned(), None)));
        assert_eq!(
            registry("h.io/a/b:v1")
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
                && TargetLocation::parse("h.io/A").is_err()
                && TargetLocation::parse("nas/app").is_err()
        );
    }
}
