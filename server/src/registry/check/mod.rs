//! Checks everything that is stored: the bytes of all blobs and manifests against their digests, all
//! links, and whether the images are complete.
//!
//! Requests are served meanwhile. What looks damaged is looked at again under the locks that its
//! writers hold, so that a push or a deletion does not look like damage. A repair never deletes
//! bytes: damaged ones are moved to a quarantine, so that the next push sends the blob again. Cached
//! content is checked only for its bytes, because what is missing is fetched again. Start reading at
//! [`Registry::check_content`].

mod blobs;
mod damaged_tags;
mod finding;
mod images;
mod links;

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::time::Duration;

use imgsync_oci::{Digest, Repository};

pub(crate) use self::finding::{AffectedImage, CheckEvent, Finding, Repair};

use super::Registry;
use super::digest_prefix::digest_prefix;
use super::error::{Error, Result};
use crate::config::IndexPlatforms;
use crate::store::{self, InventoryItem, ListScope, ObjectKey, Walk};

/// How a check works.
#[derive(Debug, Clone)]
pub(crate) struct CheckOptions<'a> {
    /// Whether damage is repaired as far as that is possible without a push.
    pub(crate) repairs: bool,
    /// Whether the check leaves at least half of the time of the disk to others.
    pub(crate) is_gentle: bool,
    /// The manifests of an index that must exist.
    pub(crate) platforms: &'a IndexPlatforms,
}

/// The counts of a check.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CheckStats {
    /// Number of blobs and manifests whose bytes were read.
    pub(crate) blobs: usize,
    /// Number of bytes that were read.
    pub(crate) bytes: u64,
    /// Number of repositories.
    pub(crate) repositories: usize,
    /// Number of tags that were pushed.
    pub(crate) tags: usize,
    /// Number of damaged or foreign things.
    pub(crate) findings: usize,
    /// Number of tags, and of manifests without a tag, that cannot be pulled completely.
    pub(crate) images: usize,
}

/// Why a check ends early.
enum Stop {
    /// The caller told it to.
    Cancelled,
    Failed(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl From<store::Error> for Stop {
    fn from(error: store::Error) -> Self {
        Self::Failed(error.into())
    }
}

type CheckResult<T> = std::result::Result<T, Stop>;

/// A check that is running.
struct Check<'a> {
    registry: &'a Registry,
    options: &'a CheckOptions<'a>,
    report: &'a mut dyn FnMut(CheckEvent<'_>) -> ControlFlow<()>,
    stats: CheckStats,
    /// The blobs with damaged bytes that are still at their places.
    damaged: HashSet<u128>,
    /// Receives what is read.
    buffer: Vec<u8>,
    /// For how long the check has worked since its last pause.
    busy: Duration,
}

impl Registry {
    /// Checks everything, and repairs what can be repaired. Calls `report` with what is found, and
    /// while it reads. Returns `None` if `report` ended the check.
    ///
    /// # Errors
    /// Returns an error of the store, but not for what is damaged or cannot be read.
    pub(crate) fn check_content(
        &self,
        options: &CheckOptions<'_>,
        report: &mut dyn FnMut(CheckEvent<'_>) -> ControlFlow<()>,
    ) -> Result<Option<CheckStats>> {
        let mut check = Check {
            registry: self,
            options,
            report,
            stats: CheckStats::default(),
            damaged: HashSet::new(),
            buffer: vec![0; blobs::READ_BYTES],
            busy: Duration::ZERO,
        };
        match check.run() {
            Ok(()) => Ok(Some(check.stats)),
            Err(Stop::Cancelled) => Ok(None),
            Err(Stop::Failed(error)) => Err(error),
        }
    }
}

impl Check<'_> {
    fn run(&mut self) -> CheckResult<()> {
        let registry = self.registry;
        registry.store.visit_layout(&mut |item| match item {
            InventoryItem::Blob(digest) => self.check_blob(&digest),
            InventoryItem::Foreign(path) => self.add_finding(Finding::Foreign { path }),
            InventoryItem::Unreadable(error) => self.add_finding(Finding::Unreadable {
                error: error.to_string(),
            }),
        })?;
        let walk = Walk::unbounded();
        for repository in registry.repositories(ListScope::Repositories, &walk) {
            self.check_repository_or_report(repository)?;
        }
        for repository in registry.repositories(ListScope::RepositoriesWithBlobs, &walk) {
            match repository {
                // Checked already.
                Ok(repository) if registry.has_repository(&repository)? => {}
                repository => self.check_repository_or_report(repository)?,
            }
        }
        Ok(())
    }

    /// Checks a repository. A folder that cannot be read is reported, and does not end the check.
    fn check_repository_or_report(&mut self, repository: Result<Repository>) -> CheckResult<()> {
        let checked = match repository {
            Ok(repository) => self.check_repository(&repository),
            Err(error) => Err(error.into()),
        };
        match checked {
            Err(Stop::Failed(error)) => self.add_finding(Finding::Unreadable {
                error: error.to_string(),
            }),
            other => other,
        }
    }

    fn check_repository(&mut self, repository: &Repository) -> CheckResult<()> {
        self.stats.repositories += 1;
        self.check_links(repository)?;
        let incomplete = self.find_incomplete_manifests(repository)?;
        self.check_tags(repository, incomplete)
    }

    fn add_finding(&mut self, finding: Finding) -> CheckResult<()> {
        self.stats.findings += 1;
        self.send(CheckEvent::Finding(&finding))
    }

    fn add_image(&mut self, image: &AffectedImage) -> CheckResult<()> {
        self.stats.images += 1;
        self.send(CheckEvent::Image(image))
    }

    fn send(&mut self, event: CheckEvent<'_>) -> CheckResult<()> {
        match (self.report)(event) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(Stop::Cancelled),
        }
    }

    /// Returns whether bytes are stored under a digest, and were not found to be damaged.
    fn has_sound_bytes(&self, stored: &Digest) -> Result<bool> {
        let len = self.registry.store.len(ObjectKey::Blob(stored))?;
        let is_possible =
            len.is_some_and(|len| self.registry.is_possible_size(stored, stored, len));
        Ok(is_possible && !self.is_damaged(stored))
    }

    /// Returns whether damaged bytes are still at the place of a blob.
    fn is_damaged(&self, stored: &Digest) -> bool {
        !self.damaged.is_empty() && self.damaged.contains(&digest_prefix(stored))
    }
}

#[cfg(test)]
mod repair_tests;
#[cfg(test)]
mod tests;
