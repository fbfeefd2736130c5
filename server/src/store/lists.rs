//! Lists repositories and tags in the byte order of their names.
//!
//! Start reading at [`Store::list`].

use std::ops::Bound;
use std::path::{Path, PathBuf};

use imgsync_oci::Repository;

use super::disk::DiskFolder;
use super::error::Result;
use super::listings::{ListingKind, ListingUse};
use super::paths::StorePaths;
use super::sorted_names::SortedNames;
use super::{Store, Walk};

/// The names to list.
#[derive(Debug, Clone, Copy)]
pub(crate) enum ListScope {
    /// The repositories that have, or had, a manifest.
    Repositories,
    /// The repositories that have, or had, blobs.
    RepositoriesWithBlobs,
    /// The repositories that have, or had, upload sessions.
    RepositoriesWithUploads,
    /// The repositories that have, or had, content from an upstream.
    RepositoriesWithMarks,
}

impl Store {
    /// Returns whether a repository exists. As in the stock registry, one that has or had a manifest does.
    pub(crate) fn has_repository(&self, repository: &Repository) -> Result<bool> {
        self.disk.is_folder(&self.paths.manifests(repository))
    }

    /// Lists up to `limit` names that come after `after`, in order.
    ///
    /// # Errors
    /// The errors of the disk and of the walk.
    pub(crate) fn list(
        &self,
        scope: ListScope,
        after: &str,
        limit: usize,
        walk: &Walk<'_>,
    ) -> Result<Vec<String>> {
        let (top, marker_folder): (_, MarkerFolder) = match scope {
            ListScope::Repositories => (self.paths.repositories(), StorePaths::manifests_below),
            ListScope::RepositoriesWithBlobs => {
                (self.paths.repositories(), StorePaths::layers_below)
            }
            ListScope::RepositoriesWithUploads => {
                (self.paths.repositories(), StorePaths::uploads_below)
            }
            ListScope::RepositoriesWithMarks => {
                (self.paths.marked_repositories(), StorePaths::marks_below)
            }
        };
        let mut repository_walk = RepositoryWalk {
            store: self,
            marker_folder,
            after,
            limit,
            walk,
            names: Vec::new(),
        };
        repository_walk.walk_folder(&top, "")?;
        Ok(repository_walk.names)
    }

    /// Returns the tags of a repository, for a list of which the caller has seen the tags up to
    /// `after`.
    ///
    /// # Errors
    /// The errors of the disk and of the walk.
    pub(crate) fn tag_names(
        &self,
        repository: &Repository,
        after: &str,
        walk: &Walk<'_>,
    ) -> Result<TagNames> {
        let folder = self.paths.tags(repository);
        Ok(TagNames {
            names: self.names_in(&folder, ListingKind::Plain, after, walk)?,
            folder: self.disk.open_folder(&folder)?,
        })
    }

    /// Returns the names in a folder, for a list of which the caller has seen the names up to
    /// `after`.
    fn names_in(
        &self,
        folder: &Path,
        kind: ListingKind,
        after: &str,
        walk: &Walk<'_>,
    ) -> Result<SortedNames> {
        let usage = if after.is_empty() {
            ListingUse::FirstPage
        } else {
            ListingUse::NextPage
        };
        let listings = &self.folders.listings;
        listings.names(&self.disk, folder, kind, usage, walk)
    }
}

/// The names of the tags of a repository, including those without a current link.
pub(crate) struct TagNames {
    names: SortedNames,
    folder: Option<DiskFolder>,
}

impl TagNames {
    /// Returns how many names there are, at least, and the length of their text in bytes.
    pub(crate) fn count_and_bytes(&self) -> (usize, usize) {
        self.names.count_and_bytes()
    }

    /// Iterates over the names after `last`, in byte order.
    pub(crate) fn after(&self, last: &str) -> impl Iterator<Item = &str> {
        self.names.from(Bound::Excluded(last))
    }

    /// Returns whether a tag points at a manifest.
    ///
    /// # Errors
    /// The errors of the disk.
    pub(crate) fn has_current_link(&self, tag: &str) -> Result<bool> {
        let Some(folder) = &self.folder else {
            return Ok(false);
        };
        let len = folder.file_len(&StorePaths::current_link_below(tag))?;
        Ok(len.is_some_and(|len| len > 0))
    }
}

/// Returns the path below a folder that makes this folder a repository.
type MarkerFolder = fn(&StorePaths, &Path) -> PathBuf;

/// Walks the tree of repositories. Keeps in memory only the names of the folders on the current
/// path and the names of the result.
struct RepositoryWalk<'a> {
    store: &'a Store,
    marker_folder: MarkerFolder,
    after: &'a str,
    limit: usize,
    walk: &'a Walk<'a>,
    names: Vec<String>,
}

impl RepositoryWalk<'_> {
    /// Walks the folders below `folder`. `prefix` is empty or ends with a slash.
    fn walk_folder(&mut self, folder: &Path, prefix: &str) -> Result<()> {
        let kind = ListingKind::Repositories;
        let names = self.store.names_in(folder, kind, self.after, self.walk)?;
        let after = self.after.strip_prefix(prefix).unwrap_or_default();
        // The names up to `after` are left out, except for the folder that contains it.
        let first = match after.find('/') {
            Some(slash) => Bound::Included(&after[..=slash]),
            None => Bound::Excluded(after),
        };
        for step in names.from(first) {
            if self.names.len() >= self.limit {
                return Ok(());
            }
            self.walk.step()?;
            let name = format!("{prefix}{step}");
            if step.ends_with('/') {
                self.walk_folder(&folder.join(step), &name)?;
            } else if self.is_repository(&folder.join(step))? {
                self.names.push(name);
            }
        }
        Ok(())
    }

    fn is_repository(&self, folder: &Path) -> Result<bool> {
        let marker = (self.marker_folder)(&self.store.paths, folder);
        self.store.disk.is_folder(&marker)
    }
}
