//! Lists repositories and tags in the byte order of their names.
//!
//! Start reading at [`Store::list`].

use std::path::{Path, PathBuf};

use imgsync_oci::Repository;

use super::Store;
use super::error::Result;
use super::paths::StorePaths;

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
    pub(crate) fn list(
        &self,
        scope: ListScope<'_>,
        after: &str,
        limit: usize,
    ) -> Result<Vec<String>> {
        let (top, marker_folder): (_, MarkerFolder) = match scope {
            ListScope::Tags(repository) => return self.list_tags(repository, after, limit),
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
        let mut walk = RepositoryWalk {
            store: self,
            marker_folder,
            after,
            limit,
            names: Vec::new(),
        };
        walk.walk_folder(&top, "")?;
        Ok(walk.names)
    }

    fn list_tags(&self, repository: &Repository, after: &str, limit: usize) -> Result<Vec<String>> {
        let mut names = self.folders_in(&self.paths.tags(repository))?;
        names.retain(|name| name.as_str() > after);
        names.sort_unstable();
        names.truncate(limit);
        Ok(names)
    }

    fn folders_in(&self, folder: &Path) -> Result<Vec<String>> {
        self.parsed_entries(folder, |name, is_folder| is_folder.then(|| name.to_owned()))
            .collect()
    }
}

/// Returns the path below a folder that makes this folder a repository.
type MarkerFolder = fn(&StorePaths, &Path) -> PathBuf;

/// Walks the tree of repositories. Keeps in memory only the entries of the folders on the current
/// path and the names of the result.
struct RepositoryWalk<'a> {
    store: &'a Store,
    marker_folder: MarkerFolder,
    after: &'a str,
    limit: usize,
    names: Vec<String>,
}

impl RepositoryWalk<'_> {
    /// Walks the folders below `folder`. `prefix` is empty or ends with a slash.
    fn walk_folder(&mut self, folder: &Path, prefix: &str) -> Result<()> {
        let names = self.store.folders_in(folder)?;
        // The folder `a` is the repository `a` and the parent of all `a/…`, and the repository `a-b`
        // sorts between them.
        let mut steps: Vec<String> = Vec::with_capacity(names.len() * 2);
        for name in names.into_iter().filter(|name| !name.starts_with('_')) {
            steps.push(format!("{name}/"));
            steps.push(name);
        }
        steps.sort_unstable();
        for step in steps {
            if self.names.len() >= self.limit {
                return Ok(());
            }
            let name = format!("{prefix}{step}");
            if step.ends_with('/') {
                if name.as_str() > self.after || self.after.starts_with(&name) {
                    self.walk_folder(&folder.join(&step), &name)?;
                }
            } else if name.as_str() > self.after && self.is_repository(&folder.join(&step))? {
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
