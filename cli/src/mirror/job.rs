//! One mirror, as it was asked for: from where, to where, which tags, and how.

use std::fmt;

use imgsync_oci::{LocalName, Reference, Registry, Repository, Tag};

use super::location::{LayoutLocation, SourceLocation, TargetLocation};
use super::selection::TagRules;
use crate::image::Platforms;
use crate::transports::ReferrersPolicy;

/// One source and one target.
#[derive(Debug, Clone)]
pub struct MirrorJob {
    /// Where images come from.
    pub from: SourceLocation,
    /// Where they go.
    pub to: MirrorTarget,
    /// The tag that a single image gets there; `None` for that of the source, and for many images.
    pub tag: Option<Tag>,
    /// Which tags: those that one of these takes.
    pub rules: Vec<TagRules>,
    /// Which parts of indexes.
    pub platforms: Platforms,
    /// What goes along.
    pub referrers: ReferrersPolicy,
    /// Whether what was brought and is no longer wanted goes.
    pub prune: bool,
}

/// Where images go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MirrorTarget {
    /// A repository at a registry.
    Registry(Registry, Repository),
    /// An OCI image layout.
    Layout(LayoutLocation),
    /// The local Docker; the name is without a tag.
    Daemon(LocalName),
}

impl MirrorJob {
    /// A job to bring all that there is, from one place to another.
    ///
    /// # Errors
    /// The two do not go together.
    pub fn new(from: SourceLocation, to: TargetLocation) -> Result<Self, String> {
        let is_named = matches!(to, TargetLocation::Daemon(Some(_)));
        let (to, tag) = resolve_target(&from, to)?;
        // A layout may hold one image, without a tag.
        let is_many = matches!(from, SourceLocation::Registry(_, _, None));
        if tag.is_some() && is_many {
            return Err(format!(
                "the target names a tag, but the source {} is all of its tags: name one there too, \
                 or none here",
                Self::name_of(&from)
            ));
        }
        let is_same = match (&from, &to) {
            (
                SourceLocation::Registry(registry, repository, _),
                MirrorTarget::Registry(other, there),
            ) => {
                let is_hub = registry.is_docker_hub() && other.is_docker_hub();
                (registry == other || is_hub)
                    && repository == there
                    && (tag.is_none() || from.single() == tag.clone().map(Reference::Tag))
            }
            (SourceLocation::Layout(disk, _), MirrorTarget::Layout(other)) => {
                disk.path == other.path
            }
            (SourceLocation::Registry(..), MirrorTarget::Layout(_) | MirrorTarget::Daemon(_))
            | (SourceLocation::Layout(..), MirrorTarget::Registry(..) | MirrorTarget::Daemon(_)) => {
                false
            }
        };
        if is_same {
            return Err("source and target are the same".to_owned());
        }
        let tag = match (&to, &tag, from.single()) {
            // A name has a tag there.
            (MirrorTarget::Daemon(_), None, Some(Reference::Digest(digest))) => match is_named {
                true => Some(Tag::latest()),
                false => {
                    return Err(format!(
                        "{digest} is no name for the local Docker: give one as well"
                    ));
                }
            },
            _ => tag,
        };
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

    /// Whether the parts that were set since go together.
    ///
    /// # Errors
    /// They do not.
    pub fn check(&self) -> Result<(), String> {
        let is_single = self.from.single().is_some() || self.tag.is_some();
        if is_single && self.rules.iter().any(|rules| !rules.is_empty()) {
            return Err("rules choose among many tags, and the source names one image".to_owned());
        }
        if is_single && self.prune {
            return Err(
                "pruning needs all of a source's tags, and the source names one".to_owned(),
            );
        }
        if self.prune && matches!(self.to, MirrorTarget::Daemon(_)) {
            return Err("nothing is pruned in the local Docker".to_owned());
        }
        Ok(())
    }

    /// What people call the source, without a tag.
    pub fn source(&self) -> String {
        Self::name_of(&self.from)
    }

    fn name_of(from: &SourceLocation) -> String {
        match from {
            SourceLocation::Registry(registry, repository, _) => format!("{registry}/{repository}"),
            SourceLocation::Layout(disk, _) => disk.to_string(),
        }
    }
}

impl fmt::Display for MirrorTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registry(registry, repository) => write!(f, "{registry}/{repository}"),
            Self::Layout(disk) => disk.fmt(f),
            Self::Daemon(LocalName {
                registry: Some(registry),
                repository,
                ..
            }) => write!(f, "docker-daemon:{registry}/{repository}"),
            Self::Daemon(LocalName { repository, .. }) => write!(f, "docker-daemon:{repository}"),
        }
    }
}

/// The target, completed by the name that the source has.
fn resolve_target(
    from: &SourceLocation,
    to: TargetLocation,
) -> Result<(MirrorTarget, Option<Tag>), String> {
    match to {
        TargetLocation::Registry(registry, Some((repository, tag))) => {
            Ok((MirrorTarget::Registry(registry, repository), tag))
        }
        TargetLocation::Registry(registry, None) => match from {
            SourceLocation::Registry(_, repository, _) => {
                Ok((MirrorTarget::Registry(registry, repository.clone()), None))
            }
            SourceLocation::Layout(disk, _) => Err(format!(
                "{disk} has no name, and {registry} names no repository: write {registry}/repository"
            )),
        },
        TargetLocation::Layout(disk, tag) => Ok((MirrorTarget::Layout(disk), tag)),
        TargetLocation::Daemon(Some(name)) => {
            let tag = name.tag.clone();
            Ok((MirrorTarget::Daemon(LocalName { tag: None, ..name }), tag))
        }
        TargetLocation::Daemon(None) => match from {
            SourceLocation::Registry(registry, repository, _) => Ok((
                MirrorTarget::Daemon(docker_name(registry, repository)),
                None,
            )),
            SourceLocation::Layout(disk, _) => {
                Err(format!("{disk} has no name: write docker-daemon:NAME"))
            }
        },
    }
}

/// What `docker pull` calls an image of this repository.
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

    fn job(from: &str, to: &str) -> Result<MirrorJob, String> {
        MirrorJob::new(SourceLocation::parse(from)?, TargetLocation::parse(to)?)
    }

    fn target_of(from: &str, to: &str) -> String {
        match job(from, to) {
            Ok(job) => format!("{} {:?}", job.to, job.tag),
            Err(error) => format!("wrong: {error}"),
        }
    }

    #[test]
    fn a_target_takes_its_name_from_the_source() {
        assert_eq!(target_of("ghcr.io/a/b", "host"), "host/a/b None");
        assert_eq!(
            target_of("nginx:1", "host/mirror/nginx:stable"),
            "host/mirror/nginx Some(stable)"
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
        assert_eq!(target_of("oci:x", "host/a"), "host/a None");
    }

    #[test]
    fn what_does_not_go_together() {
        for (from, to) in [
            ("nginx", "host/nginx:v1"),
            ("oci:x", "host"),
            ("oci:x", "docker-daemon:"),
            ("oci:x", "oci:x"),
            ("a.io/b", "a.io/b"),
            ("a.io/b:v1", "a.io/b:v1"),
            ("docker.io/b", "registry-1.docker.io/library/b"),
        ] {
            assert!(target_of(from, to).starts_with("wrong: "), "{from} {to}");
        }
        assert!(job("a.io/b:v1", "a.io/b:v2").is_ok());
        let digest = format!("a.io/b@{}", imgsync_oci::Digest::of(b"x"));
        assert!(job(&digest, "docker-daemon:").is_err());
        assert_eq!(
            target_of(&digest, "docker-daemon:b"),
            "docker-daemon:b Some(latest)"
        );
        let mut one = job("a.io/b:v1", "host").unwrap();
        one.check().unwrap();
        one.prune = true;
        one.check().unwrap_err();
        one.prune = false;
        one.rules[0].globs.push("v*".parse().unwrap());
        one.check().unwrap_err();
    }
}
