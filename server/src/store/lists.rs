//! Lists repositories and tags in the byte order of their names.
//!
//! Start reading at [`Store::list`].

use std::ops::Bound;
use std::path::{Path, PathBuf};

use imgsync_oci::Repository;

use super::error::Result;
use super::listings::{ListingKind, ListingUse};
use super::paths::StorePaths;
use super::sorted_names::SortedNames;
use super::{Store, Walk};

/// The names to list.
#[derive(Debug, Clone, Copy)]
pub(crate) enum ListScope<'a> {
    /// The tags of a repository, including those without a current link.
    Tags(&'a Repository),
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
    /// Those of the disk and of the walk.
    pub(crate) fn list(
        &self,
        scope: ListScope<'_>,
        after: &str,
        limit: usize,
        walk: &Walk<'_>,
    ) -> Result<Vec<String>> {
        let (top, marker_folder): (_, MarkerFolder) = match scope {
            ListScope::Tags(repository) => return self.list_tags(repository, after, limit, walk),
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

    fn list_tags(
        &self,
        repository: &Repository,
        after: &str,
        limit: usize,
        walk: &Walk<'_>,
    ) -> Result<Vec<String>> {
        let folder = self.paths.tags(repository);
        let names = self.names_in(&folder, ListingKind::Plain, after, walk)?;
        let names = names.from(Bound::Excluded(after)).take(limit);
        Ok(names.map(str::to_owned).collect())
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
