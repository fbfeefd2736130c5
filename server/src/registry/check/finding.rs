//! The things that a check finds, and their texts.
//!
//! Start reading at [`CheckEvent`].

use std::fmt;
use std::path::PathBuf;

use imgsync_oci::{Digest, Repository, Tag};

use super::CheckStats;

/// An event of a check.
#[derive(Debug)]
pub(crate) enum CheckEvent<'a> {
    Finding(&'a Finding),
    Image(&'a AffectedImage),
    /// Something was read. Sent often.
    Progress(&'a CheckStats),
}

/// Something that is damaged, or does not belong into the storage folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Finding {
    /// The bytes of a blob or manifest do not match its digest.
    DamagedBlob {
        digest: Digest,
        /// In bytes.
        size: u64,
        repair: Repair,
    },
    /// The bytes of a blob or manifest cannot be read.
    UnreadableBlob {
        digest: Digest,
        error: String,
        repair: Repair,
    },
    /// The link to a blob or manifest is empty, or names something else.
    DamagedLink {
        repository: Repository,
        digest: Digest,
        is_manifest: bool,
        repair: Repair,
    },
    /// A repository has a link to a blob or manifest whose bytes are missing.
    MissingContent {
        repository: Repository,
        digest: Digest,
        is_manifest: bool,
    },
    /// The link of a tag is empty, or is no digest.
    DamagedTag {
        repository: Repository,
        tag: Tag,
        /// The stored manifests at which the tag may have pointed, the latest first, some of them if
        /// there are many.
        candidates: Vec<Digest>,
        /// The number of the others.
        unlisted: usize,
        repair: Repair,
    },
    /// A file or folder that no registry writes.
    Foreign { path: PathBuf },
    /// A folder or file cannot be read.
    Unreadable { error: String },
}

/// The repair of a fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Repair {
    /// Nothing.
    None,
    /// The bytes were moved to the quarantine.
    Quarantined,
    /// The link was written again.
    Rewritten,
    /// The link led nowhere, and was removed.
    Removed,
    /// The repair failed.
    Failed(String),
}

/// A tag, or a manifest without a tag, that cannot be pulled completely.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AffectedImage {
    pub(crate) repository: Repository,
    /// `None` for a manifest that no tag needs.
    pub(crate) tag: Option<Tag>,
    /// `None` if it is not known at which manifest the tag pointed.
    pub(crate) manifest: Option<Digest>,
    /// Content that is missing or damaged, not all of it if there is much.
    pub(crate) lacking: Vec<Digest>,
}

impl Finding {
    /// Returns a short name of the kind for machines. The names are a format: they do not change.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::DamagedBlob { .. } => "damaged-blob",
            Self::UnreadableBlob { .. } => "unreadable-blob",
            Self::DamagedLink { .. } => "damaged-link",
            Self::MissingContent { .. } => "missing-content",
            Self::DamagedTag { .. } => "damaged-tag",
            Self::Foreign { .. } => "foreign",
            Self::Unreadable { .. } => "unreadable",
        }
    }

    /// Returns the digest and the repository that the finding is about.
    pub(crate) fn subject(&self) -> (Option<&Digest>, Option<&Repository>) {
        match self {
            Self::DamagedBlob { digest, .. } | Self::UnreadableBlob { digest, .. } => {
                (Some(digest), None)
            }
            Self::DamagedLink {
                repository, digest, ..
            }
            | Self::MissingContent {
                repository, digest, ..
            } => (Some(digest), Some(repository)),
            Self::DamagedTag { repository, .. } => (None, Some(repository)),
            Self::Foreign { .. } | Self::Unreadable { .. } => (None, None),
        }
    }

    /// Returns what was done about the finding.
    pub(crate) fn repair(&self) -> &Repair {
        match self {
            Self::DamagedBlob { repair, .. }
            | Self::UnreadableBlob { repair, .. }
            | Self::DamagedLink { repair, .. }
            | Self::DamagedTag { repair, .. } => repair,
            Self::MissingContent { .. } | Self::Foreign { .. } | Self::Unreadable { .. } => {
                &Repair::None
            }
        }
    }
}

fn noun(is_manifest: bool) -> &'static str {
    if is_manifest { "manifest" } else { "blob" }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DamagedBlob { digest, size, .. } => {
                write!(f, "{digest}: the {size} bytes do not match the digest")?;
            }
            Self::UnreadableBlob { digest, error, .. } => {
                write!(f, "{digest}: the bytes cannot be read: {error}")?;
            }
            Self::DamagedLink {
                repository,
                digest,
                is_manifest,
                ..
            } => {
                let noun = noun(*is_manifest);
                write!(f, "{repository}: the link to {noun} {digest} is damaged")?;
            }
            Self::MissingContent {
                repository,
                digest,
                is_manifest,
            } => {
                let noun = noun(*is_manifest);
                write!(f, "{repository}: the bytes of {noun} {digest} are missing")?;
            }
            Self::DamagedTag {
                repository,
                tag,
                candidates,
                unlisted,
                ..
            } => {
                write!(f, "{repository}:{tag}: the link of the tag is damaged")?;
                for (number, digest) in candidates.iter().enumerate() {
                    let separator = if number == 0 {
                        "; its history names"
                    } else {
                        ","
                    };
                    write!(f, "{separator} {digest}")?;
                }
                if *unlisted > 0 {
                    write!(f, " and {unlisted} others")?;
                }
            }
            Self::Foreign { path } => write!(f, "{}: no registry writes this", path.display())?,
            Self::Unreadable { error } => f.write_str(error)?,
        }
        match self.repair() {
            Repair::None => Ok(()),
            Repair::Quarantined => f.write_str("; moved to the quarantine"),
            Repair::Rewritten => f.write_str("; written again"),
            Repair::Removed => f.write_str("; removed"),
            Repair::Failed(error) => write!(f, "; the repair failed: {error}"),
        }
    }
}

impl AffectedImage {
    /// Returns the name of the image: with its tag, or else with its digest.
    pub(crate) fn name(&self) -> String {
        match (&self.tag, &self.manifest) {
            (Some(tag), _) => format!("{}:{tag}", self.repository),
            (None, Some(digest)) => format!("{}@{digest}", self.repository),
            (None, None) => self.repository.to_string(),
        }
    }
}
