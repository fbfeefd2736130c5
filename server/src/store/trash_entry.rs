//! The lines of the trash's logs, one for each thing that was removed.
//!
//! The lines are a format on disk: a change gets a new name. A line that does not parse counts as
//! absent. Start reading at [`TrashEntry`].

use std::fmt;

use imgsync_oci::{Digest, Repository, Tag};

/// Something that was removed, with what is needed to restore it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TrashEntry {
    /// The link to a blob.
    Layer {
        repository: Repository,
        digest: Digest,
        /// The digest under which the bytes are stored.
        target: Digest,
    },
    /// The link to a manifest.
    Revision {
        repository: Repository,
        digest: Digest,
        /// The digest under which the bytes are stored.
        target: Digest,
    },
    /// A tag.
    Tag {
        repository: Repository,
        tag: Tag,
        /// The digest of the manifest at which it pointed.
        digest: Digest,
    },
    /// The bytes of a blob or a manifest.
    Blob {
        /// In bytes.
        size: u64,
        digest: Digest,
    },
}

impl TrashEntry {
    /// Returns the digest of what was removed, and the repository, if it was removed from one.
    pub(crate) fn repository_and_digest(&self) -> (Option<&Repository>, &Digest) {
        match self {
            Self::Layer {
                repository, digest, ..
            }
            | Self::Revision {
                repository, digest, ..
            }
            | Self::Tag {
                repository, digest, ..
            } => (Some(repository), digest),
            Self::Blob { digest, .. } => (None, digest),
        }
    }

    /// Parses a line without its end; `None` if it is damaged. A digest is the last field, so that a
    /// line that was cut off does not parse.
    pub(super) fn parse(line: &str) -> Option<Self> {
        let fields: Vec<&str> = line.split(' ').collect();
        Some(match fields.as_slice() {
            ["layer", repository, digest, target] => Self::Layer {
                repository: repository.parse().ok()?,
                digest: digest.parse().ok()?,
                target: target.parse().ok()?,
            },
            ["revision", repository, digest, target] => Self::Revision {
                repository: repository.parse().ok()?,
                digest: digest.parse().ok()?,
                target: target.parse().ok()?,
            },
            ["tag", repository, tag, digest] => Self::Tag {
                repository: repository.parse().ok()?,
                tag: tag.parse().ok()?,
                digest: digest.parse().ok()?,
            },
            ["blob", size, digest] => Self::Blob {
                size: size.parse().ok()?,
                digest: digest.parse().ok()?,
            },
            _ => return None,
        })
    }
}

impl fmt::Display for TrashEntry {
    /// Writes the line, without its end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Layer {
                repository,
                digest,
                target,
            } => write!(f, "layer {repository} {digest} {target}"),
            Self::Revision {
                repository,
                digest,
                target,
            } => write!(f, "revision {repository} {digest} {target}"),
            Self::Tag {
                repository,
                tag,
                digest,
            } => write!(f, "tag {repository} {tag} {digest}"),
            Self::Blob { size, digest } => write!(f, "blob {size} {digest}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_keep_their_format_and_a_part_of_one_does_not_parse() {
        let digest = Digest::of(b"content");
        let (repository, tag): (Repository, Tag) = ("a/b".parse().unwrap(), "v1".parse().unwrap());
        let layer = TrashEntry::Layer {
            repository: repository.clone(),
            digest: digest.clone(),
            target: digest.clone(),
        };
        let revision = TrashEntry::Revision {
            repository: repository.clone(),
            digest: digest.clone(),
            target: digest.clone(),
        };
        let tag = TrashEntry::Tag {
            repository,
            tag,
            digest: digest.clone(),
        };
        let blob = TrashEntry::Blob {
            size: 12,
            digest: digest.clone(),
        };
        for (entry, line) in [
            (layer, format!("layer a/b {digest} {digest}")),
            (revision, format!("revision a/b {digest} {digest}")),
            (tag, format!("tag a/b v1 {digest}")),
            (blob, format!("blob 12 {digest}")),
        ] {
            assert_eq!(entry.to_string(), line);
            assert_eq!(TrashEntry::parse(&line), Some(entry));
            for end in 0..line.len() {
                assert_eq!(TrashEntry::parse(&line[..end]), None, "{}", &line[..end]);
            }
        }
    }
}
