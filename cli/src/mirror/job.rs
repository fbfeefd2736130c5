//! One mirror as it was requested: source, target, tag rules and options.
//!
//! This module copies nothing. Start reading at [`MirrorJob`].

use std::fmt;

use imgsync_oci::{LocalName, Reference, Registry, Repository, Tag};

use super::location::{LayoutLocation, SourceLocation, TargetLocation};
use super::selection::TagRules;
use crate::image::Platforms;
use crate::transports::ReferrersPolicy;

/// A mirror from one source to one target.
#[derive(Debug, Clone)]
pub struct MirrorJob {
    /// The source.
    pub from: SourceLocation,
    /// The target.
    pub to: MirrorTarget,
    /// The tag of a single image at the target; `None` for the tag of the source, and for many
    /// images.
    pub tag: Option<Tag>,
    /// The tag rules. A tag is copied if one of them selects it.
    pub rules: Vec<TagRules>,
    /// The platforms to copy of an index.
    pub platforms: Platforms,
    /// The referrers to copy.
    pub referrers: ReferrersPolicy,
    /// Whether copied tags that are no longer selected are deleted.
    pub prune: bool,
}

/// The target of a mirror, with its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MirrorTarget {
    /// A repository of a registry.
    Registry(Registry, Repository),
    /// An OCI image layout.
    Layout(LayoutLocation),
    /// The local Docker. The name has no tag.
    Daemon(LocalName),
}

impl MirrorJob {
    /// Creates a job that copies everything from a source to a target.
    ///
    /// # Errors
    /// Fails if the source and the target contradict each other.
    pub fn new(from: SourceLocation, to: TargetLocation) -> Result<Self, String> {
        let is_named = matches!(to, TargetLocation::Daemon(Some(_)));
        let (to, mut tag) = resolve_target(&from, to)?;
        // A layout may hold one image, without a tag.
        let is_many = matches!(from, SourceLocation::Registry(_, _, None));
        if tag.is_some() && is_many {
            return Err(format!(
                "the target has a tag, but the source {} means all tags: give a tag for both, or for neither",
                source_name(&from)
            ));
        }
        if is_same_location(&from, &to, tag.as_ref()) {
            return Err("source and target are the same".to_owned());
        }
        if let (MirrorTarget::Daemon(_), None, Some(Reference::Digest(digest))) =
            (&to, &tag, from.single())
        {
            if !is_named {
                return Err(format!(
                    "an image of the local Docker needs a name, and {digest} is only a digest: \
                     give a name too"
                ));
            }
            tag = Some(Tag::latest());
        }
        Ok(Self {
            from,
            to,
            tag,
            rules: vec![TagRules::default()],
            platforms: Platforms::default(),
            referrers: ReferrersPolicy::default(),
            prune: false,
        })
    }

    /// Checks that the rules and options fit the source and the target.
    ///
    /// # Errors
    /// Fails if they do not.
    pub fn check(&self) -> Result<(), String> {
        let is_single = self.from.single().is_some() || self.tag.is_some();
        let problem = if is_single && self.rules.iter().any(|rules| !rules.is_empty()) {
            "rules select tags, but the source is a single image"
        } else if is_single && self.prune {
            "pruning needs all tags of a source, but the source is a single image"
        } else if self.prune && matches!(self.to, MirrorTarget::Daemon(_)) {
            "pruning is not supported for the local Docker"
        } else {
            return Ok(());
        };
        Err(problem.to_owned())
    }

    /// Returns the name of the source, without a tag.
    pub fn source(&self) -> String {
        source_name(&self.from)
    }
}

impl fmt::Display for MirrorTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registry(registry, repository) => write!(f, "{registry}/{repository}"),
            Self::Layout(layout) => layout.fmt(f),
            Self::Daemon(name) => {
                f.write_str("docker-daemon:")?;
                if let Some(registry) = &name.registry {
                    write!(f, "{registry}/")?;
                }
                name.repository.fmt(f)
            }
        }
    }
}

fn source_name(from: &SourceLocation) -> String {
    match from {
        SourceLocation::Registry(registry, repository, _) => format!("{registry}/{repository}"),
        SourceLocation::Layout(layout, _) => layout.to_string(),
    }
}

/// Returns whether the target is the source. All names of Docker Hub are the same registry.
fn is_same_location(from: &SourceLocation, to: &MirrorTarget, tag: Option<&Tag>) -> bool {
    match (from, to) {
        (SourceLocation::Registry(one, source, _), MirrorTarget::Registry(other, target)) => {
            let is_hub = one.is_docker_hub() && other.is_docker_hub();
            let is_same_tag = tag.is_none() || from.single() == tag.cloned().map(Reference::Tag);
            (one == other || is_hub) && source == target && is_same_tag
        }
        (SourceLocation::Layout(one, _), MirrorTarget::Layout(other)) => one.path == other.path,
        _ => false,
    }
}

/// Completes the target with the name of the source. Also returns the tag of the target.
fn resolve_target(
    from: &SourceLocation,
    to: TargetLocation,
) -> Result<(MirrorTarget, Option<Tag>), String> {
    Ok(match (to, from) {
        (TargetLocation::Registry(registry, Some((repository, tag))), _) => {
            (MirrorTarget::Registry(registry, repository), tag)
        }
        (TargetLocation::Registry(registry, None), SourceLocation::Registry(_, name, _)) => {
            (MirrorTarget::Registry(registry, name.clone()), None)
        }
        (TargetLocation::Registry(registry, None), SourceLocation::Layout(layout, _)) => {
            return Err(format!(
                "{layout} has no name, so the target needs a repository: write \
                 {registry}/repository"
            ));
        }
        (TargetLocation::Layout(layout, tag), _) => (MirrorTarget::Layout(layout), tag),
        (TargetLocation::Daemon(Some(mut name)), _) => {
            let tag = name.tag.take();
            (MirrorTarget::Daemon(name), tag)
        }
        (TargetLocation::Daemon(None), SourceLocation::Registry(registry, repository, _)) => {
            let name = docker_name(registry, repository);
            (MirrorTarget::Daemon(name), None)
        }
        (TargetLocation::Daemon(None), SourceLocation::Layout(layout, _)) => {
            return Err(format!("{layout} has no name: write docker-daemon:NAME"));
        }
    })
}

/// Returns the name that `docker pull` gives an image of a repository.
fn docker_name(registry: &Registry, repository: &Repository) -> LocalName {
    let is_hub = registry.is_docker_hub();
    let short = repository.as_str().strip_prefix("library/");
    let short = short.filter(|_| is_hub).and_then(|name| name.parse().ok());
    LocalName {
        registry: (!is_hub).then(|| registry.clone()),
        repository: short.unwrap_or_else(|| repository.clone()),
        tag: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mirror::selection::TagPattern;

    fn job(from: &str, to: &str) -> Result<MirrorJob, String> {
        MirrorJob::new(SourceLocation::parse(from)?, TargetLocation::parse(to)?)
    }

    fn target_of(from: &str, to: &str) -> String {
        match job(from, to) {
            Ok(job) => format!("{} {:?}", job.to, job.tag),
            Err(error) => format!("error: {error}"),
        }
    }

    #[test]
    fn a_target_takes_its_name_from_the_source() {
        assert_eq!(target_of("ghcr.io/a/b", "h.io"), "h.io/a/b None");
        assert_eq!(
            target_of("nginx:1", "h.io/mirror/nginx:stable"),
            "h.io/mirror/nginx Some(stable)"
        );
        assert_eq!(
            target_of("nginx:1", "docker-daemon:"),
            "docker-daemon:nginx None"
        );
        assert_eq!(
            target_of("ghcr.io/a/b:v1", "docker-daemon:"),
            "docker-daemon:ghcr.io/a/b None"
        );
        assert_eq!(
            target_of("nginx:1", "docker-daemon:web:v1"),
            "docker-daemon:web Some(v1)"
        );
        assert_eq!(target_of("oci:x", "h.io/a"), "h.io/a None");
    }

    #[test]
    fn contradictions_are_refused() {
        for (from, to) in [
            ("nginx", "h.io/nginx:v1"),
            ("oci:x", "h.io"),
            ("oci:x", "docker-daemon:"),
            ("oci:x", "oci:x"),
            ("a.io/b", "a.io/b"),
            ("a.io/b:v1", "a.io/b:v1"),
            ("docker.io/b", "registry-1.docker.io/library/b"),
        ] {
            assert!(target_of(from, to).starts_with("error: "), "{from} {to}");
        }
        assert!(job("a.io/b:v1", "a.io/b:v2").is_ok());
        let digest = format!("a.io/b@{}", imgsync_oci::Digest::of(b"x"));
        assert!(job(&digest, "docker-daemon:").is_err());
        assert_eq!(
            target_of(&digest, "docker-daemon:b"),
            "docker-daemon:b Some(latest)"
        );
        let mut single = job("a.io/b:v1", "host").unwrap();
        single.check().unwrap();
        single.prune = true;
        single.check().unwrap_err();
        single.prune = false;
        single.rules[0]
            .patterns
            .push(TagPattern::glob("v*").unwrap());
        single.check().unwrap_err();
    }
}
